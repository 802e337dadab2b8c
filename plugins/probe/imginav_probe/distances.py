"""Distances between two sets of layouts by their feature vectors."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from imginav_probe.sample_metrics import NEIGHBOURS

RIDGE = 0.01
"""Added to the variance of each direction, as a share of the largest, so that those that hardly vary stay small."""


@frozen
class Whitening:
    """A linear map of feature vectors, after which those of true layouts vary about equally in all directions.

    Before it, a few directions have nearly all of the variance: those of how much of a layout each class covers.
    Distances then hardly see anything else (docs/probe.md).
    """

    mean: Tensor  # (D)
    directions: Tensor  # (D, D), scaled

    @classmethod
    def of(cls, true: Tensor) -> Whitening:
        """Return the whitening of true feature vectors (N, D)."""
        true = true.double()
        variances, directions = torch.linalg.eigh(torch.cov(true.T))
        kept = variances.clamp(min=0) + RIDGE * variances.max().clamp(min=torch.finfo(torch.float64).tiny)
        return cls(true.mean(dim=0), directions / kept.sqrt())

    def __call__(self, features: Tensor) -> Tensor:
        """Return whitened feature vectors (N, D)."""
        return (features.double() - self.mean) @ self.directions


class _Given(nn.Identity):
    """Takes feature vectors as they are where torchmetrics expects a network that computes them."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.num_features = number


def frechet(first: Tensor, second: Tensor) -> float:
    """Return the squared Fréchet distance of Gaussians fitted to feature vectors (N, D) and (M, D) (FID, 2017)."""
    distance = FrechetInceptionDistance(_Given(first.shape[1]))
    distance.update(first.double(), real=True)
    distance.update(second.double(), real=False)
    return float(distance.compute())


@frozen
class PrecisionRecall:
    """How many samples lie among true layouts, and how many true layouts among samples (arXiv 1904.06991)."""

    precision: float  # fidelity
    recall: float  # diversity


def precision_recall(true: Tensor, samples: Tensor) -> PrecisionRecall:
    """Return precision and recall of samples (N, D) among true feature vectors (M, D)."""
    true, samples = true.float(), samples.float()
    return PrecisionRecall(precision=_share_within(true, samples), recall=_share_within(samples, true))


def _share_within(balls: Tensor, points: Tensor) -> float:
    """Return the share of points that lie nearer to some vector than its k-th nearest neighbour among its own."""
    neighbours = min(NEIGHBOURS, len(balls) - 1)
    radii = torch.cdist(balls, balls).kthvalue(neighbours + 1, dim=1).values  # the nearest is the vector itself
    return float((torch.cdist(points, balls) <= radii).any(dim=1).float().mean())
