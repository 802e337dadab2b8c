"""The flow probe on latents whose worth is known: the same result each time, and broken latents come last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import astuple, evolve
from torch import Tensor

from imginav import UserError
from imginav.manifest.resolved import ResolvedManifest
from imginav.processes.stop_request import Interrupted
from imginav.runs.evaluation_result import ProbeMetric
from imginav.runs.experiment import build_trainer
from imginav_probe import features
from imginav_probe.distances import RIDGE
from imginav_probe.flow_probe import FlowProbe
from imginav_probe.flow_run import STATE
from imginav_probe.probe import Workplace
from imginav_probe.truth import Truth
from imginav_tests.probed import subject


@pytest.fixture(autouse=True)
def _short_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "STEPS", 40)
    monkeypatch.setattr(features, "BATCH", 16)


TINY = FlowProbe(steps=6, batch_size=8, width=64, depth=1, samples=16, seeds=2)


def values(metrics: dict[str, ProbeMetric]) -> dict[str, tuple[float, ...]]:
    return {name: metric.values for name, metric in metrics.items()}


def test_the_same_seeds_give_the_same_metrics_bit_for_bit(tmp_path: Path) -> None:
    one, two = (dict(TINY.measure(subject(), Workplace(folder=tmp_path / name))) for name in "ab")
    assert one == two
    assert set(TINY.definitions) - set(one) == {"rooms", "wall_continuity"}  # there is no class of walls
    assert all(len(metric.values) == 2 for metric in one.values())
    assert one["fdd"].values[0] != one["fdd"].values[1]
    assert (tmp_path / "a" / "samples.png").read_bytes() == (tmp_path / "b" / "samples.png").read_bytes()


class StopAfter:
    """Ask to stop after a number of items, counted over all that is gone through."""

    def __init__(self, items: int) -> None:
        self.left = items

    def __call__(self, given: Iterable[Any]) -> Iterator[Any]:
        for item in given:
            if self.left <= 0:
                raise Interrupted("SIGTERM")
            self.left -= 1
            yield item


@pytest.mark.parametrize("wall", [False, True])
def test_a_probe_that_was_stopped_anywhere_ends_as_an_unbroken_one(
    tmp_path: Path, wall: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, looked_at = TINY, subject(cache=tmp_path)
    if wall:
        palette = evolve(looked_at.spec.palette, names=("wall", "white"))
        looked_at = evolve(looked_at, spec=evolve(looked_at.spec, palette=palette))
        probe = evolve(TINY, condition="walls")
    whole = probe.measure(looked_at, Workplace(folder=tmp_path / "whole"))
    stops = 0
    broken = Workplace(folder=tmp_path / "broken", unless_stopped=StopAfter(4))
    while True:
        try:
            resumed = probe.measure(looked_at, evolve(broken, unless_stopped=StopAfter(4)))
        except Interrupted:
            stops += 1
        else:
            break
        assert stops < 40
    assert stops >= (6 if wall else 3)
    assert resumed == whole


def test_a_state_that_is_damaged_is_begun_anew(tmp_path: Path) -> None:
    looked_at = subject(cache=tmp_path)
    with pytest.raises(Interrupted):
        TINY.measure(looked_at, Workplace(folder=tmp_path / "a", unless_stopped=StopAfter(features.STEPS + 3)))
    state = tmp_path / "a" / STATE
    state.write_bytes(state.read_bytes()[:100])
    assert TINY.measure(looked_at, Workplace(folder=tmp_path / "a")) == TINY.measure(
        looked_at, Workplace(folder=tmp_path / "b")
    )


def scrambled(latents: Tensor) -> Tensor:
    """Return latents whose cells lie in another random order in each layout."""
    generator = torch.Generator().manual_seed(0)
    flat = latents.flatten(2)
    orders = torch.stack([torch.randperm(flat.shape[2], generator=generator) for _ in flat])
    return flat.gather(2, orders[:, None].expand_as(flat)).view_as(latents)


@pytest.mark.slow
def test_broken_latents_come_last(tmp_path: Path) -> None:
    probe = FlowProbe(steps=150, batch_size=32, width=64, depth=2, samples=64, seeds=1)
    arms = {
        "whole": subject(cache=tmp_path),
        "scrambled": subject(scrambled, cache=tmp_path),
        "constant": subject(
            lambda latents: latents.mean(dim=(0, 2, 3), keepdim=True).expand_as(latents), cache=tmp_path
        ),
        "dead": subject(lambda latents: latents * torch.tensor([1.0, 0.0, 0.0])[:, None, None], cache=tmp_path),
    }
    fdd = {name: probe.measure(arm, Workplace(folder=tmp_path / name))["fdd"].values[0] for name, arm in arms.items()}
    assert min(fdd, key=lambda name: fdd[name]) == "whole"
    assert fdd["whole"] < 0.7 * min(value for name, value in fdd.items() if name != "whole")


def test_walls_need_a_class_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="condition = \"walls\": the layouts have no class 'wall'; take condition"):
        evolve(TINY, condition="walls").measure(subject(cache=tmp_path), Workplace(folder=tmp_path / "a"))


def test_layouts_without_classes_have_no_metrics_of_plans(tmp_path: Path) -> None:
    looked_at = subject(cache=tmp_path)
    looked_at = evolve(looked_at, spec=evolve(looked_at.spec, targets=("rgb",)))
    found = TINY.measure(looked_at, Workplace(folder=tmp_path / "a"))
    assert set(found) == {"fdd", "precision", "recall", "memorised"}


def test_a_definition_says_how_it_was_measured_so_that_others_are_not_compared_with_it(tmp_path: Path) -> None:
    found = TINY.measure(subject(cache=tmp_path), Workplace(folder=tmp_path / "a"))
    assert found["fdd"].definition.endswith(
        "flow model of width 64 and depth 1 after 6 steps of 8, 16 samples of 32×32 pixels"
    )
    assert found["fdd"].floor is not None
    assert found["fdd"].reconstructed is not None
    assert found["memorised"].floor is None


@pytest.mark.parametrize(
    ("side", "device", "expected"),
    [
        (128, "cpu", (128, 600, 32, 128, 3, 1024, 2)),
        (512, "cpu", (128, 600, 32, 128, 3, 1024, 2)),
        (128, "cuda", (128, 600, 32, 128, 3, 1024, 3)),
        (512, "cuda", (512, 2000, 64, 384, 8, 2048, 3)),
    ],
)
def test_what_is_not_stated_follows_the_size_of_the_windows_and_the_device(
    side: int, device: str, expected: tuple[int, ...]
) -> None:
    settings = FlowProbe().settled(side, torch.device(device))
    assert astuple(settings) == expected


def test_windows_that_the_tokens_do_not_fit_are_refused_before_any_training(
    resolve: Callable[..., ResolvedManifest],
) -> None:
    FlowProbe().check(64)
    with pytest.raises(UserError, match="cannot look at windows of 128 pixels: those of the training have 64; take"):
        FlowProbe(window=128).check(64)
    with pytest.raises(UserError, match=r"windows of this size .*multiple of 16 pixels, found 36"):
        build_trainer(resolve("data.image_size=36", "evaluation.probes.flow={}"), log=lambda _: None)


def test_a_smaller_window_can_be_looked_at_than_the_training_did(tmp_path: Path) -> None:
    looked_at = subject(cache=tmp_path)
    found = evolve(TINY, window=16).measure(looked_at, Workplace(folder=tmp_path / "a"))
    assert found["fdd"].definition.endswith("16 samples of 16×16 pixels")
    assert looked_at.windows.side == 32


def test_a_window_has_to_hold_whole_cells_of_the_latent(tmp_path: Path) -> None:
    looked_at = subject(cache=tmp_path)
    looked_at.latents.factor = 64
    with pytest.raises(
        UserError, match="windows of 32 pixels: a cell of the latent has 64; set its window to a multiple"
    ):
        TINY.measure(looked_at, Workplace(folder=tmp_path / "a"))


def test_each_seed_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    TINY.measure(subject(cache=tmp_path), Workplace(folder=tmp_path / "a", log=said.append))
    assert [line.partition(": FDD ")[0] for line in said] == ["seed 1 of 2", "seed 2 of 2"]


def test_features_are_whitened_by_those_of_true_layouts(tmp_path: Path) -> None:
    truth = Truth.of(subject(cache=tmp_path), 16, Workplace(folder=tmp_path), walls=False)
    variances = truth.reference.var(dim=0)
    assert float(truth.reference.mean(dim=0).abs().max()) < 1e-6
    assert float(variances.max()) == pytest.approx(1 / (1 + RIDGE), rel=1e-4)
