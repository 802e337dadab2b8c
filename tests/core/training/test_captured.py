"""A step that is recorded and replayed: what is kept, what it gives, and when it is left alone.

CUDA graphs are for GPUs. What records here computes the function once more at each replay, into the same tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import pytest
import torch
from torch import Tensor

from imginav.training import assembly, gradients
from imginav.training.captured import MOST_SHAPES, WARM_UP_CALLS, Captured
from imginav.training.device import Device, open_device
from imginav.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


class Rerun:
    """Records by keeping the function; counts what was recorded and replayed."""

    recorded = replayed = 0

    def __init__(self, compute: Callable[[], dict[str, Tensor]]) -> None:
        type(self).recorded += 1
        self._compute = compute
        self.outputs = {name: tensor.clone() for name, tensor in compute().items()}

    def replay(self) -> None:
        type(self).replayed += 1
        for name, tensor in self._compute().items():
            self.outputs[name].copy_(tensor)


@pytest.fixture(autouse=True)
def nothing_recorded() -> None:
    Rerun.recorded = Rerun.replayed = 0


def double(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"doubled": 2 * inputs["number"], "sum": inputs["number"].sum()}


def test_the_first_calls_are_computed_and_the_rest_is_replayed() -> None:
    notes: list[str] = []
    captured = Captured(double, Rerun, notes.append)
    for call in range(1, 8):
        number = torch.full((3,), float(call))
        outputs = captured({"number": number})
        assert torch.equal(outputs["doubled"], 2 * number)
        assert outputs["sum"] == 3 * call
        assert Rerun.recorded == (call >= WARM_UP_CALLS)
    assert Rerun.replayed == 8 - WARM_UP_CALLS
    assert notes == []


def test_inputs_of_another_shape_are_recorded_apart_and_not_without_end() -> None:
    captured = Captured(double, Rerun, pytest.fail)
    for size in range(1, MOST_SHAPES + 3):
        for call in range(WARM_UP_CALLS + 2):
            number = torch.full((size,), float(call))
            assert torch.equal(captured({"number": number})["doubled"], 2 * number)
    assert Rerun.recorded == MOST_SHAPES


def test_what_cannot_be_recorded_is_computed_as_before() -> None:
    def refuse(compute: Callable[[], dict[str, Tensor]]) -> Rerun:
        raise RuntimeError("operation not permitted\n  when stream is capturing")

    notes: list[str] = []
    captured = Captured(double, refuse, notes.append)
    for call in range(WARM_UP_CALLS + 3):
        assert captured({"number": torch.full((2,), float(call))})["sum"] == 2 * call
    assert notes == ["machine.capture = true has no effect: torch refuses to record a step (operation not permitted)"]


class Wrong(Rerun):
    """Replays what is a little off."""

    def replay(self) -> None:
        super().replay()
        self.outputs["sum"] *= 1.05


def test_a_replay_that_gives_something_else_is_not_believed() -> None:
    notes: list[str] = []
    captured = Captured(double, Wrong, notes.append)
    for call in range(WARM_UP_CALLS + 3):
        assert captured({"number": torch.full((2,), float(call))})["sum"] == 2 * call
    assert notes == ["machine.capture = true has no effect: replayed, a step gave another sum"]


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU record steps, of which a replay leaves nothing in the parameters, as a CUDA graph leaves nothing."""
    capturable = gradients.Gradients._capturable

    def without_traces(self: gradients.Gradients, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = capturable(self, inputs)
        for parameter in self._parameters.values():
            parameter.grad = None
        return outputs

    monkeypatch.setattr(gradients.Gradients, "_capturable", without_traces)

    def opened(*arguments: object) -> Device:
        return attrs.evolve(open_device(*arguments), captures=True)  # type: ignore[arg-type]

    monkeypatch.setattr(assembly, "open_device", opened)
    monkeypatch.setattr(gradients, "CudaRecording", Rerun)


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["encoder.variational=true", "losses.kld={}", "machine.accumulate=2"],
        ["data.crop=16", "data.whole_epochs=2"],
        ["callbacks.gradient_clipping={ max_norm = 0.01 }", "train.on_non_finite=skip"],
    ],
    ids=["as it is", "variational, in parts", "of two shapes", "with callbacks"],
)
def test_a_recorded_training_is_the_training(
    settings: list[str], make_trainer: MakeTrainer, request: pytest.FixtureRequest
) -> None:
    plain = make_trainer("train.epochs=4", *settings)
    plain.fit()
    request.getfixturevalue("captures")
    recorded = make_trainer("train.epochs=4", *settings)
    recorded.fit()
    assert recorded.notes == []
    assert Rerun.replayed > 3
    columns = [name for name in plain.history[0] if name not in ("seconds", "images_per_second")]
    for row, expected in zip(recorded.history, plain.history, strict=True):
        assert {name: row[name] for name in columns} == {name: expected[name] for name in columns}
    for a, b in zip(recorded.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_only_a_gpu_records(make_trainer: MakeTrainer) -> None:
    assert not make_trainer("machine.capture=true").device.captures


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("variational", ["true", "false"])
def test_a_gpu_replays_what_it_computed(make_trainer: MakeTrainer, variational: str) -> None:
    settings = ["machine.device=cuda", f"encoder.variational={variational}", "train.epochs=4"]
    plain, recorded = make_trainer(*settings), make_trainer(*settings, "machine.capture=true")
    plain.fit()
    recorded.fit()
    assert recorded.notes == []
    assert recorded._gradients._captured is not None
    assert recorded._gradients._captured._recorded
    assert recorded.history[-1]["val_loss"] == pytest.approx(plain.history[-1]["val_loss"], rel=0.02)
