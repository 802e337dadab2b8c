"""What a phase says: the typed tree that a manifest becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from attrs import field, frozen

from imginav.plugin.cluster import BaseCluster
from imginav.plugin.components import (
    BaseProbe,
    Callback,
    Dataset,
    Decoder,
    Encoder,
    Loss,
    LRSchedule,
    Metric,
    Optimizer,
)
from imginav.plugin.selector import Selector
from imginav.plugin.validators import FILE_NAME, at_least, between, duration, entry_names, file_name, from_to, one_line

FAULT_POLICY_KEYS = (
    "train.time_limit",
    "train.on_non_finite",
    "train.non_finite_limit",
    "data.on_bad",
    "data.unmatched_limit",
)
"""What a manifest says of troubles that a run may have: nothing that the result of one without any depends on."""

PLAN_TABLES = ("sweep", "winners", "cluster")
"""What a phase says about its experiments; the manifest of a single one has no such tables. `false` takes one out."""

MOST_OF_A_BATCH = 65_536
"""Layouts of a batch, and parts of it: at the smallest size of 16 pixels, such a batch has 50 MB."""

MOST_WORKERS = 256
"""Processes that load data, each with a torch of its own."""

MOST_NOISE_LEVELS = 16
"""Each decodes some validation layouts once."""


@frozen(kw_only=True)
class Phase:
    """What the run is called."""

    id: str = field(validator=one_line)  # the phase's number, such as "1.5"
    experiment: str = field(validator=file_name)  # names the run folder and its files; a sweep adds its own names
    group: str = field(validator=file_name)  # the folder that the phase's experiments share
    title: str = field(default="", validator=one_line)  # a heading for people

    @property
    def heading(self) -> str:
        """The number and the title."""
        return f"Phase {self.id} · {self.title}" if self.title else f"Phase {self.id}"

    def __attrs_post_init__(self) -> None:
        if self.experiment.casefold() == self.group.casefold():  # some disks know no capitals
            raise ValueError(f"expected experiment and group to differ, found {self.group!r} for both")


@frozen(kw_only=True)
class Train:
    """How the autoencoder is trained."""

    epochs: int = field(validator=from_to(1, 1_000_000))  # passes over the training layouts, at most
    batch_size: int = field(default=16, validator=from_to(1, MOST_OF_A_BATCH))  # layouts per optimizer step
    min_epoch_steps: int | None = field(
        default=None, validator=from_to(1, 1_000_000)
    )  # optimizer steps of an epoch, at least: few layouts are passed over several times; none: once
    seed: int = field(default=42, validator=at_least(0))  # of split, order, crops, initial weights and draws
    split_seed: int | None = field(default=None, validator=at_least(0))  # of the split alone; none: seed
    split: float = field(default=0.8, validator=between(0, 1))  # the share that is trained on; the rest validates
    split_by: Literal["scene", "layout"] = "scene"  # scene: what belongs to one scene stays on one side
    monitor: str = "val_loss"  # the metric that decides which epoch is the best
    monitor_mode: Literal["min", "max"] = "min"  # whether less or more of it is better
    optimizer: Optimizer  # how weights follow their gradients
    lr_schedule: LRSchedule | None = None  # none: the learning rate stays as it is
    time_limit: str | None = field(
        default=None, validator=duration
    )  # such as 11h30m, after which the command is gone, saved; none: no limit
    on_non_finite: Literal["stop", "skip"] = "stop"  # what a loss or gradient that is not finite does
    non_finite_limit: int = field(default=10, validator=at_least(0))  # batches to skip in all; one more stops the run


@frozen(kw_only=True)
class Evaluation:
    """What is measured of the weights that a run leaves; no training depends on it."""

    metrics: dict[str, Metric] = field(
        factory=dict, validator=entry_names
    )  # of the reconstructions; all that are installed, as they are, beside those that are written here
    probes: dict[str, BaseProbe] = field(
        factory=dict, validator=entry_names
    )  # trained on the latents that a run leaves
    latent_layouts: int | None = field(
        default=None, validator=at_least(2)
    )  # training layouts of which the latent's statistics are taken; none: all
    sampled_layouts: int = field(
        default=64, validator=at_least(1)
    )  # validation layouts for noise and shifts of the latent, which decode each several times
    noise: tuple[float, ...] = (0.05, 0.1, 0.2)  # levels added to the latent, in its standard deviations
    pairs: int = field(default=3, validator=from_to(1, 64))  # of validation layouts to interpolate between
    steps: int = field(default=8, validator=from_to(3, 64))  # of an interpolation, both ends included
    extremes: int = field(default=8, validator=from_to(1, 64))  # worst reconstructions in a picture, and best ones

    def __attrs_post_init__(self) -> None:
        if wrong := [level for level in self.noise if level <= 0]:
            raise ValueError(f"expected noise levels greater than 0, found {wrong[0]}")
        if len(self.noise) > MOST_NOISE_LEVELS:
            raise ValueError(f"expected at most {MOST_NOISE_LEVELS} noise levels, found {len(self.noise)}")


@frozen(kw_only=True)
class Machine:
    """Where and how it is computed; it changes no result but by rounding, and the draws of a variational latent."""

    device: str = "auto"  # cpu, cuda, cuda:1; auto: a GPU where there is one
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 where the device computes in it, else fp32
    channels_last: bool | Literal["auto"] = "auto"  # memory format; auto: on a CPU, and where it is compiled
    compile: bool | Literal["auto"] = "auto"  # torch.compile; auto: on a GPU, for runs of 3,000 steps and more
    capture: bool = False  # whether steps are recorded as CUDA graphs: on one GPU, in bf16 and fp32
    accumulate: int = field(
        default=1, validator=from_to(1, MOST_OF_A_BATCH)
    )  # parts in which a batch is computed, to save memory
    workers: int | Literal["auto"] = "auto"  # processes that load data; auto: none on a CPU, up to 8 beside a GPU
    layouts: Literal["auto", "device", "host"] = (
        "auto"  # where they are kept while training; auto: on the GPU as bytes if they fit into half of its free memory
    )
    threads: int | None = field(default=None, validator=from_to(1, 1024))  # of the CPU; none: as many as torch takes
    cache: Path | Literal[False] = Path(
        "outputs/cache"
    )  # keeps layouts as they are read fastest; false: nothing is kept

    def __attrs_post_init__(self) -> None:
        if self.workers != "auto" and not 0 <= self.workers <= MOST_WORKERS:
            raise ValueError(f"expected workers from 0 to {MOST_WORKERS}, or 'auto', found {self.workers}")


@frozen(kw_only=True)
class Output:
    """Where files go; relative to the working folder."""

    experiments: Path = Path("outputs")  # holds a folder for each experiment
    shared: Path = Path("outputs")  # holds a folder for each phase


@frozen(kw_only=True)
class Sweep:
    """The experiments of a phase, and the rule by which one of them wins."""

    experiments: dict[str, dict[str, Any]] = field(factory=dict)  # by name, what each changes, by dotted key
    grid: dict[str, Any] = field(factory=dict)  # lists of values by dotted key; each combination is an experiment
    seeds: tuple[int, ...] = ()  # each experiment once with each as train.seed; empty: once, with its own
    selector: Selector | None = None  # the rule; none: the phase has no winner

    def __attrs_post_init__(self) -> None:
        if not self.experiments and not self.grid:
            raise ValueError("expected experiments or a grid, found neither")
        if wrong := [name for name in self.experiments if not FILE_NAME.fullmatch(name)]:
            raise ValueError(f"expected names of letters, digits, '.', '_' and '-' for experiments, found {wrong[0]!r}")
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError(f"expected seeds of at least 0, each once, found {list(self.seeds)}")


@frozen(kw_only=True)
class Plan:
    """What a phase and its site say about its experiments, beside what they have in common."""

    sweep: Sweep | None = None  # none: the phase is one experiment
    winners: dict[str, tuple[str, ...]] = field(
        factory=dict
    )  # the dotted keys that it takes, by the phase it takes from
    cluster: BaseCluster | None = None  # where its jobs run; none: it cannot be submitted


@frozen(kw_only=True)
class Manifest:
    """Everything that a run is made from."""

    beside: ClassVar[tuple[str, ...]] = (
        "sweep",
        "winners",
        "cluster",
        "trial",
        "quick",
        "extends",
    )  # what else a phase's file may have

    phase: Phase
    data: Dataset
    encoder: Encoder
    decoder: Decoder
    losses: dict[str, Loss] = field(validator=entry_names)
    train: Train
    callbacks: dict[str, Callback] = field(factory=dict, validator=entry_names)
    evaluation: Evaluation = field(factory=Evaluation)
    machine: Machine = field(factory=Machine)
    output: Output = field(factory=Output)

    def __attrs_post_init__(self) -> None:
        if not self.losses:
            raise ValueError("expected at least one loss in [losses], found none")
