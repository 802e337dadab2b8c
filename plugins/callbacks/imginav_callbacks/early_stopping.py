"""Ends a training that no longer gets better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen
from torch import Tensor

from imginav import Callback, hookimpl
from imginav.plugin import TrainingRun, at_least


@frozen(kw_only=True)
class EarlyStopping(Callback):
    """Stop when `train.monitor` has not got better for some epochs, and put the best weights back."""

    patience: int = field(default=5, validator=at_least(1))  # epochs without improvement after which it stops
    min_delta: float = field(default=0.0, validator=at_least(0))  # an improvement counts where it is more than this
    min_delta_mode: Literal["absolute", "relative"] = "absolute"  # in the metric, or as a share of what is to be beaten
    restore_best: bool = True  # whether the model ends with the weights of its best epoch

    @property
    def weight_copies(self) -> int:
        return int(self.restore_best)

    @property
    def least_gain(self) -> str:
        """What an improvement has to exceed, for people."""
        return f"{self.min_delta * 100:g} %" if self.min_delta_mode == "relative" else f"{self.min_delta:g}"

    def __attrs_post_init__(self) -> None:
        if self.min_delta_mode == "relative" and self.min_delta >= 1:
            raise ValueError(f"expected a relative min_delta below 1, such as 0.01 for 1 %, found {self.min_delta:g}")

    def build(self) -> object:
        return EarlyStopper(self)


class EarlyStopper:
    """Counts the epochs without improvement, and keeps the best weights.

    Patience counts by `min_delta`; the best weights are those of the best epoch that `trainer.best` knows, even where
    it was better by less, so that what is restored and what is saved as best are the same.
    """

    def __init__(self, config: EarlyStopping) -> None:
        self._config = config
        self._reference: float | None = None  # the value that an epoch has to beat by min_delta
        self._waited = 0
        self._weights: dict[str, Tensor] | None = None

    @hookimpl
    def run_started(self) -> None:
        if self._waited >= self._config.patience:  # extended after it has stopped: patience counts from 0
            self._waited = 0

    @hookimpl
    def epoch_finished(self, trainer: TrainingRun, row: Mapping[str, float]) -> None:
        best = trainer.best
        if self._config.restore_best and best.improved:
            self._weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        relative = self._config.min_delta_mode == "relative"
        if best.is_better(row[best.metric], self._reference, by=self._config.min_delta, relative=relative):
            self._reference, self._waited = row[best.metric], 0
            return
        self._waited += 1
        if self._waited >= self._config.patience:
            trainer.stop(
                f"early stopping: {best.metric} has not improved by more than {self._config.least_gain} "
                f"in {self._waited} epochs"
            )

    @hookimpl
    def training_finished(self, trainer: TrainingRun) -> None:
        if self._weights is not None and trainer.best.epoch is not None:
            trainer.model.load_state_dict(self._weights)
            trainer.weights_epoch = trainer.best.epoch

    def state_dict(self) -> dict[str, Any]:
        return {"reference": self._reference, "waited": self._waited, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._reference, self._waited = state["reference"], state["waited"]
        # Kept no further, they would soon be those of an epoch that is no longer the best.
        self._weights = state["weights"] if self._config.restore_best else None
