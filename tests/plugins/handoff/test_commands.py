"""The commands that hand an autoencoder on, as they are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imginav import cli
from imginav_datasets.classes import PALETTE
from imginav_handoff.export import default_folder
from imginav_handoff.golden import drawn_rectangles

MakeCheckpoint = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    path = tmp_path / "layout.png"
    Image.fromarray(drawn_rectangles(PALETTE, 32)).save(path)
    return path


def test_an_export_is_verified_by_another_process_and_refused_when_tampered_with(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    checkpoint = make_checkpoint("data.type=procedural", "data.image_size=32", "data.count=8")
    assert cli.main(["export", str(checkpoint), "--to", str(out)]) == 0
    said = capsys.readouterr().out
    assert "[unet]\nsample_size = 8\nin_channels = 2\nout_channels = 2\n" in said
    assert f"verified: {out}" in said
    assert cli.main(["verify", str(out)]) == 0
    assert "12 files are what was written" in capsys.readouterr().out
    content = bytearray((out / "latent.json").read_bytes())
    content[-20] ^= 1
    (out / "latent.json").write_bytes(content)
    assert cli.main(["verify", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"imginav: {out}: was changed: latent.json is not what was written")
    assert "Traceback" not in error


def test_a_run_is_exported_by_its_name_and_the_lines_that_come_next_run(
    make_checkpoint: MakeCheckpoint,
    layout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    checkpoint = make_checkpoint("data.type=procedural", "data.image_size=32", "data.count=8", name="outputs/own")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "own"]) == 0
    said = capsys.readouterr().out
    assert "with outputs/own/tiny_checkpoint_best.pt" in said
    assert "verified: outputs/own_export\n" in said
    _, _, code = said.partition("\nnext, in Python:\n\n")
    Image.open(layout).crop((0, 0, 31, 27)).save("layout.png")
    exec(code, {})  # noqa: S102  # it is what a reader would type
    with Image.open("decoded.png") as decoded:
        assert decoded.size == (32, 28)
    (tmp_path / "outputs" / "own_export" / "export.json").unlink()
    assert cli.main(["export", "own"]) == 2
    assert "outputs/own_export: is there already, and is no export" in capsys.readouterr().err
    assert default_folder(checkpoint, checkpoint, "safetensors") == checkpoint.with_name("tiny_checkpoint_best_export")
    assert default_folder(Path("own"), checkpoint, "onnx") == checkpoint.parents[1] / "own_export_onnx"


def test_pictures_go_there_and_back(
    make_checkpoint: MakeCheckpoint, layout: Path, tmp_path: Path, capsys: Capture
) -> None:
    model = ["--model", str(make_checkpoint()), "--device", "cpu"]
    latents, back, rebuilt = tmp_path / "z.safetensors", tmp_path / "back.png", tmp_path / "rebuilt.png"
    assert cli.main(["encode", str(layout), str(latents), *model]) == 0
    assert cli.main(["decode", str(latents), str(back), *model]) == 0
    assert cli.main(["reconstruct", str(layout), str(rebuilt), *model]) == 0
    with Image.open(back) as one, Image.open(rebuilt) as other:
        assert np.array_equal(np.array(one), np.array(other))
    assert "PSNR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "gone.pt", "--to", "out"], "gone.pt: no such checkpoint"),
        (["export", "gone.pt", "--to", "out", "--format", "onx"], "--format onx: no exporter 'onx' is installed"),
        (["verify", "gone"], "gone: no such folder; name one that imginav export or imginav embed wrote"),
        (["verify", "."], "is no export of imginav"),
        (["embed", "gone.pt", "--out", "out"], "gone.pt: no such checkpoint"),
        (["encode", "layout.png", "z.safetensors"], "no trained autoencoder lies in outputs"),
        (["decode", "z.safetensors", "back.png", "--model", "gone.pt"], "gone.pt: no such checkpoint"),
        (["reconstruct", "layout.png", "out", "--device", "abacus"], "no trained autoencoder lies in outputs"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_device_that_there_is_not_is_named(
    make_checkpoint: MakeCheckpoint, layout: Path, tmp_path: Path, capsys: Capture
) -> None:
    model = ["--model", str(make_checkpoint()), "--device", "abacus"]
    assert cli.main(["encode", str(layout), str(tmp_path / "z.safetensors"), *model]) == 2
    assert "'abacus' cannot be used: there is no such device" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "9000", "large"])
def test_a_size_without_meaning_is_refused(size: str, capsys: Capture) -> None:
    assert cli.main(["encode", "a.png", "b.safetensors", "--size", size]) == 2
    assert "--size" in capsys.readouterr().err
