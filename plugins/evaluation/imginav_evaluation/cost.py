"""The weights, arithmetic and memory that an autoencoder needs; only shapes are computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from imginav.manifest.tables import Manifest
from imginav.model.autoencoder import Autoencoder, build_autoencoder
from imginav.plugin.data_spec import DataSpec
from imginav.runs.evaluation_result import Size
from imginav.seeds import Seeds

META = "meta"
"""The device without memory, on which tensors have shapes and no values."""


def size_of(manifest: Manifest, spec: DataSpec) -> Size:
    """Return what the autoencoder of a manifest needs for one layout; raises UserError where it cannot be built."""
    with torch.device(META):
        model = build_autoencoder(manifest.encoder, manifest.decoder, spec, Seeds(0))
    side = manifest.data.image_size
    images = torch.empty(1, 3, side, side, device=META)
    with torch.no_grad():
        latents = model.encode(images)
        encode_flops, decode_flops = _flops(model.encoder, images), _flops(model.decoder, latents)
        encode_peak, decode_peak = peak_bytes(model.encoder, images), peak_bytes(model.decoder, latents)
    return Size(
        encoder_bytes=_bytes_of(model.encoder),
        decoder_bytes=_bytes_of(model.decoder),
        encode_flops=encode_flops,
        decode_flops=decode_flops,
        encode_peak_bytes=encode_peak,
        decode_peak_bytes=decode_peak,
        training_bytes=training_bytes(model, manifest.data.crop or side),
    )


def training_bytes(model: Autoencoder, side: int) -> int:
    """Return the bytes that autograd keeps of a layout of `side` pixels, counted in fp32; the model is on `META`.

    Autocast saves little of them: norms keep fp32 beside the copies that convolutions keep in half precision, and the
    gradients of one layer come on top. Measured in bf16, the peak was 0.97 to 1.00 of this count
    (docs/performance.md).
    """
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    image = torch.empty(1, 3, side, side, device=META)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        # Held until the count is done: a freed storage's number would be used again.
        outputs = model(image)
    return sum(kept.values()) if outputs else 0


def peak_bytes(module: nn.Module, value: Tensor) -> int:
    """Return the bytes of the tensors that are alive at a time while a module is called, its weights and input aside.

    The module and its input are on `META`; what a library needs beside tensors (the workspace of a convolution) is
    not among them.
    """
    with LiveBytes() as live:
        outputs = module(value)
    return live.peak if outputs is not None else 0


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts the bytes of all tensors that are made inside and not yet freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        before = {t.untyped_storage()._cdata for t in tree_leaves((arguments, keywords)) if isinstance(t, Tensor)}
        made = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(made):
            # What shares its memory with an argument (a view, an operation in place) is not made here.
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in before:
                self._see(tensor)
        return made

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        number, size = storage._cdata, storage.nbytes()
        if number in self._known:
            return
        self._known.add(number)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, number, size)

    def _forget(self, number: int, size: int) -> None:
        self._known.discard(number)
        self._now -= size


def _flops(module: nn.Module, value: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        module(value)
    return int(counter.get_total_flops())


def _bytes_of(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
