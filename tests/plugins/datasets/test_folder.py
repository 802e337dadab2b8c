"""Layouts from all image files of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imginav import LayoutSource, UserError
from imginav.data.loader import fingerprint, split_as
from imginav.manifest.loading import load
from imginav.manifest.tables import Train
from imginav.plugin.palette import UNMATCHED
from imginav.plugin.registry import installed
from imginav_datasets import Folder, Layouts
from imginav_datasets.classes import LABELS, PALETTE
from imginav_optimizers import AdamW

BED = PALETTE.colours[0]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write images of 32 px under these paths into a folder."""

    def write(*paths: str, folder: str = "plans") -> Path:
        for number, path in enumerate(paths):
            place = tmp_path / folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("RGB", (32, 32), PALETTE.background_colour)
            image.paste(BED, (0, 0, 32, number % 31 + 1))
            image.save(place, format="PNG" if place.suffix == ".PNG" else None)
        return tmp_path / folder

    return write


def opened(folder: Path, **keys: Any) -> LayoutSource:
    return Folder(folder=folder, **{"image_size": 32, **keys}).open()


def paths_of(source: LayoutSource, folder: Path) -> list[str]:
    return [str(Path(source.name(index)).relative_to(folder)) for index in range(len(source))]


def test_images_are_found_in_any_nesting_and_any_format_in_the_order_of_their_paths(write: Write) -> None:
    names = ["b/2/x.png", "a.png", "b/1.tif", "c.PNG", "b/d.webp", "ä ö/e.bmp", "f.gif", "g.ppm", "h.jpeg"]
    folder = write(*names)
    (folder / "notes.txt").write_text("no image")
    source = opened(folder)
    assert paths_of(source, folder) == sorted(names)
    assert source.describe() == f"9 layouts from {folder}"
    assert source.spec.targets == ("rgb", "segmentation")
    sample = source.read(sorted(names).index("b/1.tif"))
    assert (sample["segmentation"][:3] == 0).all()
    assert set(sample) == {"rgb", "segmentation"}


def test_hidden_files_and_what_macos_adds_are_no_layouts(write: Write) -> None:
    folder = write("a.png", "b/c.png", "__MACOSX/a.png", ".thumbs/a.png", "b/.hidden.png")
    (folder / "b" / "._c.png").write_bytes(b"\0\5\x16\7 resource fork")
    (folder / ".DS_Store").write_bytes(b"Bud1")
    assert paths_of(opened(folder), folder) == ["a.png", "b/c.png"]


def test_links_are_followed_once(write: Write, tmp_path: Path) -> None:
    folder = write("a.png", "b/c.png")
    write("d.png", folder="elsewhere")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "b" / "back").symlink_to(folder)
    assert paths_of(opened(folder), folder) == ["a.png", "b/c.png", "linked/d.png"]


def test_globs_leave_out_names_and_paths(write: Write) -> None:
    folder = write("a.png", "a_depth.png", "old/b.png", "new/old/c.png", "new/d.png", "new/e.jpg")
    for exclude, left in (
        (("*_depth.png", "old"), ["a.png", "new/d.png", "new/e.jpg"]),
        (("old/*",), ["a.png", "a_depth.png", "new/d.png", "new/e.jpg", "new/old/c.png"]),
        (("new/*.png", "*.jpg"), ["a.png", "a_depth.png", "old/b.png"]),
    ):
        source = opened(folder, exclude=exclude)
        assert paths_of(source, folder) == left
        assert source.describe().endswith(f", {6 - len(left)} images left out by data.exclude or count")
    assert paths_of(opened(folder, count=2), folder) == ["a.png", "a_depth.png"]
    with pytest.raises(UserError, match=r"data.folder = '.*': none of its 6 images is left; loosen data.exclude"):
        opened(folder, exclude=("*",))


def test_sub_folders_called_as_the_types_are_labels(write: Write) -> None:
    folder = write("room/a.png", "Scene/b/c.png", "d.png")
    source = opened(folder)
    assert paths_of(source, folder) == ["Scene/b/c.png", "d.png", "room/a.png"]
    assert [int(source.read(i)["label"]) for i in range(3)] == [LABELS.index("scene"), UNMATCHED, LABELS.index("room")]
    other = opened(write("room/a.png", "kitchen/b.png", folder="others"))
    assert other.spec.targets == ("rgb", "segmentation")
    assert "label" not in other.read(0)


def test_scenes_are_sub_folders_where_the_manifest_says_so(write: Write) -> None:
    folder = write("flat 1/a.png", "flat 1/b.png", "flat 2/upper/c.png", "d.png")
    assert [opened(folder).scene(i) for i in range(4)] == [None] * 4
    source = opened(folder, scenes="folder")
    assert [source.scene(i) for i in range(4)] == [None, "flat 1", "flat 1", "flat 2/upper"]
    typed = opened(write("room/a.png", "scene/5/b.png", "scene/5/c.png", folder="typed"), scenes="folder")
    assert [typed.scene(i) for i in range(3)] == [None, "scene/5", "scene/5"]


def test_a_folder_that_was_moved_holds_the_same_layouts(write: Write, tmp_path: Path) -> None:
    folder = write("a.png", "b/c.png", "b/d.png")
    train = Train(epochs=1, optimizer=AdamW())

    def of(source: LayoutSource) -> Any:
        return fingerprint(source, 32, split_as(source, train))

    before = of(opened(folder))
    (tmp_path / "deeper").mkdir()
    moved = folder.rename(tmp_path / "deeper" / "moved")
    assert of(opened(moved)).same(before)
    # A list of the same paths beside them is the same set, too.
    (moved / "layouts.csv").write_text("layout_path\na.png\nb/c.png\nb/d.png\n")
    assert of(Layouts(manifest=moved / "layouts.csv", image_size=32).open()).same(before)
    (moved / "a.png").rename(moved / "z.png")
    assert not of(opened(moved)).same(before)


def test_what_cannot_be_used_is_an_error_or_left_out_as_with_lists(write: Write) -> None:
    folder = write("a.png", "b.png", "c.png")
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:60])
    (folder / "d.png").write_bytes(b"")
    with pytest.raises(UserError) as refused:
        opened(folder)
    assert str(refused.value).splitlines() == [
        f"{folder}: 2 of 4 layouts cannot be used (1 cut off, 1 empty); mend them, name them in data.exclude, or leave "
        "them out with data.on_bad = 'skip':",
        f"  cut off: {folder / 'b.png'}",
        f"  empty: {folder / 'd.png'}",
    ]
    source = opened(folder, on_bad="skip")
    assert source.describe() == f"4 layouts from {folder}, 2 whose files cannot be used (1 cut off, 1 empty)"
    assert len(opened(folder, exclude=("[bd].png",))) == 2
    source = opened(folder, exclude=("[bd].png",))
    (folder / "a.png").unlink()
    with pytest.raises(UserError) as refused:
        source.read(0)
    assert str(refused.value) == (
        f"{folder / 'a.png'} cannot be read (missing); mend the file, name it in data.exclude, or leave out what "
        "cannot be used with data.on_bad = 'skip'"
    )


def test_what_is_no_folder_of_images_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("")
    (tmp_path / "layouts.csv").write_text("layout_path\n")
    for name, message in (
        ("empty", r"data.folder = '.*empty': holds no images, in any nesting; these end in .png, .jpg, "),
        ("nowhere", r"data.folder = '.*nowhere': no such folder; name the one that holds the images"),
        (
            "layouts.csv",
            r"data.folder = '.*layouts.csv': is a file; name the folder .* name a CSV file of layouts as data",
        ),
    ):
        with pytest.raises(UserError, match=message):
            opened(tmp_path / name)


def test_names_that_are_not_utf_8_are_read(write: Write) -> None:
    folder = write("a.png", "b.png", "c.png")
    os.rename(folder / "b.png", os.path.join(os.fsencode(folder), b"\xe4.png"))  # noqa: PTH104, PTH118  # bytes
    source = opened(folder)
    assert [source.read(i)["rgb"].shape for i in range(3)] == [(32, 32, 3)] * 3
    split = split_as(source, Train(epochs=1, split=0.5, optimizer=AdamW()))
    assert fingerprint(source, 32, split).layouts.rows == 3


def test_a_manifest_names_it_and_where_it_lies_changes_no_value(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write("a.png", "b.png")
    phase = Path(__file__).parents[3] / "phases" / "1_5.toml"

    def resolved(*settings: str) -> Any:
        return load(phase, installed(), settings=["data.type=folder", *settings])

    own = resolved("data.folder=plans", 'data.exclude=["x*"]')
    assert own.manifest.data == Folder(folder=Path("plans"), exclude=("x*",), augment=True)
    assert not own.trial
    assert resolved("data.folder=/elsewhere", 'data.exclude=["x*"]').sha256 == own.sha256
    assert resolved("data.folder=plans").sha256 != own.sha256
    with pytest.raises(UserError, match=r"data\.scenes"):
        resolved("data.folder=plans", "data.scenes=file")


def test_prepared_layouts_are_those_of_the_files(write: Write, tmp_path: Path) -> None:
    folder = write("room/a.png", "scene/b.png")
    source = opened(folder)
    source.prepare(tmp_path / "cache", lambda line: None)
    again = opened(folder)
    for index in range(2):
        mine, its = source.read(index), again.read(index)
        assert np.array_equal(mine["segmentation"], its["segmentation"])
        assert mine["label"] == its["label"] == index
