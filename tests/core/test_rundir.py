"""Files are whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from imginav import UserError
from imginav.rundir import RunFolder, atomic_write, write_text


def test_a_file_takes_the_place_of_the_old_one_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "old")
    with atomic_write(path) as stream:
        stream.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["b.txt"]  # noqa: PTH208  # hidden files count as well


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    write_text(path, "old")
    with path.open() as reader:
        write_text(path, "new")
        assert reader.read() == "old"


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    write_text(path, "old")

    def fail_half_way() -> None:
        with atomic_write(path) as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.txt"
    write_text(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*b.txt: No space left on device; free some space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory; choose another folder in \\[output\\]"):
        RunFolder(tmp_path / "file" / "run", tmp_path / "group", "run").make()


def test_an_earlier_run_is_moved_aside_and_never_overwritten(tmp_path: Path) -> None:
    kept = []
    for number in range(3):
        folder = RunFolder(tmp_path / "run", tmp_path / "group", "run")
        kept.append(folder.make())
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
        folder.make()
        for path in (folder.samples(1), folder.metrics):
            write_text(path, folder.experiment)
            folder.share(path)
    assert (one.shared / "samples" / "ae_L1_epoch_001.png").read_text() == "ae_L1"
    assert (one.shared / "samples" / "ae_L2_epoch_001.png").read_text() == "ae_L2"
    assert (one.shared / "ae_L1_metrics.csv").read_text() == "ae_L1"


def test_what_an_earlier_run_has_shared_does_not_mix_with_the_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "own", tmp_path / "shared", "run")
    folder.make()
    for epoch in (5, 8):
        write_text(folder.samples(epoch), f"picture {epoch}")
        folder.share(folder.samples(epoch))
    changed_since = folder.shared / "samples" / "run_epoch_008.png"
    write_text(changed_since, "another picture")
    moved = folder.make()
    assert moved is not None
    assert (moved / "samples" / "epoch_005.png").read_text() == "picture 5"
    assert [path.name for path in (folder.shared / "samples").iterdir()] == ["run_epoch_008.png"]
    assert changed_since.read_text() == "another picture"


def test_numbered_checkpoints_are_ordered_by_epoch(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, tmp_path, "run")
    for epoch in (1000, 5, 40):
        write_text(folder.numbered_checkpoint(epoch), "")
    assert [path.stem.rpartition("_")[2] for path in folder.numbered_checkpoints()] == ["005", "040", "1000"]
