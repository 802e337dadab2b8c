"""What lies in an export: whether it is whole."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from imginav import UserError
from imginav.plugin.registry import Registry
from imginav_handoff.export_folder import (
    check_digests,
    is_export,
    load_export_record,
    open_export,
    write_digests,
)
from imginav_tests.exports import export_record

RECORD = export_record()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of two files, one of them further down, with their digests."""
    folder = tmp_path / "out"
    (folder / "inside").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "inside" / "b.txt").write_text("two")
    write_digests(folder)
    return folder


def test_digests_are_those_of_the_files_and_others_can_check_them(folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert lines[0] == f"{hashlib.sha256(b'one').hexdigest()}  a.txt"
    assert check_digests(folder) == len(lines) == 2
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)  # noqa: S607
    assert done.returncode == 0, done.stderr


def test_whatever_is_not_as_it_was_is_named_at_once(folder: Path) -> None:
    (folder / "a.txt").write_text("One")
    (folder / "inside" / "b.txt").unlink()
    (folder / "c.txt").write_text("three")
    with pytest.raises(UserError) as error:
        check_digests(folder)
    assert "inside/b.txt is missing; c.txt was not there when it was written; a.txt is not what" in str(error.value)


@pytest.mark.parametrize("text", ["nonsense\n", "0123  a.txt\n", "\n"])
def test_a_list_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "SHA256SUMS").write_text(text)
    with pytest.raises(UserError, match="SHA256SUMS: is no list of digests"):
        check_digests(folder)


def test_a_missing_list_is_refused(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="SHA256SUMS: cannot be read"):
        check_digests(folder)


def test_the_record_is_read_back(tmp_path: Path) -> None:
    assert not is_export(tmp_path)
    RECORD.save(tmp_path / "export.json")
    assert is_export(tmp_path)
    assert load_export_record(tmp_path) == RECORD


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 99}'])
def test_a_record_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(UserError, match=r"export\.json: cannot be read .*; export it again"):
        load_export_record(tmp_path)


def test_a_format_that_is_not_installed_is_named(tmp_path: Path, registry: Registry) -> None:
    table = (tmp_path / "export.json", RECORD)
    table[1].save(table[0])
    table[0].write_text(table[0].read_text().replace("safetensors", "safetensor"))
    write_digests(tmp_path)
    with pytest.raises(UserError, match="no exporter 'safetensor' is installed, did you mean 'safetensors'"):
        open_export(tmp_path, registry)
