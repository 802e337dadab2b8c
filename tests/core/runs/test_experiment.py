"""What a trainer is made from, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from imginav import UserError
from imginav.manifest.resolved import ResolvedManifest
from imginav.manifest.tables import Machine
from imginav.plugin.components import Sample
from imginav.plugin.registry import InstalledHooks
from imginav.processes.distributed import World
from imginav.runs.evaluation_result import EvaluationResult
from imginav.runs.experiment import build_trainer, is_finished, run_experiment
from imginav.training import assembly
from imginav.training.device import Device
from imginav.training.trainer import Trainer
from imginav_evaluation.evaluate import Weights, evaluate

Resolve = Callable[..., ResolvedManifest]
MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def folders(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """The folders in which layouts were prepared."""
    prepared: list[Path | None] = []
    source = type(make_trainer().data.source)
    monkeypatch.setattr(source, "prepare", lambda self, folder, log: prepared.append(folder), raising=False)
    return prepared


def test_layouts_are_prepared_where_the_machine_keeps_them(resolve: Resolve, folders: list[Path | None]) -> None:
    for settings in ((), ("machine.cache='elsewhere'",), ("machine.cache=false",)):
        build_trainer(resolve(*settings), log=lambda _: None)
    assert folders == [Path("outputs/cache"), Path("elsewhere"), None]
    build_trainer(resolve(), log=lambda _: None, prepared=False)
    assert len(folders) == 3


def test_where_layouts_are_kept_changes_no_fingerprint(resolve: Resolve) -> None:
    assert resolve("machine.cache='elsewhere'").sha256 == resolve("machine.cache=false").sha256 == resolve().sha256
    assert resolve("data.augment=true").sha256 != resolve().sha256


@pytest.mark.parametrize("dropped", [range(16), range(0, 16, 2)])
def test_layouts_of_exact_colours_train_and_are_judged_alike_with_and_without_their_pixels(
    make_trainer: MakeTrainer,
    resolve: Resolve,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    dropped: range,
) -> None:
    def judged(folder: str) -> tuple[list[dict[str, float]], EvaluationResult, bytes]:
        (tmp_path / folder).mkdir()
        trainer = make_trainer("data.augment=true")
        trainer.fit()
        evaluation = evaluate(Weights.of(trainer), resolve(), tmp_path / folder, timed=False)
        samples = trainer.data.validation_samples(3)["rgb"].numpy()
        return trainer.history, evaluation, np.ascontiguousarray(samples).tobytes()

    history, evaluation, samples = judged("with")
    source = type(make_trainer().data.source)
    read = source.read

    def without(self: object, index: int) -> Sample:
        sample = read(self, index)  # type: ignore[arg-type]  # it is one
        if index in dropped:
            del sample["rgb"]
        return sample

    monkeypatch.setattr(source, "read", without)
    bare_history, bare_evaluation, bare_samples = judged("without")
    timed = ("seconds", "images_per_second")
    for row, bare in zip(history, bare_history, strict=True):
        assert {name: row[name] for name in row if name not in timed} == {n: bare[n] for n in bare if n not in timed}
    assert repr(bare_evaluation.metrics) == repr(evaluation.metrics)  # some are NaN
    assert repr(bare_evaluation.latent_statistics) == repr(evaluation.latent_statistics)
    assert repr(bare_evaluation.interpolation) == repr(evaluation.interpolation)
    assert bare_samples == samples
    for picture in ("worst.png", "best.png", "interpolation.png"):
        assert (tmp_path / "with" / picture).read_bytes() == (tmp_path / "without" / picture).read_bytes()


def test_encoder_and_decoder_are_compiled_where_the_device_says_so_and_keep_their_names(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    plain = make_trainer("machine.compile=false")
    assert not compiled
    trainer = make_trainer("machine.compile=true")
    assert [id(module) for module in compiled] == [id(trainer.model.encoder), id(trainer.model.decoder)]
    assert list(trainer.model.state_dict()) == list(plain.model.state_dict())


@pytest.mark.parametrize(
    ("settings", "trains", "steps"),
    [
        ((), True, 2 * 3),  # 12 of 16 layouts train, 4 of them in a step
        (("train.epochs=5", "train.batch_size=5"), True, 5 * 3),
        (("data.crop=16", "data.crops=3"), True, 2 * 9),
        (("data.crop=16", "data.crops=3", "data.whole_epochs=1"), True, 2 * 9),
        ((), False, 0),  # it would not pay to compile
    ],
)
def test_the_device_and_the_schedule_are_told_of_how_many_steps_the_run_is(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], *, trains: bool, steps: int
) -> None:
    told: list[int] = []
    open_device = assembly.open_device

    def listening(machine: Machine, steps: int, world: World) -> Device:
        told.append(steps)
        return open_device(machine, steps, world)

    monkeypatch.setattr(assembly, "open_device", listening)
    manifest = resolve(*settings).manifest
    parts = assembly.assemble(manifest, log=lambda _: None, trains=trains, prepared=False)
    assert told == [steps]
    assert parts.steps == steps
    if trains:
        assert manifest.train.epochs * parts.data.steps_per_epoch == steps


class Silent(InstalledHooks):
    """Stands for plugins of which none answers the end of a run."""

    def __init__(self) -> None: ...

    def run_finished(self, run: object) -> None: ...


def test_a_run_that_no_plugin_evaluates_is_not_finished_and_is_evaluated_by_the_same_command(resolve: Resolve) -> None:
    resolved = resolve("callbacks.checkpoint={}", "train.epochs=1")
    with pytest.raises(
        UserError, match=r"no installed plugin has evaluated tiny.*take the plugin 'evaluation' .* out of"
    ):
        run_experiment(resolved, log=lambda _: None, hooks=Silent())
    assert not is_finished(resolved)
    steps: list[str] = []
    assert run_experiment(resolved, log=steps.append, timed=False).weights_epoch == 1
    assert is_finished(resolved)
    assert any("after epoch 1 of 1" in line for line in steps)  # evaluated, and not trained again
