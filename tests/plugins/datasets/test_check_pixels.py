"""Layouts are compared with their palette before anything is trained on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imginav import LayoutSource, UserError
from imginav.cli import main
from imginav.manifest.loading import load
from imginav.plugin.registry import installed
from imginav_datasets import Layouts
from imginav_datasets.classes import PALETTE
from imginav_datasets.image_layouts import SAMPLED

ROOT = Path(__file__).parents[3]

GREEN = (10, 60, 20)
NEAR_WALL = (200, 200, 220)

WriteLayouts = Callable[..., Path]


def opened(manifest: Path, **keys: Any) -> LayoutSource:
    return Layouts(manifest=manifest, **{"image_size": 32, **keys}).open()


def partly(colour: tuple[int, int, int], columns: int) -> Image.Image:
    """Return background with so many columns of 32 in another colour."""
    image = Image.new("RGB", (32, 32), PALETTE.background_colour)
    image.paste(colour, (0, 0, columns, 32))
    return image


@pytest.fixture
def listed(write_layouts: WriteLayouts) -> Callable[..., Path]:
    """List layouts, by their images; as many times as needed."""

    def write(*images: Image.Image) -> Path:
        files = {f"{number:03}.png": image for number, image in enumerate(images)}
        return write_layouts([{"layout_path": path} for path in files], files)

    return write


def test_colours_of_no_class_are_refused_with_what_they_are_and_what_to_do(listed: Callable[..., Path]) -> None:
    manifest = listed(partly(GREEN, 24), partly(NEAR_WALL, 8))
    with pytest.raises(UserError) as refused:
        opened(manifest).check_pixels()
    assert str(refused.value).splitlines() == [
        f"{manifest}: 50.0% of the pixels in 2 sampled layouts have the colour of no class of the built-in palette, "
        "more than data.unmatched_limit = 0.1; the commonest of these colours are:",
        "  #0a3c14 (10, 60, 20): 37.5%",
        "  #c8c8dc (200, 200, 220): 12.5%, 20 off wall (200, 200, 200)",
        f"make a palette of these images with `imginav scan {manifest.parent} --to scanned` and name it with "
        'data.palette = "scanned/palette.toml"; where the colours are shades of the classes\', raise data.tolerance = '
        "8 in its place; for images that are not flat-coloured, set data.palette = false and train phases/rgb/1_5.toml",
    ]


def test_what_the_remedies_name_is_accepted(listed: Callable[..., Path], tmp_path: Path) -> None:
    manifest = listed(partly(NEAR_WALL, 16), partly(NEAR_WALL, 16))
    with pytest.raises(UserError, match=r"50\.0% of the pixels"):
        opened(manifest).check_pixels()
    own = tmp_path / "palette.toml"
    own.write_text('background = "floor"\n[classes]\nfloor = [240, 240, 240]\nwall = [200, 200, 220]\n')
    for keys in ({"palette": own}, {"tolerance": 20}, {"palette": False}):
        assert opened(manifest, **keys).check_pixels() == ""
    assert "50.0% of the pixels" in opened(manifest, unmatched_limit=0.5).check_pixels()
    with pytest.raises(UserError, match=r"of no class of the palette .*palette.toml, more than data.unmatched_limit"):
        opened(listed(partly(GREEN, 16)), palette=own).check_pixels()


def test_a_few_such_pixels_are_worth_a_sentence_and_fewer_are_not(listed: Callable[..., Path]) -> None:
    few, fewer = partly(GREEN, 2), partly(GREEN, 0)
    fewer.putpixel((3, 3), GREEN)
    assert opened(listed(few, few)).check_pixels() == (
        "6.2% of the pixels in 2 sampled layouts have the colour of no class (#0a3c14): losses and metrics ignore them"
    )
    assert opened(listed(fewer, fewer)).check_pixels() == ""


def test_a_bounded_sample_is_spread_over_the_set_and_always_the_same(listed: Callable[..., Path]) -> None:
    manifest = listed(*(partly(GREEN if number > 70 else NEAR_WALL, 16) for number in range(100)))
    said = set()
    for _ in range(2):
        with pytest.raises(UserError, match=rf"in {SAMPLED} sampled layouts") as refused:
            opened(manifest).check_pixels()
        said.add(str(refused.value))
    assert len(said) == 1
    shares = {line.split()[0]: float(line.split(": ")[1].split("%")[0]) for line in said.pop().splitlines()[1:3]}
    assert shares["#c8c8dc"] == pytest.approx(50 * 0.71, abs=2)
    assert shares["#0a3c14"] == pytest.approx(50 * 0.29, abs=2)


def test_what_cannot_be_read_says_nothing_of_the_colours(listed: Callable[..., Path]) -> None:
    manifest = listed(partly(GREEN, 0), partly(GREEN, 32))
    source = opened(manifest)
    (manifest.parent / "001.png").unlink()
    assert source.check_pixels() == ""
    (manifest.parent / "000.png").unlink()
    assert source.check_pixels() == ""


def test_photographs_are_refused_in_bounded_memory(listed: Callable[..., Path]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with pytest.raises(UserError, match=r"9\d\.\d% of the pixels .*\n(  #.*\n){5}make a palette"):
        opened(listed(Image.fromarray(noise), Image.fromarray(noise.T.copy().T))).check_pixels()


@pytest.mark.parametrize("command", ["run", "check", "plan"])
def test_no_command_goes_on_with_a_wrong_palette(
    listed: Callable[..., Path],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = listed(*[partly(GREEN, 16)] * 8)
    Path("imginav.toml").write_text(f'[data]\ntype = "layouts"\nmanifest = "{manifest}"\nimage_size = 32\n')
    phase = ROOT / "phases" / "1_5.toml"
    small = ["--trial", "--set", "data.crop=32", "--set", "train.split=0.5"]
    assert main([command, str(phase), *small]) == 2
    said = capsys.readouterr()
    assert "  #0a3c14 (10, 60, 20): 50.0%\n" in said.err
    assert not list(Path().glob("outputs/*/*.pt"))
    assert main(["check", str(phase), *small, "--set", "data.unmatched_limit=0.5"]) == 0
    assert "  50.0% of the pixels in 8 sampled layouts have the colour of no class" in capsys.readouterr().out


def test_the_limit_is_no_part_of_what_a_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    phase, registry = ROOT / "phases" / "1_5.toml", installed()
    settings = ["data.type=layouts", "data.manifest=layouts.csv"]
    plain, other = (load(phase, registry, settings=[*settings, *more]) for more in ([], ["data.unmatched_limit=0.3"]))
    assert plain.sha256 == other.sha256
    assert plain.tables["data"]["unmatched_limit"] == 0.1
