"""A probe of a checkpoint or an export: measured once, kept, and gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from imginav import UserError
from imginav.plugin.registry import Registry
from imginav.processes.stop_request import Interrupted
from imginav_handoff.export import ExportRequest, export
from imginav_probe import measuring
from imginav_probe.flow_probe import FlowProbe
from imginav_probe.flow_run import STATE
from imginav_probe.measuring import ProbeRequest, measure
from imginav_probe.result import ProbeResult, load_result

MakeCheckpoint = Callable[..., Path]
Measure = Callable[..., ProbeResult]


@pytest.fixture
def probed(tmp_path: Path, registry: Registry, tiny_probe: FlowProbe) -> Measure:
    """Probe an autoencoder into a folder."""

    def run(path: Path, to: str = "probe", probe: FlowProbe = tiny_probe, **options: Any) -> ProbeResult:
        settings = (f"machine.cache={str(tmp_path / 'cache')!r}",)
        request = ProbeRequest(path=path, probe=probe, name="flow", to=tmp_path / to, settings=settings)
        return measure(request, registry, **{"log": lambda _: None, **options})

    return run


def test_what_was_measured_is_written_with_what_it_is_of(
    make_checkpoint: MakeCheckpoint, probed: Measure, tmp_path: Path
) -> None:
    result = probed(make_checkpoint())
    assert load_result(tmp_path / "probe") == result
    assert (result.experiment, result.latent, result.probe) == ("tiny", (8, 8, 2), "flow")
    assert result.settings["steps"] == 4
    assert set(result.metrics) >= {"probe_fdd", "probe_precision", "probe_recall", "probe_memorised", "probe_area"}
    assert all(len(metric.values) == 2 for metric in result.metrics.values())
    assert json.loads((tmp_path / "probe" / "probe.json").read_text())["finished"] is True


def test_only_the_result_and_its_pictures_are_left(
    make_checkpoint: MakeCheckpoint, probed: Measure, tmp_path: Path
) -> None:
    probed(make_checkpoint())
    assert {path.name for path in (tmp_path / "probe").iterdir()} == {"probe.json", "samples.png", "nearest.png"}


def test_what_is_there_is_not_measured_again_and_anything_else_is(
    make_checkpoint: MakeCheckpoint, probed: Measure, tiny_probe: FlowProbe, tmp_path: Path
) -> None:
    first = make_checkpoint("train.seed=1", name="first")
    said: list[str] = []
    before = probed(first)
    assert probed(first, log=said.append) == before
    assert said == [f"{tmp_path / 'probe'}: is measured already, with the same weights, layouts and settings"]
    assert probed(first, probe=evolve(tiny_probe, steps=5)).measured != "" != before.measured
    assert load_result(tmp_path / "probe").settings["steps"] == 5
    other = probed(make_checkpoint("train.seed=2", name="second"))
    assert other.weights_sha256 != before.weights_sha256
    assert other.metrics["probe_fdd"].values != before.metrics["probe_fdd"].values


def stop_after(items: int) -> Callable[[Iterable[Any]], Iterator[Any]]:
    left = iter(range(items))

    def unless_stopped(given: Iterable[Any]) -> Iterator[Any]:
        for item in given:
            if next(left, None) is None:
                raise Interrupted("SIGTERM")
            yield item

    return unless_stopped


def test_a_probe_that_was_stopped_goes_on_and_ends_with_the_same_result(
    make_checkpoint: MakeCheckpoint, probed: Measure, tmp_path: Path
) -> None:
    path = make_checkpoint()
    whole = probed(path, "whole")
    with pytest.raises(Interrupted):
        probed(path, "broken", unless_stopped=stop_after(7))
    kept = load_result(tmp_path / "broken")
    assert (kept.finished, kept.metrics) == (False, {})
    assert kept.seconds > 0
    assert (tmp_path / "broken" / STATE).is_file()
    resumed = probed(path, "broken")
    assert resumed.metrics == whole.metrics
    assert resumed.seconds > kept.seconds


def test_what_another_probe_has_left_half_done_is_not_gone_on_with(
    make_checkpoint: MakeCheckpoint, probed: Measure, tiny_probe: FlowProbe
) -> None:
    path = make_checkpoint()
    with pytest.raises(Interrupted):
        probed(path, unless_stopped=stop_after(7))
    other = evolve(tiny_probe, width=128)
    assert probed(path, probe=other).metrics == probed(path, "alone", probe=other).metrics


def test_an_export_is_probed_as_the_checkpoint_that_it_was_made_of(
    make_checkpoint: MakeCheckpoint, probed: Measure, registry: Registry, tmp_path: Path
) -> None:
    path = make_checkpoint("machine.precision=fp32")
    export(ExportRequest(checkpoint=path, to=tmp_path / "export", format="safetensors"), registry, log=lambda _: None)
    one, two = probed(path, "a"), probed(tmp_path / "export", "b")
    assert two.weights_sha256 == one.weights_sha256
    for name, metric in one.metrics.items():
        assert two.metrics[name].values == pytest.approx(metric.values, rel=0.05, abs=0.05)


def test_a_variational_autoencoder_is_probed_on_latents_that_are_drawn(
    make_checkpoint: MakeCheckpoint, probed: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    real = measuring.open_subject

    def opened(*arguments: Any) -> Any:
        subject = real(*arguments)
        of = subject.latents.of
        monkeypatch.setattr(
            subject.latents,
            "of",
            lambda places, side, generator=None: (drawn.append(generator), of(places, side, generator))[1],
        )
        return subject

    monkeypatch.setattr(measuring, "open_subject", opened)
    probed(make_checkpoint("encoder.variational=true"))
    assert sum(generator is not None for generator in drawn) == 8  # 4 steps of 2 seeds


def test_a_set_without_enough_layouts_is_refused(make_checkpoint: MakeCheckpoint, probed: Measure) -> None:
    path = make_checkpoint("data.count=2", "train.split=0.5", "train.split_by=layout")
    with pytest.raises(
        UserError, match="needs at least 2 training layouts and one of validation, and there are 1 and 1"
    ):
        probed(path)


def test_a_damaged_result_is_measured_again(make_checkpoint: MakeCheckpoint, probed: Measure, tmp_path: Path) -> None:
    path = make_checkpoint()
    before = probed(path)
    (tmp_path / "probe" / "probe.json").write_text("{")
    assert probed(path).metrics == before.metrics
    shutil.rmtree(tmp_path / "probe")
    with pytest.raises(UserError, match=r"probe\.json: cannot be read as the result of a probe"):
        load_result(tmp_path / "probe")
