"""The probe `flow`: a tiny flow-matching model on the latents, judged by the layouts that its samples decode to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal

from attrs import field, frozen

from imginav.errors import UserError
from imginav.plugin.validators import from_to
from imginav_probe.flow_model import tokens_along_side
from imginav_probe.flow_settings import Settings
from imginav_probe.probe import Probe, ProbeSubject, Workplace
from imginav_probe.sample_metrics import MORE_IS_BETTER, definitions

if TYPE_CHECKING:
    import torch

    from imginav.runs.evaluation_result import ProbeMetric
    from imginav.training.device import Device

SMALL_SIDE = 128
"""Windows of up to so many pixels take the small model and the short training, larger ones the others."""


@frozen(kw_only=True)
class FlowProbe(Probe):
    """A tiny flow-matching transformer, trained on the latents alike for all autoencoders; its samples are measured.

    The model sees the same tokens whatever the shape of the latent (one for 16×16 pixels), so that all latents get
    the same number of steps and, but for the first and last layer, of arithmetic operations.
    """

    steps: int | None = field(
        default=None, validator=from_to(1, 10_000_000)
    )  # optimizer steps; none: 600 for windows of up to 128 pixels, 2,000 for larger ones
    batch_size: int | None = field(
        default=None, validator=from_to(1, 65_536)
    )  # latents per step; none: 32, or 64 for larger windows
    width: int | None = field(
        default=None, validator=from_to(64, 4096)
    )  # of the transformer; none: 128, or 384 for larger windows
    depth: int | None = field(default=None, validator=from_to(1, 64))  # blocks; none: 3, or 8 for larger windows
    samples: int | None = field(
        default=None, validator=from_to(16, 100_000)
    )  # that are measured; none: 1,024, or 2,048 for larger windows
    seeds: int | None = field(default=None, validator=from_to(1, 64))  # trainings; none: 2 on a CPU, 3 on a GPU
    window: int | None = field(
        default=None, validator=from_to(16, 4096)
    )  # side in pixels of the squares that are looked at; none: training crops or whole layouts, on a CPU at most 128
    condition: Literal["none", "walls"] = "none"  # walls: also train a model that is given the walls, and measure them

    @property
    def definitions(self) -> Mapping[str, str]:
        return definitions(control=self.condition == "walls")

    @property
    def more_is_better(self) -> Collection[str]:
        return MORE_IS_BETTER

    def check(self, window: int) -> None:
        if self.window is not None and self.window > window:
            raise UserError(
                f"the probe flow cannot look at windows of {self.window} pixels: those of the training have {window}; "
                "take a smaller window, or leave it out"
            )
        try:
            tokens_along_side(self.window or window)
        except ValueError as error:
            raise UserError(
                f"the probe flow cannot look at windows of this size (data.crop, image_size): {error}"
            ) from None

    def settled(self, side: int, device: torch.device) -> Settings:
        """Return what is computed on a device, where the training has looked at windows of so many pixels."""
        bounded = min(side, SMALL_SIDE) if device.type == "cpu" else side  # whole layouts would take days there
        window = self.window or bounded
        small = window <= SMALL_SIDE
        return Settings(
            window=window,
            steps=self.steps or (600 if small else 2000),
            batch_size=self.batch_size or (32 if small else 64),
            width=self.width or (128 if small else 384),
            depth=self.depth or (3 if small else 8),
            samples=self.samples or (1024 if small else 2048),
            seeds=self.seeds or (2 if device.type == "cpu" else 3),
        )

    def seconds(self, window: int, latent: tuple[int, int, int], device: Device) -> float:
        """Return how long trainings and samples take, from a few measured steps; embedding and features aside."""
        from imginav_probe.flow_run import seconds_of  # late, as below

        settings = self.settled(window, device.device)
        trainings = settings.seeds * (2 if self.condition == "walls" else 1)
        return trainings * seconds_of(settings, latent[0], latent[1] * settings.window // window, device)

    def measure(self, subject: ProbeSubject, workplace: Workplace) -> Mapping[str, ProbeMetric]:
        from imginav_probe.flow_run import measure_flow  # late: it imports scipy and torchmetrics, which take a second

        settings = self.settled(subject.windows.side, subject.device.device)
        return measure_flow(subject, settings, workplace, walls=self.condition == "walls")
