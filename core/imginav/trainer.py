"""The loop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from imginav.autoencoder import Autoencoder
from imginav.best import Best
from imginav.data import Data
from imginav.device import Device
from imginav.errors import UserError
from imginav.evaluation import metric_columns, validate
from imginav.hookspecs import RunHooks
from imginav.manifest import Train
from imginav.objective import TOTAL, Objective
from imginav.optimization import Optimization
from imginav.seeds import Seeds


class Trainer:
    """Trains an autoencoder, and tells the callbacks of its run what happens."""

    def __init__(
        self,
        settings: Train,
        model: Autoencoder,
        objective: Objective,
        optimization: Optimization,
        data: Data,
        device: Device,
        hooks: RunHooks,
    ) -> None:
        self.epochs = settings.epochs
        self.model = model
        self.objective = objective
        self.optimization = optimization
        self.data = data
        self.device = device
        self.hooks = hooks
        self.epoch = 0  # the epoch that runs, or was finished last; they count from 1
        self.step = 0  # optimizer steps so far
        self.best = Best(settings.monitor, settings.monitor_mode, metric_columns(objective.weights, model.output_names))
        self.weights_epoch = 0  # the epoch whose weights the model holds
        self.history: list[dict[str, float]] = []  # a row of metrics for each finished epoch
        self.stop_reason = ""
        self._seeds = Seeds(settings.seed)
        self._noise = torch.Generator(device.device)

    def fit(self) -> None:
        """Train to the last epoch, or until a callback stops it."""
        if not self.step:  # a resumed run goes on in the sequence that it was in
            torch.manual_seed(self._seeds.derive("layers"))  # for layers of plugins that draw (dropout)
        while self.epoch < self.epochs and not self.stop_reason:
            self.epoch += 1
            start = time.perf_counter()
            learning_rate = self.optimization.learning_rate
            self.hooks.epoch_started(self, self.epoch)
            terms, images = self._train_epoch()
            training_seconds = time.perf_counter() - start
            self.hooks.validation_started(self, self.epoch)
            self.weights_epoch = self.epoch
            row = {
                "epoch": self.epoch,
                **self.objective.columns(terms, "train"),
                **self.validate(),
                "learning_rate": learning_rate,
                "seconds": time.perf_counter() - start,
                "images_per_second": images / training_seconds,
            }
            self.history.append(row)
            self.best.see(row, self.epoch)
            self.hooks.epoch_finished(self, row)
        self.hooks.training_finished(self)

    def stop(self, reason: str) -> None:
        """End the training after the epoch that runs; the reason is for people."""
        self.stop_reason = reason

    def validate(self) -> dict[str, float]:
        """Return the metrics of the model's present weights over the validation layouts."""
        return validate(self.model, self.objective, self.data.validation_batches(), self.device)

    def _train_epoch(self) -> tuple[dict[str, float], int]:
        """Take the steps of one epoch; return the mean of each loss term, and the number of layouts."""
        self.model.train()
        sums: dict[str, Tensor] = {}
        images = 0
        for sample_bytes in self.data.train_batches(self.epoch):
            batch = self.device.batch(sample_bytes)
            size = len(batch["rgb"])
            terms = self.train_step(batch)
            # Summed where they are: reading a value at each step would make a GPU wait.
            sums = {name: sums.get(name, 0.0) + term * size for name, term in terms.items()}
            images += size
            self.hooks.step_finished(self, terms)
        return {name: float(total) / images for name, total in sums.items()}, images

    def train_step(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take one optimizer step; return the loss terms, each a scalar on the device without gradients."""
        self._noise.manual_seed(self._seeds.derive("noise", self.step))
        means: dict[str, Tensor] = {}
        for part in self.device.parts_of(batch):
            share = len(part["rgb"]) / len(batch["rgb"])
            with self.device.autocast():
                outputs = self.model(part["rgb"], self._noise)
            terms = self.objective(outputs, part)
            self._refuse_non_finite(terms)
            self.optimization.backward(terms[TOTAL] * share)
            means = {name: means.get(name, 0.0) + term.detach() * share for name, term in terms.items()}
        self.optimization.unscale()
        self.hooks.gradients_ready(self)
        self.optimization.step()
        self.step += 1
        return means

    def _refuse_non_finite(self, terms: Mapping[str, Tensor]) -> None:
        if bool(torch.isfinite(terms[TOTAL])):
            return
        wrong = [f"{name} = {term.item()}" for name, term in terms.items() if not torch.isfinite(term)]
        raise UserError(
            f"training stopped before step {self.step + 1} (epoch {self.epoch}), because its loss is not finite: "
            f"{', '.join(wrong)}; lower train.optimizer.learning_rate, clip gradients with "
            "[callbacks] gradient_clipping = {}, or set machine.precision = 'fp32'"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a restart needs beside the model's weights."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "stop_reason": self.stop_reason,
            "best": self.best.state_dict(),
            "optimization": self.optimization.state_dict(),
            "callbacks": self.hooks.state_dict(),
            "layers_rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was taken; the model's weights are loaded apart."""
        self.epoch, self.step = state["epoch"], state["step"]
        self.weights_epoch = self.epoch
        self.history = list(state["history"])
        self.stop_reason = state["stop_reason"]
        self.best.load_state_dict(state["best"])
        self.optimization.load_state_dict(state["optimization"])
        self.hooks.load_state_dict(state["callbacks"])
        torch.set_rng_state(state["layers_rng"])
