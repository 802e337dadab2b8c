"""Files are whole or absent."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from stat import S_ISDIR

import pytest

from imginav import UserError, files
from imginav.files import remove_stale_parts, write_bytes, write_text
from imginav.runs.run_folder import RunFolder


def names(folder: Path) -> list[str]:
    """Return all that lies in a folder, hidden files as well."""
    return sorted(os.listdir(folder))  # noqa: PTH208  # iterdir() gives no order


def test_a_file_takes_the_place_of_the_old_one_when_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "old")
    order = []

    def replace(self: Path, target: Path) -> Path:
        order.append("renamed")
        assert path.read_text() == "old"
        assert self.read_text() == "new"
        return Path(os.rename(self, target) or target)  # noqa: PTH104  # Path.replace is what is watched

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(
        os, "fsync", lambda handle: order.append("folder" if S_ISDIR(os.fstat(handle).st_mode) else "file")
    )
    write_text(path, "new")
    assert path.read_text() == "new"
    assert order == ["file", "renamed", "folder"]
    assert names(path.parent) == ["b.txt"]


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    write_text(path, "old")
    with path.open() as reader:
        write_text(path, "new")
        assert reader.read() == "old"


def test_the_old_file_can_be_kept_under_another_name(tmp_path: Path) -> None:
    path, before = tmp_path / "latest", tmp_path / "previous"
    for text in ("1", "2", "3"):
        write_bytes(path, text.encode(), keep=before)
    assert (path.read_text(), before.read_text()) == ("3", "2")


def fail(monkeypatch: pytest.MonkeyPatch, code: int, times: int = 1000) -> list[int]:
    """Let the first writes of files fail with an error of the system; return a list that grows with each."""
    failures: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        if len(failures) < times:
            failures.append(code)
            raise OSError(code, os.strerror(code))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return failures


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, r"cannot write .*b.txt: No space left on device; free some space, and give the same command"),
        (errno.EDQUOT, r"cannot write .*b.txt: Disk quota exceeded; free some space, and give the same command again"),
        (errno.EIO, r"cannot write .*b.txt: Input/output error; choose another folder, in \[output\]"),
    ],
)
def test_a_disk_that_refuses_is_one_sentence_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    path = tmp_path / "b.txt"
    write_text(path, "old")
    monkeypatch.setattr(files, "DISK_FULL_WAITS_SECONDS", ())
    fail(monkeypatch, code)
    with pytest.raises(UserError, match=message):
        write_bytes(path, b"new", keep=tmp_path / "kept")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["b.txt"]


def test_a_full_disk_is_tried_again_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "b.txt"
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    failures = fail(monkeypatch, errno.ENOSPC, times=3)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert len(failures) == 3
    assert waits == list(files.DISK_FULL_WAITS_SECONDS[:3])
    assert "b.txt: No space left on device; tries again in 1 s" in capsys.readouterr().err
    # Any other fault of the disk does not go away by waiting, and not everyone can wait.
    for code, patient in ((errno.EIO, True), (errno.ENOSPC, False)):
        waits.clear()
        fail(monkeypatch, code)
        with pytest.raises(UserError):
            write_text(path, "newer", patient=patient)
        assert waits == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory; choose another folder in \\[output\\]"):
        RunFolder(tmp_path / "file" / "run", tmp_path / "group", "run").begin()


def test_an_earlier_run_is_moved_aside_and_never_overwritten(tmp_path: Path) -> None:
    kept = []
    for number in range(3):
        folder = RunFolder(tmp_path / "run", tmp_path / "group", "run")
        kept.append(folder.begin())
        write_text(folder.metrics, str(number))
    assert kept == [None, tmp_path / "run.1", tmp_path / "run.2"]
    contents = [(tmp_path / name / "run_metrics.csv").read_text() for name in ("run.1", "run.2", "run")]
    assert contents == ["0", "1", "2"]


def test_files_have_the_names_that_the_users_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "x", tmp_path / "shared", "phase1_5_AE_final")
    assert folder.metrics.name == "phase1_5_AE_final_metrics.csv"
    assert folder.best_checkpoint.name == "phase1_5_AE_final_checkpoint_best.pt"
    assert folder.latest_checkpoint.name == "phase1_5_AE_final_checkpoint_latest.pt"
    assert folder.samples(5) == tmp_path / "x" / "samples" / "epoch_005.png"
    assert folder.manifest.name == "manifest.toml"


def test_a_shared_file_says_in_its_name_which_experiment_it_is_of(tmp_path: Path) -> None:
    one, other = (RunFolder(tmp_path / name, tmp_path / "group", name) for name in ("ae_L1", "ae_L2"))
    for folder in (one, other):
        folder.begin()
        for path in (folder.samples(1), folder.metrics):
            write_text(path, folder.experiment)
            folder.share(path)
    assert (one.shared / "samples" / "ae_L1_epoch_001.png").read_text() == "ae_L1"
    assert (one.shared / "samples" / "ae_L2_epoch_001.png").read_text() == "ae_L2"
    assert (one.shared / "ae_L1_metrics.csv").read_text() == "ae_L1"


def test_what_an_earlier_run_has_shared_does_not_mix_with_the_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "own", tmp_path / "shared", "run")
    folder.begin()
    for epoch in (5, 8):
        write_text(folder.samples(epoch), f"picture {epoch}")
        folder.share(folder.samples(epoch))
    changed_since = folder.shared / "samples" / "run_epoch_008.png"
    write_text(changed_since, "another picture")
    moved = folder.begin()
    assert moved is not None
    assert (moved / "samples" / "epoch_005.png").read_text() == "picture 5"
    assert [path.name for path in (folder.shared / "samples").iterdir()] == ["run_epoch_008.png"]
    assert changed_since.read_text() == "another picture"


def test_numbered_checkpoints_are_ordered_by_epoch(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, tmp_path, "run")
    for epoch in (1000, 5, 40):
        write_text(folder.numbered_checkpoint(epoch), "")
    # A person has kept a copy.
    write_text(folder.numbered_checkpoint(5).with_stem("run_checkpoint_epoch_005_good"), "")
    assert [path.stem.rpartition("_")[2] for path in folder.numbered_checkpoints()] == ["005", "040", "1000"]


def test_a_run_that_has_not_come_far_leaves_nothing_to_keep(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", tmp_path / "group", "run")
    for path in (folder.manifest, folder.record):
        write_text(path, "")
    (folder.root / f".{folder.metrics.name}.x.part").write_text("half")
    assert folder.begin() is None
    assert names(folder.root) == ["manifest.toml", "run.json"]
    write_text(folder.metrics, "")
    assert folder.begin() == tmp_path / "run.1"


def test_what_a_killed_run_left_half_written_is_removed_where_it_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "own", tmp_path / "shared", "run")
    folder.begin()
    write_text(folder.samples(1), "whole")
    (folder.root / "samples" / ".epoch_002.png.abc.part").write_text("half")
    (folder.shared / ".run_metrics.csv.abc.part").write_text("half")
    (tmp_path / "run_2").mkdir()
    others = [".other_metrics.csv.abc.part", ".run_2_metrics.csv.abc.part"]
    for name in others:
        (folder.shared / name).write_text("another run is writing it")
    folder.reopen()
    assert names(folder.root / "samples") == ["epoch_001.png"]
    assert names(folder.shared) == others


def test_only_parts_that_nobody_can_be_writing_are_removed(tmp_path: Path) -> None:
    fresh, stale, whole = (tmp_path / name for name in (".winner.toml.a.part", ".winner.toml.b.part", "winner.toml"))
    for path in (fresh, stale, whole):
        path.write_text("")
        os.utime(path, (0, 0) if path is not fresh else None)
    remove_stale_parts(tmp_path)
    remove_stale_parts(tmp_path / "not there")
    assert sorted(tmp_path.iterdir()) == [fresh, whole]
