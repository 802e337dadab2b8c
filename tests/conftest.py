"""What the tests of several packages share."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from imginav import DataSpec
from imginav.manifest.fingerprints import DataFingerprint
from imginav.manifest.loading import load, load_phase
from imginav.manifest.resolved import ResolvedManifest, ResolvedPhase
from imginav.plugin.checkpoint import Checkpoint
from imginav.plugin.discovery import DISABLE
from imginav.plugin.registry import Registry, installed
from imginav.runs.experiment import build_trainer, run_folder
from imginav.runs.records import Recorder, load_record
from imginav.runs.run_folder import EVALUATION
from imginav.training.trainer import Trainer
from imginav_datasets.classes import LABELS, PALETTE
from imginav_evaluation.evaluate import Weights, evaluate
from imginav_tests import distributions, evaluations
from imginav_tests.examples import register_profiles
from imginav_tests.foreign_plugins import left_out
from imginav_tests.tiny import PHASE, Blocks

register_profiles()

WriteLayouts = Callable[..., Path]


# One thread, here and in the processes that tests start: tensors as small as these lose more than they gain by several,
# and tests run on all cores side by side.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# The built-in plugins alone, here and in the processes that tests start, whatever else is installed.
os.environ[DISABLE] = left_out()


@pytest.fixture(scope="session")
def spec() -> DataSpec:
    """What layouts are made of: the ten classes, room and scene, all targets."""
    return DataSpec(palette=PALETTE, labels=LABELS, targets=("rgb", "segmentation", "label"))


@pytest.fixture
def write_layouts(tmp_path: Path) -> WriteLayouts:
    """Write a list of layouts into a folder and return the path of the CSV file.

    Each row's file is a layout of 32 px with all ten classes, or what `files` has for it: a picture, the bytes of the
    file, or None for a file that is not there.
    """

    def write(
        rows: Sequence[Mapping[str, str]],
        files: Mapping[str, Image.Image | bytes | None] | None = None,
        encoding: str = "utf-8",
    ) -> Path:
        folder = tmp_path / "layouts"
        folder.mkdir(exist_ok=True)
        for row in rows:
            path = folder / row["layout_path"]
            content = (files or {}).get(row["layout_path"], _all_classes())
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content is not None:
                content.save(path, format="PNG")
        with (folder / "layouts.csv").open("w", newline="", encoding=encoding) as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return folder / "layouts.csv"

    return write


def _all_classes() -> Image.Image:
    """Return stripes of the ten classes, background at the bottom."""
    rows = np.minimum(np.arange(32) // 3, len(PALETTE) - 1).astype(np.uint8)
    return Image.fromarray(PALETTE.colour(np.repeat(rows[:, None], 32, axis=1)))


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The installed components and the data set `blocks`."""
    registry = installed()
    registry.add("dataset", "blocks", Blocks)
    return registry


@pytest.fixture
def no_pages() -> Iterator[None]:
    """Evaluate runs without drawing their pages, which takes most of the time of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:  # its own, for tests that undo theirs
        patch.setenv(DISABLE, left_out("reports"))
        yield


@pytest.fixture
def load_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> Callable[..., ResolvedPhase]:
    """Load the tiny phase under a number, with more text and settings, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def load(text: str = "", *settings: str, number: str = "1.1", **options: Any) -> ResolvedPhase:
        Path("phase.toml").write_text(PHASE.replace('"0"', f'"{number}"').replace("tin", f"p{number[-1]}_tin") + text)
        return load_phase(Path("phase.toml"), registry, settings=settings, **options)

    return load


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that modules are imported from and distributions are found in; the modules are forgotten."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def install(site_packages: Path) -> Callable[..., None]:
    """Install a distribution, in version 1.2: metadata, and a module unless its files are there."""

    def write(
        distribution: str,
        entry_point: str,
        source: str | None = None,
        module: str = "",
        group: str = "imginav",
    ) -> None:
        distributions.write(site_packages, distribution, entry_point, source, module=module, group=group)

    return write


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Let a program of a scheduler be a script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, lines: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)

    return write


Resolve = Callable[..., ResolvedManifest]

CHECKPOINT = "tiny_checkpoint_best.pt"


@pytest.fixture
def resolve(tmp_path: Path, registry: Registry) -> Resolve:
    """Resolve the tiny phase with settings over it."""

    def resolve(*settings: str) -> ResolvedManifest:
        path = tmp_path / "tiny.toml"
        path.write_text(PHASE)
        folders = [f"output.{root}={str(tmp_path / root)!r}" for root in ("experiments", "shared")]
        return load(path, registry, settings=[*folders, *settings])

    return resolve


@pytest.fixture
def make_trainer(resolve: Resolve) -> Callable[..., Trainer]:
    """Build the trainer of the tiny phase with settings over it, and with callbacks beside it."""

    def make(*settings: str, callbacks: Mapping[str, object] | None = None) -> Trainer:
        trainer = build_trainer(resolve(*settings), log=lambda _: None)
        if callbacks:
            trainer.hooks = type(trainer.hooks)({**trainer.hooks.callbacks, **callbacks})
        return trainer

    return make


@pytest.fixture(scope="session")
def made_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[object], Path]:
    """Return the folder in which the checkpoint of some settings is kept, which may not be there yet."""
    root = tmp_path_factory.mktemp("checkpoints")
    known: dict[object, Path] = {}
    return lambda settings: known.setdefault(settings, root / str(len(known)))


@pytest.fixture
def make_checkpoint(
    resolve: Resolve, tmp_path: Path, made_checkpoints: Callable[[object], Path]
) -> Callable[..., Path]:
    """Leave a checkpoint of the tiny phase with settings over it, as initialised, and beside it what it is worth.

    It is made once for the same settings, and copied for each test.
    """

    def make(*settings: str, evaluated: bool = True, spec: bool = True, name: str = "run") -> Path:
        made = made_checkpoints((settings, evaluated, spec))
        if not made.exists():
            build(made, *settings, evaluated=evaluated, spec=spec)
        return shutil.copytree(made, tmp_path / name, copy_function=shutil.copyfile) / CHECKPOINT

    def build(folder: Path, *settings: str, evaluated: bool, spec: bool) -> None:
        resolved = resolve(*settings)
        trainer = build_trainer(resolved, log=lambda _: None)
        path = folder / CHECKPOINT
        Checkpoint(
            model=trainer.model.state_dict(),
            epoch=2,
            metrics={},
            manifest=resolved.to_toml(),
            origins=resolved.origins,
            spec=trainer.data.source.spec if spec else None,
        ).save(path)
        if evaluated:
            evaluate(Weights.of(trainer), resolved, folder, timed=False).save(folder / EVALUATION)

    return make


@pytest.fixture
def finish() -> Callable[..., None]:
    """Leave what finished runs of a phase leave: records and figures, by the labels of the experiments."""

    def finish(phase: ResolvedPhase, fingerprints: Sequence[DataFingerprint], **figures: float) -> None:
        for resolved, data in zip(phase.experiments, fingerprints, strict=True):
            if phase.label(resolved) not in figures:
                continue
            folder = run_folder(resolved)
            earlier = load_record(folder.record)
            with Recorder.start(folder.record, folder.experiment, resolved.sha256, data, 2, earlier).until_finished():
                mse = figures[phase.label(resolved)]
                evaluations.of_experiment(resolved, mse, latency=evaluations.latency()).save(folder.evaluation)

    return finish
