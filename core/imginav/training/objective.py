"""What is minimised: the weighted sum of a manifest's losses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from imginav.errors import UserError, did_you_mean
from imginav.plugin.components import Loss, LossFunction
from imginav.training.device import Device
from imginav.training.metric_definitions import TOTAL, loss_columns


class Objective:
    """The losses of a run by name; a call gives each unweighted term and their weighted sum.

    `outputs` are the names of the model's outputs that they read, and `in_patches` those that all readers take in
    patches.
    """

    def __init__(self, losses: Mapping[str, Loss], outputs: Iterable[str], targets: Iterable[str]) -> None:
        """Build the losses; raises UserError for one that reads an output or a target that does not exist."""
        for name, loss in losses.items():
            _check_names(name, "output", loss.required_outputs(), set(outputs))
            _check_names(name, "target", loss.required_targets(), set(targets))
        if TOTAL in losses:
            raise UserError(f"losses.{TOTAL}: the name {TOTAL!r} is kept for the sum of all losses; choose another")
        self.weights = {name: loss.weight for name, loss in losses.items()}
        self.outputs = tuple(dict.fromkeys(name for loss in losses.values() for name in loss.required_outputs()))
        in_place = {name for loss in losses.values() if not loss.takes_patches for name in loss.required_outputs()}
        self.in_patches = tuple(name for name in self.outputs if name not in in_place)
        self._functions: dict[str, LossFunction] = {}
        for name, loss in losses.items():
            with _named(name):
                self._functions[name] = loss.build()

    def place(self, device: Device) -> None:
        """Move the networks that losses bring along to a device; they are never trained."""
        for function in self._functions.values():
            if isinstance(function, nn.Module):
                device.place(function)

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each term, unweighted, and the weighted sum as `loss`: scalars that carry gradients."""
        floats = {name: output.float() for name, output in outputs.items()}
        terms = {}
        for name, function in self._functions.items():
            with _named(name):
                terms[name] = function(floats, batch)
        weighted = [self.weights[name] * term for name, term in terms.items()]
        return {**terms, TOTAL: torch.stack(weighted).sum()}

    def nothing(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return terms of no layout at all: zeros whose gradients, zeros as well, go where those of the losses go."""
        zero = torch.stack([outputs[name].float().sum() * 0.0 for name in self.outputs]).sum()
        return {**dict.fromkeys(self._functions, zero), TOTAL: zero}

    def columns(self, terms: Mapping[str, float], part: str) -> dict[str, float]:
        """Return the terms as columns of the metrics: `train_loss`, `train_loss_mse`, `train_loss_mse_weighted`."""
        return loss_columns(self.weights, terms, part)


@contextmanager
def _named(loss: str) -> Iterator[None]:
    """Put the loss's name in the manifest before what it refuses."""
    try:
        yield
    except UserError as error:
        raise UserError(f"losses.{loss}: {error}") from error


def _check_names(loss: str, what: str, needed: Iterable[str], known: set[str]) -> None:
    for name in needed:
        if name not in known:
            raise UserError(
                f"losses.{loss} reads the {what} {name!r}, which does not exist{did_you_mean(name, known)}; "
                f"the {what}s of this run are {', '.join(sorted(known))}: name one of them, or take the loss out"
            )
