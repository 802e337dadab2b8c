"""What "best" means: one definition for early stopping, checkpoints, restored weights and reports.

The best epoch is the one with the best value seen, however little better it is. That an improvement has to be worth
something (`min_delta`) decides how long a run goes on, never what is kept of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

from imginav.errors import UserError, did_you_mean


class BestEpoch:
    """The best epoch so far by one metric: the best value seen, however little better it is."""

    def __init__(self, metric: str, mode: Literal["min", "max"], known: Collection[str]) -> None:
        """Watch a metric; raises UserError where it is none of the run's `known` ones."""
        if metric not in known:
            raise UserError(
                f"train.monitor = {metric!r} is no metric of this run{did_you_mean(metric, known)}; "
                f"its metrics are {', '.join(known)}"
            )
        self.metric = metric
        self.mode = mode
        self.value: float | None = None
        self.epoch: int | None = None
        self.improved = False  # whether the epoch that was seen last is the best

    def see(self, row: Mapping[str, float], epoch: int) -> None:
        """Take in the metrics of an epoch."""
        self.improved = self.is_better(row[self.metric], self.value)
        if self.improved:
            self.value, self.epoch = row[self.metric], epoch

    def is_better(self, value: float, reference: float | None, by: float = 0.0, *, relative: bool = False) -> bool:
        """Whether a value is better than another by more than `by`; NaN never is.

        Where it is `relative`, `by` is a share of the other's magnitude: 0.01 for 1 %. Of zero every gain is more
        than any share, and so is what leads away from an infinite value.
        """
        if math.isnan(value) or reference is None:
            return not math.isnan(value)
        gain = reference - value if self.mode == "min" else value - reference
        return gain > (by * abs(reference) if relative and math.isfinite(reference) else by)

    def state_dict(self) -> dict[str, Any]:
        return {"metric": self.metric, "value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value, self.epoch = state["value"], state["epoch"]
