"""The metrics and pictures of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from attrs import frozen
from PIL import Image

from imginav import Callback, UserError, hookimpl
from imginav.plugin import RunFiles, TrainingRun

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@frozen(kw_only=True)
class TensorBoard(Callback):
    """Write each epoch's metrics and the latest sample picture as TensorBoard events (extra `tensorboard`)."""

    observer: ClassVar[bool] = True

    def build(self) -> object:
        return TensorBoardWriter()


class TensorBoardWriter:
    """Writes the events of a run into the folder `tensorboard` of its run folder."""

    def __init__(self) -> None:
        try:
            # Optional, and slow to import.
            from torch.utils import tensorboard
        except ImportError as error:
            raise UserError(
                "callbacks.tensorboard needs the package tensorboard, which is not installed; "
                "install it with pip install 'imginav[tensorboard]', or leave the callback out"
            ) from error
        self._open = tensorboard.SummaryWriter
        self._writer: SummaryWriter | None = None
        self._folder: RunFiles

    @hookimpl
    def run_started(self, trainer: TrainingRun, folder: RunFiles) -> None:
        self._folder = folder
        # Where a run goes on, what was written after its checkpoint is not shown.
        self._writer = self._open(str(folder.root / "tensorboard"), purge_step=len(trainer.history) + 1)

    @hookimpl(trylast=True)  # after the epoch's samples were drawn
    def epoch_finished(self, trainer: TrainingRun, row: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(_tag(name), value, trainer.epoch)
        samples = self._folder.samples(trainer.epoch)
        if samples.exists():
            with Image.open(samples) as picture:
                self._writer.add_image("samples", np.asarray(picture), trainer.epoch, dataformats="HWC")
        self._writer.flush()

    @hookimpl
    def run_closed(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _tag(column: str) -> str:
    """Return `train/loss_mse` for `train_loss_mse`, so that TensorBoard groups train and validation."""
    part, _, rest = column.partition("_")
    return f"{part}/{rest}" if part in {"train", "val"} else column
