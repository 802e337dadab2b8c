"""`imginav scan`: what is found in a folder of images, and what is proposed for it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tomli
from numpy.typing import NDArray
from PIL import Image

from imginav import UserError
from imginav.cli import main
from imginav.plugin.registry import installed
from imginav.study.phases import Options
from imginav_datasets.classes import PALETTE
from imginav_datasets.palette_file import read_palette
from imginav_inspect.phase_check import check_phases
from imginav_scan.contact_sheet import write_sheet
from imginav_scan.palette_proposal import propose_palette
from imginav_scan.scan import ScanRequest, scan
from imginav_scan.survey import survey

WALL, FLOOR, RED, BLUE = (20, 20, 20), (250, 250, 245), (200, 30, 90), (30, 160, 200)

Draw = Callable[[int], Image.Image]


def plan(number: int, colours: tuple[tuple[int, int, int], ...] = (FLOOR, WALL, RED, BLUE)) -> Image.Image:
    """Return a drawn plan of 96 pixels in some flat colours, the background first."""
    rng = np.random.default_rng(number)
    pixels: NDArray[np.uint8] = np.full((96, 96, 3), colours[0], dtype=np.uint8)
    pixels[10:14, 10:86] = colours[1]
    for colour in colours[2:]:
        y, x = rng.integers(20, 60, 2)
        pixels[y : y + 20, x : x + 16] = colour
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write images into nested folders below `plans`, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def write(draw: Draw = plan, number: int = 12, suffix: str = ".png") -> Path:
        for index in range(number):
            path = Path("plans") / "abc"[index % 3] / f"{index:02}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(index).save(path)
        return Path("plans")

    return write


def scanned(folder: Path, **changes: object) -> dict[str, object]:
    """Scan a folder, and return the data set of the site file that is written."""
    scan(ScanRequest(folder=folder, to=Path(), **changes))  # type: ignore[arg-type]
    data: dict[str, object] = tomli.loads(Path("imginav.toml").read_text())["data"]
    return data


def test_images_in_colours_of_their_own_have_a_palette_that_a_check_finds_right(folder: Callable[..., Path]) -> None:
    data = scanned(folder())
    assert data == {"type": "folder", "folder": "plans", "palette": "palette.toml", "image_size": 128}
    palette = read_palette(Path("palette.toml"))
    assert set(palette.colours) == {WALL, FLOOR, RED, BLUE}
    assert palette.background_colour == FLOOR
    (checked,) = check_phases([Path(__file__).parents[3] / "phases/1_5.toml"], installed(), Options(scale="trial"))
    assert checked.faults == ()
    assert "12 layouts from plans, with the 4 classes of palette.toml" in checked.summary
    with Image.open("contact_sheet.png") as sheet:
        shown = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert {WALL, RED, BLUE} <= set(map(tuple, np.unique(shown, axis=0).tolist()))


def test_layouts_of_the_built_in_palette_need_no_other(folder: Callable[..., Path]) -> None:
    by_name = dict(zip(PALETTE.names, PALETTE.colours, strict=True))
    colours = tuple(by_name[name] for name in ("background", "wall", "bed", "sofa"))
    assert scanned(folder(lambda n: plan(n, colours))) == {"type": "folder", "folder": "plans", "image_size": 128}
    assert not Path("palette.toml").exists()


def test_what_is_empty_double_or_broken_is_counted_and_left_out_of_the_list(
    folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plans = folder()
    Image.new("RGB", (96, 96), FLOOR).save(plans / "empty.png")
    plan(0).save(plans / "same.png")
    (plans / "cut.png").write_bytes((plans / "a/00.png").read_bytes()[:60])
    data = scanned(plans)
    assert data["type"] == "layouts"
    assert data["filters"] == {"is_empty": False, "duplicate_of": ""}
    with Path("layouts.csv").open(newline="") as stream:
        rows = {row["layout_path"]: row for row in csv.DictReader(stream)}
    assert len(rows) == 14
    assert (rows["plans/empty.png"]["is_empty"], rows["plans/same.png"]["duplicate_of"]) == ("true", "plans/a/00.png")
    out = capsys.readouterr().out
    assert "cut.png" in out
    assert len(check_layouts()) == 12


@pytest.mark.parametrize(("folders", "scenes"), [(10, None), (30, "folder")])
def test_few_sub_folders_are_no_scenes_so_that_a_trial_has_some_to_validate(
    folder: Callable[..., Path], folders: int, scenes: str | None
) -> None:
    for number in range(2 * folders):
        path = Path("plans") / f"flat{number % folders:02}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        plan(number).save(path)
    assert scanned(Path("plans")).get("scenes") == scenes
    (checked,) = check_phases([Path(__file__).parents[3] / "phases/1_5.toml"], installed(), Options(scale="trial"))
    assert checked.faults == ()


def check_layouts() -> list[str]:
    """Return the names of the layouts that the proposal trains on."""
    phase = Options(scale="trial").load(Path(__file__).parents[3] / "phases/1_5.toml", installed())
    source = phase.manifest.data.open()
    return [source.name(index) for index in range(len(source))]


def test_blended_edges_make_no_classes_and_are_said(folder: Callable[..., Path]) -> None:
    def blended(number: int) -> Image.Image:
        return plan(number).resize((384, 384), Image.Resampling.NEAREST).resize((150, 150), Image.Resampling.BILINEAR)

    found = propose_palette(survey(folder(blended), ()))
    assert {proposed.colour for proposed in found.classes} == {WALL, FLOOR, RED, BLUE}
    assert 0.8 < found.covered < 1


def test_photographs_are_said_to_have_no_palette(
    folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def photograph(number: int) -> Image.Image:
        return Image.fromarray(np.random.default_rng(number).integers(0, 255, (96, 96, 3), dtype=np.uint8))

    data = scanned(folder(photograph))
    assert data["palette"] is False
    assert not Path("palette.toml").exists()
    assert "imginav run rgb/1.5 --name own" in capsys.readouterr().out


def test_nothing_is_written_over_unless_forced_and_nothing_at_all_in_a_dry_run(folder: Callable[..., Path]) -> None:
    plans = folder()
    scan(ScanRequest(folder=plans, to=Path(), dry_run=True))
    assert sorted(path.name for path in Path().iterdir()) == ["plans"]
    Path("imginav.toml").write_text("[data]\n")
    with pytest.raises(UserError, match=r"^imginav.toml with \[data\] is there already; write elsewhere"):
        scanned(plans)
    assert Path("imginav.toml").read_text() == "[data]\n"
    assert scanned(plans, force=True)["type"] == "folder"


OWN = """# mine
[machine] # of the group
workers = 2
"""


def test_a_site_file_without_a_data_set_is_added_to(folder: Callable[..., Path]) -> None:
    Path("imginav.toml").write_text(OWN)
    assert scanned(folder())["type"] == "folder"
    text = Path("imginav.toml").read_text()
    assert text.startswith(f"{OWN}\n# Written by `imginav scan`")
    assert tomli.loads(text)["machine"] == {"workers": 2}


def test_scan_works_in_the_folder_that_init_writes(
    folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = folder().resolve()
    assert main(["init", "demo"]) == 0
    monkeypatch.chdir("demo")
    assert main(["scan", str(plans)]) == 0
    assert main(["check", "1.5", "--trial"]) == 0


def test_forced_the_table_of_the_data_set_alone_is_replaced(folder: Callable[..., Path]) -> None:
    data = "[data] # old\ntype = 'layouts'\nmanifest = 'old.csv'\n\n# Below: the machine.\n"
    Path("imginav.toml").write_text(f"{data}{OWN}")
    assert scanned(folder(), force=True) == {
        "type": "folder",
        "folder": "plans",
        "palette": "palette.toml",
        "image_size": 128,
    }
    lines = [line for line in Path("imginav.toml").read_text().splitlines() if line]
    assert lines[-4:] == ["# Below: the machine.", *OWN.splitlines()]
    assert not [line for line in lines if "old.csv" in line]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data.type = 'layouts'\n", "imginav.toml: the data set is not written as one table [data], so it cannot"),
        ("[data]\ntype = 'layouts'\n[machine]\n[data.filters]\na = 1\n", "imginav.toml: the data set is not written"),
        ("[data\n", "imginav.toml: is not valid TOML"),
    ],
)
def test_a_site_file_that_cannot_be_changed_stays_as_it_is(
    text: str, said: str, folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("imginav.toml").write_text(text)
    assert main(["scan", str(folder()), "--force"]) == 2
    assert capsys.readouterr().err.startswith(f"imginav: {said}")
    assert Path("imginav.toml").read_text() == text
    assert not Path("layouts.csv").exists()


def test_a_folder_without_images_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "notes.txt").write_text("none")
    assert main(["scan", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"imginav: {tmp_path}") or "imginav scan" in line for line in lines)


def test_a_sheet_of_many_images_shows_some_of_each_folder(folder: Callable[..., Path]) -> None:
    found = survey(folder(number=90), ())
    write_sheet(Path("sheet.png"), found, propose_palette(found))
    with Image.open("sheet.png") as sheet:
        assert max(sheet.size) < 4000
