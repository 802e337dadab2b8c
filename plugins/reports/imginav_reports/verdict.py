"""The verdict on a run: how good it is, what is weakest, and what to type next. All rules for it are in this file."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from attrs import frozen

from imginav.errors import in_one_line
from imginav.runs.evaluation_result import EvaluationResult
from imginav_reports.environment import FILE as ENVIRONMENT
from imginav_reports.environment import load_environment
from imginav_reports.html import as_toml, figure
from imginav_reports.saved_runs import SavedRun, run_before

BLANK = "a blank image"
"""An image that shows nothing but background: what any autoencoder must beat."""

SAME = 1.05
"""Ratio of two errors up to which they count as equal."""

GOOD = 10.0
"""How many times better than a blank image a run has to be before it is worth handing on."""

UNMATCHED = 0.05
"""Share of pixels without a class from which on the palette, not the network, is what to change."""

NOTABLE = 0.001
"""Share of rebuilt pixels without a class from which on the verdict mentions them."""

NOTHING_WEAK = 0.99
"""IoU and recall from which on nothing counts as weak."""

MOST_NAMED = 3
"""Upper bound on the classes with an IoU of 0 that are named."""

NAME_FILES = ("--plugin", "--site")
"""Options of `imginav run` whose files are needed to train the run again."""

SLOWER, LONGER = 3, 2
"""By how much the suggested commands lower the learning rate and raise the number of epochs."""


@frozen(kw_only=True)
class NextStep:
    """A command to type, and what for."""

    command: str
    purpose: str


@frozen(kw_only=True)
class Verdict:
    """One or two sentences on a run, and the commands to type next: the most useful first."""

    sentences: tuple[str, ...]
    next_steps: tuple[NextStep, ...] = ()


def verdict_on(evaluation: EvaluationResult, folder: Path, run: SavedRun | None = None) -> Verdict:
    """Return the verdict on an evaluation that lies in a folder; `run` is the run whose folder it is, if it is one."""
    earlier = run_before(run) if run else None
    sentences = [sentence for sentence in (quality(evaluation, earlier), weakest(evaluation)) if sentence]
    return Verdict(
        sentences=tuple(sentences),
        next_steps=tuple(next_steps(evaluation, folder, run, earlier)),
    )


def times_better(error: float, reference: float, than: str) -> str:
    """Return how an error compares with another: `39.6× better than a blank image`, `2.6× worse than ...`.

    Empty where one of them is not finite.
    """
    if not (math.isfinite(error) and math.isfinite(reference)):
        return ""
    if error == reference == 0:
        return f"as good as {than}"
    if error <= 0:
        return f"without any error, unlike {than}"
    if reference <= 0:
        return f"worse than {than}, which has no error at all"
    ratio = reference / error
    if max(ratio, 1 / ratio) <= SAME:
        return f"{'no better than' if than == BLANK else 'about as good as'} {than}"
    return f"{_times(ratio)} better than {than}" if ratio > 1 else f"{_times(1 / ratio)} worse than {than}"


def quality(evaluation: EvaluationResult, earlier: SavedRun | None) -> str:
    """Return how good reconstructions are beside a blank image and beside those of an earlier run."""
    mse = evaluation.metrics.get("val_mse")
    if mse is None:
        return ""
    if not math.isfinite(mse):
        return "The validation MSE is not finite: the weights are spoiled."
    beside = [times_better(mse, evaluation.flat_background_mse, BLANK)]
    before = earlier.evaluation.metrics.get("val_mse") if earlier and earlier.evaluation else None
    if earlier and before is not None:
        compared = times_better(mse, before, in_one_line(earlier.name))
        beside.append(f"{compared}, the run before it on the same layouts" if compared else "")
    known = [text for text in beside if text]
    return f"Validation MSE {figure(mse, 3)}" + (f": {', and '.join(known)}." if known else ".")


def weakest(evaluation: EvaluationResult) -> str:
    """Return what a run is weakest at: pixels without a class, a class or walls, or a type of layout."""
    metrics = evaluation.metrics
    if (share := metrics.get("val_unmatched_share", 0.0)) > UNMATCHED:
        return f"{share:.1%} of the validation pixels have the colour of no class: the palette does not fit the images."
    found = list(_weak_points(evaluation))
    parts = []
    if found:
        value, what, measure = min(found)
        if value < NOTHING_WEAK:
            parts.append(f"Weakest: {what}, {measure} {figure(value, 3)}")
        else:
            parts.append(f"Nothing stands out as weak; the lowest value is {what}, {measure} {figure(value, 3)}")
    elif by_type := _psnr_by_type(evaluation):
        value, kind = min(by_type)
        parts.append(f"Weakest: layouts of type {kind}, PSNR {value:.1f} dB")
    if (share := metrics.get("val_rebuilt_unmatched_share", 0.0)) > NOTABLE:
        parts.append(f"{share:.1%} of the rebuilt pixels have the colour of no class")
    if evaluation.latent_statistics and (dead := evaluation.latent_statistics.dead_channels):
        count = f"{len(dead)} of {len(evaluation.latent_statistics.channels)} latent channels"
        parts.append(f"{count} {'is' if len(dead) == 1 else 'are'} dead")
    return f"{'; '.join(parts)}." if parts else ""


def _weak_points(evaluation: EvaluationResult) -> Iterator[tuple[float, str, str]]:
    """Yield what has a value from 0 to 1 of which more is better: value, what it is of, what it measures."""
    by_class = evaluation.reconstruction.by_class
    iou = by_class.get("val_iou") or by_class.get("val_segmentation_iou") or {}
    unlearned = [name for name, value in iou.items() if value == 0]
    if len(unlearned) > 1:
        yield 0.0, f"the classes {_listed(unlearned)}", "IoU"
    for name, value in iou.items():
        if _is_known(value) and (value > 0 or len(unlearned) == 1):
            yield value, f"the class {name}", "IoU"
    for key, measure in (("val_wall_recall", "recall"), ("val_wall_precision", "precision")):
        if _is_known(share := evaluation.metrics.get(key)):
            yield share, "walls", measure


def _listed(names: Sequence[str]) -> str:
    """Return several names as part of a sentence, shortened if there are many."""
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    *others, last = [*names[:MOST_NAMED], *more]
    return f"{', '.join(others)} and {last}"


def _psnr_by_type(evaluation: EvaluationResult) -> list[tuple[float, str]]:
    """Return the PSNR of each type of layout; empty where there are fewer than two to compare."""
    by_type = evaluation.reconstruction.by_type
    found = [(value, kind) for kind, own in by_type.items() if _is_known(value := own.get("val_psnr_db"))]
    return found if len(found) > 1 else []


def next_steps(
    evaluation: EvaluationResult, folder: Path, run: SavedRun | None, earlier: SavedRun | None = None
) -> Iterator[NextStep]:
    """Yield the commands to type next, the most useful first."""
    if run is not None:
        yield from _steps_of_training(evaluation, run)
        yield from _steps_of_use(evaluation, folder, run, earlier)
        if _is_trial(run) and _was_on_a_cpu(run):
            yield NextStep(command=_run_command(run, "--full"), purpose="trains at full scale; takes hours on a CPU")


def _steps_of_use(
    evaluation: EvaluationResult, folder: Path, run: SavedRun, earlier: SavedRun | None
) -> Iterator[NextStep]:
    which = "best" if evaluation.weights_epoch == evaluation.best_epoch else "latest"
    checkpoint = folder / f"{evaluation.experiment}_checkpoint_{which}.pt"
    if not _is_one_of_a_sweep(run) and _times_better_than_blank(evaluation) > SAME and checkpoint.is_file():
        yield NextStep(
            command=shlex.join(["imginav", "export", str(folder)]),
            purpose="writes the autoencoder for a diffusion trainer",
        )
        if not evaluation.probes:
            yield NextStep(
                command=shlex.join(["imginav", "probe", str(folder)]),
                purpose="shows what a small diffusion model makes of its latents",
            )
    if earlier is not None:
        yield NextStep(
            command=shlex.join(["imginav", "diff", str(earlier.folder), str(run.folder)]),
            purpose="shows what the two runs differ in",
        )


def _is_trial(run: SavedRun) -> bool:
    """Whether a run is a trial of a phase that can be run at full scale."""
    return run.resolution is not None and run.resolution.scale == "trial" and run.resolution.source.endswith(".toml")


def _was_on_a_cpu(run: SavedRun) -> bool:
    environment = load_environment(run.folder / ENVIRONMENT)
    return environment is not None and environment.device == "cpu"


def _steps_of_training(evaluation: EvaluationResult, run: SavedRun) -> Iterator[NextStep]:
    if evaluation.metrics.get("val_unmatched_share", 0.0) > UNMATCHED and "data.manifest" in run.values:
        images = str(Path(str(run.values["data.manifest"])).parent)
        yield NextStep(
            command=shlex.join(["imginav", "scan", images]), purpose="proposes a palette of the colours in the images"
        )
    if run.resolution is None or not run.resolution.source.endswith(".toml"):
        return
    if _is_trial(run) and not _was_on_a_cpu(run):
        yield NextStep(command=_run_command(run, "--full"), purpose="trains at full scale")
    if _is_one_of_a_sweep(run):
        return
    if _is_trial(run) and run.values.get("data.type") == "procedural":
        yield NextStep(command="imginav scan FOLDER", purpose="prepares a folder of your own images for training")
    better = _times_better_than_blank(evaluation)
    still_improving = evaluation.best_epoch == evaluation.epochs
    name = evaluation.experiment
    if better < GOOD and still_improving:
        epochs = f"train.epochs={LONGER * evaluation.epochs}"
        yield NextStep(
            command=_run_command(run, name=f"{name}_longer", changes=(epochs,)),
            purpose="trains longer: the last epoch was still the best",
        )
    rate = run.values.get("train.optimizer.learning_rate")
    if better <= SAME and not still_improving and isinstance(rate, float) and rate > 0:
        slower = f"train.optimizer.learning_rate={rate / SLOWER:.2g}"
        yield NextStep(
            command=_run_command(run, name=f"{name}_slower", changes=(slower,)),
            purpose="trains with a lower learning rate",
        )


def _run_command(run: SavedRun, *options: str, name: str = "", changes: tuple[str, ...] = ()) -> str:
    """Return the command that repeats a run with the options it was started with, and some changes."""
    origins = run.resolution.by_key if run.resolution else {}
    source = run.resolution.source if run.resolution else ""
    typed = {key: run.values[key] for key, origin in origins.items() if origin.startswith("--") and key in run.values}
    own_name = typed.pop("phase.experiment", "")
    changed = {change.partition("=")[0] for change in changes}
    if "--full" in options:
        typed = {key: value for key, value in typed.items() if not _only_for_a_trial(key, run.values)}
    elif _is_trial(run):
        is_quick = any(origin.endswith("[quick]") for origin in origins.values())
        options = (*options, "--quick" if is_quick else "--trial")
    kept = [f"{key}={as_toml(value)}" for key, value in typed.items() if key not in changed]
    settings = [part for setting in (*kept, *changes) for part in ("--set", setting)]
    named = ["--name", name or own_name] if name or own_name else []
    return shlex.join(["imginav", "run", source, *options, *named, *_files_named(run), *settings])


def _files_named(run: SavedRun) -> list[str]:
    """Return the `--plugin` and `--site` options of the command that trained a run."""
    environment = load_environment(run.folder / ENVIRONMENT)
    words = iter(shlex.split(environment.command) if environment else [])
    found = []
    for word in words:
        option, is_joined, value = word.partition("=")
        if option in NAME_FILES:
            found += [option, value if is_joined else next(words, "")]
    return found


def _only_for_a_trial(key: str, values: Mapping[str, Any]) -> bool:
    """Whether a value of the command line would keep a run at full scale as small as the trial was."""
    return key == "train.epochs" or (key == "data.count" and values.get("data.type") == "procedural")


def _is_one_of_a_sweep(run: SavedRun) -> bool:
    return run.resolution is not None and "[sweep]" in run.resolution.by_key.get("phase.experiment", "")


def _times_better_than_blank(evaluation: EvaluationResult) -> float:
    """Return how many times lower the MSE is than a blank image's; infinity where that is not known or it is 0."""
    mse, blank = evaluation.metrics.get("val_mse"), evaluation.flat_background_mse
    if mse is not None and not math.isfinite(mse):
        return 0.0
    return blank / mse if mse and math.isfinite(blank) else math.inf


def _times(ratio: float) -> str:
    """Return a ratio above 1 for people: 2.6×, 39.6×, 1,204×."""
    text = f"{ratio:,.0f}" if ratio >= 1000 else f"{ratio:.3g}" if ratio >= 10 else f"{ratio:.2g}"
    return f"{text}×"


def _is_known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
