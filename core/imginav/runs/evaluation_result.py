"""`evaluation.json`: metrics of the weights that a run leaves, and properties of its latent.

docs/evaluation.md describes each key. A value that could not be computed, or is not finite, is null.
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
    """Statistics of one latent channel over all positions of all encoded layouts."""

    mean: float
    std: float
    dead: bool  # whether it carries next to no information
    posterior_std: float | None = None  # variational encoders: square root of the mean variance
    kl: float | None = None  # variational encoders: KL divergence from N(0, 1) in nats, mean over positions


@frozen(kw_only=True)
class NoiseLevel:
    """The effect of Gaussian noise on the latent on the decoded layout."""

    level: float  # standard deviation of the noise, in standard deviations of the latent
    mse: float  # of the decoded layout against the original; level 0 is the reconstruction
    mse_added: float  # of the decoded layout against the one decoded without noise


@frozen(kw_only=True)
class Latent:
    """Statistics of the latent that diffusion depends on."""

    layouts: int  # number of training layouts behind the statistics
    whole_split: bool = False  # whether these are all readable training layouts
    mean: float  # of all values; subtract it before scaling, or ignore it if it is small
    std: float  # of all values; variational encoders: of the means
    scaling_factor: float  # 1 / std, or 1 / drawn_std if there is one: multiply after encoding, divide before decoding
    minimum: float
    maximum: float
    drawn_std: float | None = None  # variational encoders: of latents sampled from the posterior
    channels: tuple[Channel, ...]
    sampled_layouts: int  # number of validation layouts behind noise and shifts
    noise: tuple[NoiseLevel, ...]
    encode_shift_error: float  # of encoding a layout shifted by one cell, in standard deviations of the latent
    decode_shift_error: float  # of decoding a latent shifted by one cell, in [-1, 1]

    @property
    def dead_channels(self) -> list[int]:
        """Indices of the dead channels, from 0."""
        return [number for number, channel in enumerate(self.channels) if channel.dead]


@frozen(kw_only=True)
class Pair:
    """Interpolation between two layouts."""

    first: str
    second: str
    straight: float  # path length over distance, along the straight line between the latents
    spherical: float  # the same along the great circle


@frozen(kw_only=True)
class Interpolation:
    """Smoothness of the decoded images between the latents of two layouts."""

    steps: int  # images per path, both ends included
    straight: float  # mean over the pairs
    spherical: float
    pairs: tuple[Pair, ...]


@frozen(kw_only=True)
class Latency:
    """Time to encode and decode one whole layout, on the device it was measured on."""

    device: str
    precision: str
    passes: int  # after warm-up
    encode_ms: float  # median
    encode_p95_ms: float
    decode_ms: float
    decode_p95_ms: float


@frozen(kw_only=True)
class Size:
    """Size and cost of encoder and decoder; bytes are in fp32."""

    encoder_bytes: int  # of weights and buffers
    decoder_bytes: int
    encode_flops: int  # for one whole layout; a multiply-add counts as two
    decode_flops: int
    encode_peak_bytes: int  # peak of the activations while one whole layout is encoded
    decode_peak_bytes: int
    training_bytes: int  # kept by autograd for the backward pass of one training sample


@frozen(kw_only=True)
class RankedLayout:
    """A validation layout with the error of its reconstruction."""

    name: str
    type: str  # such as room or scene; empty if unknown
    mse: float


@frozen(kw_only=True)
class Reconstruction:
    """Reconstruction metrics by type and class of the validation layouts, with the worst and the best ones."""

    layouts: dict[str, int] = field(factory=dict)  # number of layouts by type
    by_type: dict[str, dict[str, float]] = field(factory=dict)  # metrics by type and name
    by_class: dict[str, dict[str, float]] = field(factory=dict)  # metrics by name and class
    confusion: dict[str, dict[str, dict[str, int]]] = field(factory=dict)  # counts by metric, true class and class
    worst: tuple[RankedLayout, ...] = ()  # the worst first
    best: tuple[RankedLayout, ...] = ()  # the best first
    definitions: dict[str, str] = field(factory=dict)  # definition of each metric
    more_is_better: tuple[str, ...] = ()  # names of metrics of which more is better
    not_measured: dict[str, str] = field(factory=dict)  # metrics that could not be measured, and why


@frozen(kw_only=True)
class ProbeMetric:
    """What a probe has measured, with each of its seeds."""

    values: tuple[float, ...]
    definition: str
    more_is_better: bool = False
    floor: float | None = None  # the same measured of true layouts; None if that has no meaning
    reconstructed: float | None = None  # the same measured of reconstructions


@frozen(kw_only=True)
class EvaluationResult:
    """The evaluation of a run, or of one of its checkpoints."""

    title: str
    experiment: str
    weights_epoch: int  # epoch of the evaluated weights
    epochs: int  # number of trained epochs
    stop_reason: str
    best_epoch: int | None  # by `monitor`; None if no epoch had a finite value
    monitor: str
    metrics: dict[str, float]  # over the whole validation split, measured after training
    flat_background_mse: float  # of blank images that show only background
    latent: tuple[int, int, int]  # height, width, channels
    downsampling_factor: int  # image pixels per latent cell, along each side
    encoder_parameters: int
    decoder_parameters: int
    train_layouts: int
    validation_layouts: int
    split_by: str
    trial: bool
    notes: tuple[str, ...] = ()  # anything unusual: values changed between attempts, skipped layouts
    data: str = ""  # description of the data set
    evaluated: str = ""  # time of the evaluation, UTC, ISO 8601
    code_version: str = ""
    weights_sha256: str = ""  # `checkpoint.sha256_of` the weights; empty in files of earlier versions
    network_sha256: str = ""  # see `network_sha256`
    reconstruction: Reconstruction = field(factory=Reconstruction)
    latent_statistics: Latent | None = None
    interpolation: Interpolation | None = None
    size: Size | None = None
    latency: Latency | None = None  # None if other runs trained at the same time
    probes: dict[str, ProbeMetric] = field(factory=dict)  # metrics of probes by name; `metrics` has their means

    @property
    def latency_ms(self) -> float | None:
        """Time to encode and decode one layout in milliseconds; None if it was not measured."""
        return self.latency.encode_ms + self.latency.decode_ms if self.latency else None

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        save_record(path, self, VERSION)


def network_sha256(tables: Mapping[str, Any]) -> str:
    """Return the fingerprint of a manifest's encoder and decoder: weights may fit several networks."""
    return sha256_of_tables([tables["encoder"], tables["decoder"]])


def load_evaluation(path: Path) -> EvaluationResult:
    """Read the evaluation.json of a finished run; raises UserError if it is missing or of another version."""
    remedy = "give the command that trained it again, and it is evaluated anew"
    return load_record_of(path, EvaluationResult, "an evaluation of this version of imginav", remedy, VERSION)
