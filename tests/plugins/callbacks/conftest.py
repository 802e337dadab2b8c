"""A run that is as small as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from attrs import field, frozen

from imginav import Callback, Dataset, DataSpec, Head, LayoutSource, Loss
from imginav.manifest.resolved import ResolvedManifest
from imginav.manifest.tables import Machine, Manifest, Output, Phase, Train
from imginav.plugin.components import Sample
from imginav.runs.experiment import build_trainer
from imginav.runs.run_folder import RunFolder
from imginav.training.run_hooks import RunHooks
from imginav.training.trainer import Trainer
from imginav_datasets.classes import LABELS, PALETTE
from imginav_decoders import ConvDecoder
from imginav_encoders import ConvEncoder
from imginav_heads import RgbHead, SegmentationHead
from imginav_losses import MSE, CrossEntropy
from imginav_optimizers import AdamW

HEADS: dict[str, Head] = {"rgb": RgbHead(), "segmentation": SegmentationHead()}
LOSSES: dict[str, Loss] = {
    "mse": MSE(),
    "segmentation": CrossEntropy(output="segmentation", target="segmentation", weight=0.05),
}


@frozen(kw_only=True)
class Patchworks(Dataset):
    """Squares of random classes, drawn from their number."""

    image_size: int = 32
    count: int = field(default=8)

    def open(self) -> LayoutSource:
        return DrawnPatchworks(self)


class DrawnPatchworks(LayoutSource):
    spec = DataSpec(palette=PALETTE, labels=LABELS, targets=("rgb", "segmentation", "label"))

    def __init__(self, config: Patchworks) -> None:
        self._config = config

    def __len__(self) -> int:
        return self._config.count

    def read(self, index: int) -> Sample:
        squares = np.random.default_rng(index).integers(0, len(PALETTE), (4, 4), dtype=np.uint8)
        segmentation = np.kron(squares, np.ones((self._config.image_size // 4,) * 2, dtype=np.uint8))
        return {
            "rgb": PALETTE.colour(segmentation),
            "segmentation": segmentation,
            "label": np.array(index % 2, dtype=np.uint8),
        }

    def name(self, index: int) -> str:
        return f"patchwork {index}"


@frozen
class TinyRun:
    """A trainer with its folder, not started yet."""

    trainer: Trainer
    folder: RunFolder
    resolved: ResolvedManifest

    def start(self) -> None:
        self.trainer.hooks.run_started(self.trainer, self.folder, self.resolved)

    def fit(self, val_losses: Iterable[float] = ()) -> Trainer:
        """Train; where `val_losses` are given, they take the place of what the validations measure."""
        values = iter(val_losses)
        if val_losses:
            self.trainer.validate = lambda: {"val_loss": next(values)}  # type: ignore[method-assign]
        try:
            self.start()
            self.trainer.fit()
        finally:
            self.trainer.hooks.run_closed(self.trainer)
        return self.trainer


MakeRun = Callable[..., TinyRun]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Build a run of 6 layouts to train on and 2 to validate, with callbacks; `watchers` are hooks without a table.

    With `crops`, so many of 16 px of each layout are an epoch.
    """

    def make(
        callbacks: Mapping[str, Callback] | None = None,
        watchers: Mapping[str, object] | None = None,
        *,
        epochs: int = 2,
        batch_size: int = 4,
        heads: Mapping[str, Head] = HEADS,
        losses: Mapping[str, Loss] = LOSSES,
        variational: bool = False,
        crops: int | None = None,
    ) -> TinyRun:
        manifest = Manifest(
            phase=Phase(id="0", experiment="tiny", group="tinies"),
            data=Patchworks(crop=16, crops=crops) if crops else Patchworks(),
            encoder=ConvEncoder(latent_channels=2, base_channels=16, downsampling_steps=1, variational=variational),
            decoder=ConvDecoder(heads=dict(heads)),
            losses=dict(losses),
            train=Train(epochs=epochs, batch_size=batch_size, split=0.75, seed=0, optimizer=AdamW(learning_rate=1e-2)),
            callbacks=dict(callbacks or {}),
            machine=Machine(device="cpu", precision="fp32", workers=0),
            output=Output(experiments=tmp_path / "experiments", shared=tmp_path / "shared"),
        )
        resolved = ResolvedManifest(
            manifest=manifest,
            tables={"phase": {"experiment": "tiny"}},
            origins={"phase.experiment": "tiny.toml"},
            source=Path("tiny.toml"),
            trial=False,
            name="tiny",
        )
        trainer = build_trainer(resolved, log=lambda _: None)
        trainer.hooks = RunHooks({**trainer.hooks.callbacks, **(watchers or {})})
        folder = RunFolder(tmp_path / "experiments" / "tiny", tmp_path / "shared" / "tinies", "tiny")
        folder.begin()
        return TinyRun(trainer, folder, resolved)

    return make
