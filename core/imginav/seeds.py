"""One seed for a run; a generator of its own for each thing that is drawn from it."""

from __future__ import annotations

import hashlib

import torch
from attrs import frozen


@frozen
class Seeds:
    """Derives independent seeds, so that a draw more in one place never shifts the draws in another."""

    seed: int

    def derive(self, *purpose: str | int) -> int:
        """Return the 63-bit seed for a purpose, such as `("shuffle", epoch)`."""
        text = "/".join(str(part) for part in (self.seed, *purpose))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return a CPU generator at the start of the purpose's sequence."""
        return torch.Generator().manual_seed(self.derive(*purpose))
