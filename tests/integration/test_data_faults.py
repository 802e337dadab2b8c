"""Layouts that cannot be used, from the command line to the end of a run."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from imginav_tests.phase1_5 import PHASE, SETTINGS
from imginav_tests.png import png_of

SMALL = ("data.type=layouts", *SETTINGS)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("no_pages")]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def faulty(layouts: Path) -> Path:
    """Return the list of twelve layouts, two of them broken in their middle, and after them nine that are worse."""
    folder = layouts.parent
    for number in (1, 6):
        whole = bytearray((folder / f"layout {number}.png").read_bytes())
        whole[60:80] = bytes(20)
        (folder / f"layout {number}.png").write_bytes(whole)
    (folder / "cut off.png").write_bytes((folder / "layout 2.png").read_bytes()[:-30])
    (folder / "empty.png").touch()
    (folder / "a folder").mkdir()
    (folder / "bomb.png").write_bytes(png_of(100_000, 100_000, b""))  # of a hundred bytes
    os.mkfifo(folder / "pipe.png")
    (folder / "no image.png").write_text("no image")
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    red.save(folder / "moving.gif", save_all=True, append_images=[blue])
    with layouts.open("a", newline="") as stream:
        for path in ("cut off.png", "empty.png", "a folder", "bomb.png", "pipe.png", "no image.png", "moving.gif"):
            stream.write(f"{path},room\r\n")
        stream.write("gone.png,room\r\n,room\r\nlayout 2.png,room\r\n")
    return layouts


def test_a_run_ends_well_without_what_cannot_be_used_where_it_is_to_be_skipped(
    imginav: Run, faulty: Path, tmp_path: Path
) -> None:
    done = imginav("run", PHASE, settings=[*SMALL, f"data.manifest={faulty}", "data.on_bad=skip", "train.epochs=1"])
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "Warning" not in done.stderr
    assert (
        f"20 layouts from {faulty}, 1 listed again and taken once, 1 left out because they cannot be used (1 without a "
        "path), 8 whose files cannot be used (1 cut off, 1 empty, 1 a folder, 1 too large, 1 a pipe or device, 1 no "
        "image, 1 several pictures in one file, 1 missing)"
    ) in " ".join(done.stdout.split())
    own = tmp_path / "outputs" / "phase1_5_AE_final"
    assert json.loads((own / "run.json").read_text())["state"] == "finished"
    notes = json.loads((own / "evaluation.json").read_text())["notes"]
    assert len(notes) == 9 + 2
    assert f"{faulty}: line 17: {faulty.parent / 'bomb.png'} cannot be read (too large)" in notes
    for number in (1, 6):
        path = faulty.parent / f"layout {number}.png"
        assert any(note.startswith(f"{faulty}: line {number + 2}: {path} cannot be read (") for note in notes)


def test_by_default_they_end_it_before_training_with_one_message(imginav: Run, faulty: Path, tmp_path: Path) -> None:
    done = imginav("run", PHASE, settings=[*SMALL, f"data.manifest={faulty}"])
    assert done.returncode == 2
    heading, *rows = done.stderr.splitlines()
    assert heading.startswith(f"imginav: {faulty}: 9 of 21 layouts cannot be used (1 cut off, 1 empty, ")
    assert [row.split(":")[0] for row in rows] == [f"  line {number}" for number in range(14, 23)]
    assert not (tmp_path / "outputs").exists()


def test_a_disk_that_goes_away_between_two_epochs_is_one_sentence(imginav: Run, layouts: Path, tmp_path: Path) -> None:
    (tmp_path / "imginav_gone.py").write_text(GOES_AWAY)
    info = tmp_path / "imginav_gone-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: imginav-gone\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[imginav]\ngone = imginav_gone\n")
    settings = [*SMALL, f"data.manifest={layouts}", "data.on_bad=skip", "machine.workers=1", "callbacks.samples=false"]
    settings.append("machine.cache=false")  # from which they would be read to the end
    done = imginav("run", PHASE, settings=[*settings, f"callbacks.gone={{ folder = {str(layouts.parent)!r} }}"])
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "none of the layouts can be read any more, so that data.on_bad = 'skip' leaves nothing: " in done.stderr


GOES_AWAY = '''
import shutil

from attrs import frozen

from imginav import Callback, hookimpl


@frozen(kw_only=True)
class Gone(Callback):
    """Takes the layouts away after the first epoch."""

    folder: str  # that they lie in

    @hookimpl
    def epoch_finished(self, trainer):
        shutil.rmtree(self.folder, ignore_errors=True)


@hookimpl
def imginav_components(registry):
    registry.add("callback", "gone", Gone)
'''
