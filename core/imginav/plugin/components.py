"""What a plugin can be: one frozen attrs class for each kind of component.

The fields of a component are its keys in a manifest; `build` (or a call, for a loss) is what it does. What is
known at run time only (a channel count, the classes of the data set) is an argument of `build`.
Images are (N, 3, H, W) in [-1, 1], latents are (N, C, h, w).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen

from imginav.plugin.data_spec import DataSpec
from imginav.plugin.validators import at_least, entry_names, from_to

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.optim import Optimizer as TorchOptimizer
    from torch.optim.lr_scheduler import LRScheduler


# In quotes, so that importing this file does not import torch, which takes seconds.
Sample: TypeAlias = "dict[str, NDArray[np.uint8]]"
LossFunction: TypeAlias = "Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]"


MOST_LAYOUTS = 1_000_000
"""Each is fingerprinted before a run, which takes seconds for so many."""

MOST_CROPS = 1024
"""Of a layout in an epoch; of the usual 128 pixels, 16 of them cover one of 512."""

MOST_CANDIDATES = 16
"""Places for a crop; all of them are looked at."""

MOST_CHANNELS = 4096
"""Of one level; the widest networks of this kind have 512."""


@frozen(kw_only=True)
class Component(ABC):
    """What every plugin class derives from, through the class of its kind."""

    kind: ClassVar[str]  # the first argument of `registry.add`


class LayoutSource(ABC):
    """An opened data set: whole layouts by index."""

    spec: DataSpec

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Return `rgb` (H, W, 3) bytes and, where the spec names them, `segmentation` (H, W) class indices
        (255 where no class matches) and `label` (a 0-d class index; 255 where it is not known).

        Where each pixel has exactly the colour of its class, `rgb` may be left out: the palette makes it of
        `segmentation` on the device. Nobody writes to the arrays, so that they may lie in a file.
        """

    def check_pixels(self) -> str:
        """Look at a sample of the layouts before a training, and return a sentence where something is worth knowing.

        Raises UserError where the pixels are not what the spec says, such as colours of no class.
        """
        return ""

    def prepare(self, folder: Path | None, log: Callable[[str], None] = print) -> None:  # noqa: B027  # most need none
        """Get ready to be read many times, by several processes; whoever trains or evaluates calls it once, first.

        What it makes may be kept in `folder`, which is shared by all runs and data sets; none: nothing is to be kept
        on the disk. `log` takes a line for people where it takes long. Raises UserError where the folder refuses it.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """Return what a person would call this layout: its path, or its number."""

    def identity(self, index: int) -> str:
        """Return what makes this layout the one it is, wherever the set lies; fingerprints are made of it."""
        return self.name(index)

    def scene(self, index: int) -> str | None:
        """Return the scene that this layout is a part of, where it is known; scenes are not split apart."""
        return None

    def left_out(self) -> Sequence[str]:
        """Return a sentence for each layout that opening left out because it cannot be used."""
        return ()

    def describe(self) -> str:
        """Return one line for the log: what these layouts are, and what was noticed in opening them."""
        return f"{len(self)} layouts"


@frozen(kw_only=True)
class Dataset(Component):
    """Where the layouts come from."""

    kind: ClassVar[str] = "dataset"
    embedded: ClassVar[bool] = False  # whether it needs no files, so that a first run is a trial

    # Bounds say what a value can mean at all, so that a typo is a sentence and no machine out of memory.
    image_size: int = field(default=512, validator=from_to(16, 4096))  # side of a whole layout, in pixels
    crop: int | None = field(
        default=None, validator=from_to(8, 4096)
    )  # side of training crops in pixels; none: whole layouts
    crops: int = field(default=1, validator=from_to(1, MOST_CROPS))  # of each training layout in an epoch
    crop_candidates: int = field(
        default=1, validator=from_to(1, MOST_CANDIDATES)
    )  # places drawn for each crop; the one where classes meet most often is cut
    whole_epochs: int = field(
        default=0, validator=from_to(0, 1_000_000)
    )  # the last so many epochs train on whole layouts in place of crops: on as many pixels, so on a part of the set
    augment: bool = False  # flips and quarter turns of training layouts, drawn anew for each epoch
    count: int | None = field(
        default=None, validator=from_to(2, MOST_LAYOUTS)
    )  # how many layouts to use; none: all there are
    on_bad: Literal["error", "skip"] = "error"  # what a layout that cannot be used does: end the run, or be left out

    @property
    def window(self) -> int:
        """Side in pixels of what the training ends with: its crops, or whole layouts."""
        return self.image_size if self.crop is None or self.whole_epochs else self.crop

    def __attrs_post_init__(self) -> None:
        if self.crop is not None and self.crop > self.image_size:
            raise ValueError(f"expected a crop of at most image_size = {self.image_size}, found {self.crop}")
        if self.crops > 1 and self.crop is None:
            raise ValueError(f"expected a crop, the side of each in pixels, with crops = {self.crops}, found none")
        if self.crop_candidates > 1 and self.crop is None:
            raise ValueError(
                f"expected a crop, the side of it in pixels, with crop_candidates = {self.crop_candidates}, found none"
            )
        if self.whole_epochs and self.crop is None:
            raise ValueError(f"expected a crop for the epochs before whole_epochs = {self.whole_epochs}, found none")

    @abstractmethod
    def open(self) -> LayoutSource:
        """Open the layouts; raises UserError where files are missing or broken, before any training.

        With `on_bad = "skip"` these are left out, and only a set of which nothing is left is an error.
        """


@frozen(kw_only=True)
class Encoder(Component):
    """From images (N, 3, H, W) to latents (N, latent_channels, H / 2^steps, W / 2^steps)."""

    kind: ClassVar[str] = "encoder"

    latent_channels: int = field(default=16, validator=from_to(1, MOST_CHANNELS))  # channels of the latent
    base_channels: int = field(default=32, validator=from_to(1, MOST_CHANNELS))  # width of the first level
    downsampling_steps: int = field(default=4, validator=from_to(1, 8))  # each halves height and width
    variational: bool = False  # whether it gives a mean and a log-variance, of which latents are drawn

    @property
    def downsampling_factor(self) -> int:
        """Pixels of the image per cell of the latent, along each side."""
        return int(2**self.downsampling_steps)

    @abstractmethod
    def build(self) -> nn.Module:
        """Return a module from images to (N, C, h, w), where C is `latent_channels`, or twice as many for a
        variational encoder: the mean first, then the logarithm of the variance.
        """


@frozen(kw_only=True)
class Head(Component):
    """What is computed from a decoder's last features: one output, or several that belong together."""

    kind: ClassVar[str] = "head"

    def outputs(self, name: str) -> tuple[str, ...]:
        """Return the names of its outputs, where it stands under a name in the manifest: that name alone by default."""
        return (name,)

    @abstractmethod
    def build(self, in_channels: int, spec: DataSpec, patch: int) -> nn.Module:
        """Return a module from features (N, in_channels, H / patch, W / patch) to the output of this head.

        `patch` is the side in pixels of what one feature stands for; 1 where the features have the image's size. A
        head of several outputs gives a dictionary of them, by the names of `outputs`; see also `TrainsForOutputs`.
        """


@runtime_checkable
class TrainsForOutputs(Protocol):
    """A module of a decoder that knows cheaper ways to what losses read, while it is in training mode."""

    def train_for(self, outputs: Collection[str], in_patches: Collection[str]) -> None:
        """Take the names of the outputs that losses read; it is called once, before the training.

        The others may be left out. Those of `in_patches` may be given as patches (N, K, p · p, H / p, W / p), which
        `torch.nn.functional.pixel_shuffle` would put in place as (N, K, H, W).
        """


@frozen(kw_only=True)
class Decoder(Component):
    """From latents back to images; its shapes follow the encoder's unless they are stated."""

    kind: ClassVar[str] = "decoder"

    latent_channels: int | None = field(default=None, validator=from_to(1, MOST_CHANNELS))  # none: the encoder's
    base_channels: int | None = field(default=None, validator=from_to(1, MOST_CHANNELS))  # none: the encoder's
    upsampling_steps: int | None = field(default=None, validator=from_to(1, 8))  # none: the encoder's
    heads: dict[str, Head] = field(factory=dict, validator=entry_names)  # by name, mostly that of their output

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs of all heads, in their order."""
        return tuple(output for name, head in self.heads.items() for output in head.outputs(name))

    @abstractmethod
    def build(self, encoder: Encoder, spec: DataSpec) -> nn.Module:
        """Return a module from latents (N, C, h, w) to a dictionary of outputs by name, as `Heads` does."""


@frozen(kw_only=True)
class Loss(Component):
    """A term of the training objective: an output compared with a target of the batch."""

    kind: ClassVar[str] = "loss"

    takes_patches: ClassVar[bool] = False  # whether it takes outputs in patches as well, see `TrainsForOutputs`

    output: str = "rgb"  # the decoder head, `latent`, or for variational encoders `mean` or `log_variance`
    target: str = "rgb"  # what it is compared with: rgb, segmentation or label
    weight: float = field(default=1.0, validator=at_least(0))  # its share in the objective

    def required_outputs(self) -> Sequence[str]:
        """Name the outputs that the loss reads."""
        return (self.output,)

    def required_targets(self) -> Sequence[str]:
        """Name the targets that the loss reads."""
        return (self.target,)

    def build(self) -> LossFunction:
        """Return the function of the outputs and the batch, each by name, to a scalar; the loss itself by default.

        A loss with weights of its own (a feature network) loads them here and returns a module; it is moved
        to the device of the run, is never trained and never stands in a checkpoint.
        """
        return self

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        raise TypeError(f"{type(self).__name__} defines neither __call__ nor build")


class CannotMeasure(Exception):  # noqa: N818  # it is no fault: a figure that cannot be had is left out, with the reason
    """Says why a metric cannot be measured here, as a sentence without its full stop."""


class Measurement(ABC):
    """A metric that is set up for a data set.

    Of each layout it keeps a row, and its figures follow from the rows of any layouts: of the whole split, of the
    rooms in it, of a single one. One that has a network derives from `nn.Module` as well, and is moved to the device.
    """

    @abstractmethod
    def rows(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return what is kept of a batch, by name: tensors (N, ...) with a row for each of its layouts.

        `outputs` are those of the autoencoder in fp32, such as `rgb` (N, 3, H, W) in [-1, 1]; `batch` has `rgb`, and
        where the data set has them `segmentation` (N, H, W) and `label` (N) as class indices, 255 for none.
        """

    @abstractmethod
    def figures(self, rows: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Return the figures of these rows by name, those of `Metric.definitions`; NaN where one cannot be had."""

    def per_class(self, rows: Mapping[str, Tensor]) -> Mapping[str, Mapping[str, float]]:
        """Return figures that there are of each class, by the figure's name and the class's; NaN as above."""
        return {}

    def confusion(self, rows: Mapping[str, Tensor]) -> Mapping[str, Mapping[str, int]]:
        """Return how often each true class was taken for each class, by their names; counts of 0 are left out."""
        return {}


@frozen(kw_only=True)
class Measured(Component):
    """Something that gives figures by name, of which each has one meaning."""

    @property
    @abstractmethod
    def definitions(self) -> Mapping[str, str]:
        """What each figure stands for, by name: how it is computed, with unit or range, and the formula's source."""

    @property
    def more_is_better(self) -> Collection[str]:
        """The figures of which more is better; of the others less is."""
        return ()


@frozen(kw_only=True)
class BaseProbe(Measured):
    """The part of the plugin kind `probe` that others than the probe use; `imginav.Probe` adds how it measures."""

    kind: ClassVar[str] = "probe"

    def check(self, window: int) -> None:
        """Raise UserError where it cannot look at windows of so many pixels; asked before any training."""

    def seconds(self, window: int, latent: tuple[int, int, int], device: Any) -> float | None:
        """Return the seconds that windows of so many pixels with latents (C, s, s) take on a device; None: unknown."""
        return None


@frozen(kw_only=True)
class Metric(Measured):
    """What is measured of the reconstructions of whole layouts when a run has ended."""

    kind: ClassVar[str] = "metric"

    @abstractmethod
    def build(self, spec: DataSpec, outputs: Collection[str], image_size: int) -> Measurement:
        """Set it up for layouts of `image_size` pixels and an autoencoder with these outputs.

        Raises CannotMeasure where it has no meaning for them, or what it needs is not at hand.
        """


@frozen(kw_only=True)
class Optimizer(Component):
    """How weights follow their gradients."""

    kind: ClassVar[str] = "optimizer"

    learning_rate: float = field(default=1e-4, validator=at_least(0))  # at the peak of the schedule

    @abstractmethod
    def build(self, model: nn.Module) -> TorchOptimizer:
        """Return the optimizer of the model's trainable parameters."""


@frozen(kw_only=True)
class LRSchedule(Component):
    """How the learning rate changes, from step to step."""

    kind: ClassVar[str] = "lr_schedule"

    @abstractmethod
    def build(self, optimizer: TorchOptimizer, total_steps: int) -> LRScheduler:
        """Return the schedule of a run of `total_steps` optimizer steps; it is stepped after each of them."""


@frozen(kw_only=True)
class Callback(Component):
    """What accompanies a run: an object with `@hookimpl` methods, named after the events that docs/plugins.md lists."""

    kind: ClassVar[str] = "callback"

    observer: ClassVar[bool] = False  # whether it only looks on: a run with it and one without are the same

    def build(self) -> object:
        """Return the object whose hooks are called; the component itself where it keeps no state.

        What must survive a restart has `state_dict()` and `load_state_dict(state)`.
        """
        return self

    @property
    def weight_copies(self) -> int:
        """How many copies of the model's weights it keeps, in memory and in its state."""
        return 0

    def disk_bytes(self, weights: int, training: int, epochs: int) -> int:
        """Return how much of the disk it needs for a run of so many epochs, at most, in bytes.

        `weights` are the bytes of the model's weights, `training` those of all that a restart needs.
        """
        return 0
