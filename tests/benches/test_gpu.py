"""The bench of a GPU, as far as it runs without one."""

from __future__ import annotations

import json
from pathlib import Path

import gpu
import pytest
import torch

from imginav.manifest.tables import Machine
from imginav.training.device import open_device
from imginav_benches import step_cost
from imginav_benches.step_cost import PROFILED_STEPS, Roofline, StepCost, Traffic, covered, measure_step


def test_the_bytes_of_operations_are_what_they_read_and_write() -> None:
    numbers = torch.ones(10, 10)
    with Traffic() as traffic:
        doubled = numbers + numbers  # reads 2 × 400 bytes, writes 400
        doubled.t().unsqueeze(0)  # views
        torch.empty(1000)
        doubled.add_(1.0)  # reads and writes 400
    assert traffic.moved_bytes == 1200 + 800


def test_the_backward_pass_counts() -> None:
    weight = torch.ones(10, 10, requires_grad=True)
    with Traffic() as forward:
        loss = (weight * 2).sum()
    with Traffic() as backward:
        loss.backward()
    assert backward.moved_bytes > 400
    assert forward.moved_bytes == 800 + 404


def test_time_is_busy_where_kernels_overlap_only_once() -> None:
    assert covered([(0, 2), (1, 3), (5, 6), (5, 5.5)]) == 4
    assert covered([]) == 0


def test_kernels_become_figures_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [(step + start, step + start + 0.25) for step in range(PROFILED_STEPS) for start in (0.0, 0.125)]
    monkeypatch.setattr(step_cost, "_kernels", lambda *_: spans)
    taken: list[int] = []
    weight = torch.ones(4, 4)

    def steps(number: int) -> None:
        taken.append(number)
        for _ in range(number):
            weight @ weight

    cost = measure_step(steps, open_device(Machine(device="cpu")), seconds=0.001)
    assert (cost.kernels, cost.kernel_seconds, cost.busy_seconds) == (2, 0.5, 0.375)
    assert cost.flops == 2 * 4**3
    assert cost.moved_bytes == 3 * 64
    assert taken[0] == step_cost.WARM_UP_STEPS
    replayed = measure_step(lambda _: None, open_device(Machine(device="cpu")), seconds=0.001, eager=cost)
    assert (replayed.moved_bytes, replayed.flops) == (cost.moved_bytes, cost.flops)


def test_idle_and_roofline_of_a_step() -> None:
    machine = Roofline(bytes_per_second=1e9, flops_per_second=1e12)
    cost = StepCost(seconds=4e-3, kernels=9, kernel_seconds=2e-3, busy_seconds=1e-3, moved_bytes=10**6, flops=10**9)
    assert cost.idle_share == 0.75
    assert cost.roofline_seconds(machine) == 1e-3
    heavy = StepCost(seconds=4e-3, kernels=None, kernel_seconds=None, busy_seconds=None, moved_bytes=1, flops=2 * 10**9)
    assert heavy.idle_share is None
    assert heavy.roofline_seconds(machine) == 2e-3


@pytest.mark.slow
def test_it_runs_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cpu", "--tiny", "--to", str(tmp_path / "gpu.json")]) == 0
    figures = json.loads((tmp_path / "gpu.json").read_text())
    (step,) = figures["steps"]
    assert (step["way"], step["batch"], step["notes"]) == ("eager", 4, [])
    assert step["images_per_second"] == pytest.approx(4 / step["cost"]["seconds"])
    assert step["cost"]["moved_bytes"] > 10**7
    assert figures["coding"][0]["name"] == "imginav"
    printed = capsys.readouterr().out
    assert "A training step of Phase 1.5" in printed
    assert "Encoding and decoding, 64 px" in printed


def test_a_device_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cuda:77"]) == 2
    assert capsys.readouterr().err.startswith("gpu: machine.device = 'cuda:77' cannot be used")
