"""`imginav plan`: shapes, parameters, FLOPs, memory and disk against what is built and what a run leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from imginav import UserError, cli
from imginav.data import loader as data_module
from imginav.data.loader import open_fingerprint
from imginav.manifest.resolved import ResolvedManifest, ResolvedPhase
from imginav.model.autoencoder import build_autoencoder, parameter_count
from imginav.plugin.registry import installed
from imginav.runs.experiment import build_trainer, run_experiment, run_folder
from imginav.seeds import Seeds
from imginav.study.phases import open_phase
from imginav_inspect.plan import Needs, needs_of, show_plan

Resolve = Callable[..., ResolvedManifest]


def needs(resolved: ResolvedManifest, *, measure: bool = False) -> Needs:
    data, train = resolved.manifest.data, resolved.manifest.train
    return needs_of(resolved, data.open().spec, open_fingerprint(data, train), measure=measure)


@pytest.mark.parametrize(
    ("settings", "latent"),
    [
        ((), (8, 8, 2)),
        (("encoder.downsampling_steps=3", "encoder.latent_channels=5"), (4, 4, 5)),
        (("encoder.variational=true", "data.crop=16"), (8, 8, 2)),
    ],
)
def test_the_latent_is_that_of_a_whole_layout(
    resolve: Resolve, settings: tuple[str, ...], latent: tuple[int, int, int]
) -> None:
    needed = needs(resolve(*settings))
    assert needed.latent == latent
    height, width, channels = latent
    assert needed.cells[:2] == [f"{height}×{width}×{channels}", str(math.prod(latent))]


@pytest.mark.parametrize("variational", ["true", "false"])
def test_parameters_are_those_of_the_built_model(resolve: Resolve, variational: str) -> None:
    resolved = resolve(f"encoder.variational={variational}", "encoder.latent_channels=3")
    manifest = resolved.manifest
    model = build_autoencoder(manifest.encoder, manifest.decoder, manifest.data.open().spec, Seeds(0))
    needed = needs(resolved)
    assert needed.encoder_parameters == parameter_count(model.encoder)
    assert needed.decoder_parameters == parameter_count(model.decoder)
    assert needed.weights_bytes == 4 * 4 * parameter_count(model)  # with gradients and two moments, in fp32


def conv(kernel: int, before: int, after: int, side: int) -> int:
    """FLOPs of a convolution: a multiplication and an addition for each weight at each place."""
    return 2 * kernel**2 * before * after * side**2


def test_flops_are_those_of_a_hand_count(resolve: Resolve) -> None:
    needed = needs(resolve())
    assert needed.encode_flops == sum(
        [
            conv(3, 3, 16, 32),
            conv(4, 16, 16, 16),  # at the places of its output, which is half as wide
            conv(3, 16, 32, 16),
            conv(4, 32, 32, 8),
            conv(3, 32, 32, 8),
            conv(1, 32, 2, 8),
        ]
    )
    heads = [2 * conv(3, 8, 8, 32), conv(3, 8, 3, 32), conv(3, 8, 2, 32)]  # rgb, and two classes
    assert needed.decode_flops == sum(
        [
            conv(3, 2, 32, 8),
            conv(4, 32, 16, 8),  # transposed: at the places of its input
            conv(4, 16, 8, 16),
            *heads,
        ]
    )


def test_activations_grow_with_the_batch_and_fall_with_its_parts(resolve: Resolve) -> None:
    one = needs(resolve("train.batch_size=1")).activation_bytes
    # The output of each convolution and of each activation after it is kept, in four bytes a number.
    assert one > 4 * 2 * (16 * 32**2 + 16 * 16**2 + 32 * 16**2 + 2 * 32 * 8**2)
    assert needs(resolve("train.batch_size=6")).activation_bytes == 6 * one
    assert needs(resolve("train.batch_size=6", "machine.accumulate=2")).activation_bytes == 3 * one
    assert needs(resolve("train.batch_size=6", "machine.accumulate=4")).activation_bytes == 2 * one
    # Of crops only, on which it is trained; a quarter of the pixels keeps a quarter, but for the norms' statistics.
    cropped = needs(resolve("train.batch_size=1", "data.crop=16")).activation_bytes
    assert cropped == pytest.approx(one / 4, rel=0.01)


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 12), (4, 3), (5, 3), (12, 1), (13, 1)])
def test_an_epoch_sees_every_training_layout_once(resolve: Resolve, batch_size: int, steps: int) -> None:
    needed = needs(resolve(f"train.batch_size={batch_size}", "train.epochs=7"))
    assert needed.steps_per_epoch == steps  # 12 of 16 layouts train
    assert needed.cells[6] == f"7 × {steps}"


@pytest.mark.parametrize(("batch_size", "crops", "steps"), [(1, 2, 24), (4, 3, 9), (5, 3, 8), (36, 3, 1), (37, 3, 1)])
def test_an_epoch_of_crops_sees_every_crop_once_and_one_of_whole_layouts_takes_as_many_steps(
    resolve: Resolve, batch_size: int, crops: int, steps: int
) -> None:
    settings = ("data.crop=16", f"data.crops={crops}", f"train.batch_size={batch_size}", "train.epochs=7")
    for whole_epochs in (0, 2, 9):
        resolved = resolve(*settings, f"data.whole_epochs={whole_epochs}")
        needed = needs(resolved)
        assert needed.steps_per_epoch == steps
        assert needed.cells[6] == f"7 × {steps}"
        with closing(build_trainer(resolved, log=lambda _: None, prepared=False).data) as data:
            for epoch in (1, 7):
                assert len(list(data.train_batches(epoch))) == steps


def test_more_crops_than_memory_holds_the_order_of_are_refused(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "MOST_DRAWS", 36)
    assert needs(resolve("data.crop=16", "data.crops=3")).steps_per_epoch == 9
    with pytest.raises(UserError, match=r"data.crops = 4 makes 48 crops of 12 training layouts, in each epoch; 36 are"):
        needs(resolve("data.crop=16", "data.crops=4"))


@pytest.mark.parametrize(
    "callbacks",
    [
        (),
        ("callbacks.checkpoint={}",),
        ("callbacks.checkpoint={ every = 1 }",),
        ("callbacks.checkpoint={ every = 1, keep = 1 }",),
        ("callbacks.checkpoint={ every = 2, keep = 5 }",),
        ("callbacks.checkpoint={}", "callbacks.early_stopping={ restore_best = true }"),
        ("callbacks.checkpoint={}", "callbacks.early_stopping={ restore_best = true }", "callbacks.ema={}"),
    ],
)
def test_a_run_leaves_no_more_on_the_disk_than_was_said_and_at_least_half(
    resolve: Resolve, callbacks: tuple[str, ...]
) -> None:
    resolved = resolve("train.epochs=3", "data.count=8", "train.batch_size=3", *callbacks)
    said = needs(resolved).disk_bytes
    run_experiment(resolved, log=lambda _: None)
    left = sum(path.stat().st_size for path in run_folder(resolved).root.rglob("*.pt"))
    assert left <= said <= 2 * left


def test_measuring_gives_a_time(resolve: Resolve) -> None:
    resolved = resolve("data.count=8", "train.batch_size=3")
    assert needs(resolved).seconds is None
    assert needs(resolved).cells[-2:] == ["", ""]
    measured = needs(resolved, measure=True)
    assert measured.seconds is not None
    assert measured.seconds > 0
    assert measured.cells[-2].endswith(" s")
    assert measured.probe_seconds is None


def test_the_time_of_probes_is_foretold_from_a_few_steps(resolve: Resolve) -> None:
    probe = "{type='flow', batch_size=4, width=64, depth=1, samples=16, seeds=2, steps="

    def seconds(steps: int) -> float:
        resolved = resolve("data.count=8", f"evaluation.probes.flow={probe}{steps}}}")
        assert needs(resolved).probe_seconds is None
        found = needs(resolved, measure=True)
        assert found.cells[-1] != ""
        assert found.probe_seconds is not None
        return found.probe_seconds

    assert seconds(100_000) > 100 * seconds(10)


def test_what_cannot_be_built_is_refused(resolve: Resolve) -> None:
    with pytest.raises(UserError, match=r"data.image_size = 32 cannot be halved 6 times .*; take a multiple of 64"):
        needs(resolve("encoder.downsampling_steps=6"))


def test_nothing_is_computed_on_the_way(resolve: Resolve) -> None:
    state = torch.get_rng_state()
    needs(resolve())
    assert torch.equal(torch.get_rng_state(), state)


SWEEP = """
[callbacks]
checkpoint = { every = 1 }
[sweep.experiments]
A = { "encoder.latent_channels" = 2 }
B = { "encoder.latent_channels" = 4, "train.epochs" = 3 }
"""


def test_the_plan_lists_shared_values_with_their_origins_and_a_row_for_each_experiment(
    load_text: Callable[..., ResolvedPhase], capsys: pytest.CaptureFixture[str]
) -> None:
    phase = load_text(SWEEP, "train.batch_size=6")
    show_plan(open_phase(phase, installed().hooks), phase.experiments, measure=False)
    text = capsys.readouterr().out
    values, _, table = text.partition("Phase 1.1")
    lines = values.splitlines()
    first = phase.experiments[0]
    shared = [
        key for key in first.origins if key not in ("encoder.latent_channels", "train.epochs", "phase.experiment")
    ]
    assert [line.partition(" = ")[0] for line in lines] == shared
    assert [line.rpartition(" · ")[2] for line in lines] == [first.origins[key] for key in shared]
    assert "train.batch_size = 6 · --set" in lines
    assert "encoder.base_channels = 16 · phase.toml" in lines
    assert "encoder.variational = false · default" in lines
    rows = {line.split()[0]: line.split() for line in table.splitlines() if line.split()[:1] in (["A"], ["B"])}
    assert rows["A"][:5] == ["A", "2", "2", "8×8×2", "128"]
    assert rows["B"][:5] == ["B", "4", "3", "8×8×4", "256"]
    assert "--measure estimates the time; memory and disk are estimates" in text


def test_the_plan_of_one_experiment_lists_all_of_its_values(
    load_text: Callable[..., ResolvedPhase], capsys: pytest.CaptureFixture[str]
) -> None:
    phase = load_text(SWEEP)
    show_plan(open_phase(phase, installed().hooks), phase.experiments[1:], measure=False)
    lines = capsys.readouterr().out.splitlines()
    assert "encoder.latent_channels = 4 · phase.toml [sweep] B" in lines
    assert 'phase.experiment = "p1_tiny_B" · phase.toml [sweep] B' in lines


def test_the_command_trains_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    golden = Path(__file__).parents[2] / "core" / "manifest" / "wrong_manifests"
    for name in ("base.toml", "earlier.toml"):
        Path(name).write_bytes((golden / name).read_bytes())
    assert cli.main(["plan", "earlier.toml", "--only", "L2", "--measure"]) == 0
    text = capsys.readouterr().out
    assert "encoder.latent_channels = 4 · earlier.toml [sweep] L2" in text
    assert ", one after the other; memory and disk are estimates" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.toml", "earlier.toml"]
    assert cli.main(["plan", "earlier.toml", "--only", "L3"]) == 2
    assert "--only L3: earlier.toml has no such experiment" in capsys.readouterr().err
