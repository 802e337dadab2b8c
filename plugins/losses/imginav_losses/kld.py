"""The Kullback-Leibler divergence of a variational latent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen
from torch import Tensor

from imginav import Loss


@frozen(kw_only=True)
class KLDivergence(Loss):
    """Divergence of the latent's distribution from N(0, 1), the mean over all elements.

    -½ (1 + log σ² - μ² - σ²), Kingma & Welling, "Auto-Encoding Variational Bayes", 2014, appendix B; a mean
    and not a sum, so that its weight does not depend on the latent's size.
    """

    # What it reads is fixed, so these are no keys of its table.
    output: str = field(default="mean", init=False)
    target: str = field(default="", init=False)

    def required_outputs(self) -> Sequence[str]:
        return ("mean", "log_variance")

    def required_targets(self) -> Sequence[str]:
        return ()

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        mean, log_variance = outputs["mean"], outputs["log_variance"]
        return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()
