"""The evaluation of a checkpoint over its whole training split, on which its scaling factor rests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from imginav.errors import UserError
from imginav.plugin.checkpoint import Checkpoint, load_checkpoint, sha256_of
from imginav.plugin.components import MOST_LAYOUTS
from imginav.plugin.registry import Registry
from imginav.runs.evaluation_result import EvaluationResult, load_evaluation, network_sha256
from imginav.runs.run_folder import EVALUATION
from imginav_evaluation.checkpoint_manifest import resolve
from imginav_reports.evaluate_checkpoint import Request, evaluate_checkpoint

Log = Callable[[str], None]


def evaluation_over_training(
    path: Path, registry: Registry, *, site: Path | None = None, settings: Sequence[str] = (), log: Log = print
) -> EvaluationResult:
    """Return the evaluation of a checkpoint whose latents are measured over its whole training split.

    It is the one that lies beside the checkpoint, where that is of these very weights in this very network; otherwise
    it is made, and kept there. Raises UserError as `evaluate_checkpoint` does.
    """
    checkpoint = load_checkpoint(path)
    tables = resolve(path, checkpoint, registry, site=site, settings=settings).tables
    if (evaluation := evaluation_of(path, checkpoint, tables)) is not None:
        return evaluation
    folder = whole_evaluation_folder(path)
    log(f"no evaluation of these weights over all training layouts lies beside {path}; writes one into {folder}")
    over_all = (*settings, f"evaluation.latent_layouts={MOST_LAYOUTS}")
    return evaluate_checkpoint(Request(checkpoint=path, to=folder, site=site, settings=over_all), registry, log)


def evaluation_of(path: Path, checkpoint: Checkpoint, tables: Mapping[str, Any]) -> EvaluationResult | None:
    """Return the evaluation over the whole training split that lies beside a checkpoint, if there is one.

    It must be of these very weights in the very network that the tables of a manifest describe.
    """
    digests = sha256_of(checkpoint.model), network_sha256(tables)
    for folder in (path.parent, path.with_name(f"{path.stem}_evaluation"), whole_evaluation_folder(path)):
        with suppress(UserError):
            evaluation = load_evaluation(folder / EVALUATION)
            latent = evaluation.latent_statistics
            same = (evaluation.weights_sha256, evaluation.network_sha256) == digests
            if same and latent is not None and latent.whole_split and evaluation.split_by:
                return evaluation
    return None


def whole_evaluation_folder(path: Path) -> Path:
    """Return where a checkpoint is evaluated whose scaling factor is asked for and not known."""
    return path.with_name(f"{path.stem}_evaluation_whole")
