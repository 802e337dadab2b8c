"""Scores of latents that need no training; `probe_ranking.py` asks which of them rank autoencoders as diffusion does.

Each takes standardised latents (N, C, s, s) as an array and returns a number; less should be easier to learn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

Latents = NDArray[np.float64]

NOISE = 0.2
"""Standard deviation of the noise, in those of the latent, up to which it is described."""


def high_frequency_share(latents: Latents) -> float:
    """Return the share of the energy, the mean aside, in the upper half of the frequencies along either side.

    By the orthonormal DCT-II of each channel ("Improving the Diffusability of Autoencoders", arXiv 2502.14831).
    """
    energy = np.square(dctn(latents, axes=(2, 3), norm="ortho")).mean(axis=(0, 1))
    energy[0, 0] = 0.0
    low = energy[: latents.shape[2] // 2, : latents.shape[3] // 2].sum()
    return float(1 - low / energy.sum())


def neighbour_error(latents: Latents) -> float:
    """Return the share of the variance that a cell's four neighbours, all channels, do not predict linearly."""
    inner = latents[:, :, 1:-1, 1:-1]
    around = [latents[:, :, :-2, 1:-1], latents[:, :, 2:, 1:-1], latents[:, :, 1:-1, :-2], latents[:, :, 1:-1, 2:]]
    known = np.concatenate([_cells(part) for part in around], axis=1)
    wanted = _cells(inner)
    known, wanted = known - known.mean(axis=0), wanted - wanted.mean(axis=0)
    weights, *_ = np.linalg.lstsq(known, wanted, rcond=None)
    return float(np.square(wanted - known @ weights).sum() / np.square(wanted).sum())


def effective_rank(latents: Latents) -> float:
    """Return exp(entropy) of the normalised eigenvalues of the channels' covariance (Roy and Vetterli, 2007)."""
    shares = _eigenvalues(latents)
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def anisotropy(latents: Latents) -> float:
    """Return one less the participation ratio of the covariance's eigenvalues, (Σλ)² / (C Σλ²): 0 for equal ones."""
    values = _eigenvalues(latents)
    return float(1 - values.sum() ** 2 / (len(values) * np.square(values).sum()))


def kilobits(latents: Latents) -> float:
    """Return the bits of a window as a Gaussian source at the noise of `NOISE`, in thousands: Σ ½ log₂(1 + λ / σ²).

    λ are the eigenvalues of the channels' covariance, and neighbours count as independent.
    """
    cells = latents.shape[2] * latents.shape[3]
    return float(cells * 0.5 * np.log2(1 + _eigenvalues(latents) / NOISE**2).sum() / 1000)


SCORES: dict[str, Callable[[Latents], float]] = {
    "high-frequency share": high_frequency_share,
    "neighbour error": neighbour_error,
    "effective rank": effective_rank,
    "anisotropy": anisotropy,
    "kbit": kilobits,
}


def _cells(latents: Latents) -> Latents:
    """Return the cells (N·s·s, C) of latents."""
    return latents.transpose(0, 2, 3, 1).reshape(-1, latents.shape[1])


def _eigenvalues(latents: Latents) -> Latents:
    """Return the eigenvalues of the covariance of the channels over all cells."""
    values: Latents = np.linalg.eigvalsh(np.atleast_2d(np.cov(_cells(latents).T))).clip(min=0)
    return values
