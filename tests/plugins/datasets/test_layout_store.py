"""Layouts on the disk: what is written comes back, and what is damaged does not."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from imginav.plugin.palette import UNMATCHED
from imginav_datasets import layout_store
from imginav_datasets.classes import PALETTE
from imginav_datasets.layout_store import ENTRY, LayoutStore, SegmentWriter, Stored, as_digests, clean

SIDE = 17  # of which no power of two is a multiple


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def layout(number: int) -> Stored:
    """Return a layout: the even ones have exact colours."""
    rng = np.random.default_rng(number)
    segmentation = rng.integers(0, 10, (SIDE, SIDE), dtype=np.uint8)
    if number % 2 == 0:
        return Stored(segmentation, None, number % 3)
    segmentation[0, 0] = UNMATCHED
    return Stored(segmentation, PALETTE.colour(segmentation) ^ 1)


def write(folder: Path, numbers: Sequence[int]) -> None:
    folder.mkdir(exist_ok=True)
    with SegmentWriter(folder, SIDE) as segment:
        for number in numbers:
            segment.add(digest(number), layout(number))


def there(store: LayoutStore, numbers: Sequence[int]) -> list[int]:
    """Return those of some layouts that a store has, each checked to be the one that was written."""
    places = store.find(as_digests(map(digest, numbers)))
    found = []
    for number, place in zip(numbers, places.tolist(), strict=True):
        if place >= 0 and (stored := store.read(place)):
            expected = layout(number)
            assert np.array_equal(stored.sample["segmentation"], expected.sample["segmentation"])
            assert (stored.rgb is None) == (expected.rgb is None)
            assert expected.rgb is None or np.array_equal(stored.rgb, expected.rgb)  # type: ignore[arg-type]
            assert stored.label == expected.label
            found.append(number)
    return found


def only(folder: Path, suffix: str) -> Path:
    (path,) = folder.glob(f"*{suffix}")
    return path


def test_what_is_written_is_read_whatever_its_kind(tmp_path: Path) -> None:
    write(tmp_path, [4, 1, 7, 2])
    write(tmp_path, [9])
    store = LayoutStore(tmp_path, SIDE)
    assert len(store) == 5
    assert there(store, range(10)) == [1, 2, 4, 7, 9]
    with pytest.raises(ValueError, match="read-only"):
        store.read(0).sample["segmentation"][0, 0] = 1  # type: ignore[union-attr]  # it is there


def test_pixels_without_classes_stand_among_the_others(tmp_path: Path) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    with SegmentWriter(tmp_path, SIDE) as segment:
        for number, stored in enumerate([layout(1), Stored(None, rgb, 2), layout(0)]):
            segment.add(digest(number), stored)
    padded = [-(-(SIDE**2) * pixel // 64) * 64 for pixel in (4, 3, 1)]
    assert only(tmp_path, ".pixels").stat().st_size == sum(padded)
    with only(tmp_path, ".pixels").open("ab") as stream:
        stream.write(bytes(1000))
    clean(tmp_path, SIDE)
    assert only(tmp_path, ".pixels").stat().st_size == sum(padded)
    store = LayoutStore(tmp_path, SIDE)
    found = [store.read(place) for place in store.find(as_digests(map(digest, range(3)))).tolist()]
    assert [list(stored.sample) for stored in found if stored] == [["segmentation", "rgb"], ["rgb"], ["segmentation"]]
    assert found[1] is not None
    assert np.array_equal(found[1].sample["rgb"], rgb)
    assert found[1].label == 2
    assert found[2] is not None
    assert np.array_equal(found[2].sample["segmentation"], layout(0).sample["segmentation"])


def test_an_empty_digest_and_an_empty_store_have_nothing(tmp_path: Path) -> None:
    empty = LayoutStore(tmp_path / "none", SIDE)
    assert empty.find(as_digests([digest(1), b""])).tolist() == [-1, -1]
    write(tmp_path, [1])
    assert LayoutStore(tmp_path, SIDE).find(as_digests([b"", digest(1)])).tolist() == [-1, 0]


def test_digests_that_end_in_zeros_are_told_apart(tmp_path: Path) -> None:
    digests = [b"\1" * 30 + ending for ending in (b"\0\0", b"\0\1", b"\1\0")]
    with SegmentWriter(tmp_path, SIDE) as segment:
        for number, one in enumerate(digests):
            segment.add(one, Stored(np.full((SIDE, SIDE), number, np.uint8), None))
    store = LayoutStore(tmp_path, SIDE)
    found = [store.read(place) for place in store.find(as_digests(digests)).tolist()]
    assert [int(stored.sample["segmentation"][0, 0]) for stored in found if stored] == [0, 1, 2]


def test_an_index_that_was_cut_off_has_its_whole_entries(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2])
    content = only(tmp_path, ".index").read_bytes()
    for length in range(len(content) + 1):
        only(tmp_path, ".index").write_bytes(content[:length])
        whole = length // ENTRY.itemsize
        assert there(LayoutStore(tmp_path, SIDE), [0, 1, 2]) == [0, 1, 2][:whole]


def test_an_entry_with_any_byte_changed_is_none(tmp_path: Path) -> None:
    write(tmp_path, [0, 1])
    content = bytearray(only(tmp_path, ".index").read_bytes())
    for place in range(ENTRY.itemsize):
        content[place] ^= 64
        only(tmp_path, ".index").write_bytes(content)
        assert there(LayoutStore(tmp_path, SIDE), [0, 1]) == [1]
        content[place] ^= 64
    only(tmp_path, ".index").write_bytes(bytes(ENTRY.itemsize) + content)
    assert len(LayoutStore(tmp_path, SIDE)) == 2


def test_pixels_that_were_cut_off_are_not_found(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2])
    pixels = only(tmp_path, ".pixels")
    content = pixels.read_bytes()
    pixels.write_bytes(content[:-1])
    assert len(LayoutStore(tmp_path, SIDE)) == 2
    assert there(LayoutStore(tmp_path, SIDE), [0, 1, 2]) == [0, 1]
    pixels.unlink()
    assert there(LayoutStore(tmp_path, SIDE), [0, 1, 2]) == []


def test_changed_pixels_are_never_given_and_are_made_anew(tmp_path: Path) -> None:
    write(tmp_path, [0, 1])
    pixels = only(tmp_path, ".pixels")
    content = bytearray(pixels.read_bytes())
    content[20] ^= 1
    pixels.write_bytes(content)
    store = LayoutStore(tmp_path, SIDE)
    assert there(store, [0, 1]) == [1]
    assert there(store, [0, 1]) == [1]
    store.load()
    assert there(store, [0, 1]) == []


def test_pixels_that_are_gone_since_it_was_loaded_are_not_given(tmp_path: Path) -> None:
    write(tmp_path, [0])
    store = LayoutStore(tmp_path, SIDE)
    only(tmp_path, ".pixels").unlink()
    assert there(store, [0]) == []


def test_cleaning_removes_what_nobody_needs_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, [0, 1])
    pixels = only(tmp_path, ".pixels")
    content = pixels.read_bytes()
    with pixels.open("ab") as stream:  # of a process that was killed before their entries were written
        stream.write(b"junk" * 1000)
    (tmp_path / "nobody.pixels").write_bytes(b"pixels")
    (tmp_path / "empty.index").write_bytes(b"half an entry")
    (tmp_path / "empty.pixels").write_bytes(b"pixels")
    before = LayoutStore(tmp_path, SIDE)
    assert there(before, [0, 1]) == [0, 1]
    clean(tmp_path, SIDE)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".index", ".pixels"]
    assert pixels.read_bytes() == content
    assert there(before, [0, 1]) == there(LayoutStore(tmp_path, SIDE), [0, 1]) == [0, 1]


def test_what_a_fault_leaves_takes_no_disk_and_what_was_brought_there_stays(tmp_path: Path) -> None:
    def broken(error: BaseException) -> None:
        with SegmentWriter(tmp_path, SIDE) as segment:
            for number in (0, 1, 2):
                segment.add(digest(number), layout(number))
            segment.commit()
            segment.add(digest(3), layout(3))
            raise error

    with pytest.raises(OSError, match="No space"):
        broken(OSError(errno.ENOSPC, "No space left on device"))
    size = only(tmp_path, ".pixels").stat().st_size
    assert there(LayoutStore(tmp_path, SIDE), range(4)) == [0, 1, 2]
    assert size == sum(-(-(SIDE**2) * bytes_of_pixel // 64) * 64 for bytes_of_pixel in (1, 4, 1))
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        broken(KeyboardInterrupt())  # all that was done is kept
    assert there(LayoutStore(tmp_path, SIDE), range(4)) == [0, 1, 2, 3]


def test_entries_follow_when_enough_pixels_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_store, "COMMIT_BYTES", 1000)
    with SegmentWriter(tmp_path, SIDE) as segment:
        segment.add(digest(0), layout(0))
        assert len(LayoutStore(tmp_path, SIDE)) == 0
        segment.add(digest(1), layout(1))
        assert there(LayoutStore(tmp_path, SIDE), [0, 1]) == [0, 1]


def test_other_processes_read_the_same(tmp_path: Path) -> None:
    write(tmp_path, range(6))
    store = LayoutStore(tmp_path, SIDE)
    assert there(store, range(6)) == list(range(6))
    assert len(pickle.dumps(store)) < 6 * 200
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(total, (store,)) == total(store)
    assert total(pickle.loads(pickle.dumps(store))) == total(store)  # noqa: S301  # its own


def total(store: LayoutStore) -> int:
    return sum(int(stored.sample["segmentation"].sum()) for place in range(len(store)) if (stored := store.read(place)))
