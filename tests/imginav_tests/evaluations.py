"""What an evaluation says of a tiny run."""

from __future__ import annotations

from typing import Any

from imginav.manifest.resolved import ResolvedManifest
from imginav.runs.evaluation_result import Channel, EvaluationResult, Interpolation, Latency, Latent, NoiseLevel, Pair


def evaluation(**changes: Any) -> EvaluationResult:
    """Return the evaluation of a tiny run that was trained for two epochs, of which the second is the best."""
    found: dict[str, Any] = {
        "title": "Phase 0",
        "experiment": "tiny",
        "weights_epoch": 2,
        "epochs": 2,
        "stop_reason": "",
        "best_epoch": 2,
        "monitor": "val_loss",
        "metrics": {},
        "flat_background_mse": 0.1,
        "latent": (8, 8, 2),
        "downsampling_factor": 4,
        "encoder_parameters": 10,
        "decoder_parameters": 20,
        "train_layouts": 12,
        "validation_layouts": 4,
        "split_by": "scene",
        "trial": True,
    }
    return EvaluationResult(**{**found, **changes})


def of_experiment(resolved: ResolvedManifest, mse: float, **changes: Any) -> EvaluationResult:
    """Return the evaluation of an experiment of a phase, which has reached this MSE."""
    found: dict[str, Any] = {
        "title": "",
        "experiment": resolved.manifest.phase.experiment,
        "metrics": {"val_mse": mse, "val_loss": mse},
        "flat_background_mse": 1.0,
        "latent": (8, 8, resolved.manifest.encoder.latent_channels),
        "decoder_parameters": 10,
        "trial": False,
    }
    return evaluation(**{**found, **changes})


def latent(**changes: Any) -> Latent:
    """Return the statistics of a latent of two channels, of which the second is dead."""
    found: dict[str, Any] = {
        "layouts": 12,
        "mean": 0.1,
        "std": 2.0,
        "scaling_factor": 0.5,
        "minimum": -3.0,
        "maximum": 3.0,
        "channels": (Channel(mean=0.25, std=1.0, dead=False), Channel(mean=0.0, std=0.0, dead=True)),
        "sampled_layouts": 4,
        "noise": (
            NoiseLevel(level=0.0, mse=0.01, mse_added=0.0),
            NoiseLevel(level=0.1, mse=0.011, mse_added=0.00012),
        ),
        "encode_shift_error": 0.1,
        "decode_shift_error": 0.2,
    }
    return Latent(**{**found, **changes})


def whole_latent(**changes: Any) -> Latent:
    """Return the statistics of such a latent over the whole training split, as an export needs them."""
    found: dict[str, Any] = {
        "whole_split": True,
        "mean": 0.5,
        "std": 0.25,
        "scaling_factor": 4.0,
        "minimum": -1,
        "maximum": 2,
        "channels": (Channel(mean=0.4, std=0.3, dead=False), Channel(mean=0.6, std=0.0, dead=True)),
    }
    return latent(**{**found, **changes})


def interpolation() -> Interpolation:
    """Return how far the images between one pair of layouts lie apart."""
    pair = Pair(first="a", second="b", straight=1.1, spherical=1.2)
    return Interpolation(steps=8, straight=1.1, spherical=1.2, pairs=(pair,))


def latency(**changes: Any) -> Latency:
    """Return how long one layout takes: 5 ms, of which 3 are for its latent."""
    found: dict[str, Any] = {
        "device": "cpu",
        "precision": "fp32",
        "passes": 7,
        "encode_ms": 3.0,
        "encode_p95_ms": 3.5,
        "decode_ms": 2.0,
        "decode_p95_ms": 2.5,
    }
    return Latency(**{**found, **changes})
