"""A run in place of a checkpoint: by its folder, by its name, or by default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from imginav import UserError, cli
from imginav.plugin.checkpoint import Checkpoint
from imginav_reports.run_weights import newest_weights, run_folders, weights_named, weights_of_run
from imginav_tests.evaluations import evaluation
from imginav_tests.records import run_record


def leave_run(
    folder: Path,
    *,
    best: int | None = 2,
    latest: int | None = 3,
    evaluated: int | None = 2,
    state: str = "finished",
    scale: str = "full",
    **changes: Any,
) -> Path:
    """Leave what a run leaves: checkpoints of these epochs, and the evaluation of the weights of one of them."""
    folder.mkdir(parents=True)
    for name, epoch in (("best", best), ("latest", latest)):
        if epoch is not None:
            checkpoint = Checkpoint(model={}, epoch=epoch, metrics={}, manifest="", origins={})
            checkpoint.save(folder / f"tiny_checkpoint_{name}.pt")
    if evaluated is not None:
        evaluation(weights_epoch=evaluated, best_epoch=best, **changes).save(folder / "evaluation.json")
    run_record(state=state).save(folder / "run.json")
    (folder / "manifest.toml").write_text(f'[resolved]\nsource = "phase.toml"\nscale = "{scale}"\n')
    return folder


def silent(_: str) -> None:
    pass


def named(given: str, **options: Any) -> str:
    return str(weights_named(given, log=silent, **options))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_is_named_by_its_name_its_folder_or_a_path_in_it() -> None:
    leave_run(Path("outputs/own"))
    best = "outputs/own/tiny_checkpoint_best.pt"
    assert [named(given) for given in ("own", "outputs/own", "outputs/own/", "./outputs/own", best)] == [best] * 5


def test_the_site_file_says_where_runs_lie(tmp_path: Path) -> None:
    leave_run(Path("here/own"))
    leave_run(Path("there/own"))
    Path("imginav.toml").write_text('output.experiments = "here"')
    Path("other.toml").write_text('output.experiments = "there"')
    assert named("own") == "here/own/tiny_checkpoint_best.pt"
    assert named("own", site=Path("other.toml")) == "there/own/tiny_checkpoint_best.pt"


def test_what_lies_here_goes_before_a_run_of_that_name() -> None:
    leave_run(Path("outputs/own"))
    Path("own").mkdir()
    assert named("own") == "own"  # for the command to say what is wrong with it, if it is no export


def test_a_path_that_is_not_there_is_left_to_whoever_reads_it() -> None:
    leave_run(Path("outputs/own"))
    assert [named(given) for given in ("own.pt", "outputs/gone")] == ["own.pt", "outputs/gone"]


def test_a_name_that_is_nothing_is_told_with_the_nearest_run() -> None:
    with pytest.raises(UserError, match="own: is neither a file or folder here nor a run in outputs; there is no run"):
        named("own")
    leave_run(Path("outputs/own"))
    leave_run(Path("outputs/L1"))
    with pytest.raises(UserError, match=r"a run in outputs, did you mean 'own'\?; runs in outputs: L1, own"):
        named("onw")


@pytest.mark.parametrize(
    ("run", "taken", "said"),
    [
        ({}, "best", ""),
        ({"evaluated": 3}, "latest", ""),  # of a run that does not restore its best weights
        ({"best": None, "evaluated": 3}, "latest", ""),
        ({"latest": None}, "best", ""),
        ({"evaluated": None}, "best", "note: outputs/own is not evaluated yet, so this is its best checkpoint so far"),
        ({"best": None, "evaluated": None}, "latest", "so this is its latest checkpoint so far"),
        ({"evaluated": 1}, "best", "note: no checkpoint in outputs/own is of epoch 1, which was evaluated"),
    ],
)
def test_the_weights_are_those_that_were_evaluated(run: dict[str, Any], taken: str, said: str) -> None:
    leave_run(Path("outputs/own"), **run)
    lines: list[str] = []
    path = weights_of_run(Path("outputs/own"), lines.append)
    assert path.name == f"tiny_checkpoint_{taken}.pt"
    assert lines[-1] == f"with {path}"
    assert said in "".join(lines[:-1])
    assert bool(said) == (len(lines) > 1)


def test_a_run_without_a_checkpoint_is_refused() -> None:
    leave_run(Path("outputs/own"), best=None, latest=None, evaluated=None, state="running")
    with pytest.raises(UserError, match=r"outputs/own: the run has no checkpoint yet; let it finish its first epoch"):
        named("own")


def aged(folder: Path, seconds: float) -> None:
    os.utime(folder / "evaluation.json", (seconds, seconds))


def test_without_a_name_it_is_the_newest_finished_run() -> None:
    for age, name in enumerate(("old", "new", "running", "old.1", "damaged")):
        state = "interrupted" if name == "running" else "finished"
        aged(leave_run(Path("outputs") / name, state=state), age)
    Path("outputs/damaged/evaluation.json").write_text("{")
    lines: list[str] = []
    assert newest_weights(Path("outputs"), lines.append) == Path("outputs/new/tiny_checkpoint_best.pt")
    assert lines == ["with outputs/new/tiny_checkpoint_best.pt"]
    assert str(weights_named(None, log=silent)) == "outputs/new/tiny_checkpoint_best.pt"


@pytest.mark.parametrize("smaller", ["trial", "quick"])
def test_a_run_at_full_scale_goes_before_newer_ones_of_less(smaller: str) -> None:
    aged(leave_run(Path("outputs/full"), trial=False), 1)
    aged(leave_run(Path("outputs/try"), scale=smaller), 2)
    assert newest_weights(Path("outputs"), silent).parent.name == "full"
    aged(leave_run(Path("outputs/least"), scale="quick"), 3)
    aged(leave_run(Path("outputs/more"), scale="trial"), 0)
    Path("outputs/full").rename("full")
    assert newest_weights(Path("outputs"), silent).parent.name == ("try" if smaller == "trial" else "more")


def test_where_no_run_is_finished_those_that_there_are_are_named() -> None:
    with pytest.raises(UserError, match=r"no trained autoencoder lies in outputs; name a run, a checkpoint \(\.pt\)"):
        newest_weights(Path("outputs"))
    leave_run(Path("outputs/own"), state="running")
    leave_run(Path("outputs/own.1"))
    with pytest.raises(UserError, match=r"lies in outputs \(own: not finished, so not taken by default\); name a run"):
        newest_weights(Path("outputs"))


def test_runs_that_were_moved_aside_are_not_listed() -> None:
    for name in ("own", "own.1", "v1.5", "L1"):
        leave_run(Path("outputs") / name)
    Path("outputs/own_export").mkdir()
    assert [run.name for run in run_folders(Path("outputs"))] == ["L1", "own", "v1.5"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "onw"],
        ["embed", "onw", "--out", "out"],
        ["evaluate", "onw"],
        ["probe", "onw"],
        ["encode", "a.png", "z.safetensors", "--model", "onw"],
        ["decode", "z.safetensors", "a.png", "--model", "onw"],
        ["reconstruct", "a.png", "out", "--model", "onw"],
        ["starter", "--to", "out", "--model", "onw"],
        ["pairs", "--out", "out", "--model", "onw"],
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_every_command_that_takes_a_checkpoint_takes_a_run(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    leave_run(Path("outputs/own"))
    Path("site.toml").write_text('output.experiments = "elsewhere"')
    assert cli.main(arguments) == 2
    assert "onw: is neither a file or folder here nor a run in outputs, did you mean 'own'?" in capsys.readouterr().err
    assert cli.main([*arguments, "--site", "site.toml"]) == 2
    assert "a run in elsewhere; there is no run" in capsys.readouterr().err
