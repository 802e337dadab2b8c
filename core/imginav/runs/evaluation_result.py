"""`evaluation.json`: what came of a run, and what the weights that it left are worth.

docs/evaluation.md says what each key means; a figure that could not be had, or is not finite, is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from imginav.manifest.fingerprints import sha256_of_tables
from imginav.manifest.json_record import load_record_of, save_record

VERSION = ("format", 2)


@frozen(kw_only=True)
class Channel:
    """One channel of the latent, over all positions of all layouts that were encoded."""

    mean: float
    std: float
    dead: bool  # it carries next to nothing
    posterior_std: float | None = None  # of a variational encoder: the root of its mean variance
    kl: float | None = None  # of a variational encoder: divergence from N(0, 1) in nats, the mean over positions


@frozen(kw_only=True)
class NoiseLevel:
    """What Gaussian noise on the latent does to what is decoded."""

    level: float  # its standard deviation, in standard deviations of the latent
    mse: float  # of what is decoded against the layout; the level 0 has that of the reconstruction
    mse_added: float  # of what is decoded against what is decoded without noise


@frozen(kw_only=True)
class Latent:
    """The latent as diffusion will meet it."""

    layouts: int  # training layouts that the statistics are of
    whole_split: bool = False  # whether these are all of them that can be read
    mean: float  # of all values; subtract it before scaling, or leave it where it is small
    std: float  # of all values; of a variational encoder, of its means
    scaling_factor: float  # 1 / std, or 1 / drawn_std where there is one: multiply on encoding, divide before decoding
    minimum: float
    maximum: float
    drawn_std: float | None = None  # of latents that are drawn from a variational encoder's distribution
    channels: tuple[Channel, ...]
    sampled_layouts: int  # validation layouts that noise and shifts were measured on
    noise: tuple[NoiseLevel, ...]
    encode_shift_error: float  # of encoding a layout shifted by one cell, in standard deviations of the latent
    decode_shift_error: float  # of decoding a latent shifted by one cell, in [-1, 1]

    @property
    def dead_channels(self) -> list[int]:
        """The numbers of the channels that carry next to nothing, from 0."""
        return [number for number, channel in enumerate(self.channels) if channel.dead]


@frozen(kw_only=True)
class Pair:
    """Interpolation between two layouts."""

    first: str
    second: str
    straight: float  # path length over straight distance, along the straight line between their latents
    spherical: float  # the same along the great circle


@frozen(kw_only=True)
class Interpolation:
    """How smoothly what is decoded changes between the latents of two layouts."""

    steps: int  # images of a path, both ends included
    straight: float  # the mean over the pairs
    spherical: float
    pairs: tuple[Pair, ...]


@frozen(kw_only=True)
class Latency:
    """How long one whole layout takes, where it was measured."""

    device: str
    precision: str
    passes: int  # after warming up
    encode_ms: float  # median
    encode_p95_ms: float
    decode_ms: float
    decode_p95_ms: float


@frozen(kw_only=True)
class Size:
    """What encoder and decoder need; bytes are those of fp32."""

    encoder_bytes: int  # of weights and buffers
    decoder_bytes: int
    encode_flops: int  # for one whole layout; a multiplication and an addition count as two
    decode_flops: int
    encode_peak_bytes: int  # of what is alive at a time while one whole layout is encoded, weights aside
    decode_peak_bytes: int
    training_bytes: int  # that autograd keeps of one layout, as it is trained on, until its gradients are computed


@frozen(kw_only=True)
class RankedLayout:
    """A validation layout and how well it is rebuilt."""

    name: str
    type: str  # such as room or scene; empty where it is not known
    mse: float


@frozen(kw_only=True)
class Reconstruction:
    """How well validation layouts are rebuilt, beside the metrics of all of them together."""

    layouts: dict[str, int] = field(factory=dict)  # how many there are of each type
    by_type: dict[str, dict[str, float]] = field(factory=dict)  # figures by type and name
    by_class: dict[str, dict[str, float]] = field(factory=dict)  # figures by name and class
    worst: tuple[RankedLayout, ...] = ()  # the worst first
    best: tuple[RankedLayout, ...] = ()  # the best first
    definitions: dict[str, str] = field(factory=dict)  # what each figure stands for
    more_is_better: tuple[str, ...] = ()  # of these figures
    not_measured: dict[str, str] = field(factory=dict)  # metrics that could not be had, and why


@frozen(kw_only=True)
class EvaluationResult:
    """The result of a run, or of the evaluation of one of its checkpoints."""

    title: str
    experiment: str
    weights_epoch: int  # the epoch whose weights the run leaves, and of which the metrics are
    epochs: int  # that were trained
    stop_reason: str
    best_epoch: int | None  # by `monitor`; none where no epoch had a finite value
    monitor: str
    metrics: dict[str, float]  # of the whole validation split, measured anew after training
    flat_background_mse: float  # of reconstructions that show nothing but background
    latent: tuple[int, int, int]  # height, width, channels
    downsampling_factor: int  # pixels of the image per cell of the latent, along each side
    encoder_parameters: int
    decoder_parameters: int
    train_layouts: int
    validation_layouts: int
    split_by: str
    trial: bool
    notes: tuple[str, ...] = ()  # what was out of the ordinary: values that were changed on the way, what was left out
    data: str = ""  # the layouts, for people
    evaluated: str = ""  # when, UTC, ISO 8601
    code_version: str = ""
    weights_sha256: str = ""  # of the weights by name, `checkpoint.sha256_of` them; empty: of an earlier version
    network_sha256: str = ""  # of the tables of encoder and decoder, see `network_sha256`
    reconstruction: Reconstruction = field(factory=Reconstruction)
    latent_statistics: Latent | None = None
    interpolation: Interpolation | None = None
    size: Size | None = None
    latency: Latency | None = None  # none: others trained beside it, and it would have meant nothing

    @property
    def latency_ms(self) -> float | None:
        """The time to encode and decode one layout, in milliseconds, where it was measured."""
        return self.latency.encode_ms + self.latency.decode_ms if self.latency else None

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        save_record(path, self, VERSION)


def network_sha256(tables: Mapping[str, Any]) -> str:
    """Return the fingerprint of encoder and decoder in the tables of a manifest: weights may fit into several."""
    return sha256_of_tables([tables["encoder"], tables["decoder"]])


def load_evaluation(path: Path) -> EvaluationResult:
    """Read the evaluation.json of a finished run; raises UserError where there is none that fits."""
    remedy = "give the command that trained it again, and it is evaluated anew"
    return load_record_of(path, EvaluationResult, "an evaluation of this version of imginav", remedy, VERSION)
