"""The comparison of recipes by their time to quality, on tiny runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import time_to_quality
import torch
from attrs import evolve
from PIL import Image

from imginav import UserError, hookimpl
from imginav.exit_status import REQUEUE
from imginav.processes.stop_request import StopRequest
from imginav.runs.experiment import build_trainer, run_experiment, run_folder
from imginav_benches import quality, quality_runs
from imginav_benches.arm_files import Entry, Targets, entries, named_arms, read_arms, settings_of
from imginav_benches.quality import POINTS, Point, Quality, read_points
from imginav_benches.quality_report import Comparison, beside_table, final_table, verdicts
from imginav_benches.quality_runs import Trained, epochs_of, seconds_per_epoch
from imginav_benches.reaching import reached, spread, value_at, versus
from imginav_tests import tiny
from imginav_tests.csv_tables import read_table

TINY = tiny.changed(
    tiny.PHASE,
    """
data = { type = "procedural", count = 12 }
decoder.heads.segmentation = false
losses.segmentation = false
train.batch_size = 3

[callbacks]
ema = { decay = 0.9 }
checkpoint = {}

[evaluation]
noise = [0.1]
pairs = 1
steps = 3
extremes = 1

[machine]
device = "cpu"
""",
)

EVERY_STEP = Quality(first_seconds=1e-9, growth=1 + 1e-9)


def curve(*points: tuple[float, float]) -> list[Point]:
    """Return points of seconds and MSE."""
    same = {"epoch": 1, "val_psnr_db": 0.0, "mean_iou": 0.5, "wall_recall": 0.5}
    return [
        Point(**same, seconds=at, val_mse=mse, step=step, images=10 * step, palette_accuracy=step / 10)  # type: ignore[arg-type]
        for step, (at, mse) in enumerate(points, start=1)
    ]


def trained(arm: str, seed: int, *points: tuple[float, float], final: float | None = None) -> Trained:
    """Return a finished run with a curve, whose weights have the last MSE unless another is said."""
    mse = points[-1][1] if final is None else final
    evaluation: Any = SimpleNamespace(
        latent=(8, 8, 2), encoder_parameters=1000, decoder_parameters=500, metrics={"val_mse": mse}
    )
    return Trained(arm=arm, seed=seed, points=tuple(curve(*points)), evaluation=evaluation, elsewhere=None)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def arms(manifest: Path, tmp_path: Path) -> Path:
    path = tmp_path / "arms.toml"
    path.write_text(
        'evaluate_on = { "data.seed" = 9 }\n[targets]\ntime_ratio = 0.1\nmse_ratio = 6\n'
        '[arms.slow]\nmanifest = "tiny.toml"\nset = { "train.optimizer.learning_rate" = 1e-5, callbacks.ema = false }\n'
        '[arms.fast]\nmanifest = "tiny.toml"\n'
    )
    return path


@pytest.fixture
def entry(manifest: Path, tmp_path: Path) -> Callable[..., Entry]:
    """Return a run of the tiny manifest with a point for every step."""

    def make(name: str = "one", *settings: str) -> Entry:
        contest = evolve(named_arms([f"{name}={manifest}", f"other={manifest}"]), quality=EVERY_STEP)
        return entries(contest, [1], tmp_path / "out", settings=settings)[0]

    return make


@pytest.mark.parametrize(
    ("level", "seconds"),
    [(0.5, 1.0), (0.9, 1.0), (0.4, 2.0), (0.2, 4.0), (0.1, 4.0), (0.09, None), (float("nan"), None)],
)
def test_a_level_is_reached_at_the_first_point_that_is_no_worse(level: float, seconds: float | None) -> None:
    assert reached(curve((1, 0.5), (2, 0.3), (4, 0.1), (8, 0.1), (9, 0.4)), level) == seconds


@pytest.mark.parametrize(
    ("seconds", "mse"), [(0.9, None), (1, 1.0), (2, 0.1), (3, 0.01), (3.5, 0.03), (4, 0.09), (4.1, None)]
)
def test_the_mse_is_interpolated_in_its_logarithm_and_never_extrapolated(seconds: float, mse: float | None) -> None:
    found = value_at(curve((1, 1.0), (3, 0.01), (4, 0.09)), seconds, "val_mse")
    assert found == (None if mse is None else pytest.approx(mse))


def test_other_figures_and_an_mse_of_zero_are_interpolated_as_they_are() -> None:
    points = curve((1, 1.0), (3, 0.0))
    assert value_at(points, 2, "palette_accuracy") == pytest.approx(0.15)
    assert value_at(points, 2, "val_mse") == pytest.approx(0.5)


def test_a_run_beside_another_is_held_against_the_final_mse_at_the_common_end() -> None:
    theirs = curve((1, 0.9), (100, 0.1))
    found = versus(curve((2, 0.5), (10, 0.05), (50, 0.01)), theirs, their_final_mse=0.08, seed=3)
    assert (found.reached_seconds, found.their_seconds, found.time_ratio) == (10, 100, 0.1)
    assert found.at_seconds == 50
    assert found.mse_ratio == pytest.approx(0.9 * (0.1 / 0.9) ** (49 / 99) / 0.01)


def test_what_was_not_measured_has_no_figure() -> None:
    never = versus(curve((1, 0.5), (2, 0.4)), curve((5, 0.1), (9, 0.05)), 0.05, seed=0)
    assert never.reached_seconds is None
    assert never.time_ratio is None
    assert never.mse_ratio is None  # the other had no point yet after two seconds
    assert spread([1.0, None, 2.0]) is None
    assert spread([1.0, float("nan")]) is None
    assert spread([]) is None
    found = spread([3.0, 1.0, 2.5])
    assert found
    assert (found.median, found.least, found.most, found.count) == (2.5, 1.0, 3.0, 3)


def test_targets_are_judged_by_the_median() -> None:
    slow = [trained("slow", seed, (10, 0.9), (100, 0.75)) for seed in (1, 2, 3)]
    fast = [trained("fast", seed, (at, 0.75), (50, 0.5), (100, 0.125)) for seed, at in ((1, 9), (2, 10), (3, 40))]
    said = verdicts(Comparison((*slow, *fast)), Targets(time_ratio=0.1, mse_ratio=6))
    assert said[0].endswith("in at most 0.1 of its training time: reached: 0.1 (0.09 to 0.4)")
    assert said[1].endswith("at least 6 times lower than slow's: reached: 6 (6 to 6)")
    stricter = verdicts(Comparison((*slow, *fast)), Targets(time_ratio=0.09, mse_ratio=6.1))
    assert ["not reached: " in sentence for sentence in stricter] == [True, True]


def test_a_target_that_one_seed_never_reaches_is_not_reached() -> None:
    slow = [trained("slow", seed, (10, 0.9), (100, 0.6), final=0.5) for seed in (1, 2)]
    fast = [trained("fast", 1, (1, 0.5), (100, 0.2)), trained("fast", 2, (10, 0.9), (100, 0.51))]
    comparison = Comparison((*slow, *fast))
    said = verdicts(comparison, Targets(time_ratio=0.5, mse_ratio=1))
    assert said[0].endswith(": not reached with 1 of 2 seeds")
    assert beside_table(comparison).rows[0][1:3] == ("not reached with 1 of 2 seeds",) * 2
    assert verdicts(Comparison((slow[0], evolve(slow[1], arm="fast"))), Targets(time_ratio=1, mse_ratio=1))[0].endswith(
        ": not reached"
    )


def test_final_figures_are_medians_with_their_range() -> None:
    runs = [trained("a", seed, (10, mse)) for seed, mse in ((1, 0.3), (2, 0.1), (3, 0.2))]
    (row,) = final_table(Comparison(tuple(runs))).rows
    assert row[:6] == ("a", "8×8×2", "1,500", "1 (1 to 1)", "10 (10 to 10)", "0.2 (0.1 to 0.3)")
    assert row[6:] == ("–",) * 4  # not measured


def test_the_clock_of_the_training_stands_while_a_point_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(quality, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(quality, "write_points", lambda path, points: None)
    meter = Quality(first_seconds=0.5, growth=1.75).build()
    assert isinstance(meter, quality.QualityMeter)
    meter._path = Path()

    def measured(trainer: Any) -> Point:
        now[0] += 5
        return evolve(curve((meter._seconds, 0.5))[0], step=trainer.step, images=meter._images)

    monkeypatch.setattr(meter, "_measured", measured)
    totals = SimpleNamespace(seconds=0.0, images=0, batches=0)
    nothing = SimpleNamespace(validation_started=lambda *_: None, epoch_started=lambda *_: None)
    trainer: Any = SimpleNamespace(
        totals=totals, step=0, epoch=1, hooks=nothing, model=SimpleNamespace(train=lambda: None),
        restore_weights=lambda: None,
        data=SimpleNamespace(steps_per_epoch=4), device=SimpleNamespace(wait=lambda: now.__setitem__(0, now[0] + 0.25)),
    )  # fmt: skip
    # A step takes a second, the last one half of it, and a GPU a quarter more where it is waited for. The trainer's own
    # clock counts the five seconds of a point as well.
    for shown in (1.0, 7.25, 13.5, 14.0):
        trainer.step += 1
        totals.seconds, totals.images, totals.batches = shown, 4 * trainer.step, trainer.step
        meter.step_finished(trainer)
    trainer.totals = None
    meter.epoch_finished(trainer)
    assert [(point.step, point.seconds, point.images) for point in meter._points] == [
        (1, 1.25, 4), (2, 2.5, 8), (4, 4.25, 16),
    ]  # fmt: skip


def test_the_clock_goes_on_where_a_run_was_left_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "write_points", lambda path, points: None)
    meter, again = (Quality(first_seconds=100.0).build() for _ in range(2))
    assert isinstance(meter, quality.QualityMeter)
    assert isinstance(again, quality.QualityMeter)
    trainer: Any = SimpleNamespace(
        totals=SimpleNamespace(seconds=3.0, images=8, batches=2), data=SimpleNamespace(steps_per_epoch=4)
    )
    meter.step_finished(trainer)
    again.load_state_dict(meter.state_dict())
    trainer.totals = SimpleNamespace(seconds=4.5, images=12, batches=3)  # its own clock goes on as well
    again.step_finished(trainer)
    assert (again._seconds, again._images) == (4.5, 12)


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


class Mode:
    @hookimpl
    def gradients_ready(self, trainer: Any) -> None:
        assert trainer.model.training  # or what drops out in training would drop nothing after a point


def test_points_change_nothing_and_are_of_the_weights_that_would_be_kept(entry: Callable[..., Entry]) -> None:
    resolved = entry().resolved
    plain = evolve(
        resolved.manifest, callbacks={n: c for n, c in resolved.manifest.callbacks.items() if n != "quality"}
    )
    unwatched = build_trainer(evolve(resolved, manifest=plain), lambda _: None)
    watched = build_trainer(resolved, lambda _: None)
    watched.hooks.add("mode", Mode())
    for trainer in (unwatched, watched):
        trainer.hooks.run_started(trainer, run_folder(resolved), resolved)
        trainer.fit()
    for name, tensor in weights(unwatched).items():
        assert torch.equal(tensor, weights(watched)[name]), name

    points = read_points(run_folder(resolved).root / POINTS)
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]
    assert [point.images for point in points] == [3, 6, 9, 12, 15, 18]
    assert [point.val_mse for point in points if point.step in (3, 6)] == [row["val_mse"] for row in watched.history]
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(points))
    assert all(0 <= point.palette_accuracy <= 1 for point in points)

    # Both are trained alike, so that points of the trained weights would have the same error.
    plain_run = entry("one", "callbacks.ema=false").resolved
    alone = build_trainer(plain_run, lambda _: None)
    alone.hooks.run_started(alone, run_folder(plain_run), plain_run)
    alone.fit()
    without = read_points(run_folder(plain_run).root / POINTS)
    assert [a.val_mse != b.val_mse for a, b in zip(points, without, strict=True)] == [True] * 6


class Killed(BaseException):
    """Ends a run as a signal that cannot be heard does."""


class Killer:
    def __init__(self, step: int) -> None:
        self._step = step

    @hookimpl(trylast=True)
    def step_finished(self, trainer: Any) -> None:
        if trainer.step == self._step:
            raise Killed


@pytest.mark.integration
def test_a_run_that_was_killed_keeps_its_points_and_doubles_none(
    entry: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = entry("whole"), entry("broken")
    run_experiment(whole.resolved, lambda _: None, timed=False)
    build = build_trainer

    def killed(*arguments: Any, **options: Any) -> Any:
        trainer = build(*arguments, **options)
        trainer.hooks.add("killer", Killer(5))
        return trainer

    root = run_folder(broken.resolved).root
    with monkeypatch.context() as patched:
        patched.setattr("imginav.runs.experiment.build_trainer", killed)
        with pytest.raises(Killed):
            run_experiment(broken.resolved, lambda _: None, timed=False)
    # Killed within the second epoch, with points beyond the checkpoint of the first.
    before = read_points(root / POINTS)
    assert [point.step for point in before] == [1, 2, 3, 4, 5]
    said: list[str] = []
    run_experiment(broken.resolved, said.append, timed=False)
    assert any("it goes on after epoch 1 of 2" in line for line in said)
    points = read_points(root / POINTS)
    assert points[:3] == before[:3]
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(points))
    unbroken = read_points(run_folder(whole.resolved).root / POINTS)
    assert [point.val_mse for point in points] == [point.val_mse for point in unbroken]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "holds no points"),
        ("seconds\n1\n", "cannot be read"),
        (None, "No such file"),
        ("step,x\n1,y\n", "cannot be"),
    ],
)
def test_points_that_cannot_be_read_are_one_sentence(text: str | None, fault: str, tmp_path: Path) -> None:
    path = tmp_path / POINTS
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=fault):
        read_points(path)


def test_arms_take_turns_and_are_judged_on_the_same_layouts(arms: Path, tmp_path: Path) -> None:
    found = entries(read_arms(arms), [7, 8], tmp_path / "out", settings=["train.epochs=1"], epochs={"fast": 5})
    assert [(run.arm, run.seed) for run in found] == [("slow", 7), ("fast", 7), ("slow", 8), ("fast", 8)]
    manifests = [run.resolved.manifest for run in found]
    assert [manifest.train.seed for manifest in manifests] == [7, 7, 8, 8]
    assert {manifest.train.split_seed for manifest in manifests} == {42}
    assert [manifest.train.epochs for manifest in manifests] == [1, 5, 1, 5]
    assert [sorted(manifest.callbacks) for manifest in manifests[:2]] == [
        ["checkpoint", "quality"], ["checkpoint", "ema", "quality"],
    ]  # fmt: skip
    assert [run_folder(run.resolved).root.name for run in found[:2]] == ["slow_seed7", "fast_seed7"]
    assert "quality" not in found[0].resolved.to_toml()


def test_a_table_of_values_becomes_settings() -> None:
    table = {"a.b": 1e-4, "c": {"d": 'text "quoted"', "e": False}, "f": {}, "g": [1, {"h": True}]}
    assert settings_of(table) == (
        "a.b=0.0001", 'c.d="text \\"quoted\\""', "c.e=false", "f={}", 'g=[1, {"h" = true}]',
    )  # fmt: skip


ONE = '[arms.one]\nmanifest = "tiny.toml"\n'
TWO = ONE + '[arms.two]\nmanifest = "tiny.toml"\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "arms is required"),
        (ONE, "expected at least two arms to compare, found 1"),
        (ONE + '[arms.One]\nmanifest = "tiny.toml"\n', "two arms are called one"),
        (ONE + '[arms."a b"]\nmanifest = "tiny.toml"\n', "arm 'a b': expected a name of letters"),
        (ONE + "[arms.two]\n", "manifest"),
        (ONE + '[arms.two]\nmanifest = "tiny.toml"\nsett = {}\n', "did you mean 'set'?"),
        (ONE + '[arms.two]\nmanifest = "none.toml"\n', "none.toml: no such file"),
        (ONE + '[arms.two]\nmanifest = "tiny.toml"\nset = { "train.epoch" = 1 }\n', "epoch"),
        (ONE + '[arms.two]\nmanifest = "tiny.toml"\nset = { "data.seed" = 1 }\n', "two has other layouts than one"),
        (ONE + '[arms.two]\nmanifest = "tiny.toml"\nset = { "encoder.base_channels" = 24 }\n', "multiple of 16"),
        (TWO + "[targets]\ntime_ratio = 0\nmse_ratio = 6\n", "expected a number above 0, found 0"),
        ('evaluate_on = { "train.seed" = 1 }\n' + TWO, "expected a key of the data"),
        ('evaluate_on = { "data.seeds" = 1 }\n' + TWO, "seeds"),
        ("growth = 1\n" + TWO, "expected a number above 1"),
        ("not toml", "is not valid TOML"),
    ],
)
def test_what_is_wrong_with_arms_is_said_before_anything_is_trained(
    text: str, fault: str, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    assert time_to_quality.main(["--to", str(tmp_path / "out"), "--arms", str(path)]) == time_to_quality.USER_ERROR
    error = capsys.readouterr().err
    assert error.startswith("time_to_quality: ")
    assert fault in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--manifest", "one"], "--manifest one: expected NAME=PATH"),
        (["--manifest", "a=x.toml", "--arms", "y.toml"], "--manifest and --arms: name the arms by one of them"),
        (["--arms", "no_such.toml"], "no_such.toml: no such file; name a file of arms"),
        (["--arms", "{arms}", "--seeds", "1,1"], "--seeds: expected whole numbers of at least 0, each once"),
        (
            ["--arms", "{arms}", "--evaluate-on", "train.seed=1"],
            "--evaluate-on train.seed=1: expected a key of the data",
        ),
        (["--arms", "{arms}", "--trial"], "--trial"),
    ],
)
def test_what_is_wrong_with_the_command_is_one_sentence(
    arguments: list[str], fault: str, arms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(arms=arms) for argument in arguments]
    assert time_to_quality.main(["--to", str(tmp_path / "out"), *given]) == time_to_quality.USER_ERROR
    assert fault in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--seeds", "a"], ["--minutes", "0"], ["--layouts", "0"], []])
def test_what_cannot_be_parsed_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        time_to_quality.main(["--to", "out", *arguments] if arguments else [])
    assert ended.value.code == time_to_quality.USER_ERROR
    assert "error: " in capsys.readouterr().err


def test_epochs_follow_from_the_pace_which_is_measured_once(
    entry: Callable[..., Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces = iter([4.0, 100.0])
    monkeypatch.setattr(quality_runs, "seconds_per_epoch", lambda resolved: next(paces))
    said: list[str] = []
    assert epochs_of([entry()], 0.5, tmp_path, said.append) == {"one": 8}
    assert epochs_of([entry()], 0.5, tmp_path, said.append) == {"one": 8}
    assert said == ["one: 4 s an epoch, and so 8 in 0.5 min"] * 2
    assert epochs_of([entry()], 1, tmp_path, said.append) == {"one": 1}
    (tmp_path / quality_runs.PACE).write_text("{")
    with pytest.raises(UserError, match=r"pace\.json: cannot be read"):
        epochs_of([entry()], 1, tmp_path, said.append)


def test_the_pace_is_that_of_steps(entry: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 14.0])
    monkeypatch.setattr(quality_runs, "TIMED_STEPS", 2)
    monkeypatch.setattr(quality_runs, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert seconds_per_epoch(entry().resolved) == 2.0 * 3  # steps


@pytest.mark.slow
@pytest.mark.integration
def test_arms_are_trained_compared_and_left_alone_when_they_are_finished(
    arms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "out"
    command = ["--to", str(to), "--arms", str(arms), "--seeds", "3", "--layouts", "2"]
    assert time_to_quality.main(command) == 0
    printed = capsys.readouterr().out
    assert printed.index("run 1 of 2: slow_seed3") < printed.index("run 2 of 2: fast_seed3")
    for name in ("time_to_quality.png", "side_by_side.png"):
        with Image.open(to / name) as picture:
            picture.verify()
    with Image.open(to / "side_by_side.png") as picture:
        assert picture.width // 256 == 3  # the layout, and what both arms make of it
    text = (to / "time_to_quality.md").read_text()
    assert "| arm | latent | parameters |" in text
    assert "The same weights on data with data.seed=9" in text
    assert "fast reaches slow's final validation MSE in at most 0.1 of its training time: " in text
    rows = read_table(to / "time_to_quality.csv")
    assert [(row["arm"], row["seed"], row["step"]) for row in rows] == [
        ("slow", "3", "3"), ("slow", "3", "6"), ("fast", "3", "3"), ("fast", "3", "6"),
    ]  # fmt: skip

    for gone in ("run_experiment", "evaluate_checkpoint"):
        monkeypatch.delattr(quality_runs, gone)
    assert time_to_quality.main(command) == 0
    assert "run 2 of 2: fast_seed3 is finished" in capsys.readouterr().out
    assert (to / "time_to_quality.md").read_text() == text


def test_a_comparison_that_is_asked_to_leave_says_that_it_goes_on(
    arms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaves(runs: Any, stop_request: StopRequest, log: Any) -> None:
        stop_request._hear(2, None)

    monkeypatch.setattr(time_to_quality, "train_all", leaves)
    assert time_to_quality.main(["--to", str(tmp_path), "--arms", str(arms)]) == REQUEUE
    assert "stopped by SIGINT, state saved; run the same command to resume" in capsys.readouterr().err
