"""A data set and a run that are as small as can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import frozen

from imginav import Dataset, DataSpec, LayoutSource
from imginav.checkpoint import Checkpoint
from imginav.components import Sample
from imginav.evaluation import evaluate
from imginav.fingerprints import DataPrint
from imginav.loading import ResolvedManifest, ResolvedPhase, load, load_phase
from imginav.outcome import Latency, Outcome
from imginav.palette import Palette
from imginav.records import Recorder, load_record
from imginav.registry import Registry, installed
from imginav.run import build_trainer, run_folder
from imginav.rundir import EVALUATION
from imginav.trainer import Trainer

PALETTE = Palette(names=("red", "white"), colours=((228, 26, 28), (240, 240, 240)), background="white")

LATENCY = Latency(
    device="cpu",
    precision="fp32",
    passes=1,
    encode_ms=0.75,
    encode_p95_ms=0.75,
    decode_ms=0.25,
    decode_p95_ms=0.25,
)

PHASE = """
[phase]
id = "0"
experiment = "tiny"
group = "tinies"

[data]
type = "blocks"
image_size = 32

[encoder]
type = "conv"
latent_channels = 2
base_channels = 16
downsampling_steps = 2

[decoder]
type = "conv"
heads.rgb = { type = "rgb" }
heads.segmentation = { type = "segmentation" }

[losses]
mse = {}
segmentation = { type = "cross_entropy", output = "segmentation", target = "segmentation", weight = 0.1 }

[train]
epochs = 2
batch_size = 4
split = 0.75
optimizer = { type = "adamw", learning_rate = 1e-3 }
"""


@frozen(kw_only=True)
class Blocks(Dataset):
    """Red blocks on white, drawn from their number; two of them make a scene."""

    count: int = 16  # type: ignore[assignment]

    def open(self) -> LayoutSource:
        return BlockLayouts(self)


class BlockLayouts(LayoutSource):
    spec = DataSpec(palette=PALETTE, labels=("room", "scene"), targets=("rgb", "segmentation", "label"))

    def __init__(self, config: Blocks) -> None:
        self._config = config

    def __len__(self) -> int:
        return self._config.count

    def read(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        size = self._config.image_size
        segmentation = np.ones((size, size), dtype=np.uint8)
        top, left = rng.integers(0, size // 2, 2)
        segmentation[top : top + size // 2, left : left + size // 2] = 0
        return {
            "rgb": PALETTE.colour(segmentation),
            "segmentation": segmentation,
            "label": np.array(index % 2, np.uint8),
        }

    def name(self, index: int) -> str:
        return f"block {index}"

    def scene(self, index: int) -> str | None:
        return f"scene {index // 2}"


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The installed components and the data set `blocks`."""
    registry = installed()
    registry.add("dataset", "blocks", Blocks)
    return registry


@pytest.fixture
def load_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> Callable[..., ResolvedPhase]:
    """Load the tiny phase under a number, with more text and settings, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def load(text: str = "", *settings: str, number: str = "1.1", **options: Any) -> ResolvedPhase:
        Path("phase.toml").write_text(PHASE.replace('"0"', f'"{number}"').replace("tin", f"p{number[-1]}_tin") + text)
        return load_phase(Path("phase.toml"), registry, settings=settings, **options)

    return load


Resolve = Callable[..., ResolvedManifest]


@pytest.fixture
def resolve(tmp_path: Path, registry: Registry) -> Resolve:
    """Resolve the tiny phase with settings over it."""

    def resolve(*settings: str) -> ResolvedManifest:
        path = tmp_path / "tiny.toml"
        path.write_text(PHASE)
        folders = [f"output.{root}={str(tmp_path / root)!r}" for root in ("experiments", "shared")]
        return load(path, registry, settings=[*folders, *settings])

    return resolve


@pytest.fixture
def make_trainer(resolve: Resolve) -> Callable[..., Trainer]:
    """Build the trainer of the tiny phase with settings over it, and with callbacks beside it."""

    def make(*settings: str, callbacks: Mapping[str, object] | None = None) -> Trainer:
        trainer = build_trainer(resolve(*settings), say=lambda _: None)
        if callbacks:
            trainer.hooks = type(trainer.hooks)({**trainer.hooks.callbacks, **callbacks})
        return trainer

    return make


@pytest.fixture
def make_checkpoint(resolve: Resolve, tmp_path: Path) -> Callable[..., Path]:
    """Leave a checkpoint of the tiny phase with settings over it, as initialised, and beside it what it is worth."""

    def make(*settings: str, evaluated: bool = True, spec: bool = True, name: str = "run") -> Path:
        resolved = resolve(*settings)
        trainer = build_trainer(resolved, say=lambda _: None)
        path = tmp_path / name / "tiny_checkpoint_best.pt"
        Checkpoint(
            model=trainer.model.state_dict(),
            epoch=2,
            metrics={},
            manifest=resolved.to_toml(),
            origins=resolved.origins,
            spec=trainer.data.source.spec if spec else None,
        ).save(path)
        if evaluated:
            evaluate(trainer, resolved, path.parent, timed=False).save(path.parent / EVALUATION)
        return path

    return make


@pytest.fixture
def finish() -> Callable[..., None]:
    """Leave what finished runs of a phase leave: records and figures, by the labels of the experiments."""

    def finish(phase: ResolvedPhase, prints: Sequence[DataPrint], **figures: float) -> None:
        for resolved, data in zip(phase.experiments, prints, strict=True):
            if phase.label(resolved) not in figures:
                continue
            folder = run_folder(resolved)
            earlier = load_record(folder.record)
            with Recorder.start(folder.record, folder.experiment, resolved.sha256, data, 2, earlier).until_finished():
                value = figures[phase.label(resolved)]
                channels = resolved.manifest.encoder.latent_channels
                outcome = Outcome(
                    title="",
                    experiment=folder.experiment,
                    weights_epoch=2,
                    epochs=2,
                    stop_reason="",
                    best_epoch=2,
                    monitor="val_loss",
                    metrics={"val_mse": value, "val_loss": value},
                    flat_background_mse=1.0,
                    latent=(8, 8, channels),
                    downsampling_factor=4,
                    encoder_parameters=10,
                    decoder_parameters=10,
                    train_layouts=12,
                    validation_layouts=4,
                    split_by="scene",
                    trial=False,
                    latency=LATENCY,
                )
                outcome.save(folder.evaluation)

    return finish
