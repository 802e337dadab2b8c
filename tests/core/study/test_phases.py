"""The order of phases, the choice of experiments, decisions that stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from imginav import UserError
from imginav.manifest.resolved import ResolvedPhase
from imginav.plugin.registry import InstalledHooks, installed
from imginav.runs.experiment import run_folder
from imginav.runs.records import load_record
from imginav.study.phases import OpenPhase, Options, chosen, phases_in_order
from imginav.study.selection import data_fingerprints

Load = Callable[..., ResolvedPhase]

SWEEP = """
[sweep]
seeds = [1, 2]
[sweep.experiments]
L1 = { "encoder.latent_channels" = 4 }
L2 = { "encoder.latent_channels" = 8 }
"""


def write(folder: Path, **phases: str) -> None:
    for name, text in phases.items():
        (folder / f"{name}.toml").write_text(text)


def test_phases_follow_those_whose_winners_they_take_whatever_their_names(tmp_path: Path) -> None:
    write(
        tmp_path,
        a='[phase]\nid = "3"\n[winners]\n"2" = ["x"]\n',
        b='[phase]\nid = "2"\n[winners]\n"1" = ["x"]\n"0" = ["x"]\n',
        c='extends = "base.toml"\n[phase]\nid = "1"\n',
        base="[winners]\n",
        imginav="[data]\n",
    )
    assert [path.name for path in phases_in_order(tmp_path)] == ["c.toml", "b.toml", "a.toml"]


def test_phases_that_need_nothing_of_each_other_go_by_their_number(tmp_path: Path) -> None:
    write(tmp_path, z='[phase]\nid = "1"\n', y='[phase]\nid = "2"\n', x='[phase]\nid = "3"\n')
    assert [path.name for path in phases_in_order(tmp_path)] == ["z.toml", "y.toml", "x.toml"]


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        (
            {"a": '[phase]\nid = "1"\n[winners]\n"2" = []\n', "b": '[phase]\nid = "2"\n[winners]\n"1" = []\n'},
            r"phases take winners from each other in a circle: (1 → 2 → 1|2 → 1 → 2); take one out",
        ),
        ({"a": '[phase]\nid = "1"\n', "b": '[phase]\nid = "1"\n'}, r"a.toml and .*b.toml are both phase 1; give one"),
        ({"a": "[phase]\nid = 1\n"}, r'a.toml: phase.id = 1: expected text in quotes, such as "1.1"'),
        ({"a": "[data]\n"}, r"holds no phase: no \*.toml file with a \[phase\] table"),
        ({"a": "[phase"}, r"a.toml: is not valid TOML"),
    ],
)
def test_a_folder_that_is_no_study_is_refused(tmp_path: Path, phases: dict[str, str], message: str) -> None:
    write(tmp_path, **phases)
    with pytest.raises(UserError, match=message):
        phases_in_order(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: is no folder; name the one that holds the phases"):
        phases_in_order(tmp_path / "nowhere")


def test_experiments_are_chosen_by_name_run_or_number(load_text: Load) -> None:
    phase = load_text(SWEEP)

    def labels(**how: object) -> list[str]:
        return [phase.label(e) for e in chosen(phase, **how)]  # type: ignore[arg-type]

    assert labels() == ["L1_seed1", "L1_seed2", "L2_seed1", "L2_seed2"]
    assert labels(only=["L2"]) == ["L2_seed1", "L2_seed2"]
    assert labels(only=["p1_tiny_L1_seed2", "L2"]) == ["L1_seed2", "L2_seed1", "L2_seed2"]
    assert labels(index=3) == ["L2_seed1"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"only": ["L3"]}, r"--only L3: phase.toml has no such experiment.*; it has L1, L2"),
        ({"index": 5}, r"--index 5: phase.toml has 4 experiments, counted from 1: p1_tiny_L1_seed1, "),
        ({"index": 0}, r"--index 0: phase.toml has 4 experiments, counted from 1"),
    ],
)
def test_what_is_not_there_cannot_be_chosen(load_text: Load, how: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        chosen(load_text(SWEEP), **how)  # type: ignore[arg-type]


def test_layouts_and_split_have_fingerprints_of_their_own(load_text: Load) -> None:
    def of(*settings: str) -> tuple[str, str]:
        (data,) = data_fingerprints(load_text("", *settings))
        return data.layouts.sha256, data.split.sha256

    layouts, split = of()
    assert of("data.crop=16", "train.epochs=9", "encoder.base_channels=32") == (layouts, split)
    assert of("train.split_seed=1")[0] == layouts
    assert of("train.split_seed=1")[1] != split
    assert of("train.seed=1")[1] != split
    assert of("train.seed=1", "train.split_seed=42") == (layouts, split)
    assert of("data.count=15")[0] != layouts
    assert of("data.image_size=64")[0] != layouts


def test_a_decision_of_a_person_stands_until_the_figures_change(
    load_text: Load, finish: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    phase = load_text(SWEEP.replace("[1, 2]", "[1]").replace("[sweep]", "[sweep]\nselector = { type = 'best' }"))
    opened = OpenPhase(phase=phase, hooks=installed().hooks, fingerprints=tuple(data_fingerprints(phase)))
    finish(phase, opened.fingerprints, L1=0.2, L2=0.1)
    winner = opened.conclude()
    assert winner is not None
    assert winner.winner == "L2"
    opened.set_winner("L1", "the UNet is made for it")
    again = opened.conclude()
    assert again is not None
    assert (again.winner, again.chosen_by) == ("L1", "person")

    finish(phase, opened.fingerprints, L1=0.3, L2=0.1)
    capsys.readouterr()
    new = opened.conclude()
    assert new is not None
    assert (new.winner, new.chosen_by) == ("L2", "rule")
    assert "the figures have changed since L1 was set by a person, because 'the UNet is made for it'" in (
        capsys.readouterr().out
    )
    assert 'chosen_by = "person"' in (phase.shared / "winner.toml.1").read_text()


def test_no_winner_is_declared_before_all_are_finished_unless_it_is_asked_for(
    load_text: Load, finish: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    phase = load_text(SWEEP.replace("[1, 2]", "[1]").replace("[sweep]", "[sweep]\nselector = { type = 'best' }"))
    opened = OpenPhase(phase=phase, hooks=installed().hooks, fingerprints=tuple(data_fingerprints(phase)))
    finish(phase, opened.fingerprints, L2=0.1)
    assert opened.conclude() is None
    assert (
        "1 of 2 experiments of phase 1.1 are finished, and no winner is declared before all are: p1_tiny_L1 is not "
        in (capsys.readouterr().out)
    )
    assert not (phase.shared / "winner.toml").exists()
    winner = opened.conclude(of_finished=True)
    assert winner is not None
    assert winner.winner == "L2"
    assert winner.experiments["L1"].state == "not started"


def test_a_run_is_extended_by_more_epochs_and_an_interrupted_one_to_its_end(
    load_text: Load, finish: Callable[..., None]
) -> None:
    phase = load_text("")
    how = Options(settings=("train.seed=3",))
    with pytest.raises(UserError, match=r"--extend 5: outputs/p1_tiny holds no run yet; leave --extend out"):
        how.extended(phase.experiments, 5)
    finish(phase, data_fingerprints(phase), p1_tiny=0.1)
    record = load_record(run_folder(phase.experiments[0]).record)
    assert record is not None
    assert how.extended(phase.experiments, 5).settings == ("train.seed=3", f"train.epochs={record.epoch + 5}")
    assert how.extended(phase.experiments, 5).resume == "extend"
    evolve(record, state="interrupted", epoch=1, epochs=7).save(run_folder(phase.experiments[0]).record)
    assert how.extended(phase.experiments, 5).settings == ("train.seed=3", "train.epochs=7")
    sweep = load_text(SWEEP)
    with pytest.raises(
        UserError, match=r"--extend 5: extends one run, and these are p1_tiny_L1_seed1, .*; name one of"
    ):
        how.extended(sweep.experiments, 5)


class Listener(InstalledHooks):
    """Keeps what it is told of concluded phases."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def phase_concluded(self, concluded: Any) -> None:
        self.told.append(concluded)


def test_plugins_are_told_of_a_concluded_phase_and_whether_anything_is_new(
    load_text: Load, finish: Callable[..., None]
) -> None:
    phase = load_text(SWEEP.replace("[1, 2]", "[1]").replace("[sweep]", "[sweep]\nselector = { type = 'best' }"))
    listener = Listener()
    opened = OpenPhase(phase=phase, hooks=listener, fingerprints=tuple(data_fingerprints(phase)))
    opened.conclude()  # nothing has run: there is nothing to tell
    assert listener.told == []
    finish(phase, opened.fingerprints, L1=0.2)
    opened.conclude()
    finish(phase, opened.fingerprints, L1=0.2, L2=0.1)
    opened.conclude()
    opened.conclude()
    assert [concluded.winner and concluded.winner.winner for concluded in listener.told] == [None, "L2", "L2"]
    assert [concluded.changed for concluded in listener.told] == [True, True, False]
    assert [result.state for result in listener.told[0].experiments] == ["finished", "not started"]


def test_runs_of_other_values_or_other_layouts_are_no_evidence(load_text: Load, finish: Callable[..., None]) -> None:
    """A winner is asked for: a phase of one experiment has none by itself."""
    phase = load_text("")
    (data,) = data_fingerprints(phase)
    finish(phase, [data], p1_tiny=0.1)
    assert OpenPhase(phase=phase, hooks=installed().hooks, fingerprints=(data,)).conclude() is None
    assert not (phase.shared / "winner.toml").exists()
    assert OpenPhase(phase=phase, hooks=installed().hooks, fingerprints=(data,)).conclude(asked=True) is not None
    other = load_text("", "train.epochs=3")
    assert OpenPhase(phase=other, hooks=installed().hooks, fingerprints=(data,)).conclude(asked=True) is None
    moved = evolve(data, layouts=evolve(data.layouts, sha256="0"))
    assert OpenPhase(phase=phase, hooks=installed().hooks, fingerprints=(moved,)).conclude(asked=True) is None
