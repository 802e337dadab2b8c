"""The gradients of a batch: what its losses say of the weights, over all of its parts and processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from imginav.model.autoencoder import LatentNoise, Noise
from imginav.processes.distributed import Shard, World
from imginav.training.assembly import Assembly
from imginav.training.captured import Captured, CudaRecording
from imginav.training.metric_definitions import TOTAL
from imginav.training.optimization import Optimization

NOISE, NORM, GRADIENT = "/noise", "/norm", "/gradient/"
"""What goes into a recorded step and comes out, beside a batch and the losses, whose names have no slash."""


class Gradients:
    """Computes the gradients of a step; where several processes train, each computes its part of them."""

    def __init__(self, assembly: Assembly, optimization: Optimization, note: Callable[[str], None]) -> None:
        """Take what a step is made of; `note` takes a line for people."""
        self._model = assembly.model
        self._network: nn.Module = assembly.model  # as it is called to train
        self._objective = assembly.objective
        self._device = assembly.device
        self._optimization = optimization
        self._blank = assembly.data.blank
        self._noise = torch.Generator(self._device.device)
        self._parameters = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        self._latents: dict[torch.Size, torch.Size] = {}  # their shape (C, h, w) by that of images (3, H, W)
        self._captured = Captured(self._capturable, CudaRecording, note) if self._device.captures else None

    def connect(self, world: World) -> None:
        """Bring the gradients of all processes together in each step from now on."""
        self._network = world.wrap(self._model, self._device.device, self._unreached)

    def compute(self, batch: Mapping[str, Tensor], shard: Shard, noise_seed: int) -> tuple[dict[str, Tensor], Tensor]:
        """Leave the gradients of a batch in the parameters; return the loss terms, and the norm of the gradients.

        These are scalars on the device, the same in all processes. `batch` has this process's rows of the whole batch,
        or nothing, where there are fewer rows than processes; `noise_seed` is what a variational latent is drawn from.
        """
        noise = LatentNoise(self._noise, noise_seed, shard.total)
        image = batch["rgb"].shape[1:] if batch else torch.Size()
        if self._captured is None or image not in self._latents:
            return self._run_backward(batch, shard, noise.of)
        inputs = dict(batch)
        if self._model.variational:
            inputs[NOISE] = noise.draw(self._latents[image])
        outputs = self._captured(inputs)
        for name, parameter in self._parameters.items():
            parameter.grad = outputs.get(GRADIENT + name)
        terms = {name: outputs[name].clone() for name in outputs if not name.startswith((GRADIENT, NORM))}
        return terms, outputs[NORM].clone()

    def _capturable(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute a step from tensors alone, into gradients that are tensors of their own."""
        for parameter in self._parameters.values():
            parameter.grad = None
        batch = {name: tensor for name, tensor in inputs.items() if name != NOISE}
        noise = inputs.get(NOISE)
        terms, norm = self._run_backward(
            batch, Shard(0, len(batch["rgb"])), lambda rows: None if noise is None else lambda _: noise[rows]
        )
        gradients = {GRADIENT + name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        return {**terms, NORM: norm, **gradients}

    def _run_backward(
        self, batch: Mapping[str, Tensor], shard: Shard, noise_of: Callable[[slice], Noise | None]
    ) -> tuple[dict[str, Tensor], Tensor]:
        world = self._device.world
        parts = list(self._device.parts_of(batch))
        means = {} if parts else self._dummy()
        done = shard.start
        for number, part in enumerate(parts, start=1):
            rows = slice(done, done := done + len(part["rgb"]))
            share = (rows.stop - rows.start) / shard.total
            with world.no_sync(self._network, last=number == len(parts)):
                with self._device.autocast():
                    outputs = self._network(part["rgb"], noise_of(rows))
                terms = self._objective(outputs, part)
                # The mean over the processes is to be the mean over the rows.
                self._optimization.backward(terms[TOTAL] * (share * world.size))
            self._latents[part["rgb"].shape[1:]] = outputs["latent"].shape[1:]
            means = {name: means.get(name, 0.0) + term.detach() * share for name, term in terms.items()}
        means = world.all_reduce(means)
        self._optimization.unscale()
        return means, self._optimization.gradient_norm()

    def _dummy(self) -> dict[str, Tensor]:
        """Take part in a step without a row of its batch: the others wait for the gradients of this process as well."""
        with self._device.autocast():
            outputs = self._network(self._device.images(self._blank()))
        terms = self._objective.nothing(outputs)
        self._optimization.backward(terms[TOTAL])
        return {name: term.detach() for name, term in terms.items()}

    def _unreached(self) -> list[Tensor]:
        """Return the parameters that no loss reaches: a head may have none that reads it."""
        with self._device.autocast():
            outputs = self._model(self._device.images(self._blank()), torch.zeros_like)
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(self._objective.nothing(outputs)[TOTAL], parameters, allow_unused=True)
        return [parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is None]
