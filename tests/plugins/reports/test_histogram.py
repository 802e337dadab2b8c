"""The histogram of the validation layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from imginav_reports.histogram import UNKNOWN, layout_histogram

HEADER = "layout,type,val_psnr_db,val_segmentation_accuracy\n"


def write(folder: Path, *rows: str) -> Path:
    (folder / "evaluation_layouts.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return folder


def test_it_counts_layouts_by_their_type(tmp_path: Path) -> None:
    found = layout_histogram(write(tmp_path, "a,room,20.0,1", "b,scene,30.0,1", "c,,25.0,1", "d,room,inf,1"))
    assert found is not None
    assert (found.title, found.types) == ("PSNR (dB)", [UNKNOWN, "room", "scene"])
    assert (found.layouts, found.not_finite) == (3, 1)
    assert found.svg.startswith("<svg")
    for colour in ("var(--series0)", "var(--series1)", "var(--series2)"):
        assert colour in found.svg


def test_without_an_image_the_accuracy_is_shown(tmp_path: Path) -> None:
    found = layout_histogram(write(tmp_path, "a,room,,0.5", "b,room,nan,0.75"))
    assert found is not None
    assert found.title == "share of pixels in their class"


@pytest.mark.parametrize("rows", [(), ("a,room,20.0,1",), ("a,room,,", "b,room,none,"), ("a", "b")])
def test_with_fewer_than_two_values_there_is_none(tmp_path: Path, rows: tuple[str, ...]) -> None:
    assert layout_histogram(write(tmp_path, *rows)) is None


def test_without_the_file_there_is_none(tmp_path: Path) -> None:
    assert layout_histogram(tmp_path) is None


def test_layouts_that_are_all_alike_are_one_bar(tmp_path: Path) -> None:
    found = layout_histogram(write(tmp_path, *("a,room,20.0,1",) * 5))
    assert found is not None
    assert found.layouts == 5
