"""Layouts are made ready once, by whoever comes first, and never wrong."""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from imginav import UserError
from imginav_datasets import preparing
from imginav_datasets.layout_store import SegmentWriter, Stored, as_digests
from imginav_datasets.preparing import Prepared, in_processes, in_threads, prepare

SIDE = 16


class Maker:
    """Makes layouts that are their number all over, and notes which."""

    def __init__(self, numbers: Sequence[int], pause: float = 0.0) -> None:
        self.digests = [hashlib.sha256(str(number).encode()).digest() for number in numbers]
        self.numbers = list(numbers)
        self.made: list[int] = []
        self.said: list[str] = []
        self._pause = pause

    def __call__(self, indices: Sequence[int]) -> Iterator[tuple[bytes, Stored]]:
        for index in indices:
            time.sleep(self._pause)
            self.made.append(self.numbers[index])
            yield self.digests[index], Stored(np.full((SIDE, SIDE), self.numbers[index], np.uint8), None)

    def prepare(self, cache: Path, *origin: object) -> Prepared:
        return prepare(cache, origin, SIDE, as_digests(self.digests), self, self.said.append)


def numbers_in(prepared: Prepared) -> list[int | None]:
    found = [prepared.read(index) for index in range(len(prepared.places))]
    return [int(stored.sample["segmentation"][3, 3]) if stored else None for stored in found]


def store_in(cache: Path) -> Path:
    (folder,) = cache.iterdir()
    return folder


def test_only_what_is_missing_is_made_and_only_then_anything_is_said(tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    first, again, more = Maker(range(5)), Maker(range(5)), Maker([9, 3, 4, 9, 7])
    assert numbers_in(first.prepare(cache)) == [0, 1, 2, 3, 4]
    assert first.said == [f"prepares 5 layouts (1.6e-06 GB), once, in {store_in(cache)}"]
    assert numbers_in(again.prepare(cache)) == [0, 1, 2, 3, 4]
    assert (again.made, again.said) == ([], [])
    assert numbers_in(more.prepare(cache)) == [9, 3, 4, 9, 7]
    assert more.made == [9, 7]
    assert "is deleted" in (store_in(cache) / "about.txt").read_text()


def test_what_cannot_be_made_is_not_there(tmp_path: Path) -> None:
    maker = Maker([1, 2, 3])
    maker.digests[1] = b""
    assert numbers_in(maker.prepare(tmp_path)) == [1, None, 3]
    assert maker.made == [1, 3]


def test_what_pixels_depend_on_keeps_stores_apart(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("draws")
    cache = tmp_path / "cache"
    for origin in ((8, code), (9, code)):
        assert Maker([1]).prepare(cache, *origin).places.tolist() == [0]
    code.write_text("draws otherwise")
    changed = Maker([1])
    changed.prepare(cache, 8, code)
    assert changed.made == [1]
    assert len(list(cache.iterdir())) == 3


def test_one_process_makes_and_the_other_waits(tmp_path: Path) -> None:
    makers = [Maker(range(8), pause=0.05), Maker(range(10))]
    first = threading.Thread(target=makers[0].prepare, args=(tmp_path,))
    first.start()
    while not makers[0].made:
        time.sleep(0.01)
    assert numbers_in(makers[1].prepare(tmp_path)) == list(range(10))
    first.join()
    assert makers[1].made == [8, 9]
    assert makers[1].said[0] == f"waits for another process, which prepares layouts in {store_in(tmp_path)}"
    assert makers[1].said[1].startswith("prepares 2 layouts")


BUILDER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_preparing import Maker
Maker(range(200), pause=0.005).prepare(Path(sys.argv[1]))
"""


def builder(cache: Path) -> subprocess.Popen[bytes]:
    code = BUILDER.format(tests=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", code, str(cache)])


def bytes_in(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.glob("*/*.pixels"))


def test_two_processes_at_once_make_everything_once(tmp_path: Path) -> None:
    processes = [builder(tmp_path), builder(tmp_path)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert bytes_in(tmp_path) == 200 * SIDE**2
    last = Maker(range(200))
    assert numbers_in(last.prepare(tmp_path)) == list(range(200))
    assert last.made == []


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_preparing import Maker
from imginav_datasets import layout_store
layout_store.COMMIT_BYTES = 10 * 256

class Killed(Maker):
    def __call__(self, indices):
        for number, made in enumerate(super().__call__(indices)):
            if number == 37:
                os.kill(os.getpid(), signal.SIGKILL)
            yield made

Killed(range(50)).prepare(Path(sys.argv[1]))
"""


def test_a_killed_builder_is_gone_on_from(tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent))
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -signal.SIGKILL
    (pixels,) = store_in(tmp_path).glob("*.pixels")
    with pixels.open("ab") as stream:  # what had no entry yet, some of it not even whole
        stream.write(b"x" * 1000)
    after = Maker(range(50))
    assert numbers_in(after.prepare(tmp_path)) == list(range(50))
    assert after.made == list(range(30, 50))
    assert bytes_in(tmp_path) == 50 * SIDE**2


def test_a_damaged_store_is_made_anew(tmp_path: Path) -> None:
    Maker([5, 6]).prepare(tmp_path)
    (pixels,) = store_in(tmp_path).glob("*.pixels")
    content = bytearray(pixels.read_bytes())
    content[3] = 9
    pixels.write_bytes(content)
    assert numbers_in(Maker([5, 6]).prepare(tmp_path)) == [None, 6]  # which are read where they came from
    after = Maker([5, 6])
    assert numbers_in(after.prepare(tmp_path)) == [5, 6]
    assert after.made == [5, 6]
    assert bytes_in(tmp_path) == 2 * SIDE**2


# The disk


def test_a_disk_that_is_too_small_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda path: SimpleNamespace(free=2e6))
    maker = Maker(range(5))
    with pytest.raises(UserError) as caught:
        maker.prepare(tmp_path)
    assert str(caught.value) == (
        f"machine.cache = {str(tmp_path)!r}: has 0.002 GB free, and layouts ready to be read take 1.6e-06 GB; name a "
        'folder elsewhere, machine.cache = "/another/folder", or keep nothing, machine.cache = false'
    )
    assert maker.made == []


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, r"No space left on device before all layouts were ready; name a folder elsewhere, machine\.c"),
        (errno.EROFS, r"Read-only file system; name a folder elsewhere, machine\.cache = \"/another/folder\", or keep"),
    ],
)
def test_a_disk_that_refuses_is_a_sentence_and_can_be_tried_again(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: SegmentWriter, digest: bytes, layout: Stored) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(SegmentWriter, "add", refuse)
    with pytest.raises(UserError, match=rf"^machine\.cache = '.*': .*: {said}"):
        Maker(range(5)).prepare(tmp_path)
    monkeypatch.undo()
    assert bytes_in(tmp_path) == 0
    assert numbers_in(Maker(range(5)).prepare(tmp_path)) == list(range(5))


def test_a_file_in_the_place_of_the_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"machine.cache = '.*cache': cannot be used: Not a directory; name a folder"):
        Maker([1]).prepare(tmp_path / "cache")


def test_a_whole_store_needs_nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Maker(range(3)).prepare(tmp_path)

    def refuse(*args: object, **keys: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "write_text"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert numbers_in(Maker([2, 0]).prepare(tmp_path)) == [2, 0]


def test_a_disk_without_locks_serves_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    cleaned: list[Path] = []
    monkeypatch.setattr(fcntl, "flock", unknown)
    monkeypatch.setattr(preparing, "clean", lambda folder, side: cleaned.append(folder))
    assert numbers_in(Maker(range(3)).prepare(tmp_path)) == [0, 1, 2]
    assert cleaned == []  # another process may be writing what looks like nobody's


# Many at a time


@pytest.mark.parametrize("mapped", [in_threads, in_processes])
def test_many_items_keep_their_order(mapped: Callable[..., Iterator[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "AT_ONCE", 7)
    assert list(mapped(abs, range(-20, 0))) == list(range(20, 0, -1))
    assert list(mapped(abs, [])) == []


@pytest.mark.parametrize(("mapped", "soon"), [(in_threads, 2.5), (in_processes, 10.0)])
def test_who_leaves_does_not_wait_for_all_the_rest(mapped: Callable[..., Iterator[Any]], soon: float) -> None:
    results = mapped(_slowly, range(1000))
    assert next(results) == 0
    start = time.monotonic()
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert time.monotonic() - start < soon  # in seconds; all would take three in threads, and 25 on two cores


def _slowly(number: int) -> int:
    time.sleep(0.05 if number else 0)
    return number


def _leave_unless(parent: int, number: int) -> int:
    if number == 5 and os.getpid() != parent:
        os._exit(1)
    return number


def test_where_a_process_is_ended_the_rest_is_computed_here() -> None:
    assert list(in_processes(functools.partial(_leave_unless, os.getpid()), range(40))) == list(range(40))


def test_an_error_in_a_thread_comes_out(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda number: 1 // number, [1, 0]))
