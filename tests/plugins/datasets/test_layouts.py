"""Layouts from image files that a CSV file lists."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imginav import LayoutSource, UserError
from imginav.data.batches import rgb_of
from imginav.data.loader import Data, split_layouts
from imginav.manifest.tables import Train
from imginav.plugin.components import Sample
from imginav.plugin.palette import UNMATCHED
from imginav.seeds import Seeds
from imginav_datasets import Layouts
from imginav_datasets.classes import LABELS, PALETTE, LayoutClass
from imginav_optimizers import AdamW
from imginav_tests.png import png, png_of

WriteLayouts = Callable[..., Path]

BED = PALETTE.colours[LayoutClass.BED]
BACKGROUND = PALETTE.background_colour


def opened(manifest: Path, **keys: Any) -> LayoutSource:
    return Layouts(manifest=manifest, **{"image_size": 32, **keys}).open()


def rows(*paths: str, **cells: Sequence[str]) -> list[dict[str, str]]:
    """Return rows with these files, and in further columns these cells."""
    return [
        {"layout_path": path, **{column: column_cells[i] for column, column_cells in cells.items()}}
        for i, path in enumerate(paths)
    ]


def plain(colour: tuple[int, int, int] = BACKGROUND, side: int = 32) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


def png_of_16_bits(pixels: NDArray[np.uint8]) -> bytes:
    """Return an RGB image (H, W, 3) as a PNG of 16 bits a channel, which Pillow cannot write."""

    height, width = pixels.shape[:2]
    lines = b"".join(b"\0" + (line.astype(">u2") * 257).astype(">u2").tobytes() for line in pixels)
    return png_of(width, height, lines, bits=16)


# The list


def test_every_class_is_found_by_its_colour(write_layouts: WriteLayouts) -> None:
    source = opened(write_layouts(rows("a.png", "b.png", type=["room", "scene"])), tolerance=0)
    assert len(source) == 2
    assert source.spec.targets == ("rgb", "segmentation", "label")
    sample = source.read(0)
    assert {name: (array.shape, array.dtype) for name, array in sample.items()} == {
        "rgb": ((32, 32, 3), np.uint8),
        "segmentation": ((32, 32), np.uint8),
        "label": ((), np.uint8),
    }
    # Stripes of three rows in the order of the classes, so none of them is lost.
    assert np.array_equal(sample["segmentation"][:, 0], [min(row // 3, 9) for row in range(32)])
    assert np.array_equal(PALETTE.colour(sample["segmentation"]), sample["rgb"])


def test_the_classes_have_the_users_indices_and_colours() -> None:
    assert dict(zip(PALETTE.names, PALETTE.colours, strict=True)) == {
        "bed": (228, 26, 28),
        "cabinet": (55, 126, 184),
        "chair": (77, 175, 74),
        "lighting": (152, 78, 163),
        "others": (127, 127, 127),
        "stool": (255, 127, 0),
        "sofa": (255, 255, 51),
        "table": (166, 86, 40),
        "wall": (200, 200, 200),
        "background": (240, 240, 240),
    }
    assert list(LayoutClass) == list(range(10))


def test_paths_are_relative_to_the_list_or_absolute(write_layouts: WriteLayouts, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.png"
    plain(BED).save(elsewhere)
    manifest = write_layouts(rows("a.png", str(elsewhere)), {str(elsewhere): plain(BED)})
    source = opened(manifest)
    assert source.name(0) == f"{manifest.parent / 'a.png'} (line 2 of {manifest})"
    assert source.name(1) == f"{elsewhere} (line 3 of {manifest})"
    assert (source.read(1)["segmentation"] == LayoutClass.BED).all()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_list_may_begin_with_a_byte_order_mark(write_layouts: WriteLayouts, encoding: str) -> None:
    assert len(opened(write_layouts(rows("ä.png", "b.png"), encoding=encoding))) == 2


def test_filters_choose_rows_and_what_is_left_out_is_said(write_layouts: WriteLayouts) -> None:
    paths = [f"{number}.png" for number in range(6)]
    listed = rows(*paths, is_empty=["true", "false"] * 3, room_count=["1", "2", "3", "4", "5", "6"])
    # Files of rows that are left out need not be there.
    manifest = write_layouts(listed, {"0.png": None, "1.png": None})
    source = opened(manifest, filters={"is_empty": False, "room_count__ge": 3})
    assert [Path(source.name(i).split(" ")[0]).name for i in range(len(source))] == ["3.png", "5.png"]
    assert source.describe() == f"2 layouts from {manifest}, 4 rows left out by filters or count"


def test_count_takes_the_first_rows_that_the_filters_leave(write_layouts: WriteLayouts) -> None:
    listed = rows("0.png", "1.png", "2.png", "3.png", is_empty=["true", "false", "false", "false"])
    source = opened(write_layouts(listed), filters={"is_empty": False}, count=2)
    assert [Path(source.name(i).split(" ")[0]).name for i in range(len(source))] == ["1.png", "2.png"]


def test_filters_that_leave_nothing_are_refused(write_layouts: WriteLayouts) -> None:
    manifest = write_layouts(rows("a.png", "b.png", is_empty=["true", "true"]))
    with pytest.raises(UserError, match=r"layouts.csv: none of its 2 rows is left; loosen data.filters"):
        opened(manifest, filters={"is_empty": False})


def test_a_bad_filter_is_refused(write_layouts: WriteLayouts) -> None:
    manifest = write_layouts(rows("a.png", "b.png", room_count=["1", "few"]))
    with pytest.raises(UserError, match=r"data.filters.rooms: the list has no column 'rooms'"):
        opened(manifest, filters={"rooms": 1})
    with pytest.raises(UserError, match=r"data.filters.room_count__like: no comparison 'like'"):
        opened(manifest, filters={"room_count__like": 1})
    with pytest.raises(
        UserError, match=r"needs a number in column 'room_count', found 'few' in line 3 of .*layouts.csv"
    ):
        opened(manifest, filters={"room_count__ge": 1})


def test_labels_are_known_or_counted_and_never_guessed(write_layouts: WriteLayouts) -> None:
    types = ["room", "scene", " Scene", "flat", "", "0", "1", "3"]
    manifest = write_layouts(rows(*(f"{number}.png" for number in range(8)), type=types))
    source = opened(manifest)
    room, scene = LABELS.index("room"), LABELS.index("scene")
    assert [int(source.read(i)["label"]) for i in range(8)] == [room, scene, scene, *[UNMATCHED] * 5]
    assert source.describe().endswith("5 of a type other than room or scene, which have no label")


def test_without_a_column_of_types_there_is_no_target_to_compare_labels_with(write_layouts: WriteLayouts) -> None:
    manifest = write_layouts(rows("a.png", "b.png", kind=["room", "scene"]))
    source = opened(manifest)
    assert source.spec.targets == ("rgb", "segmentation")
    assert "label" not in source.read(0)
    assert source.describe() == f"2 layouts from {manifest}"
    assert "label" in opened(manifest, label_column="kind").spec.targets


def test_layouts_of_one_scene_stay_on_one_side_of_the_split(write_layouts: WriteLayouts) -> None:
    scenes = ["a", "a", "b", "b", "c", "c", "d", "d", " ", ""]
    manifest = write_layouts(rows(*(f"{number}.png" for number in range(10)), scene_id=scenes))
    source = opened(manifest)
    assert [source.scene(i) for i in range(10)] == ["a", "a", "b", "b", "c", "c", "d", "d", None, None]
    for seed in range(5):
        split = split_layouts(source, 0.5, "scene", Seeds(seed))
        assert split.by == "scene"
        trained = {source.scene(i) for i in split.train if source.scene(i)}
        assert not trained & {source.scene(i) for i in split.validation}
    assert opened(manifest, scene_column="flat_id").scene(0) is None


def test_a_list_without_the_column_of_paths_is_refused(write_layouts: WriteLayouts) -> None:
    manifest = write_layouts(rows("a.png", "b.png", type=["room", "room"]))
    message = (
        r"layouts.csv: has no column 'layout_paths', did you mean 'layout_path'\?; its columns are layout_path, type; "
        "name the one with the image files as data.path_column"
    )
    with pytest.raises(UserError, match=message):
        opened(manifest, path_column="layout_paths")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"data.manifest = '.*layouts.csv': no such file; name the CSV file that lists the layouts"),
        (b"", r"layouts.csv: has no column 'layout_path'; its columns are none"),
        (b"layout_path\n", r"layouts.csv: lists no layouts; it needs a row for each"),
        (b"layout_path\n\xff\xfe\x00", r"data.manifest = '.*layouts.csv': is no CSV file in UTF-8"),
        (
            b"layout_path\n" + b"x" * 200_000,
            r"data.manifest = '.*layouts.csv': is no CSV file.*: line 2: field larger",
        ),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    manifest = tmp_path / "layouts.csv"
    if content is not None:
        manifest.write_bytes(content)
    with pytest.raises(UserError, match=message):
        opened(manifest)


def test_a_folder_in_place_of_the_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.manifest = '.*': cannot be read: Is a directory"):
        opened(tmp_path)


# The files


def test_all_that_is_wrong_with_the_files_is_said_at_once_and_before_the_training(write_layouts: WriteLayouts) -> None:
    paths = ["good.png", "missing.png", "cut.png", "empty.png", "folder", "text.png", "huge.ppm"]
    manifest = write_layouts(
        rows(*paths),
        {
            "missing.png": None,
            "cut.png": png(plain())[:-20],
            "empty.png": b"",
            "folder": None,
            "text.png": b"no image at all",
            "huge.ppm": b"P6 65535 65535 255\n",
        },
    )
    (manifest.parent / "folder").mkdir()
    with manifest.open("a", newline="") as stream:
        stream.write("nul\0.png\n")
    with pytest.raises(UserError) as refused:
        opened(manifest)
    folder = manifest.parent
    assert str(refused.value).splitlines() == [
        f"{manifest}: 7 of 8 layouts cannot be used (1 missing, 1 cut off, 1 empty, 1 a folder, 1 no image, "
        "1 too large, 1 with a NUL byte); mend them, take their rows out of the list, or leave them out with "
        "data.on_bad = 'skip':",
        f"  line 3: missing: {folder / 'missing.png'}",
        f"  line 4: cut off: {folder / 'cut.png'}",
        f"  line 5: empty: {folder / 'empty.png'}",
        f"  line 6: a folder: {folder / 'folder'}",
        f"  line 7: no image: {folder / 'text.png'}",
        f"  line 8: too large: {folder / 'huge.ppm'}",
        "  line 9: with a NUL byte",
    ]


def test_of_very_many_wrong_files_the_first_are_listed(write_layouts: WriteLayouts) -> None:
    paths = [f"{number}.png" for number in range(30)]
    manifest = write_layouts(rows(*paths), dict.fromkeys(paths))
    with pytest.raises(UserError, match=r"30 of 30 layouts cannot be used \(30 missing\)") as refused:
        opened(manifest)
    lines = str(refused.value).splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "  … and 10 more"


def test_an_empty_cell_in_place_of_a_path_is_refused_with_its_line(write_layouts: WriteLayouts) -> None:
    manifest = write_layouts(rows("a.png", type=["room"]))
    with manifest.open("a", newline="") as stream:
        stream.write(",room\n")
    with pytest.raises(UserError, match=r"1 of 2 layouts cannot be used .*\n  line 3: without a path"):
        opened(manifest)


def test_a_file_that_breaks_later_is_an_error_of_the_user_when_it_is_read(write_layouts: WriteLayouts) -> None:
    whole = png(Image.effect_noise((32, 32), 80).convert("RGB"))
    damaged = whole[:60] + b"\0" * 200 + whole[260:]
    manifest = write_layouts(rows("gone.png", "damaged.png", "cut.png"), {"damaged.png": damaged})
    source = opened(manifest)
    (manifest.parent / "gone.png").unlink()
    (manifest.parent / "cut.png").write_bytes(whole[:100])
    for index, name in enumerate(["gone.png", "damaged.png", "cut.png"]):
        message = rf"layouts.csv: line {index + 2}: .*{name} cannot be read \(.*\); mend the file, take its row out"
        with pytest.raises(UserError, match=message):
            source.read(index)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_files_may_vanish_in_the_middle_of_an_epoch(
    write_layouts: WriteLayouts, on_bad: Literal["error", "skip"], workers: int
) -> None:
    config = Layouts(
        manifest=write_layouts(rows(*(f"{number}.png" for number in range(12)))), image_size=32, on_bad=on_bad
    )
    train = Train(epochs=1, batch_size=1, optimizer=AdamW())
    with closing(Data(config.open(), config, train, Seeds(0), workers)) as data:
        batches = data.train_batches(1)
        next(batches)
        *_, last = range(data.steps_per_epoch)  # a loading process is two batches ahead
        path = Path(data.names_of_batch(1, last)[0].split(" ")[0])
        path.unlink()
        said = f"{config.manifest}: line {int(path.stem) + 2}: {path} cannot be read (missing)"
        if on_bad == "skip":
            assert [bool(batch) for batch in batches] == [True] * (last - 1) + [False]
            assert data.left_out == [said]
            return
        with pytest.raises(UserError) as refused:
            list(batches)
        assert str(refused.value) == (
            f"{said}; mend the file, take its row out of the list, or leave out what cannot be used with "
            "data.on_bad = 'skip'"
        )
        del refused, batches  # they hold the loading process, for which torch would wait


# The pixels


def only(source: LayoutSource) -> NDArray[np.uint8]:
    return source.read(0)["rgb"]


def test_an_image_with_a_palette_shows_its_colours(write_layouts: WriteLayouts) -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([*BED, *PALETTE.colours[LayoutClass.SOFA]])
    image.paste(0, (0, 0, 32, 16))
    segmentation = opened(write_layouts(rows("a.png"), {"a.png": image}), tolerance=0).read(0)["segmentation"]
    assert (segmentation[:16] == LayoutClass.BED).all()
    assert (segmentation[16:] == LayoutClass.SOFA).all()


@pytest.mark.parametrize(("grey", "found"), [(200, LayoutClass.WALL), (240, LayoutClass.BACKGROUND), (100, UNMATCHED)])
def test_an_image_in_grey_has_the_classes_that_are_grey(write_layouts: WriteLayouts, grey: int, found: int) -> None:
    eight, sixteen = Image.new("L", (32, 32), grey), Image.fromarray(np.full((32, 32), grey * 257, np.uint16))
    source = opened(write_layouts(rows("8.png", "16.png"), {"8.png": eight, "16.png": sixteen}), tolerance=0)
    for index in range(2):
        assert (source.read(index)["rgb"] == grey).all()
        assert (source.read(index)["segmentation"] == found).all()


def test_an_image_of_16_bits_is_read_as_one_of_8(write_layouts: WriteLayouts) -> None:
    stripes = np.kron(np.arange(10, dtype=np.uint8), np.ones((40, 4), np.uint8))
    manifest = write_layouts(rows("a.png"), {"a.png": png_of_16_bits(PALETTE.colour(stripes))})
    sample = opened(manifest, image_size=40, tolerance=0).read(0)
    assert np.array_equal(sample["segmentation"], stripes)


def test_what_is_transparent_shows_the_background(write_layouts: WriteLayouts) -> None:
    image = Image.new("RGBA", (32, 32), (*BED, 0))
    image.paste((*BED, 255), (0, 0, 16, 32))
    by_index = Image.new("P", (32, 32), 1)
    by_index.putpalette([*BED, 0, 0, 0])
    by_index.paste(0, (0, 0, 16, 32))
    by_index.info["transparency"] = 1
    source = opened(write_layouts(rows("a.png", "b.png"), {"a.png": image, "b.png": by_index}), tolerance=0)
    for index in range(2):
        segmentation = source.read(index)["segmentation"]
        assert (segmentation[:, :16] == LayoutClass.BED).all()
        assert (segmentation[:, 16:] == LayoutClass.BACKGROUND).all()


def test_a_colour_of_no_class_is_counted_and_not_made_into_one(write_layouts: WriteLayouts) -> None:
    image = plain()
    image.paste((0, 0, 0), (0, 0, 8, 32))
    segmentation = opened(write_layouts(rows("a.png"), {"a.png": image})).read(0)["segmentation"]
    assert (segmentation[:, :8] == UNMATCHED).all()
    assert (segmentation == UNMATCHED).mean() == 8 / 32


def test_a_colour_within_the_tolerance_is_of_the_class_and_stays_as_it_is(write_layouts: WriteLayouts) -> None:
    near = (BED[0] - 8, BED[1] + 8, BED[2] - 8)
    manifest = write_layouts(rows("a.png"), {"a.png": plain(near)})
    within, beyond = opened(manifest, tolerance=8), opened(manifest, tolerance=7)
    assert (within.read(0)["segmentation"] == LayoutClass.BED).all()
    assert (within.read(0)["rgb"] == near).all()
    assert (beyond.read(0)["segmentation"] == UNMATCHED).all()


@pytest.mark.parametrize("side", [16, 32, 48, 100])
def test_another_size_gets_no_new_colours(write_layouts: WriteLayouts, side: int) -> None:
    blocks = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2), np.ones((side // 2, side // 2), np.uint8))
    manifest = write_layouts(rows("a.png"), {"a.png": Image.fromarray(PALETTE.colour(blocks))})
    sample = opened(manifest, tolerance=0).read(0)
    assert sample["rgb"].shape == (32, 32, 3)
    assert np.array_equal(sample["segmentation"], np.kron([[0, 1], [2, 3]], np.ones((16, 16))))


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (16, 8), (31, 64), (100, 1)])
def test_what_is_not_square_is_centred_on_background(write_layouts: WriteLayouts, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, BED)
    rgb = only(opened(write_layouts(rows("a.png"), {"a.png": image})))
    assert rgb.shape == (32, 32, 3)
    assert {tuple(c) for c in rgb.reshape(-1, 3).tolist()} == {BED, BACKGROUND}
    shown = (rgb == BED).all(axis=-1)
    height, width = int(shown.any(axis=1).sum()), int(shown.any(axis=0).sum())
    assert max(height, width) == 32
    scale = 32 / max(size)
    assert (width, height) == (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    for axis, extent in ((1, height), (0, width)):
        before = int(shown.any(axis=axis).argmax())
        assert before == (32 - extent) // 2


def test_a_photograph_in_another_format_does_not_crash_a_run(write_layouts: WriteLayouts) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 80).convert("CMYK").save(buffer, format="JPEG")
    sample = opened(write_layouts(rows("a.jpg"), {"a.jpg": buffer.getvalue()})).read(0)
    assert sample["rgb"].shape == (32, 32, 3)


@pytest.mark.parametrize("tolerance", [-1, 61])
def test_a_tolerance_that_mixes_classes_up_is_refused(tmp_path: Path, tolerance: int) -> None:
    with pytest.raises(ValueError, match=rf"expected a number from 0 to 60, found {tolerance}"):
        Layouts(manifest=tmp_path / "layouts.csv", tolerance=tolerance)


# Prepared


def changed(image: Image.Image, place: tuple[int, int], colour: tuple[int, int, int]) -> Image.Image:
    image = image.copy()
    image.putpixel(place, colour)
    return image


def odd_images() -> dict[str, Image.Image | bytes]:
    """Return images of all kinds that lists of layouts may have, each with something of two classes."""
    drawn = plain()
    drawn.paste(BED, (4, 4, 20, 12))
    transparent = drawn.convert("RGBA")
    transparent.putpixel((0, 0), (1, 2, 3, 0))
    blended = plain(side=64)
    blended.paste(BED, (9, 9, 41, 40))
    grey16 = Image.fromarray((np.arange(32 * 32, dtype=np.uint32).reshape(32, 32) * 64).astype(np.uint16))
    return {
        "exact.png": drawn,
        "palette.png": drawn.convert("P", palette=Image.Palette.ADAPTIVE),
        "alpha.png": transparent,
        "16 bits.png": png_of_16_bits(np.asarray(drawn)),
        "grey of 16 bits.png": grey16,
        "grey.png": drawn.convert("L"),
        "larger.png": drawn.resize((50, 77), Image.Resampling.NEAREST),
        "smaller.png": plain(BED, side=9),
        "blended.png": blended.resize((32, 32), Image.Resampling.BILINEAR),
        "near.png": changed(drawn, (31, 31), (BED[0] - 5, *BED[1:])),
        "strange.png": changed(drawn, (30, 30), (3, 200, 9)),
        "black.png": changed(drawn, (30, 30), (0, 0, 0)),
    }


INEXACT = {"grey of 16 bits.png", "grey.png", "blended.png", "near.png", "strange.png"}


def prepared_in(cache: Path, manifest: Path, **keys: Any) -> LayoutSource:
    source = opened(manifest, **keys)
    source.prepare(cache, lambda line: None)
    return source


def coloured(sample: Sample) -> Sample:
    return {"rgb": rgb_of(sample, PALETTE), **{name: array for name, array in sample.items() if name != "rgb"}}


def assert_same(one: LayoutSource, other: LayoutSource) -> None:
    for index in range(len(other)):
        mine, its = coloured(one.read(index)), coloured(other.read(index))
        assert list(mine) == list(its)
        for name, array in its.items():
            assert mine[name].dtype == array.dtype
            assert np.array_equal(mine[name], array), (name, other.name(index))


@pytest.mark.parametrize("tolerance", [0, 8])
@pytest.mark.parametrize("image_size", [32, 17])
def test_prepared_layouts_are_those_of_the_files(
    write_layouts: WriteLayouts, tmp_path: Path, tolerance: int, image_size: int
) -> None:
    images = odd_images()
    manifest = write_layouts(rows(*images, type=["room"] * len(images)), images)
    keys = {"tolerance": tolerance, "image_size": image_size}
    for _ in range(2):  # made, and found again
        source = prepared_in(tmp_path / "cache", manifest, **keys)
        assert_same(source, opened(manifest, **keys))
    if image_size == 32:
        bare = {name for index, name in enumerate(images) if "rgb" not in source.read(index)}
        assert bare == set(images) - INEXACT
    copy: LayoutSource = pickle.loads(pickle.dumps(source))  # noqa: S301  # as a loading process gets it
    assert_same(copy, opened(manifest, **keys))


def test_layouts_of_another_size_or_tolerance_are_others(write_layouts: WriteLayouts, tmp_path: Path) -> None:
    manifest = write_layouts(rows("a.png", "b.png"), odd := {"a.png": odd_images()["near.png"]})
    assert odd
    for keys in ({"tolerance": 8}, {"tolerance": 0}, {"image_size": 16}):
        assert_same(prepared_in(tmp_path / "cache", manifest, **keys), opened(manifest, **keys))
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_file_that_was_changed_in_place_is_another(write_layouts: WriteLayouts, tmp_path: Path) -> None:
    images = {"a.png": plain(BED), "b.png": plain()}
    manifest = write_layouts(rows(*images), images)
    prepared_in(tmp_path / "cache", manifest)
    path = manifest.parent / "a.png"
    before = path.stat()
    plain(PALETTE.colours[LayoutClass.SOFA]).save(path)
    with path.open("ab") as stream:  # what stands behind the end mark shows nothing
        stream.write(bytes(before.st_size - path.stat().st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    source = prepared_in(tmp_path / "cache", manifest)
    assert (source.read(0)["segmentation"] == LayoutClass.SOFA).all()
    assert (source.read(1)["segmentation"] == LayoutClass.BACKGROUND).all()


def test_a_file_that_changes_while_layouts_are_prepared_is_read_as_it_is(
    write_layouts: WriteLayouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {"a.png": plain(BED), "b.png": plain()}
    manifest = write_layouts(rows(*images), images)

    def change(lines: str) -> None:  # said when the digests are taken, and before files are decoded
        plain(PALETTE.colours[LayoutClass.SOFA]).save(manifest.parent / "a.png")

    source = opened(manifest)
    source.prepare(tmp_path / "cache", change)
    assert (source.read(0)["segmentation"] == LayoutClass.SOFA).all()
    plain(BED).save(manifest.parent / "a.png")
    assert (prepared_in(tmp_path / "cache", manifest).read(0)["segmentation"] == LayoutClass.BED).all()


def test_files_that_are_the_same_are_stored_once_and_keep_their_own_labels(
    write_layouts: WriteLayouts, tmp_path: Path
) -> None:
    manifest = write_layouts(rows("a.png", "b.png", "c.png", type=["room", "scene", "shed"]))
    source = prepared_in(tmp_path / "cache", manifest)
    assert [int(source.read(index)["label"]) for index in range(3)] == [0, 1, UNMATCHED]
    (pixels,) = (tmp_path / "cache").glob("*/*.pixels")
    assert pixels.stat().st_size == 32 * 32


def test_what_cannot_be_read_is_said_as_without_a_cache(write_layouts: WriteLayouts, tmp_path: Path) -> None:
    broken = bytearray(png(plain(BED)))
    broken[-20] ^= 1  # in the pixels, where only a checksum tells
    manifest = write_layouts(rows("a.png", "b.png"), {"a.png": bytes(broken)})
    source = prepared_in(tmp_path / "cache", manifest)
    with pytest.raises(UserError) as without:
        opened(manifest).read(0)
    with pytest.raises(UserError, match=r"layouts.csv: line 2: .*a.png cannot be read") as caught:
        source.read(0)
    assert str(caught.value) == str(without.value)
    (manifest.parent / "b.png").unlink()
    assert source.read(1)["segmentation"].shape == (32, 32)  # as it was when the run began


def test_damaged_stores_are_gone_round(write_layouts: WriteLayouts, tmp_path: Path) -> None:
    manifest = write_layouts(rows("a.png", "b.png"), {"a.png": plain(BED)})
    prepared_in(tmp_path / "cache", manifest)
    (pixels,) = (tmp_path / "cache").glob("*/*.pixels")
    pixels.write_bytes(b"\1" * pixels.stat().st_size)
    source = prepared_in(tmp_path / "cache", manifest)
    assert_same(source, opened(manifest))
    assert "rgb" in source.read(0)
    assert "rgb" not in prepared_in(tmp_path / "cache", manifest).read(0)


def test_without_a_folder_nothing_is_kept(write_layouts: WriteLayouts, tmp_path: Path) -> None:
    manifest = write_layouts(rows("a.png", "b.png"))
    source = opened(manifest)
    before = sorted(tmp_path.rglob("*"))
    source.prepare(None)
    assert "rgb" in source.read(0)
    assert sorted(tmp_path.rglob("*")) == before
