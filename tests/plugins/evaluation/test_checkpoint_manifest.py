"""The manifest in a checkpoint, opened again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tomlkit
from attrs import evolve

from imginav import UserError
from imginav.manifest.resolution import RESOLVED
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.checkpoint import Checkpoint
from imginav.plugin.registry import Registry
from imginav_evaluation import checkpoint_manifest

PATH = Path("run/best.pt")

Resolve = Callable[..., ResolvedManifest]


def checkpoint(resolved: ResolvedManifest, *, trial: bool | None) -> Checkpoint:
    return Checkpoint(model={}, epoch=1, metrics={}, manifest=resolved.to_toml(), origins=resolved.origins, trial=trial)


@pytest.mark.parametrize("trial", [False, True])
def test_it_is_the_manifest_with_its_origins_and_its_scale(resolve: Resolve, registry: Registry, trial: bool) -> None:
    resolved = evolve(resolve("train.seed=7"), trial=trial)
    again = checkpoint_manifest.resolve(PATH, checkpoint(resolved, trial=trial), registry)
    assert (again.manifest, again.origins, again.trial) == (resolved.manifest, resolved.origins, trial)
    assert (again.source, again.sha256) == (PATH, resolved.sha256)


@pytest.mark.parametrize("trial", [False, True])
@pytest.mark.parametrize("table", [False, True])
def test_a_checkpoint_of_an_earlier_version_has_the_scale_of_its_manifest(
    resolve: Resolve, registry: Registry, trial: bool, table: bool
) -> None:
    earlier = checkpoint(evolve(resolve(), trial=trial), trial=None)
    if not table:
        document = tomlkit.parse(earlier.manifest)
        document.remove(RESOLVED)
        earlier = evolve(earlier, manifest=tomlkit.dumps(document))
        assert f"[{RESOLVED}" not in earlier.manifest
    assert checkpoint_manifest.resolve(PATH, earlier, registry).trial is trial


def test_what_is_set_has_its_own_origin(resolve: Resolve, registry: Registry) -> None:
    again = checkpoint_manifest.resolve(
        PATH, checkpoint(resolve(), trial=False), registry, settings=["train.batch_size=3"]
    )
    assert again.manifest.train.batch_size == 3
    assert again.origins["train.batch_size"] == "--set"


def test_other_layouts_are_a_list_or_a_folder_with_the_classes_of_its_own(
    resolve: Resolve, registry: Registry, tmp_path: Path
) -> None:
    own = resolve("data.type=folder", "data.folder=plans", "data.palette=own.toml", "data.exclude=['x*']")
    for data, expected in (
        (tmp_path, {"type": "folder", "folder": str(tmp_path)}),
        (tmp_path / "others.csv", {"type": "layouts", "manifest": str(tmp_path / "others.csv")}),
    ):
        again = checkpoint_manifest.resolve(PATH, checkpoint(own, trial=False), registry, data=data)
        table = again.tables["data"]
        assert {key: table[key] for key in expected} == expected
        assert (table["palette"], table["image_size"]) == ("own.toml", 32)
        assert table.get("exclude", []) == []
        assert {again.origins[f"data.{key}"] for key in expected} == {f"--data {data}"}


def test_faults_name_the_checkpoint(resolve: Resolve, registry: Registry) -> None:
    wrong = checkpoint(resolve(), trial=False)
    wrong = evolve(wrong, manifest=wrong.manifest.replace("\nbatch_size = ", "\nbatch_sise = 1\nbatch_size = "))
    with pytest.raises(
        UserError, match=r"^run/best.pt: 1 fault\n  unknown key 'batch_sise'.* @ train.batch_sise \(run/best.pt\)$"
    ):
        checkpoint_manifest.resolve(PATH, wrong, registry)
    with pytest.raises(UserError, match=r"^run/best.pt: is not valid TOML"):
        checkpoint_manifest.resolve(PATH, evolve(wrong, manifest="[train"), registry)
