"""Winners: what is recorded, what a later phase takes, and when it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from imginav import UserError
from imginav.manifest.fingerprints import LayoutsFingerprint, SplitFingerprint
from imginav.manifest.resolved import ResolvedPhase
from imginav.manifest.winners import Winner, find_winner, load_winner, take
from imginav.study.selection import RunResult, notes_on_winners, overrule, refuse_strange_winners, same_evidence, select
from imginav_tests import evaluations
from imginav_tests.records import DATA, run_record

SWEEP = """
[sweep]
selector = { type = "smallest_good_enough", improvement = 0.1 }
[sweep.experiments]
L1 = { "encoder.latent_channels" = 4 }
L2 = { "encoder.latent_channels" = 8 }
L3 = { "encoder.latent_channels" = 16 }
"""

TAKES = '[winners]\n"1.1" = ["encoder.latent_channels"]\n'

Load = Callable[..., ResolvedPhase]


def evidence(phase: ResolvedPhase, **values: float | str) -> list[RunResult]:
    """Return what runs have shown: a figure for a finished one by its label, or the state of one that is not."""
    found = []
    for resolved in phase.experiments:
        shown = values[phase.label(resolved)]
        record = run_record(experiment=resolved.manifest.phase.experiment, manifest_sha256=resolved.sha256)
        evaluation = evaluations.of_experiment(resolved, shown) if isinstance(shown, float) else None
        state = "finished" if evaluation else str(shown)
        found.append(RunResult(resolved=resolved, state=state, record=record, evaluation=evaluation))
    return found


def decide(phase: ResolvedPhase, **values: float | str) -> Winner:
    winner = select(phase, evidence(phase, **values))
    assert winner is not None
    return winner


def record(phase: ResolvedPhase, winner: Winner) -> None:
    winner.save(phase.shared, phase.structurer)


def test_the_winner_is_recorded_with_what_it_rests_on(load_text: Load) -> None:
    phase = load_text(SWEEP)
    winner = decide(phase, L1=0.00262, L2=0.00159, L3=0.00110)
    assert winner.winner == "L3"
    assert winner.values == {"encoder.latent_channels": 16}
    assert (winner.layouts, winner.split) == (DATA.layouts, DATA.split)
    assert winner.metric.definition.startswith("mean squared error over all pixels of all whole validation layouts")
    assert winner.manifest_sha256 == phase.sha256
    assert winner.experiments["L2"].latent == "8×8×8"
    assert winner.summary == (
        "phase 1.1, L3 won: val_mse 0.00110 against 0.00159 (L2) · rule smallest_good_enough 10 %"
    )
    record(phase, winner)
    assert load_winner(phase.shared / "winner.toml", phase.structurer) == winner


@pytest.mark.parametrize("shown", [math.nan, math.inf, "running", "failed", "not started", "of other values"])
def test_what_is_not_finished_or_not_finite_never_wins(load_text: Load, shown: float | str) -> None:
    phase = load_text(SWEEP)
    winner = decide(phase, L1=0.5, L2=0.9, L3=shown)
    assert winner.winner == "L1"
    assert winner.experiments["L3"].mean is None


def test_an_experiment_that_lacks_one_of_its_seeds_never_wins(load_text: Load) -> None:
    phase = load_text(SWEEP.replace("[sweep]", "[sweep]\nseeds = [1, 2]"))
    values = {
        "L1_seed1": 0.5,
        "L1_seed2": 0.6,
        "L2_seed1": 0.5,
        "L2_seed2": 0.5,
        "L3_seed1": 0.1,
        "L3_seed2": "cut off",
    }
    winner = decide(phase, **values)
    assert winner.winner == "L1"  # L2's mean is 9 % better, which buys no larger latent
    assert winner.experiments["L1"].values == (0.5, 0.6)
    assert winner.experiments["L3"].state == "finished, cut off"


def test_where_none_can_win_each_has_its_reason(load_text: Load) -> None:
    with pytest.raises(UserError) as caught:
        decide(load_text(SWEEP), L1=math.nan, L2="failed", L3="not started")
    assert str(caught.value) == (
        "phase.toml: none of its experiments can win: L1 is without a finite val_mse, L2 is failed, L3 is not started"
    )


def blanks(found: list[RunResult], mse: float) -> list[RunResult]:
    """Return what runs have shown where a blank image has this MSE."""
    return [evolve(e, evaluation=e.evaluation and evolve(e.evaluation, flat_background_mse=mse)) for e in found]


def test_what_is_no_better_than_a_blank_image_never_wins(load_text: Load) -> None:
    phase = load_text(SWEEP)
    winner = select(phase, blanks(evidence(phase, L1=0.602, L2=0.2, L3=0.602), 0.292))
    assert winner is not None
    assert winner.winner == "L2"
    assert winner.experiments["L1"].mean is None
    with pytest.raises(UserError) as caught:
        select(phase, blanks(evidence(phase, L1=0.602, L2=0.292, L3="failed"), 0.292))
    assert str(caught.value) == (
        "phase.toml: none of its experiments can win: L1 is no better than a blank image (val_mse 0.602 against "
        "0.292), L2 is no better than a blank image (val_mse 0.292 against 0.292), L3 is failed; train them for longer"
    )
    with pytest.raises(UserError, match=r"--set-to L1: L1 is no better than a blank image \(val_mse 0.602 .* 0.292\)$"):
        overrule(phase, blanks(evidence(phase, L1=0.602, L2=0.2, L3=0.1), 0.292), "L1", "I like it")


def test_a_metric_that_means_different_things_is_refused(load_text: Load) -> None:
    text = """
    [sweep]
    selector = { type = "best", metric = "val_loss" }
    experiments.F1 = { "losses.segmentation" = false }
    experiments.F2 = {}
    """
    phase = load_text(text)
    with pytest.raises(
        UserError, match="'val_loss' does not mean the same for F1 and F2, whose losses differ; compare"
    ):
        select(phase, evidence(phase, F1=0.1, F2=0.2))


def test_an_unknown_metric_is_refused_with_the_known_ones(load_text: Load) -> None:
    phase = load_text(SWEEP.replace("improvement = 0.1", "metric = 'val_mes'"))
    with pytest.raises(UserError, match=r"metric = 'val_mes' is no metric of .*_L1, did you mean 'val_mse'\?; it has"):
        select(phase, evidence(phase, L1=0.1, L2=0.2, L3=0.3))


def test_a_figure_of_the_evaluation_decides_in_its_own_direction(load_text: Load) -> None:
    by_psnr = SWEEP.replace("improvement = 0.1", 'improvement = 0.1, metric = "val_psnr_mean_db", mode = "max"')
    phase = load_text(by_psnr)
    shown = [
        evolve(e, evaluation=e.evaluation and evolve(e.evaluation, metrics={"val_psnr_mean_db": psnr}))
        for e, psnr in zip(evidence(phase, L1=1.0, L2=1.0, L3=1.0), (20.0, 30.0, 25.0), strict=True)
    ]
    winner = select(phase, shown)
    assert winner is not None
    assert winner.winner == "L2"
    assert winner.metric.definition.startswith("mean over the layouts of the PSNR of each, in dB")
    with pytest.raises(UserError, match="more of val_psnr_mean_db is better; set mode = 'max'"):
        select(load_text(by_psnr.replace(', mode = "max"', "")), shown)


def test_experiments_on_different_layouts_cannot_be_compared(load_text: Load) -> None:
    phase = load_text(SWEEP)
    found = evidence(phase, L1=0.1, L2=0.2, L3=0.3)
    assert found[1].record is not None
    other = evolve(DATA, split=evolve(DATA.split, sha256="c" * 64))
    found[1] = evolve(found[1], record=evolve(found[1].record, data=other))
    with pytest.raises(UserError, match="p1_tiny_L1 and p1_tiny_L2 were trained on different layouts or splits"):
        select(phase, found)


def test_without_a_rule_a_sweep_has_no_winner_and_a_single_experiment_has(load_text: Load) -> None:
    phase = load_text('[sweep.experiments]\nA = {}\nB = { "train.epochs" = 3 }\n')
    assert select(phase, evidence(phase, A=0.1, B=0.2)) is None
    single = load_text()
    assert decide(single, p1_tiny=0.1).rule == "the only experiment"


def test_a_person_decides_with_a_reason_and_the_rules_choice_is_kept(load_text: Load) -> None:
    phase = load_text(SWEEP)
    found = evidence(phase, L1=0.003, L2=0.002, L3=0.001)
    winner = overrule(phase, found, "L2", "our UNet has 8 channels")
    assert (winner.winner, winner.chosen_by, winner.chosen_by_rule) == ("L2", "person", "L3")
    assert winner.values == {"encoder.latent_channels": 8}
    assert winner.summary == (
        "phase 1.1, L2 set by a person, because 'our UNet has 8 channels': val_mse 0.00200 against 0.00100 (L3)"
    )
    with pytest.raises(UserError, match=r"--set-to L9: phase.toml has no such experiment.*it has L1, L2, L3"):
        overrule(phase, found, "L9", "I like it")
    with pytest.raises(UserError, match=r"--set-to L2: no reason is given; add one with --because"):
        overrule(phase, found, "L2", " ")
    with pytest.raises(UserError, match=r"--set-to L1: L1 is failed; run it first: imginav run phase.toml --only L1"):
        overrule(phase, evidence(phase, L1="failed", L2=0.1, L3=0.2), "L1", "I like it")


def test_a_decision_stands_while_its_figures_do_whatever_the_clock_says(load_text: Load) -> None:
    phase = load_text(SWEEP)
    one = decide(phase, L1=0.3, L2=0.2, L3=0.1)
    slower = {name: evolve(c, latency_ms=9.0) for name, c in one.experiments.items()}
    assert same_evidence(one, evolve(one, date="later", experiments=slower, winner="L1", chosen_by="person"))
    assert not same_evidence(one, decide(phase, L1=0.3, L2=0.2, L3=0.11))
    assert not same_evidence(one, evolve(one, rule="another"))


def test_two_figures_are_told_apart(load_text: Load) -> None:
    winner = decide(load_text(SWEEP), L1=0.30001, L2=0.30002, L3=0.30003)
    assert "L1 won: val_mse 0.30001 against 0.30002 (L2)" in winner.summary


VALUES = {
    "encoder.latent_channels": 16,
    "encoder.base_channels": 32,
    "losses.kld": {"type": "kld", "weight": 1e-4},
    "losses.segmentation": False,
}


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("encoder.latent_channels", {"encoder.latent_channels": 16}),
        ("encoder", {"encoder.latent_channels": 16, "encoder.base_channels": 32}),
        ("*.*_channels", {"encoder.latent_channels": 16, "encoder.base_channels": 32}),
        ("losses", {"losses.kld": VALUES["losses.kld"], "losses.segmentation": False}),
        ("losses.*.weight", {"losses.kld.weight": 1e-4, "losses.segmentation": False}),
    ],
)
def test_a_pattern_takes_a_value_a_table_or_several(load_text: Load, pattern: str, taken: dict[str, Any]) -> None:
    winner = evolve(decide(load_text(SWEEP), L1=0.3, L2=0.2, L3=0.1), values=VALUES)
    assert take(winner, [pattern], "phase.toml") == taken


def test_a_pattern_that_names_nothing_of_the_phase_is_refused(load_text: Load) -> None:
    winner = decide(load_text(SWEEP), L1=0.3, L2=0.2, L3=0.1)
    with pytest.raises(UserError) as caught:
        take(winner, ["encoder.depth"], "1_5.toml")
    assert str(caught.value) == (
        "1_5.toml: [winners] takes 'encoder.depth' from phase 1.1, which varied encoder.latent_channels; name one of "
        "these"
    )


def test_a_phase_cannot_take_its_own_winner(load_text: Load) -> None:
    with pytest.raises(UserError, match=r"phase.toml: \[winners\] takes from phase 1.1, which is this phase itself"):
        load_text(TAKES, number="1.1")


def test_a_later_phase_takes_the_winner_and_says_where_from(load_text: Load) -> None:
    phase = load_text(SWEEP)
    winner = decide(phase, L1=0.3, L2=0.2, L3=0.1)
    record(phase, winner)
    later = load_text(TAKES, number="1.2")
    experiment = later.experiments[0]
    assert experiment.manifest.encoder.latent_channels == 16
    assert experiment.origins["encoder.latent_channels"] == winner.summary
    assert experiment.lineage == {"1.1": winner}
    assert later.without_winner == []
    # The command line goes before a winner, and false does without.
    assert load_text(TAKES, "encoder.latent_channels=5", number="1.2").manifest.encoder.latent_channels == 5
    assert load_text(TAKES, 'winners."1.1"=false', number="1.2").manifest.encoder.latent_channels == 2


def test_a_loss_that_won_or_lost_is_on_or_off_in_the_later_phase(load_text: Load) -> None:
    sweep = """
    [sweep]
    selector = { type = "best" }
    experiments.F1 = { "losses.segmentation" = false, "losses.l1" = { weight = 0.5 } }
    experiments.F2 = {}
    """
    phase = load_text(sweep)
    record(phase, decide(phase, F1=0.1, F2=0.2))
    later = load_text('[winners]\n"1.1" = ["losses"]\n', number="1.2")
    assert sorted(later.manifest.losses) == ["l1", "mse"]
    record(phase, decide(phase, F1=0.2, F2=0.1))
    again = load_text('[winners]\n"1.1" = ["losses"]\n', number="1.2")
    assert {name: loss.weight for name, loss in again.manifest.losses.items()} == {"mse": 1.0, "segmentation": 0.1}


def test_without_a_recorded_winner_the_written_value_stands_or_is_refused(load_text: Load) -> None:
    later = load_text(TAKES, number="1.2")
    assert later.manifest.encoder.latent_channels == 2
    assert notes_on_winners(later) == [
        "phase 1.1 has no recorded winner: encoder.latent_channels stay as they are written in phase.toml "
        "(--require-winners makes this an error)"
    ]
    with pytest.raises(UserError, match=r"--require-winners: outputs holds no winner of phase 1.1; run it first"):
        load_text(TAKES, require_winners=True, number="1.2")


def test_what_won_on_embedded_layouts_is_not_taken_for_others_nor_the_other_way_round(load_text: Load) -> None:
    phase = load_text(SWEEP)
    winner = decide(phase, L1=0.3, L2=0.2, L3=0.1)
    assert winner.embedded is False
    record(phase, evolve(winner, embedded=True))
    own = load_text(TAKES, number="1.2")
    assert (own.lineage, own.manifest.encoder.latent_channels) == ({}, 2)
    assert notes_on_winners(own) == ["winners that were found on embedded layouts are not taken: L3 of phase 1.1"]
    with pytest.raises(UserError, match=r"--require-winners: outputs holds no winner of phase 1.1"):
        load_text(TAKES, number="1.2", require_winners=True)
    embedded = "data={ type = 'procedural', count = 12 }"
    assert load_text(TAKES, embedded, number="1.2").manifest.encoder.latent_channels == 16
    record(phase, winner)
    assert notes_on_winners(load_text(TAKES, embedded, number="1.2")) == [
        "winners that were found on other layouts are not taken: L3 of phase 1.1"
    ]
    record(phase, evolve(winner, embedded=None))  # by an earlier version, which did not note it
    assert load_text(TAKES, embedded, number="1.2").manifest.encoder.latent_channels == 16


@pytest.fixture
def later(load_text: Load) -> ResolvedPhase:
    """A phase that takes the winner of an earlier one."""
    phase = load_text(SWEEP)
    record(phase, decide(phase, L1=0.3, L2=0.2, L3=0.1))
    return load_text(TAKES, number="1.2")


REMEDY = (
    "run phase 1.1 again as this one is run, name another folder as output.shared, or do without it: "
    "--set 'winners.\"1.1\"=false'"
)


def test_only_the_content_of_layouts_and_split_decides_and_not_what_they_are_called(later: ResolvedPhase) -> None:
    renamed = evolve(DATA, layouts=evolve(DATA.layouts, description="elsewhere"))
    refuse_strange_winners(later, renamed)  # raises nothing
    changed = evolve(renamed, layouts=evolve(renamed.layouts, sha256="d" * 64))
    with pytest.raises(
        UserError, match=r"found on other layouts \(16 blocks; .*\) than these \(elsewhere; dddddddddddd\)"
    ):
        refuse_strange_winners(later, changed)


def test_other_layouts_are_refused(later: ResolvedPhase) -> None:
    other = evolve(DATA, layouts=LayoutsFingerprint(rows=17, sha256="d" * 64, description="17 blocks"))
    with pytest.raises(UserError) as caught:
        refuse_strange_winners(later, other)
    assert str(caught.value) == (
        "phase.toml: [winners] takes encoder.latent_channels from phase 1.1, whose winner L3 was found on other "
        f"layouts (16 blocks; SHA-256 aaaaaaaaaaaa) than these (17 blocks; dddddddddddd); {REMEDY}"
    )


def test_another_split_is_refused(later: ResolvedPhase) -> None:
    other = evolve(DATA, split=SplitFingerprint(train=11, validation=5, by="layout", sha256="d" * 64))
    with pytest.raises(UserError) as caught:
        refuse_strange_winners(later, other)
    assert str(caught.value) == (
        "phase.toml: [winners] takes encoder.latent_channels from phase 1.1, whose winner L3 was found with another "
        "split (12 train, 4 validate, by scene; SHA-256 bbbbbbbbbbbb) than this one (11 train, 5 validate, by layout; "
        f"dddddddddddd); {REMEDY}"
    )


def test_another_meaning_of_the_metric_is_refused(load_text: Load) -> None:
    phase = load_text(SWEEP.replace("improvement = 0.1", "metric = 'val_loss_segmentation'"))
    found = [
        evolve(e, evaluation=evolve(e.evaluation, metrics={"val_loss_segmentation": float(number)}))
        for number, e in enumerate(evidence(phase, L1=0.3, L2=0.2, L3=0.1))
        if e.evaluation
    ]
    winner = select(phase, found)
    assert winner is not None
    record(phase, winner)
    # Another weight is no other term.
    refuse_strange_winners(load_text(TAKES, "losses.segmentation.weight=3", number="1.2"), DATA)
    other = load_text(TAKES, "losses.segmentation={ type = 'l1', output = 'rgb', target = 'rgb' }", number="1.2")
    with pytest.raises(UserError, match=r"val_loss_segmentation, which was the mean over whole val.*is here the"):
        refuse_strange_winners(other, DATA)
    with pytest.raises(UserError, match=r"is here no metric at all; choose winners by val_mse, or run phase 1.1 again"):
        refuse_strange_winners(load_text(TAKES, "losses.segmentation=false", number="1.2"), DATA)


def test_an_earlier_winner_that_has_changed_since_is_noted(load_text: Load) -> None:
    first = load_text(SWEEP)
    record(first, decide(first, L1=0.3, L2=0.2, L3=0.1))
    sweep = '[sweep]\nselector = { type = "best" }\n[sweep.experiments]\nA = {}\nB = { "train.epochs" = 3 }\n'
    second = load_text(TAKES + sweep, number="1.2")
    record(second, decide(second, A=0.1, B=0.2))
    third = TAKES + '"1.2" = ["train.epochs"]\n'
    assert notes_on_winners(load_text(third, number="1.3")) == []
    record(first, decide(load_text(SWEEP), L1=0.1, L2=0.2, L3=0.3))
    assert notes_on_winners(load_text(third, number="1.3")) == [
        "the winner of phase 1.2 was found when L3 had won phase 1.1; now it is L1: run phase 1.2 again to be sure"
    ]


def test_a_damaged_record_is_named(load_text: Load, tmp_path: Path) -> None:
    phase = load_text(SWEEP)
    record(phase, decide(phase, L1=0.3, L2=0.2, L3=0.1))
    path = phase.shared / "winner.toml"
    text = path.read_text()
    path.write_text(text.replace('winner = "L3"', 'winner = "L9"'))
    with pytest.raises(UserError, match=r"expected winner to be one of the experiments, found 'L9'; restore"):
        load_winner(path, phase.structurer)
    path.write_text(text.replace("rows = 16", 'rows = "many"'))
    with pytest.raises(UserError, match=r"expected a whole number, found 'many' @ layouts.rows; restore the file"):
        load_winner(path, phase.structurer)
    path.write_text(text + 'x = "')
    with pytest.raises(
        UserError, match=r"winner.toml: is not valid TOML: .*; restore the file, or remove it and run its"
    ):
        find_winner("1.1", tmp_path / "outputs", phase.structurer)
    path.write_text(text)
    (tmp_path / "outputs" / "copy").mkdir()
    (tmp_path / "outputs" / "copy" / "winner.toml").write_text(text)
    with pytest.raises(UserError, match=r"phase 1.1 has more than one recorded winner: .*copy.*p1_tinies.*; remove"):
        find_winner("1.1", tmp_path / "outputs", phase.structurer)
