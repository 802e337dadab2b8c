"""`imginav embed --format original`: latents as the original's diffusion training reads them."""

from __future__ import annotations

import errno
import json
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import imginav
from imginav import LatentDataset, UserError, files
from imginav.data.batches import rgb_of
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.registry import Registry
from imginav_handoff import export as export_module
from imginav_handoff.export import ExportRequest, export
from imginav_handoff.images import as_images
from imginav_handoff.latent_cache import EmbedRequest, embed
from imginav_handoff.latent_set import verify_latent_set
from imginav_tests.csv_tables import read_table
from imginav_tests.original_code import ROOT, forget_original_code, use_original_code

MakeCheckpoint = Callable[..., Path]
Embed = Callable[..., Path]
Resolve = Callable[..., ResolvedManifest]

FP32 = "machine.precision=fp32"
PALETTE = ("decoder.heads.segmentation=false", "decoder.heads.rgb=false", "decoder.heads.palette.type=palette")
RESIDUAL = ("encoder.type=residual", "decoder.type=residual", "losses.mse=false", *PALETTE)


@pytest.fixture(autouse=True)
def _original_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use_original_code(monkeypatch)
    yield
    forget_original_code()


@pytest.fixture
def embedded(tmp_path: Path, registry: Registry) -> Embed:
    """Embed the layouts of a checkpoint, five in each shard."""

    def run(source: Path, to: str = "latents", **options: Any) -> Path:
        given = {"shard": 5, "precision": "fp32", "format": "original", **options}
        embed(EmbedRequest(checkpoint=source, to=tmp_path / to, **given), registry, log=lambda _: None)
        return tmp_path / to

    return run


@pytest.fixture
def exported(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Export a checkpoint; other tests verify what is written."""
    monkeypatch.setattr(export_module, "_verify_afresh", lambda folder: None)

    def run(checkpoint: Path) -> Path:
        to = tmp_path / "handoff"
        export(ExportRequest(checkpoint=checkpoint, to=to, format="original"), registry, lambda _: None)
        return to

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_all(folder: Path, **outputs: str) -> list[dict[str, Any]]:
    """Return what the original's data set gives, by the configuration that was written."""
    from models.datasets import ManifestDataset

    config = yaml.safe_load((folder / "original.yaml").read_text())["dataset"]
    config["outputs"] |= outputs
    dataset = ManifestDataset(**config)
    return [dataset[index] for index in range(len(dataset))]


@pytest.mark.parametrize("settings", [(), RESIDUAL], ids=["conv", "residual"])
def test_latents_are_what_the_exported_checkpoint_encodes_and_decodes(
    make_checkpoint: MakeCheckpoint,
    embedded: Embed,
    exported: Callable[[Path], Path],
    resolve: Resolve,
    settings: tuple[str, ...],
) -> None:
    checkpoint = make_checkpoint(FP32, *settings)
    handoff = exported(checkpoint)
    folder = embedded(handoff)
    config = yaml.safe_load((folder / "original.yaml").read_text())
    if settings:
        sys.path.insert(0, str(handoff))
        import imginav_original  # type: ignore[import-not-found]  # noqa: F401  # of the export
    from models.autoencoder import Autoencoder

    autoencoder = Autoencoder.load_checkpoint(config["autoencoder"]["checkpoint"]).eval()
    source = resolve().manifest.data.open()
    layouts = np.stack([rgb_of(source.read(index), source.spec.palette) for index in range(len(source))])
    given = as_images(torch.from_numpy(layouts))
    latents = torch.stack([sample["latent"] for sample in read_all(folder)])
    assert (latents.dtype, tuple(latents.shape)) == (torch.float32, (16, 2, 8, 8))
    with torch.no_grad():
        torch.testing.assert_close(latents, autoencoder.encode(given)["latent"], atol=1e-4, rtol=1e-4)
        rebuilt = autoencoder.decode(latents)["rgb"]
    expected = imginav.load(checkpoint)
    off = (rebuilt - expected.decode(expected.encode(given))).abs() > 1e-3
    assert float(off.float().mean()) < 1e-3


@pytest.mark.parametrize("variational", ["false", "true"])
def test_their_standard_deviation_is_one_and_the_configuration_says_so(
    make_checkpoint: MakeCheckpoint, embedded: Embed, variational: str
) -> None:
    folder = embedded(make_checkpoint(f"encoder.variational={variational}", FP32))
    config = yaml.safe_load((folder / "original.yaml").read_text())
    assert config["scale_factor"] == 1.0
    assert config["unet"] == {"in_channels": 2, "out_channels": 2}
    assert "autoencoder" not in config  # a checkpoint of imginav is none that the original loads
    trained = [index for index, row in enumerate(LatentDataset(folder).rows) if row.split == "train"]
    values = torch.stack([read_all(folder)[index]["latent"] for index in trained])
    assert len(values) == 12
    assert float(values.std()) == pytest.approx(1, abs=0.01 if variational == "false" else 0.05)
    space = json.loads((folder / "latent.json").read_text())
    assert repr(space["scaling_factor"]) in (folder / "original.yaml").read_text()
    assert float(values.mean()) == pytest.approx(space["shift_factor"] * space["scaling_factor"], abs=0.05)


def test_a_variational_encoder_gives_one_draw_and_always_the_same(
    make_checkpoint: MakeCheckpoint, embedded: Embed
) -> None:
    checkpoint = make_checkpoint("encoder.variational=true", FP32)
    folder = embedded(checkpoint)
    means = LatentDataset(folder, draw=False)
    shift = means.latent.shift_factor * means.latent.scaling_factor
    off = [sample["latent"] - shift - means[n]["latents"] for n, sample in enumerate(read_all(folder))]
    assert all(float(one.abs().max()) > 1e-3 for one in off)
    assert not torch.equal(off[0], off[1])
    before = contents(folder)
    torch.manual_seed(7)
    shutil.rmtree(folder / "latents")
    assert contents(embedded(checkpoint)) == before


def test_the_list_names_files_types_and_what_is_empty(
    make_checkpoint: MakeCheckpoint, embedded: Embed, resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(FP32)
    source = type(resolve().manifest.data.open())
    whole = source.read

    def read(self: Any, index: int) -> Any:
        sample = whole(self, index)
        if index == 3:
            sample["segmentation"] = np.ones_like(sample["segmentation"])
            sample.pop("rgb", None)
        return sample

    monkeypatch.setattr(source, "read", read)
    folder = embedded(checkpoint)
    rows = read_table(folder / "manifest.csv")
    assert list(rows[0]) == ["latent_path", "type", "is_empty"]
    assert [row["latent_path"] for row in rows] == [str(folder / "latents" / f"{n:06d}.pt") for n in range(16)]
    assert [row["type"] for row in rows[:3]] == ["room", "scene", "room"]
    assert [n for n, row in enumerate(rows) if row["is_empty"] == "true"] == [3]
    assert {row["is_empty"] for row in rows} == {"true", "false"}
    samples = read_all(folder, type="type")  # the configuration leaves out what is empty
    assert [sample["type"] for sample in samples[:4]] == ["room", "scene", "room", "room"]
    assert len(samples) == 15


def test_a_full_disk_or_a_kill_loses_nothing(
    make_checkpoint: MakeCheckpoint, embedded: Embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint("encoder.variational=true", FP32)
    folder = embedded(checkpoint)
    before = contents(folder)
    shutil.rmtree(folder)
    write = files._write
    monkeypatch.setattr(files, "DISK_FULL_WAITS_SECONDS", ())

    def full(path: Path, content: Any, keep: Path | None) -> None:
        if path.name == "000009.pt":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content, keep)

    with monkeypatch.context() as patched:
        patched.setattr(files, "_write", full)
        with pytest.raises(UserError, match=r"000009\.pt: No space left on device; free some space, and give the same"):
            embedded(checkpoint)
    assert len(list((folder / "latents").iterdir())) == 9
    assert not (folder / "SHA256SUMS").exists()
    with pytest.raises(UserError, match="cannot be read"):
        verify_latent_set(folder, lambda _: None)
    (folder / "latents" / ".000009.pt.x.part").write_bytes(b"what a killed command has left")
    (folder / "latents" / "000004.pt").write_bytes(b"")
    kept = (folder / "latents" / "000000.pt").stat().st_mtime_ns
    assert contents(embedded(checkpoint)) == before
    assert (folder / "latents" / "000000.pt").stat().st_mtime_ns == kept


def test_a_file_that_is_missing_is_made_anew_and_a_changed_one_found(
    make_checkpoint: MakeCheckpoint, embedded: Embed
) -> None:
    checkpoint = make_checkpoint(FP32)
    folder = embedded(checkpoint)
    before = contents(folder)
    verify_latent_set(folder, lambda _: None)
    (folder / "manifest.csv").unlink()
    (folder / "latents" / "000002.pt").unlink()
    with pytest.raises(UserError, match=r"latents/000002\.pt is missing; manifest\.csv is missing"):
        verify_latent_set(folder)
    assert contents(embedded(checkpoint)) == before
    content = bytearray(before["latents/000002.pt"])
    content[len(content) // 2] ^= 1
    (folder / "latents" / "000002.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"latents/000002\.pt is not what was written"):
        verify_latent_set(folder)


def test_a_set_that_was_moved_is_listed_where_it_is(make_checkpoint: MakeCheckpoint, embedded: Embed) -> None:
    checkpoint = make_checkpoint(FP32)
    folder = embedded(checkpoint)
    before = torch.stack([sample["latent"] for sample in read_all(folder)])
    moved = folder.with_name("moved")
    folder.rename(moved)
    (moved / "manifest.csv").unlink()
    assert embedded(checkpoint, to="moved") == moved
    assert torch.equal(torch.stack([sample["latent"] for sample in read_all(moved)]), before)
    verify_latent_set(moved, lambda _: None)


def test_what_goes_into_no_list_of_the_original_is_refused_before_anything_is_encoded(
    make_checkpoint: MakeCheckpoint, embedded: Embed, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(FP32)
    with pytest.raises(UserError, match="--flips both: the original's list of latents has no place for flips"):
        embedded(checkpoint, flips="both")
    with pytest.raises(UserError, match="--format onnx: writes no latents; take one of original, safetensors"):
        embedded(checkpoint, format="onnx")
    assert not (tmp_path / "latents").exists()
    embedded(checkpoint)
    with pytest.raises(UserError, match="holds latents of another format; name another folder"):
        embedded(checkpoint, format="safetensors")


def test_the_original_trains_by_the_configuration_as_it_is(
    make_checkpoint: MakeCheckpoint,
    embedded: Embed,
    exported: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = embedded(exported(make_checkpoint(FP32)))
    model = tmp_path / "diffusion.pt"
    monkeypatch.setattr(sys, "argv", ["train_diffusion.py", str(folder / "original.yaml"), str(model)])
    runpy.run_path(str(ROOT / "training" / "train_diffusion.py"))
    assert "trained on 16 latents with standard deviation" in capsys.readouterr().out
    assert torch.load(model, weights_only=True)["state_dict"]["unet.weight"].shape == (2, 2, 3, 3)


@pytest.mark.slow
def test_the_adapter_starts_the_training_of_the_original(
    make_checkpoint: MakeCheckpoint, embedded: Embed, exported: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = embedded(exported(make_checkpoint(FP32, *RESIDUAL)))
    text = (folder / "original.yaml").read_text()
    (start,) = (line.removeprefix("# ") for line in text.splitlines() if line.startswith("# python "))
    program, adapter, script, name = shlex.split(start)
    assert (program, adapter, name) == ("python", str(tmp_path / "handoff" / "imginav_original.py"), "CONFIG.yaml")
    command = [sys.executable, adapter, script, str(folder / "original.yaml"), str(tmp_path / "diffusion.pt")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "trained on 16 latents with standard deviation" in done.stdout
