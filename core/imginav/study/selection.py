"""From the runs of a phase to its winner: what each experiment has shown, and what the rule makes of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Literal

from attrs import evolve, frozen

from imginav.data.loader import open_fingerprint
from imginav.errors import UserError, did_you_mean, in_one_line
from imginav.manifest.fingerprints import DataFingerprint, sha256_of_tables
from imginav.manifest.resolved import ResolvedManifest, ResolvedPhase
from imginav.manifest.winners import FILE, CandidateRecord, Metric, Winner, load_winner
from imginav.plugin.selector import Candidate, Choice, Selector
from imginav.runs.evaluation_result import EvaluationResult, load_evaluation
from imginav.runs.experiment import run_folder
from imginav.runs.records import RunRecord, code_version, load_record, utc_now
from imginav.training.metric_definitions import PART, PROBE, definitions_of, metric_definition

NOT_BETTER = "no better than a blank image"
"""The state of a finished experiment that cannot win: it has learned nothing that would be worth a diffusion model."""


@frozen(kw_only=True)
class RunResult:
    """One run of an experiment, as far as it has come."""

    resolved: ResolvedManifest
    state: str  # not started, running, finished, failed, interrupted, cut off, of other values, of other layouts
    record: RunRecord | None
    evaluation: EvaluationResult | None  # of a finished run of this manifest and these layouts

    @property
    def run(self) -> str:
        """The name of the run folder."""
        return self.resolved.manifest.phase.experiment

    def metric(self, name: str) -> float:
        """A metric of the weights that the run left; NaN where there is none."""
        return self.evaluation.metrics.get(name, math.nan) if self.evaluation else math.nan

    def values(self, name: str) -> tuple[float, ...]:
        """The finite values of a metric: one, or one for each seed of a probe."""
        probed = self.evaluation.probes.get(name) if self.evaluation else None
        return tuple(value for value in (probed.values if probed else (self.metric(name),)) if math.isfinite(value))


def data_fingerprints(phase: ResolvedPhase) -> list[DataFingerprint]:
    """Open the layouts of each experiment, the same ones once, and return their fingerprints."""
    found: dict[str, DataFingerprint] = {}
    fingerprints = []
    for experiment in phase.experiments:
        key = data_key(experiment)
        if key not in found:
            found[key] = open_fingerprint(experiment.manifest.data, experiment.manifest.train)
        fingerprints.append(found[key])
    return fingerprints


def data_key(experiment: ResolvedManifest) -> str:
    """Return what is the same for experiments whose manifests name the same layouts and the same split."""
    train = experiment.tables["train"]
    split = [train["split"], train["split_by"], train.get("split_seed", train["seed"])]
    return sha256_of_tables([experiment.tables["data"], split])


def gather(phase: ResolvedPhase, fingerprints: Sequence[DataFingerprint] | None = None) -> list[RunResult]:
    """Return what each run of a phase has shown; without fingerprints, its layouts are taken to be the same."""
    found = []
    for number, resolved in enumerate(phase.experiments):
        folder = run_folder(resolved)
        record = load_record(folder.record)
        evaluation = None
        if record is None:
            state = "not started"
        elif record.manifest_sha256 != resolved.sha256:
            state = "of other values"
        elif fingerprints is not None and not record.data.same(fingerprints[number]):
            state = "of other layouts"
        else:
            state = record.state
        if state == "finished":
            evaluation = load_evaluation(folder.evaluation)
        found.append(RunResult(resolved=resolved, state=state, record=record, evaluation=evaluation))
    return found


def select(phase: ResolvedPhase, evidence: Sequence[RunResult]) -> Winner | None:
    """Return the winner among the finished experiments, or none where the phase has no rule for it.

    An experiment that has not finished with every seed, whose metric is not finite, or that reconstructs layouts no
    better than a blank image, cannot win. Raises UserError where none can, or where the experiments cannot be compared.
    """
    metric = _metric(phase, evidence)
    if metric is None:
        return None
    read = list(phase.selector.metrics.values()) if phase.selector else [metric.name]
    contenders = {name: _contender(name, evidence, read) for name in phase.names}
    candidates = _candidates(contenders)
    if not candidates:
        raise UserError(
            f"{phase.source}: none of its experiments can win: "
            + ", ".join(f"{name} is {_why_not(c, metric.name)}" for name, c in contenders.items())
            + ("; train them for longer" if any(NOT_BETTER in c.state for c in contenders.values()) else "")
        )
    choice = _choose(phase, candidates)
    of_winner = next(e for e in evidence if e.resolved.name == choice.winner)
    data = next(e.record.data for e in evidence if e.resolved.name == choice.winner and e.record)
    return Winner(
        phase=phase.id,
        source=in_one_line(str(phase.source)),
        winner=choice.winner,
        chosen_by="rule",
        because=choice.because,
        date=utc_now(),
        embedded=of_winner.resolved.manifest.data.embedded,
        rule=phase.selector.rule if phase.selector else "the only experiment",
        chosen_by_rule=choice.winner,
        front=choice.front,
        scale="trial" if of_winner.resolved.trial else "full",
        code_version=code_version(),
        manifest_sha256=phase.sha256,
        values=dict(of_winner.resolved.changes),
        metric=metric,
        layouts=data.layouts,
        split=data.split,
        lineage={earlier: winner.winner for earlier, winner in phase.lineage.items()},
        experiments=contenders,
    )


def candidates_for(phase: ResolvedPhase, selector: Selector, evidence: Sequence[RunResult]) -> list[Candidate]:
    """Return the finished experiments as a rule sees them; raises UserError where a metric that it reads is missing."""
    _refuse_unmeasured(phase, evidence, selector.metrics)
    return _candidates({n: _contender(n, evidence, [*selector.metrics.values()]) for n in phase.names})


def overrule(phase: ResolvedPhase, evidence: Sequence[RunResult], name: str, because: str) -> Winner:
    """Return the decision of a person for a finished experiment; raises UserError where it is none of the phase's."""
    if name not in phase.names:
        raise UserError(
            f"--set-to {name}: {phase.source} has no such experiment{did_you_mean(name, phase.names)}; "
            f"it has {', '.join(phase.names)}"
        )
    if not because.strip():
        raise UserError(f"--set-to {name}: no reason is given; add one with --because, it is kept in {FILE}")
    winner = select(phase, evidence)
    if winner is None:
        raise UserError(
            f"{phase.source}: has no [sweep.selector], so there is no metric to record a winner by; add one"
        )
    if winner.experiments[name].mean is None:
        why = _why_not(winner.experiments[name], winner.metric.name)
        remedy = "" if NOT_BETTER in why else f"; run it first: imginav run {phase.source} --only {name}"
        raise UserError(f"--set-to {name}: {name} is {why}{remedy}")
    of_name = next(e for e in evidence if e.resolved.name == name)
    return evolve(winner, winner=name, chosen_by="person", because=because, values=dict(of_name.resolved.changes))


def recorded(phase: ResolvedPhase) -> Winner | None:
    """Return the winner that this phase's folder holds, or none."""
    path = phase.shared / FILE
    return load_winner(path, phase.structurer) if path.is_file() else None


def same_evidence(one: Winner, other: Winner) -> bool:
    """Whether two decisions rest on the same figures and the same rule; times, which never repeat, aside."""
    keys = ("phase", "rule", "manifest_sha256", "metric", "layouts", "split", "lineage")
    untimed = [
        {name: evolve(candidate, latency_ms=None) for name, candidate in winner.experiments.items()}
        for winner in (one, other)
    ]
    return untimed[0] == untimed[1] and all(getattr(one, key) == getattr(other, key) for key in keys)


def refuse_strange_winners(phase: ResolvedPhase, data: DataFingerprint) -> None:
    """Raise UserError for winners that were found on other layouts, another split or by another metric."""
    faults = []
    for earlier, winner in phase.lineage.items():
        takes = (
            f"{phase.source}: [winners] takes {', '.join(phase.winners[earlier])} from phase {earlier}, whose winner"
        )
        remedy = (
            f"run phase {earlier} again as this one is run, name another folder as output.shared, or do without it: "
            f"--set 'winners.\"{earlier}\"=false'"
        )
        if not winner.layouts.same(data.layouts):
            faults.append(
                f"{takes} {winner.winner} was found on other layouts ({winner.layouts.description}; SHA-256 "
                f"{winner.layouts.sha256[:12]}) than these ({data.layouts.description}; {data.layouts.sha256[:12]}); "
                f"{remedy}"
            )
        elif winner.split != data.split:
            faults.append(
                f"{takes} {winner.winner} was found with another split ({winner.split.train} train, "
                f"{winner.split.validation} validate, by {winner.split.by}; SHA-256 {winner.split.sha256[:12]}) than "
                f"this one ({data.split.train} train, {data.split.validation} validate, by {data.split.by}; "
                f"{data.split.sha256[:12]}); {remedy}"
            )
        here = definition_of(winner.metric.name, phase.experiments[0])
        unmeasured = winner.metric.name.startswith(PROBE) and not here  # nothing here that it could contradict
        if here != winner.metric.definition and not unmeasured:
            faults.append(
                f"{takes} {winner.winner} was found by {winner.metric.name}, which was the "
                f"{winner.metric.definition}, and is here {'the ' + here if here else 'no metric at all'}; choose "
                f"winners by val_mse, or {remedy}"
            )
    if faults:
        raise UserError("\n".join(faults), faults)


def notes_on_winners(phase: ResolvedPhase, to_come: Collection[str] = ()) -> list[str]:
    """Return what a person should know of the winners that a phase takes, or does without.

    Of the phases `to_come`, which run before it, no winner is missed yet.
    """
    notes = []
    if phase.not_taken:
        found_on = "embedded layouts" if any(w.embedded for w in phase.not_taken.values()) else "other layouts"
        named = ", ".join(f"{winner.winner} of phase {earlier}" for earlier, winner in phase.not_taken.items())
        notes.append(f"winners that were found on {found_on} are not taken: {named}")
    if missing := [earlier for earlier in phase.without_winner if earlier not in to_come]:
        which = f"phase {missing[0]} has" if len(missing) == 1 else f"phases {', '.join(missing)} have"
        keys = ", ".join(key for earlier in missing for key in phase.winners[earlier])
        notes.append(
            f"{which} no recorded winner: {keys} stay as they are written in {phase.source} (--require-winners makes "
            "this an error)"
        )
    for earlier, winner in phase.lineage.items():
        for before, name in winner.lineage.items():
            now = phase.lineage.get(before)
            if now and now.winner != name:
                notes.append(
                    f"the winner of phase {earlier} was found when {name} had won phase {before}; "
                    f"now it is {now.winner}: run phase {earlier} again to be sure"
                )
    return notes


def _metric(phase: ResolvedPhase, evidence: Sequence[RunResult]) -> Metric | None:
    """Return by what the experiments are compared; raises UserError where it does not mean the same for all."""
    name: str
    mode: Literal["min", "max"]
    if phase.selector is not None:
        name, mode = phase.selector.metric, phase.selector.mode
        if wrong := wrong_direction(phase.selector, phase.experiments[0]):
            raise UserError(f"{phase.source}: {wrong}")
    elif len(phase.experiments) == 1:
        name, mode = phase.manifest.train.monitor, phase.manifest.train.monitor_mode
    else:
        return None
    _refuse_unmeasured(phase, evidence, phase.selector.metrics if phase.selector else {"metric": name})
    finished = [e for e in evidence if e.record and e.evaluation]
    for one in finished:
        if one.record and finished[0].record and not one.record.data.same(finished[0].record.data):
            raise UserError(
                f"{phase.source}: {finished[0].run} and {one.run} were trained on different layouts or splits, and "
                "cannot be compared; the experiments of a sweep need the same [data] and train.split"
            )
    return Metric(name=name, mode=mode, definition=common_definition(phase, name))


def _refuse_unmeasured(phase: ResolvedPhase, evidence: Sequence[RunResult], names: Mapping[str, str]) -> None:
    """Raise UserError for a metric that a finished experiment lacks, or that was measured in different ways."""
    for setting, name in names.items():
        ways: dict[str, str] = {}
        for run, evaluation in ((one.run, one.evaluation) for one in evidence if one.evaluation):
            if name not in evaluation.metrics:
                remedy = f"{did_you_mean(name, evaluation.metrics)}; it has {', '.join(evaluation.metrics)}"
                if name.startswith(PROBE):
                    remedy = f" yet; measure it with imginav probe {phase.source}"
                raise UserError(f"{phase.source}: sweep.selector.{setting} = {name!r} is no metric of {run}{remedy}")
            if name in evaluation.probes:
                ways.setdefault(evaluation.probes[name].definition, run)
        if len(ways) > 1:
            raise UserError(
                f"{phase.source}: {name} of {' and '.join(ways.values())} was measured in different ways, and cannot "
                f"be compared; measure all with imginav probe {phase.source}"
            )


def common_definition(phase: ResolvedPhase, metric: str) -> str:
    """Return what a metric stands for in all experiments of a phase; raises UserError where that differs."""
    meanings: dict[str, str] = {}
    for experiment in phase.experiments:
        meanings.setdefault(definition_of(metric, experiment), experiment.name)
    if len(meanings) > 1:
        first, second = list(meanings.values())[:2]
        raise UserError(
            f"{phase.source}: sweep.selector.metric = {metric!r} does not mean the same for {first} and {second}, "
            "whose losses differ; compare them by val_mse"
        )
    return next(iter(meanings))


def definition_of(metric: str, experiment: ResolvedManifest) -> str:
    """Return what a metric of the weights that an experiment leaves stands for; empty where it has no such metric."""
    figures = definitions_of(experiment.manifest.evaluation)
    return metric_definition(metric, experiment.tables["losses"]) or figures.get(metric, "")


def wrong_direction(selector: Selector, experiment: ResolvedManifest) -> str:
    """Return what is wrong where a selector would choose the worst by a figure of which more is better, or nothing."""
    evaluation = experiment.manifest.evaluation
    better = {f"{PART}{figure}" for metric in evaluation.metrics.values() for figure in metric.more_is_better}
    better |= {f"{PROBE}{figure}" for probe in evaluation.probes.values() for figure in probe.more_is_better}
    if selector.metric not in better or selector.mode == "max":
        return ""
    return f"sweep.selector.mode = 'min', and more of {selector.metric} is better; set mode = 'max'"


def _contender(name: str, evidence: Sequence[RunResult], metrics: Sequence[str]) -> CandidateRecord:
    own = [e for e in evidence if e.resolved.name == name]
    states = list(dict.fromkeys(e.state for e in own))
    found = {metric: [e.values(metric) for e in own] for metric in metrics}
    means = {metric: fmean(itertools.chain(*each)) for metric, each in found.items() if all(each)}
    evaluations = [e.evaluation for e in own if e.evaluation]
    first = evaluations[0] if evaluations else None
    if states == ["finished"] and (blank := _worse_than_blank(evaluations)):
        states = [blank]
    return CandidateRecord(
        state=", ".join(states),
        runs=tuple(e.run for e in own),
        values=tuple(itertools.chain(*found[metrics[0]])),
        figures=means if len(metrics) > 1 else {},
        mean=means[metrics[0]] if states == ["finished"] and len(means) == len(metrics) else None,
        latent="×".join(map(str, first.latent)) if first else "",
        latent_dimensions=math.prod(first.latent) if first else None,
        parameters=first.encoder_parameters + first.decoder_parameters if first else None,
        latency_ms=min((o.latency_ms for o in evaluations if o.latency_ms), default=None),
    )


def _worse_than_blank(evaluations: Sequence[EvaluationResult]) -> str:
    """Return that reconstructions are no better than a blank image, by the mean over the seeds; empty if they are."""
    errors = [e.metrics.get("val_mse", math.nan) for e in evaluations]
    blank = fmean(e.flat_background_mse for e in evaluations)
    if not errors or not fmean(errors) >= blank:
        return ""
    return f"{NOT_BETTER} (val_mse {fmean(errors):.3g} against {blank:.3g})"


def _why_not(candidate: CandidateRecord, metric: str) -> str:
    return f"without a finite {metric}" if candidate.state == "finished" else candidate.state


def _candidates(contenders: Mapping[str, CandidateRecord]) -> list[Candidate]:
    return [
        Candidate(
            name=name, values=c.values, latent_dimensions=latent, parameters=size, latency_ms=ms, figures=c.figures
        )
        for name, c in contenders.items()
        for latent, size, ms in [(c.latent_dimensions, c.parameters, c.latency_ms)]
        if c.mean is not None and latent is not None and size is not None
    ]


def _choose(phase: ResolvedPhase, candidates: Sequence[Candidate]) -> Choice:
    if phase.selector is None:
        return Choice(winner=candidates[0].name, because="it is the only experiment of its phase")
    choice = phase.selector.select(candidates)
    known: Mapping[str, Candidate] = {candidate.name: candidate for candidate in candidates}
    if choice.winner not in known:
        raise UserError(
            f"{phase.source}: the selector {phase.selector.rule} chose {choice.winner!r}, which is none of "
            f"{', '.join(known)}; repair the plugin"
        )
    return choice
