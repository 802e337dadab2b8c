from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imginav.manifest.loading import load
from imginav.plugin.registry import installed
from imginav.runs.experiment import build_trainer
from imginav_benches.bare_loop import BareLoop
from imginav_benches.subjects import FINAL


def test_the_bare_loop_computes_what_the_trainer_computes(tmp_path: Path) -> None:
    settings = ["data.count=14", "data.image_size=64", "data.crop=32", "train.batch_size=3", "train.epochs=2"]
    settings += ["encoder.base_channels=8", f"machine.cache={tmp_path}", "machine.device=cpu", "machine.precision=fp32"]
    resolved = load(FINAL, installed(), settings=settings, scale="full", use_site=False)
    trainer = build_trainer(resolved, log=lambda _: None)
    bare = BareLoop(trainer, resolved.manifest.train, tmp_path / "bare.pt")

    trainer.model.train()
    losses = []
    for batch in trainer.data.train_batches(1):
        terms = trainer.train_step(trainer.device.batch(batch))
        assert terms is not None
        losses.append(float(terms["loss"]))
    metrics = trainer.validate()

    bare.model.train()
    assert [bare.step(batch) for batch in bare.data.train_batches(1)] == pytest.approx(losses, rel=1e-5)
    own, its = trainer.model.state_dict(), bare.model.state_dict()
    torch.testing.assert_close(its, own)
    bare.model.eval()
    with torch.no_grad():
        losses = [bare.loss(layout).item() for layout in bare.data.validation_batches()]  # batches of one
    assert sum(losses) / len(losses) == pytest.approx(metrics["val_loss"], rel=1e-5)
