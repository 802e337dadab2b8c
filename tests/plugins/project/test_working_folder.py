"""`imginav init`: a folder with the packaged phases and a site file that changes nothing."""

from __future__ import annotations

import filecmp
import re
from pathlib import Path

import pytest
import tomli

from imginav.cli import main
from imginav.manifest.loading import load_phase
from imginav.manifest.site import keys_not_allowed_in_site
from imginav.plugin.registry import Registry
from imginav.study.phase_files import packaged_phases
from imginav_project import working_folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examples() -> str:
    """Return the site file with every example of it in force."""
    text = Path("imginav.toml").read_text()
    return re.sub(r"^# ?(?=\[|\w+ = )", "", text, flags=re.MULTILINE)


def differences(compared: filecmp.dircmp[str]) -> list[str]:
    found = [*compared.left_only, *compared.right_only, *compared.diff_files, *compared.funny_files]
    return found + [name for part in compared.subdirs.values() for name in differences(part)]


def test_it_writes_all_packaged_phases_and_says_what_to_type_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "demo"]) == 0
    assert capsys.readouterr().out == (
        "wrote demo/phases/ (the phases, to run and to change) and demo/imginav.toml (your images, where files go, the "
        "GPU)\n"
        "\n"
        "next:\n"
        "  cd demo && imginav run 1.5 --quick    # train an autoencoder on embedded layouts, to see that all is well\n"
        "  imginav check    # after each change of a phase or of imginav.toml\n"
        "  imginav study    # all phases, one after the other\n"
    )
    assert differences(filecmp.dircmp(packaged_phases(), "demo/phases")) == []
    assert sorted(path.name for path in Path("demo").iterdir()) == ["imginav.toml", "phases"]


def test_the_present_folder_needs_no_cd(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").write_text("something else")
    assert main(["init"]) == 0
    assert "\n  imginav run 1.5 --quick " in capsys.readouterr().out
    assert Path("phases/1_5.toml").is_file()


def test_the_site_file_leaves_every_value_as_it_is(registry: Registry) -> None:
    without = load_phase(packaged_phases() / "1_5.toml", registry).experiments[0]
    assert main(["init"]) == 0
    assert tomli.loads(Path("imginav.toml").read_text()) == {}
    written = load_phase(Path("phases/1_5.toml"), registry).experiments[0]
    assert written.tables == without.tables


def test_every_example_of_the_site_file_is_right(registry: Registry) -> None:
    assert main(["init"]) == 0
    Path("imginav.toml").write_text(examples())
    tables = tomli.loads(examples())
    assert sorted(tables) == ["callbacks", "cluster", "data", "machine", "output"]
    assert not keys_not_allowed_in_site(tables)
    phase = load_phase(Path("phases/1_5.toml"), registry)
    assert phase.experiments[0].manifest.data.count is None
    assert phase.experiments[0].tables["data"]["manifest"] == "layouts.csv"
    assert phase.profiles


@pytest.mark.parametrize("name", ["phases", "imginav.toml"])
def test_nothing_is_overwritten(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("demo").mkdir()
    (Path("demo") / name).write_text("mine")
    assert main(["init", "demo"]) == 2
    assert capsys.readouterr().err == (
        f"imginav: demo/{name} exists, and imginav init overwrites nothing; move it away, or name another folder\n"
    )
    assert [path.name for path in Path("demo").iterdir()] == [name]
    assert (Path("demo") / name).read_text() == "mine"


def test_a_second_time_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "demo"]) == 0
    assert main(["init", "demo"]) == 2
    assert "demo/phases exists" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert main(["init", "file"]) == 2
    assert capsys.readouterr().err.startswith("imginav: cannot write file/phases: ")


def test_a_copy_that_fails_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(working_folder, "packaged_phases", lambda: tmp_path / "away")
    assert main(["init", "demo"]) == 2
    assert capsys.readouterr().err.startswith(f"imginav: cannot copy {tmp_path / 'away'} to demo/phases: ")
    assert list(Path("demo").iterdir()) == []
