"""Lists of layouts as programs and people write them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imginav import LayoutSource, UserError
from imginav.data.loader import first_samples, open_fingerprint, split_layouts
from imginav.manifest.tables import Train
from imginav.plugin.palette import UNMATCHED
from imginav.seeds import Seeds
from imginav_datasets import Layouts
from imginav_datasets.layout_list import SEPARATORS, read_list
from imginav_optimizers import AdamW

Listed = Callable[..., Path]


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    """Write a list as it is given, and beside it layouts with these names."""

    def write(text: str | bytes, *names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (16, 16)).save(tmp_path / name, format="PNG")
        (tmp_path / "layouts.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / "layouts.csv"

    return write


def opened(manifest: Path, **keys: Any) -> LayoutSource:
    return Layouts(manifest=manifest, **{"image_size": 16, **keys}).open()


def names(source: LayoutSource) -> list[str]:
    return [source.identity(index).partition(" | ")[0] for index in range(len(source))]


# The file


@pytest.mark.parametrize("separator", SEPARATORS, ids=SEPARATORS.values())
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_is_read_however_it_is_written(separator: str, end: str, encoding: str, listed: Listed) -> None:
    rows = [["type", " layout_path "], ["room", "ä.png"], ["scene", ' "b, c; d|e.png"'], []]
    text = end.join(separator.join(cells) for cells in rows)
    manifest = listed(text.encode(encoding), "ä.png", "b, c; d|e.png")
    source = opened(manifest)
    assert names(source) == ["ä.png", "b, c; d|e.png"]
    assert [int(source.read(i)["label"]) for i in range(2)] == [0, 1]
    assert source.name(1) == f"{manifest.parent / 'b, c; d|e.png'} (line 3 of {manifest})"


@pytest.mark.parametrize(
    "text", ["layout_path\na;b|c.png\n", "x|layout_path\n1|a,b;c.png\n", "layout_path;x\na,b.png;1\n"]
)
def test_a_sign_that_is_no_separator_in_the_header_is_none_in_the_rows(text: str, listed: Listed) -> None:
    path = next(name for name in ("a;b|c.png", "a,b;c.png", "a,b.png") if name in text)
    assert names(opened(listed(text, path))) == [path]


def test_a_header_with_two_separators_that_both_fit_is_refused(listed: Listed) -> None:
    message = (
        "layouts.csv: has the column 'layout_path' with comma and with semicolon between cells, so that nobody can "
        "tell which it is; rename columns that hold the other"
    )
    with pytest.raises(UserError, match=message):
        opened(listed("layout_path,a;layout_path\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "has no column 'layout_path'; its columns are none"),
        (b"\r\n \n\n", "has no column 'layout_path'; its columns are none"),
        (b"layout_path,type\n", "lists no layouts; it needs a row for each"),
        (
            b"Layout_Path;type\n",
            r"has no column 'layout_path', did you mean 'Layout_Path'\?; its columns are Layout_Pa",
        ),
        (b"layout_path,type,type\na.png,room,scene\n", "has the column 'type' 2 times; rename or remove all but one"),
        (b"layout_path, layout_path\na.png,b.png\n", "has the column 'layout_path' 2 times"),
        ("layout_path\nä.png\n".encode("latin-1"), "is no CSV file in UTF-8: 'utf-8' codec can't decode byte 0xe4"),
        ("layout_path\n".encode("utf-16-le"), "is no CSV file in UTF-8: its header holds NUL bytes; save the list as"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is no CSV file in UTF-8: 'utf-8' codec can't decode byte 0x89"),
        (b"\xff\xfe\0", "is no CSV file in UTF-8: 'utf-16-le' codec can't decode|truncated data"),
        (bytes(5000), "is no CSV file in UTF-8: its header holds NUL bytes"),
        (b"x" * 20_000_000, "is no CSV file in UTF-8: line 1: field larger than field limit"),
        (b'layout_path\na.png\n"b.png\nc.png\n', "is no CSV file in UTF-8: line 3: unexpected end of data"),
        (b'layout_path,type\na.png,"room" x\n', "is no CSV file in UTF-8: line 2: ',' expected after '\"'"),
    ],
)
def test_what_cannot_be_read_as_a_list_is_refused(text: bytes, message: str, listed: Listed) -> None:
    with pytest.raises(UserError, match=message) as refused:
        opened(listed(text, "a.png"))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file; name the CSV file"),
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (os.mkfifo, "is no file but a device, a pipe or a socket; name a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is no file but a device"),
    ],
    ids=["missing", "folder", "loop of links", "pipe", "device"],
)
def test_what_is_no_file_is_no_list_and_not_waited_for(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "layouts.csv")
    with pytest.raises(UserError, match=rf"data.manifest = '.*layouts.csv': {message}"):
        opened(tmp_path / "layouts.csv")


@given(st.binary(max_size=200), st.sampled_from([b"", b"layout_path\n", b"layout_path;type\n", b"\xff\xfe"]))
def test_whatever_the_bytes_a_list_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, header: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(header + content)
    with suppress(UserError), read_list(path, "layout_path") as (columns, lines):
        assert "layout_path" in columns
        assert all(line.fault or set(line.cells) == set(columns) for line in lines)


# The rows


def test_a_row_is_named_by_the_line_in_which_it_begins(listed: Listed) -> None:
    text = 'layout_path,note\n\n"a.png","first\nsecond"\n , \nb.png,\n'
    source = opened(listed(text, "a.png", "b.png"))
    assert [source.name(i).rpartition(" (")[2].partition(" of")[0] for i in range(2)] == ["line 3", "line 6"]


def test_separators_that_a_spreadsheet_leaves_behind_do_no_harm(listed: Listed) -> None:
    source = opened(listed("layout_path,type,,\na.png,room,,\nb.png,scene,,,,\n,,,\n", "a.png", "b.png"))
    assert names(source) == ["a.png", "b.png"]
    assert not source.left_out()


BAD_ROWS = {
    "few.png,room": "with 2 cells under 3 columns",
    "many.png,room,1,room": "with 4 cells under 3 columns",
    ",room,1": "without a path",
    "nan,room,1": "without a path",
    "None,room,1": "without a path",
    "a\0.png,room,1": "with a NUL byte",
    "missing.png,room,1": "missing: {}/missing.png",
    r"rooms\a.png,room,1": r"missing: {}/rooms\a.png (a path of Windows? write / in place of \)",
    "~/a.png,room,1": "missing: {}/~/a.png (~ is no folder here; write it out)",
    ".,room,1": "a folder: {}",
    "a.png/b.png,room,1": "Not a directory: {}/a.png/b.png",
    "x.png,room,": "data.filters.n__ge = 1 needs a number in column 'n', found '' in line {line} of {}/layouts.csv; "
    "mend the cell, or compare with text in quotes",
    "x.png,room,NaN": "data.filters.n__ge = 1 needs a number in column 'n', found 'NaN' in line {line} of "
    "{}/layouts.csv; mend the cell, or compare with text in quotes",
    "a.png,scene,1": "listed again with another type or scene than in line 2: {}/a.png",
}


def test_every_bad_row_is_listed_at_once_or_left_out_and_listed(listed: Listed, tmp_path: Path) -> None:
    lines = "\n".join(["layout_path,type,n", "a.png,room,1", *BAD_ROWS, "b.png,room,1", "c.png,room,0"])
    manifest = listed(lines, "a.png", "b.png")
    texts = [
        text.replace("{line}", str(number)).replace("{}", str(tmp_path))
        for number, text in enumerate(BAD_ROWS.values(), start=3)
    ]
    with pytest.raises(UserError) as refused:
        opened(manifest, filters={"n__ge": 1})
    heading, *listing = str(refused.value).splitlines()
    assert heading.startswith(f"{manifest}: 14 of 16 layouts cannot be used (1 with 2 cells under 3 columns, ")
    assert heading.endswith(
        "; mend them, take their rows out of the list, or leave them out with data.on_bad = 'skip':"
    )
    assert listing == [f"  line {number}: {text}" for number, text in enumerate(texts, start=3)]

    # What a list says wrongly is left out of the set; a file that cannot be used stays in it until it is read.
    source = opened(manifest, filters={"n__ge": 1}, on_bad="skip")
    said = {f"{manifest}: line {number}: {text}": text for number, text in enumerate(texts, start=3)}
    files = [text for text in texts if text.startswith(("missing", "a folder", "Not a directory"))]
    assert source.left_out() == [sentence for sentence, text in said.items() if text not in files]
    assert len(source) == 2 + len(files)
    samples, unreadable = first_samples(source, range(len(source)), 2)
    assert (len(samples), len(unreadable)) == (2, len(files))
    assert ", 1 rows left out by filters or count, 9 left out because they cannot be used (" in source.describe()
    assert source.describe().endswith("5 whose files cannot be used (3 missing, 1 a folder, 1 Not a directory)")


def test_a_line_break_in_a_path_breaks_no_message(listed: Listed) -> None:
    manifest = listed('layout_path\n"gone\n.png"\na.png\n', "a.png")
    with pytest.raises(UserError) as refused:
        opened(manifest)
    assert str(refused.value).splitlines()[1:] == [rf"  line 2: missing: {manifest.parent}/gone\n.png"]
    with pytest.raises(UserError, match=r"line 2: .*/gone\\n.png cannot be read \(missing\)$"):
        opened(manifest, on_bad="skip").read(0)


def test_a_list_of_which_nothing_can_be_used_is_refused_even_where_the_bad_is_skipped(listed: Listed) -> None:
    with pytest.raises(UserError, match=r"2 of 2 layouts cannot be used \(2 missing\); mend them, take their rows ou"):
        opened(listed("layout_path\na.png\nb.png\n"), on_bad="skip")


def test_count_takes_the_first_that_a_list_names_rightly_and_looks_no_further(listed: Listed) -> None:
    paths = ["no.png", "a.png", "a.png", "", "b.png", "c.png", "gone.png"]
    text = "\n".join(["layout_path,n", *(f"{path},1" for path in paths)])
    manifest = listed(text, "a.png", "b.png", "c.png")
    source = opened(manifest, on_bad="skip", count=3)
    assert [source.name(i).split(" ")[0] for i in range(len(source))] == [
        str(manifest.parent / name) for name in ("no.png", "a.png", "b.png")
    ]
    assert source.describe() == (
        f"3 layouts from {manifest}, 2 rows left out by filters or count, 1 listed again and taken once, "
        "1 left out because they cannot be used (1 without a path), 1 whose files cannot be used (1 missing)"
    )
    with pytest.raises(UserError, match="1 of 2 layouts cannot be used"):
        opened(manifest, count=2)
    assert len(opened(listed("layout_path\na.png\nb.png\ngone.png\n"), count=2)) == 2


def test_a_set_is_what_its_list_says_whatever_the_disk_can_give_today(listed: Listed) -> None:
    manifest = listed("layout_path\na.png\nb.png\nc.png\n", "a.png", "b.png", "c.png")
    train = Train(epochs=1, split=0.5, optimizer=AdamW())
    layouts = Layouts(manifest=manifest, image_size=32, on_bad="skip")
    before = open_fingerprint(layouts, train)
    (manifest.parent / "b.png").unlink()
    # A run that goes on after a file has gone finds the set that it was begun with.
    assert open_fingerprint(layouts, train).same(before)
    with pytest.raises(UserError, match="1 of 3 layouts cannot be used"):
        open_fingerprint(evolve(layouts, on_bad="error"), train)


# The same file twice


@pytest.mark.parametrize("again", ["a.png", " a.png ", "rooms/../a.png", "./a.png", "{}/a.png", "linked/../a.png"])
def test_a_file_that_is_listed_twice_is_taken_once(again: str, listed: Listed, tmp_path: Path) -> None:
    again = again.replace("{}", str(tmp_path))
    manifest = listed(f"layout_path,type\na.png,room\nrooms/b.png,room\n{again},room\n", "a.png", "rooms/b.png")
    (tmp_path / "linked").symlink_to(tmp_path / "rooms")
    source = opened(manifest)
    assert names(source) == ["a.png", "rooms/b.png"]
    assert source.describe() == f"2 layouts from {manifest}, 1 listed again and taken once"
    assert source.left_out() == []


def test_two_files_that_only_look_like_one_are_two(listed: Listed, tmp_path: Path) -> None:
    # The folder above what a link leads to is not the folder above the link.
    manifest = listed("layout_path\na.png\nlinked/../a.png\n", "a.png", "rooms/a.png")
    (tmp_path / "rooms" / "deep").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "rooms" / "deep")
    assert len(opened(manifest)) == 2


def test_a_row_that_says_otherwise_of_the_same_file_is_a_bad_one(listed: Listed) -> None:
    text = "layout_path,scene_id\na.png,1\nb.png,1\na.png,2\n"
    message = r"1 of 3 layouts .*\n  line 4: listed again with another type or scene than in line 2: .*a.png"
    with pytest.raises(UserError, match=message):
        opened(listed(text, "a.png", "b.png"))
    assert opened(listed(text), on_bad="skip").scene(0) == "1"


# Cells and paths


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "None", "NULL", "N/A", "<NA>", "NaT"])
def test_a_cell_without_a_value_is_no_type_and_no_scene(cell: str, listed: Listed) -> None:
    text = f"layout_path,type,scene_id\na.png,{cell},{cell}\nb.png,{cell},{cell}\n"
    source = opened(listed(text, "a.png", "b.png"))
    assert [source.scene(i) for i in range(2)] == [None, None]
    assert [int(source.read(i)["label"]) for i in range(2)] == [UNMATCHED] * 2
    assert split_layouts(source, 0.5, "scene", Seeds(0)).by == "layout"


@pytest.mark.parametrize(
    "path",
    ["a b.png", "ä ö/ß.png", "部屋.png", "rooms/../a.png", "🛏.png", "a'b.png", "#1.png", "%20.png", "no ending",
     unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")],
)  # fmt: skip
def test_a_path_may_hold_what_a_file_system_allows(path: str, listed: Listed, tmp_path: Path) -> None:
    (tmp_path / "rooms").mkdir()
    assert opened(listed(f"layout_path\n{path}\n", path)).read(0)["rgb"].shape == (16, 16, 3)


@pytest.mark.parametrize(("there", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_accent_in_another_form_is_said(there: Any, written: Any, listed: Listed) -> None:
    manifest = listed(
        f"layout_path\n{unicodedata.normalize(written, 'é.png')}\n", unicodedata.normalize(there, "é.png")
    )
    if (manifest.parent / unicodedata.normalize(written, "é.png")).exists():
        pytest.skip("this file system takes both for one name")
    with pytest.raises(
        UserError, match=rf"missing: .*there is a file whose name has its accents in the form {there}\)"
    ):
        opened(manifest)
