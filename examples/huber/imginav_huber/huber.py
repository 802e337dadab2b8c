import torch.nn.functional as F
from attrs import frozen

from imginav import Loss


@frozen(kw_only=True)
class Huber(Loss):
    """Huber loss between an output and its target, both (N, C, H, W) in [-1, 1]."""

    delta: float = 1.0  # where quadratic turns linear, in units of the error

    def __call__(self, outputs, batch):
        return F.huber_loss(outputs[self.output], batch[self.target], delta=self.delta)
