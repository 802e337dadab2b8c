"""What the trainer with its callbacks costs beside a bare training loop written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from imginav import loading, registry
from imginav.autoencoder import Autoencoder, build_autoencoder
from imginav.run import build_trainer
from imginav.rundir import RunFolder
from imginav.seeds import Seeds
from imginav.trainer import Trainer

PHASE = Path(__file__).parents[1] / "phases" / "1_5.toml"

SCALES = {
    # As the trial trains: 456 crops of 128 pixels, validated on 24 whole layouts.
    "cpu": ["data.count=480", "data.crop=128", "train.split=0.95", "train.batch_size=8"],
    # As the full phase trains: whole layouts of 512 pixels in bf16, loaded by worker processes.
    "cuda": ["data.count=2000", "train.split=0.96"],
}


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def trainer(device: str, tmp_path: Path) -> Trainer:
    """The trainer of phase 1.5 with all of its default callbacks."""
    settings = [f"output.experiments={tmp_path}/own", f"output.shared={tmp_path}/shared", "train.epochs=1000"]
    # Neither bounds nor patience may end an endless run.
    settings += ["callbacks.early_stopping.patience=1000000", *SCALES[device]]
    resolved = loading.load(PHASE, registry.installed(), settings=settings, scale="full")
    trainer = build_trainer(resolved, say=lambda _: None)
    folder = RunFolder(tmp_path / "own" / "run", tmp_path / "shared" / "group", "run")
    folder.begin()
    trainer.hooks.run_started(trainer, folder, resolved)
    return trainer


class BareLoop:
    """The same model, data, losses and optimizer, in the fewest lines that a researcher would write."""

    def __init__(self, trainer: Trainer, path: Path) -> None:
        resolved = loading.load(PHASE, registry.installed(), scale="full")
        manifest = resolved.manifest
        self.device = trainer.device.device
        self.dtype = trainer.device.dtype
        spec = trainer.data.source.spec
        self.model: Autoencoder = build_autoencoder(manifest.encoder, manifest.decoder, spec, Seeds(1)).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
        # The same batches: what is compared is the loop, not the reading of layouts.
        self.data = trainer.data
        self.path = path

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        images = batch["rgb"].to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 127.5 - 1
        classes = batch["segmentation"].to(self.device, non_blocking=True).long()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            outputs = self.model(images)
        rgb, segmentation = outputs["rgb"].float(), outputs["segmentation"].float()
        return F.mse_loss(rgb, images) + 0.05 * F.cross_entropy(segmentation, classes)

    def epoch(self) -> None:
        self.model.train()
        total = 0.0
        for batch in self.data.train_batches(1):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            total += loss.item()
        self.model.eval()
        with torch.no_grad():
            total = sum(self.loss(batch).item() for batch in self.data.validation_batches())
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, self.path)


@pytest.mark.benchmark(group="training")
def test_an_epoch_with_default_callbacks(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interleaved: Callable[..., float]
) -> None:
    # Each round is an epoch of one run, and the run does not end between them.
    monkeypatch.setattr(trainer.hooks, "training_finished", lambda _: None)
    bare = BareLoop(trainer, tmp_path / "bare.pt")

    def one_epoch() -> None:
        trainer.epochs = trainer.epoch + 1
        trainer.fit()

    # Five, because every fifth epoch draws the samples.
    interleaved(one_epoch, bare.epoch, rounds=5, peer="a bare PyTorch loop")
