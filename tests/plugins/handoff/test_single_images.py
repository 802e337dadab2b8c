"""Single pictures, encoded and decoded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import imginav
from imginav import UserError
from imginav.pixels import psnr_db, to_bytes
from imginav_datasets.image_files import read_image
from imginav_evaluation.pictures import Pixels
from imginav_handoff.golden import drawn_rectangles
from imginav_handoff.images import as_images
from imginav_handoff.single_images import Coding, decode_file, encode_files, open_coding, reconstruct_files

MakeCheckpoint = Callable[..., Path]


@pytest.fixture
def coding(make_checkpoint: MakeCheckpoint) -> Coding:
    path = make_checkpoint()
    return Coding(imginav.load(path), path)


@pytest.fixture
def picture(coding: Coding, tmp_path: Path) -> Path:
    """Return a PNG of 32 px."""
    path = tmp_path / "layout.png"
    Image.fromarray(drawn_rectangles(coding.pretrained.latent.spec.palette, 32)).save(path)
    return path


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.array(image)


def test_a_picture_is_encoded_and_decoded_as_python_users_do(coding: Coding, picture: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    encode_files(coding, [picture], tmp_path / "z.safetensors", None, lines.append)
    image = as_images(torch.from_numpy(pixels(picture))[None])
    latents = coding.pretrained.encode(image)
    assert torch.equal(load_file(tmp_path / "z.safetensors")["latents"], latents)
    assert "latents 8×8×2 (H×W×C), scaled by" in lines[0]
    with safe_open(tmp_path / "z.safetensors", "pt") as file:
        assert file.metadata()["scaling_factor"] == str(coding.pretrained.latent.scaling_factor)
    decode_file(coding, tmp_path / "z.safetensors", tmp_path / "back.png", lines.append)
    assert np.array_equal(pixels(tmp_path / "back.png"), to_bytes(coding.pretrained.decode(latents))[0])


def test_a_variational_encoder_also_gives_its_log_variance(
    make_checkpoint: MakeCheckpoint, picture: Path, tmp_path: Path
) -> None:
    path = make_checkpoint("encoder.variational=true", name="variational")
    encode_files(Coding(imginav.load(path), path), [picture], tmp_path / "z.safetensors", None)
    assert load_file(tmp_path / "z.safetensors")["log_variance"].shape == (1, 2, 8, 8)


def test_latents_of_other_weights_are_refused(
    coding: Coding, make_checkpoint: MakeCheckpoint, picture: Path, tmp_path: Path
) -> None:
    path = make_checkpoint("train.seed=1", name="other")
    encode_files(Coding(imginav.load(path), path), [picture], tmp_path / "z.safetensors", None)
    with pytest.raises(UserError, match=r"was encoded with other weights .* name the autoencoder of these latents"):
        decode_file(coding, tmp_path / "z.safetensors", tmp_path / "back.png")
    assert not (tmp_path / "back.png").exists()


def test_latents_that_a_diffusion_model_has_sampled_are_decoded_each_to_a_picture(
    coding: Coding, tmp_path: Path
) -> None:
    save_file({"latents": torch.randn(3, 2, 8, 16)}, tmp_path / "samples.safetensors")
    decode_file(coding, tmp_path / "samples.safetensors", tmp_path / "sample.png")
    assert [pixels(tmp_path / f"sample_{number:03d}.png").shape for number in range(3)] == [(32, 64, 3)] * 3


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"latents": torch.zeros(1, 5, 8, 8)}, r"expected latents \(N, 2, h, w\).*is it of another autoencoder"),
        ({"z": torch.zeros(1, 2, 8, 8)}, "cannot be read as latents"),
    ],
)
def test_a_file_without_such_latents_is_refused(
    coding: Coding, tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    save_file(tensors, tmp_path / "z.safetensors")
    with pytest.raises(UserError, match=message):
        decode_file(coding, tmp_path / "z.safetensors", tmp_path / "back.png")


def test_pictures_are_rebuilt_into_a_folder_and_shown_side_by_side(
    coding: Coding, picture: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second.png"
    Image.fromarray(np.rot90(pixels(picture))).save(second)
    lines: list[str] = []
    reconstruct_files(coding, [picture, second], tmp_path / "rebuilt", None, lines.append)
    assert sorted(path.name for path in (tmp_path / "rebuilt").iterdir()) == [
        "layout.png",
        "second.png",
        "side_by_side.png",
    ]
    original = pixels(picture)
    image = as_images(torch.from_numpy(original)[None])
    rebuilt = coding.pretrained.decode(coding.pretrained.encode(image))
    assert np.array_equal(pixels(tmp_path / "rebuilt" / "layout.png"), to_bytes(rebuilt)[0])
    mse = float((rebuilt - image).square().mean())
    assert f"MSE {mse:.3g}, PSNR {psnr_db(mse):.1f} dB, " in lines[0]
    shown = pixels(tmp_path / "rebuilt" / "side_by_side.png")
    assert {(228, 26, 28), (240, 240, 240)} <= {tuple(colour) for colour in shown.reshape(-1, 3).tolist()}


def test_a_single_picture_is_rebuilt_into_a_file(coding: Coding, picture: Path, tmp_path: Path) -> None:
    reconstruct_files(coding, [picture], tmp_path / "one.png", None)
    assert pixels(tmp_path / "one.png").shape == (32, 32, 3)


def test_a_picture_is_not_overwritten_and_two_of_one_name_are_told(
    coding: Coding, picture: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"layout\.png would be overwritten by its result"):
        reconstruct_files(coding, [picture], tmp_path, None)
    (tmp_path / "more").mkdir()
    twin = tmp_path / "more" / "layout.png"
    shutil.copy(picture, twin)
    with pytest.raises(UserError, match=r"several pictures would be written to .*layout\.png"):
        reconstruct_files(coding, [picture, twin], tmp_path / "out", None)
    with pytest.raises(UserError, match="is one file for 2 pictures; name a folder"):
        reconstruct_files(coding, [picture, twin], tmp_path / "out.png", None)


@pytest.mark.parametrize(("width", "height"), [(30, 32), (33, 41), (3, 1)])
def test_any_size_is_padded_with_background_and_cut_back(
    coding: Coding, tmp_path: Path, width: int, height: int
) -> None:
    drawn = drawn_rectangles(coding.pretrained.latent.spec.palette, 64)[:height, :width]
    Image.fromarray(drawn).save(tmp_path / "odd.png")
    rows, columns = -(-height // 4) * 4, -(-width // 4) * 4
    by_hand = np.full((rows, columns, 3), 240, np.uint8)
    by_hand[:height, :width] = drawn
    image = as_images(torch.from_numpy(by_hand)[None])
    latents = coding.pretrained.encode(image)
    rebuilt = coding.pretrained.decode(latents)[:, :, :height, :width]
    lines: list[str] = []
    reconstruct_files(coding, [tmp_path / "odd.png"], tmp_path / "out.png", None, lines.append)
    assert f"odd.png: {width}×{height} pixels, padded with background to {columns}×{rows}" in lines[0]
    assert np.array_equal(pixels(tmp_path / "out.png"), to_bytes(rebuilt)[0])
    mse = float((rebuilt - image[:, :, :height, :width]).square().mean())
    assert f"MSE {mse:.3g}, " in lines[1]
    encode_files(coding, [tmp_path / "odd.png"], tmp_path / "z.safetensors", None)
    assert torch.equal(load_file(tmp_path / "z.safetensors")["latents"], latents)
    decode_file(coding, tmp_path / "z.safetensors", tmp_path / "back.png")
    assert np.array_equal(pixels(tmp_path / "back.png"), to_bytes(rebuilt)[0])


def test_a_size_that_is_asked_for_is_padded_too(coding: Coding, picture: Path, tmp_path: Path) -> None:
    reconstruct_files(coding, [picture], tmp_path / "out.png", 30)
    assert pixels(tmp_path / "out.png").shape == (30, 30, 3)


def test_a_folder_keeps_its_folders_and_what_cannot_be_read_is_skipped(
    coding: Coding, picture: Path, tmp_path: Path
) -> None:
    plans = tmp_path / "plans"
    (plans / "floor 1" / ".hidden").mkdir(parents=True)
    for name in ("a.png", "floor 1/a.PNG", "floor 1/.hidden/c.png"):
        shutil.copy(picture, plans / name)
    (plans / "notes.txt").write_text("no picture")
    (plans / "floor 1" / "broken.png").write_bytes(b"no picture")
    for _ in range(2):  # given again, it does not take its own results for pictures
        lines: list[str] = []
        reconstruct_files(coding, [plans], plans / "out", None, lines.append)
        written = sorted(str(path.relative_to(plans / "out")) for path in (plans / "out").rglob("*.png"))
        assert written == ["a.png", "floor 1/a.png", "side_by_side.png"]
        assert [line for line in lines if line.startswith("skipped: ")] == [
            f"skipped: {plans}/floor 1/broken.png: cannot be read as a picture (no image); take a whole PNG file"
        ]


def test_a_pattern_takes_files_below_its_fixed_part(coding: Coding, picture: Path, tmp_path: Path) -> None:
    for name in ("plans/one/a.png", "plans/two/deep/b.png", "plans/two/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, tmp_path / name)
    encode_files(coding, [str(tmp_path / "plans" / "**" / "*.png")], tmp_path / "z", None)
    written = sorted(str(path.relative_to(tmp_path / "z")) for path in (tmp_path / "z").rglob("*.safetensors"))
    assert written == ["one/a.safetensors", "two/deep/b.safetensors"]


def test_where_there_is_no_picture_nothing_is_written(coding: Coding, tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    for given in (str(tmp_path / "plans"), str(tmp_path / "plans" / "*.png")):
        with pytest.raises(UserError, match=r"plans.*: holds no picture \(.*\.png.*\); name pictures or a folder"):
            reconstruct_files(coding, [given], tmp_path / "out", None)
    (tmp_path / "plans" / "a.png").write_bytes(b"no picture")
    for write in (reconstruct_files, encode_files):
        with pytest.raises(UserError, match="out: nothing is written, as none of 1 pictures can be read"):
            write(coding, [tmp_path / "plans"], tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


def test_other_names_than_the_formats_are_refused(coding: Coding, picture: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a name that ends in \.safetensors; take .*z\.safetensors"):
        encode_files(coding, [picture], tmp_path / "z.pt", None)
    with pytest.raises(UserError, match=r"expected a name that ends in \.png"):
        decode_file(coding, tmp_path / "z.safetensors", tmp_path / "back.jpg")


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_what_is_no_whole_picture_is_refused(
    coding: Coding, picture: Path, tmp_path: Path, content: bytes | None
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:-40] if content is None else content)
    for path in (broken, tmp_path / "gone.png"):
        with pytest.raises(UserError, match=rf"{path.name}: cannot be read as a picture .*; take a whole PNG file"):
            encode_files(coding, [path], tmp_path / "z.safetensors", None)


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (64, 32), (228, 26, 28)),  # in a square, not stretched
        Image.fromarray(np.full((32, 32), 30_000, np.uint16)),  # grey of 16 bits, not cut off at 255
        Image.new("RGBA", (32, 32), (0, 0, 0, 0)),  # shows the background
    ],
    ids=["wide", "16 bits", "transparent"],
)
def test_a_picture_is_read_as_the_layouts_of_a_data_set_are(
    coding: Coding, picture: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / "odd.png")
    (tmp_path / "list.csv").write_text("layout_path\nodd.png\nodd.png\n")
    background = coding.pretrained.latent.spec.palette.background_colour
    square = read_image(tmp_path / "odd.png", 32, background)
    Image.fromarray(square).save(tmp_path / "square.png")
    for name in ("odd", "square"):
        encode_files(coding, [tmp_path / f"{name}.png"], tmp_path / f"{name}.safetensors", 32)
    odd, even = (load_file(tmp_path / f"{name}.safetensors")["latents"] for name in ("odd", "square"))
    assert torch.equal(odd, even)
    expected = {"wide": [240, 240, 240], "16 bits": [117] * 3, "transparent": [240, 240, 240]}
    mode = {"RGB": "wide", "RGBA": "transparent"}.get(picture.mode, "16 bits")
    assert square[0, 0].tolist() == expected[mode]


def test_a_run_is_taken_by_its_name(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_checkpoint(name="outputs/own")
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    assert open_coding(Path("own"), None, "cpu", lines.append).source == path.relative_to(tmp_path)
    assert lines[-1] == f"with {path.relative_to(tmp_path)}"
