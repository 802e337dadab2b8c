"""What a user types for a phase, and the file that is meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imginav import UserError, cli, load_phase
from imginav.cli import main
from imginav.study import phase_files
from imginav.study.phase_files import (
    find_phase,
    packaged_phases,
    phase_file,
    phase_or_folder,
    study_folder,
    study_path,
)

ROOT = Path(__file__).parents[3]
PACKAGED = ROOT / "phases"

OWN = '[phase]\nid = "{}"\nexperiment = "own"\ngroup = "own"\n'


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, number: str = "1.5") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(OWN.format(number))
    return Path(path)


def test_in_a_checkout_the_packaged_phases_are_those_at_its_top() -> None:
    assert packaged_phases() == PACKAGED


def test_in_a_wheel_the_packaged_phases_are_inside_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phase_files, "__file__", str(tmp_path / "site-packages/imginav/study/phase_files.py"))
    inside = tmp_path / "site-packages/imginav/phases"
    assert packaged_phases() == inside  # which a message can name
    inside.mkdir(parents=True)
    (tmp_path / "phases").mkdir()
    assert packaged_phases() == inside


@pytest.mark.parametrize("text", ["1.5", "1_5", "1_5.toml", "1.5.toml", "phases/1.5", "phases/1_5.toml"])
def test_a_number_is_that_of_a_packaged_phase(text: str) -> None:
    assert phase_file(text) == PACKAGED / "1_5.toml"


def test_a_name_may_lead_into_a_folder() -> None:
    assert phase_file("baseline/1_5_original") == PACKAGED / "baseline/1_5_original.toml"
    assert phase_file("baseline/1.5") == PACKAGED / "baseline/1_5_original.toml"


def test_a_path_is_that_path_whatever_else_has_its_name() -> None:
    write("1.5/anything.toml")
    assert phase_file("1.5") == Path("1.5")
    assert phase_file(str(PACKAGED / "1_1.toml")) == PACKAGED / "1_1.toml"
    assert phase_file(str(PACKAGED / "1.1")) == PACKAGED / "1_1.toml"


def test_the_phases_of_the_working_folder_come_first() -> None:
    here = write("final.toml")
    assert phase_file("1.5") == phase_file("final") == here
    assert phase_file("1.4") == PACKAGED / "1_4.toml"
    there = write("phases/last.toml")
    assert phase_file("1.5") == there
    assert phase_file("final") == here
    assert phase_file("phases/1.5") == there
    with pytest.raises(UserError, match=r"^phases/1_4.toml: no such file or phase"):
        phase_file("phases/1_4.toml")  # the working folder has phases, and not this one


def test_the_name_of_a_file_goes_before_a_number() -> None:
    write("phases/other.toml")
    named = write("phases/1_5.toml")
    assert phase_file("1.5") == named


def test_a_number_of_two_phases_is_refused() -> None:
    write("phases/one.toml", "7")
    write("phases/two.toml", "7")
    with pytest.raises(UserError, match=r"^phases/one.toml and phases/two.toml are both phase 7; name the file$"):
        phase_file("7")


def test_what_is_no_phase_has_no_name_and_harms_none() -> None:
    Path("imginav.toml").write_text('[data]\ntype = "procedural"\n')
    Path("phases").mkdir()
    Path("phases/base.toml").write_text("[data]\n")
    Path("phases/odd.toml").write_text("phase = 3\n")
    Path("phases/broken.toml").write_text("[phase\n")
    Path("phases/number.toml").write_text("phase = { id = 1.5 }\n")
    assert phase_file("1.5") == PACKAGED / "1_5.toml"
    assert phase_file("broken") == Path("phases/broken.toml")  # whoever loads it says what is wrong
    with pytest.raises(UserError, match=r"^imginav.*: no such file or phase"):
        phase_file("imginav")
    with pytest.raises(UserError, match=r"^base: no such file or phase"):
        phase_file("base")


def test_an_unknown_phase_is_one_sentence_with_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "1.6"]) == 2
    assert capsys.readouterr().err == (
        "imginav: 1.6: no such file or phase, did you mean '1.5'?; there are 1.1, 1.2, 1.3, 1.4, 1.5, "
        f"baseline/1_5_original, rgb/1_5 in {PACKAGED}; imginav init copies these into a folder of yours\n"
    )
    write("phases/9.toml", "9")
    with pytest.raises(UserError, match=r"^8: no such file or phase; there are 9 in phases and 1\.1, .* in \S+$"):
        phase_file("8")
    shutil.copytree(PACKAGED, "phases", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"^phases/1_6.toml: .*, did you mean '1\.5'\?; there are .* in phases$"):
        phase_file("phases/1_6.toml")


@pytest.mark.parametrize("text", ["x" * 300, "a\0b", "", "."])
def test_what_can_be_no_name_is_left_to_whoever_reads_it_or_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", text]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_folder_of_phases_may_be_the_packaged_one() -> None:
    assert study_path("phases") == study_path("phases/") == PACKAGED
    assert phase_or_folder("phases/") == PACKAGED
    assert phase_or_folder("baseline") == study_path("phases/baseline") == PACKAGED / "baseline"
    assert phase_or_folder("1.5") == PACKAGED / "1_5.toml"
    assert study_path("nowhere") == Path("nowhere")
    Path("phases").mkdir()
    assert study_path("phases") == Path("phases")
    with pytest.raises(UserError, match=r"^nowhere: no such file or phase"):
        phase_or_folder("nowhere")


def test_a_command_without_a_path_means_the_phases_of_the_working_folder_or_else_the_packaged_ones() -> None:
    Path("imginav.toml").write_text("[data\n")
    assert study_folder() == PACKAGED
    write("own.toml")
    assert study_folder() == Path()
    Path("phases").mkdir()
    assert study_folder() == Path("phases")


def test_only_what_exists_is_found() -> None:
    assert find_phase("1.5") == PACKAGED / "1_5.toml"
    assert find_phase("handoff") is None
    assert find_phase(str(Path("away").absolute() / "1.5")) is None


def test_commands_take_numbers_and_folders(capsys: pytest.CaptureFixture[str]) -> None:
    Path("phases").mkdir()
    for name in ("base.toml", "1_5.toml"):
        shutil.copy(PACKAGED / name, Path("phases") / name)
    for command in (["check", "1.5"], ["check"]):
        assert main([*command, "--set", "data.count=20"]) == 0
        assert capsys.readouterr().out.startswith("phases/1_5.toml: ")
    assert main(["status"]) == 0
    assert main(["probe", "1.5"]) == 2
    assert "phases/1_5.toml: none of its experiments has finished" in capsys.readouterr().err
    assert main(["probe", "handoff"]) == 2
    assert capsys.readouterr().err.startswith("imginav: handoff: is neither a file or folder here nor a run in outputs")
    assert main(["logs", "1.5"]) == 2
    assert "has had no job; submit it by imginav submit phases/1_5.toml" in capsys.readouterr().err
    for command in (["submit", "--dry-run"], ["submit", "1.5", "--dry-run"]):
        assert main(command) == 2
        assert "phases/1_5.toml: there is no [cluster]" in capsys.readouterr().err
    assert main(["study", "nowhere"]) == 2


def test_a_phase_is_loaded_by_its_number_in_commands_of_plugins_too() -> None:
    options = cli._parser(cli._commands()).parse_args(["plan", "1.5"])
    options.stop_request = None
    assert load_phase("1.5", options).id == "1.5"
