"""A training loop written by hand, for the trainer to be compared with."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from imginav.manifest.tables import Train
from imginav.training.trainer import Trainer
from imginav_losses import CrossEntropy


class BareLoop:
    """The model, batches, losses and optimizer of phase 1.5, in the fewest lines that a researcher would write."""

    def __init__(self, trainer: Trainer, train: Train, path: Path) -> None:
        self.device = trainer.device.device
        self.dtype = trainer.device.dtype
        self.memory_format = trainer.device.memory_format
        # Not one more of the trainer's modules, which callbacks may have changed.
        self.model = copy.deepcopy(trainer.model)
        self.optimizer = train.optimizer.build(self.model)
        self.schedule = train.lr_schedule.build(self.optimizer, train.epochs * trainer.data.steps_per_epoch)
        # The same batches: what is compared is the loop, not the reading of layouts.
        self.data = trainer.data
        self.path = path
        # In training, the model gives logits in the order in which this loss takes them.
        self.cross_entropy = CrossEntropy(output="segmentation", target="segmentation")

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        # Prepared layouts are class indices, a third of the bytes; the device colours them.
        classes = batch["segmentation"].to(self.device, non_blocking=True).long()
        colours = batch["colours"].to(self.device, non_blocking=True).float() / 127.5 - 1
        images = F.embedding(classes, colours).permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            outputs = self.model(images)
        floats = {name: output.float() for name, output in outputs.items()}
        return self.cross_entropy(floats, {"segmentation": classes}) + 1e-3 * floats["latent"].square().mean()

    def step(self, batch: dict[str, Tensor]) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
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
