"""The latent as diffusion will meet it: its scale, what noise and shifts do to it, and the way between two of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor

from imginav.model.autoencoder import Autoencoder
from imginav.runs.evaluation_result import Channel, Latent, NoiseLevel
from imginav.training.device import Device

DEAD_SHARE = 0.01
"""A channel is dead where its standard deviation is below this share of the largest one's."""

ACTIVE_VARIANCE = 0.01
"""A channel of a variational encoder is dead, too, where the mean of its distribution varies by less than this (active
units; Burda et al., "Importance Weighted Autoencoders", 2016)."""

SMALLEST_ANGLE = 1e-4
"""In radians; between latents that are closer, a great circle is a straight line."""

Path = Callable[[Tensor, Tensor, float], Tensor]
"""A point between two latents, at a share of the way."""


class LatentSums:
    """Sums over the latents of layouts, from which their statistics follow."""

    def __init__(self) -> None:
        self.layouts = 0
        self._positions = 0
        self._sums: dict[str, Tensor] = {}  # (C,) in fp64 on the CPU, by what is summed
        self._lowest = math.inf
        self._highest = -math.inf

    def add(self, mean: Tensor, log_variance: Tensor | None) -> None:
        """Take in the latents (N, C, h, w) of some layouts; of a variational encoder, with their log-variance."""
        mean = mean.detach().double()
        parts = {"value": mean, "square": mean.square()}
        if log_variance is not None:
            variance = log_variance.detach().double().exp()
            parts |= {"variance": variance, "kl": 0.5 * (variance + mean.square() - 1 - variance.log())}
        for name, part in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + part.sum(dim=(0, 2, 3)).cpu()
        self.layouts += len(mean)
        self._positions += len(mean) * mean[0, 0].numel()
        self._lowest = min(self._lowest, float(mean.min()))
        self._highest = max(self._highest, float(mean.max()))

    def latent(self) -> Latent:
        """Return the statistics; what is measured by decoding is not among them yet."""
        means = {name: total / self._positions for name, total in self._sums.items()}
        variance = (means["square"] - means["value"].square()).clamp(min=0)
        mean = means["value"].mean()
        std = float((means["square"].mean() - mean.square()).clamp(min=0).sqrt())
        stds = variance.sqrt()
        dead = (stds <= DEAD_SHARE * stds.max()) | ~torch.isfinite(stds)
        if "kl" in means:
            dead |= variance < ACTIVE_VARIANCE
        drawn_std = None
        if "variance" in means:
            drawn_std = float((means["square"].mean() - mean.square() + means["variance"].mean()).sqrt())
        # Diffusion trains on latents that are drawn, where there is something to draw.
        scale = std if drawn_std is None else drawn_std
        return Latent(
            layouts=self.layouts,
            mean=float(mean),
            std=std,
            scaling_factor=1 / scale if scale else math.inf,
            minimum=self._lowest,
            maximum=self._highest,
            drawn_std=drawn_std,
            channels=tuple(
                Channel(
                    mean=float(means["value"][number]),
                    std=float(stds[number]),
                    dead=bool(dead[number]),
                    posterior_std=float(means["variance"][number].sqrt()) if "variance" in means else None,
                    kl=float(means["kl"][number]) if "kl" in means else None,
                )
                for number in range(len(stds))
            ),
            sampled_layouts=0,
            noise=(),
            encode_shift_error=math.nan,
            decode_shift_error=math.nan,
        )


@torch.no_grad()
def latent_statistics(model: Autoencoder, batches: Iterable[dict[str, Tensor]], device: Device) -> Latent:
    """Return the statistics of the latents of some layouts; of a variational encoder those of the means."""
    model.eval()
    sums = LatentSums()
    for sample_bytes in batches:
        images = device.images(sample_bytes)
        with device.autocast():
            mean, log_variance = model.posterior(images)
        sums.add(mean, log_variance)
    return sums.latent()


@torch.no_grad()
def with_decoding(
    latent: Latent, model: Autoencoder, layouts: Iterable[Tensor], levels: Sequence[float], device: Device
) -> Latent:
    """Return the statistics with what noise on the latent, and shifts by one of its cells, do to what is decoded.

    `layouts` are bytes (1, H, W, 3), one after the other: whole layouts that are decoded several times each.
    """
    model.eval()
    noise = torch.Generator(device.device).manual_seed(0)
    errors: list[list[tuple[float, float]]] = []  # of each layout and level, against the layout and the noiseless
    shifts: list[tuple[float, float]] = []
    for layout in layouts:
        image = device.images({"rgb": layout})
        coder = Coder(model, device)
        z = coder.encode(image)
        clean = coder.decode(z)
        drawn = torch.randn(z.shape, generator=noise, device=z.device)
        noisy = [clean, *(coder.decode(z + level * latent.std * drawn) for level in levels)]
        errors.append([(_mse(decoded, image), _mse(decoded, clean)) for decoded in noisy])
        shifts.append(_shift_errors(coder, image, z, clean))
    means = torch.tensor(errors, dtype=torch.float64).mean(dim=0).tolist()
    encode, decode = torch.tensor(shifts, dtype=torch.float64).mean(dim=0).tolist()
    return evolve(
        latent,
        sampled_layouts=len(errors),
        noise=tuple(
            NoiseLevel(level=level, mse=mse, mse_added=added)
            for level, (mse, added) in zip((0.0, *levels), means, strict=True)
        ),
        encode_shift_error=math.sqrt(encode) / latent.std if latent.std else math.nan,
        decode_shift_error=math.sqrt(decode),
    )


@frozen
class Coder:
    """An autoencoder as a run computes it, in fp32 at both ends."""

    model: Autoencoder
    device: Device

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents (N, C, h, w) of images."""
        with self.device.autocast():
            return self.model.encode(images).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images (N, 3, H, W) of latents."""
        with self.device.autocast():
            return self.model.decode(latents)["rgb"].float()


def _shift_errors(coder: Coder, image: Tensor, z: Tensor, decoded: Tensor) -> tuple[float, float]:
    """Return the mean squared errors of encoding and of decoding what is shifted by one cell of the latent.

    Both directions count. The outer cells, which see the edge and what was moved round it, do not: with few cells,
    none are left, and the errors are NaN. (Translation equivariance; Zhang, "Making Convolutional Networks
    Shift-Invariant Again", 2019.)
    """
    cells = z.shape[-1]
    factor = image.shape[-1] // cells
    margin = max(2, cells // 8)
    if cells <= 2 * margin or z.shape[-2] <= 2 * margin:
        return math.nan, math.nan
    encoding, decoding = [], []
    for axis in (-1, -2):
        moved = z.roll(1, axis)
        encoding.append(_mse(_inner(coder.encode(image.roll(factor, axis)), margin), _inner(moved, margin)))
        back = decoded.roll(factor, axis)
        decoding.append(_mse(_inner(coder.decode(moved), margin * factor), _inner(back, margin * factor)))
    return sum(encoding) / 2, sum(decoding) / 2


def _inner(values: Tensor, margin: int) -> Tensor:
    return values[..., margin:-margin, margin:-margin]


def _mse(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean(dtype=torch.float64))


def straight(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Return the point between two latents on the straight line."""
    return start + share * (end - start)


def spherical(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Return the point between two latents on the great circle (slerp; Shoemake, 1985).

    High-dimensional Gaussian latents have nearly the same length; on the straight line they are shorter in the middle
    (White, "Sampling Generative Networks", 2016).
    """
    cosine = torch.sum(start * end) / (start.norm() * end.norm())
    angle = torch.acos(cosine.clamp(-1, 1))
    sine = torch.sin(angle)
    if not float(sine) >= SMALLEST_ANGLE:  # also where one of them is zero, and has no direction
        return straight(start, end, share)
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / sine


@torch.no_grad()
def decoded_path(start: Tensor, end: Tensor, path: Path, steps: int, coder: Coder) -> Iterator[Tensor]:
    """Return the images (1, 3, H, W) of `steps` points between two latents (1, C, h, w), ends included."""
    for step in range(steps):
        yield coder.decode(path(start, end, step / (steps - 1)))


def path_length_ratio(images: Sequence[Tensor]) -> float:
    """Return the length of the way through some images over the distance of the first and the last.

    The length is the sum of the Euclidean distances of neighbours, which approximates that of the decoded curve
    (Arvanitidis et al., "Latent Space Oddity", 2018): 1 for images that fade into each other, more for
    ways that show what lies on none of both. NaN where first and last are the same.
    """
    distances = [float((b - a).double().norm()) for a, b in itertools.pairwise(images)]
    direct = float((images[-1] - images[0]).double().norm())
    return sum(distances) / direct if direct else math.nan
