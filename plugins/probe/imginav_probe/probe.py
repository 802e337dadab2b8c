"""The plugin kind `probe`: something that is trained on the latents of an autoencoder, to see how well it learns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from imginav.plugin.components import BaseProbe

if TYPE_CHECKING:
    from torch import Tensor

    from imginav.plugin.data_spec import DataSpec
    from imginav.runs.evaluation_result import ProbeMetric
    from imginav.training.device import Device
    from imginav_probe.windows import LatentWindows, TrueLayouts, Windows

Log = Callable[[str], None]


@frozen(kw_only=True)
class ProbeSubject:
    """The autoencoder that a probe looks at: its latents, its decoder, and the layouts that it was trained on."""

    latents: LatentWindows  # of the training layouts, standardised per channel
    validation_latents: LatentWindows  # of the validation layouts, standardised like those
    decoder: Callable[[Tensor], Tensor]  # standardised latents (N, C, s, s) to images (N, 3, H, W) in [-1, 1]
    training: TrueLayouts
    validation: TrueLayouts
    windows: Windows  # the squares of layouts that are looked at: training crops, or whole layouts
    spec: DataSpec
    data_sha256: str  # of the training layouts
    device: Device
    cache: Path | None  # keeps what is the same for all autoencoders of these layouts; None: nothing is kept

    def decode(self, latents: Tensor, size: int = 64) -> Tensor:
        """Return the images (N, 3, H, W) of standardised latents, on the CPU."""
        import torch

        return torch.cat([self.decoder(part).cpu() for part in torch.split(latents, size)])


@frozen(kw_only=True)
class Workplace:
    """Where a probe keeps its state and its pictures, and how it is asked to stop."""

    folder: Path  # its own; state that is kept there makes it resumable
    unless_stopped: Callable[[Iterable[Any]], Iterable[Any]] = iter  # may raise Interrupted between two items
    log: Log = print


@frozen(kw_only=True)
class Probe(BaseProbe):
    """Something that is trained on the latents of an autoencoder, to see what diffusion will make of them."""

    @abstractmethod
    def measure(self, subject: ProbeSubject, workplace: Workplace) -> Mapping[str, ProbeMetric]:
        """Return the metrics, by the names of `definitions`, each with a value for each seed.

        Pictures (PNG) that are left in the workplace's folder are shown in the reports. It is resumable: called again
        after Interrupted, or after the process was killed, it returns what an unbroken call would have. Raises
        UserError where it has no meaning for these layouts.
        """
