"""What the flow probe computes, with every default filled in."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Settings:
    """What is computed, with every default filled in."""

    window: int
    steps: int
    batch_size: int
    width: int
    depth: int
    samples: int
    seeds: int

    @property
    def described(self) -> str:
        """What makes figures comparable, in a few words."""
        return (
            f"flow model of width {self.width} and depth {self.depth} after {self.steps:,} steps of {self.batch_size}, "
            f"{self.samples:,} samples of {self.window}×{self.window} pixels"
        )
