"""A training loop written by hand, for the trainer to be compared with."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from imginav.training.trainer import Trainer


class BareLoop:
    """The same model, data, losses and optimizer, in the fewest lines that a researcher would write."""

    def __init__(self, trainer: Trainer, path: Path) -> None:
        self.device = trainer.device.device
        self.dtype = trainer.device.dtype
        # Not one more of the trainer's modules, which callbacks may have changed.
        self.model = copy.deepcopy(trainer.model)
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

    def step(self, batch: dict[str, Tensor]) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()

    def epoch(self) -> None:
        self.model.train()
        for batch in self.data.train_batches(1):
            self.step(batch)
        self.model.eval()
        with torch.no_grad():
            for batch in self.data.validation_batches():
                self.loss(batch).item()
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, self.path)
