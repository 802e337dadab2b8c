"""`imginav check`: what is right, what waits for winners, and that nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from imginav import cli
from imginav.errors import UserError
from imginav.manifest.fingerprints import LayoutsFingerprint
from imginav.manifest.resolved import ResolvedPhase
from imginav.plugin.registry import Registry
from imginav.study.phases import Options
from imginav.study.selection import data_fingerprints
from imginav_inspect.phase_check import Checked, Faults, check_phases, report_faults
from imginav_tests.records import winner

EARLIER = """
[sweep]
selector = { type = "best" }
[sweep.experiments]
L1 = { "encoder.latent_channels" = 2 }
L2 = { "encoder.latent_channels" = 4 }
"""

TAKES = '[winners]\n"1.1" = ["encoder.latent_channels"]\n'

Load = Callable[..., ResolvedPhase]
Write = Callable[..., ResolvedPhase]


@pytest.fixture
def write(load_text: Load) -> Write:
    """Write the tiny phase with more text into a file of the working folder's `study`, and load it."""

    def write(name: str, number: str, text: str = "", **options: Any) -> ResolvedPhase:
        phase = load_text(text, number=number, **options)
        Path("study").mkdir(exist_ok=True)
        Path("phase.toml").rename(Path("study") / name)
        return evolve(phase, source=Path("study") / name)

    return write


def record_winner(phase: ResolvedPhase, **changed: Any) -> None:
    """Record L2 as the winner of the earlier phase, found on its layouts and with its values."""
    data = data_fingerprints(phase)[0]
    found = {"phase": phase.id, "source": str(phase.source), "manifest_sha256": phase.sha256}
    winner(**{**found, "layouts": data.layouts, "split": data.split, **changed}).save(phase.shared, phase.structurer)


def files() -> dict[Path, bytes]:
    """Every file in the working folder with its bytes."""
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def checked(registry: Registry, *paths: str, **options: Any) -> list[Checked]:
    return check_phases([Path(path) for path in paths], registry, Options(**options))


def test_what_is_right_is_said_in_one_line_for_each_phase(write: Write, registry: Registry) -> None:
    write("a.toml", "1.1", EARLIER)
    write("b.toml", "1.2")
    found = checked(registry, "study/b.toml", "study/a.toml")
    assert [phase.lines for phase in found] == [
        ["study/b.toml: right: 1 experiment; 16 layouts"],
        ["study/a.toml: right: 2 experiments; 16 layouts"],
    ]
    report_faults(found)


def test_a_folder_is_checked_in_the_order_of_its_dependences(write: Write, registry: Registry) -> None:
    write("a.toml", "1.3", '[winners]\n"1.2" = ["train.epochs"]\n"1.0" = ["encoder"]\n')
    write("b.toml", "1.2", TAKES + '[sweep.experiments]\nA = {}\nB = { "train.epochs" = 3 }\n')
    write("c.toml", "1.1", EARLIER)
    found = checked(registry, "study")
    assert [str(phase.path) for phase in found] == ["study/c.toml", "study/b.toml", "study/a.toml"]
    # Of the phases of the same folder, which run before it, no winner is missed.
    assert [phase.notes for phase in found] == [
        (),
        (),
        (
            "phase 1.0 has no recorded winner: encoder stay as they are written in study/a.toml "
            "(--require-winners makes this an error)",
        ),
    ]
    report_faults(found)
    (alone,) = checked(registry, "study/b.toml")
    assert alone.lines == [
        "study/b.toml: right: 2 experiments; 16 layouts",
        "  phase 1.1 has no recorded winner: encoder.latent_channels stay as they are written in study/b.toml "
        "(--require-winners makes this an error)",
    ]


def test_a_key_that_an_earlier_phase_does_not_vary_is_a_fault_in_a_folder_and_alone(
    write: Write, registry: Registry
) -> None:
    write("a.toml", "1.1", EARLIER)
    write("b.toml", "1.2", '[winners]\n"1.1" = ["encoder.base_channels", "*.latent_channels"]\n')
    fault = (
        "[winners] takes 'encoder.base_channels' from phase 1.1, which varies encoder.latent_channels; take one of them"
    )
    assert [phase.faults for phase in checked(registry, "study")] == [(), (fault,)]
    # Another file in the folder, which is no phase of this one's, takes nothing away.
    Path("study/0.toml").write_text("[phase\n")
    assert [phase.faults for phase in checked(registry, "study/b.toml")] == [(fault,)]


@pytest.mark.parametrize(
    ("changed", "stale"),
    [({}, False), ({"manifest_sha256": "0" * 64}, True)],
)
def test_a_winner_of_other_values_is_a_fault_of_a_file_and_a_note_of_a_folder(
    write: Write, registry: Registry, changed: dict[str, Any], stale: bool
) -> None:
    earlier = write("a.toml", "1.1", EARLIER)
    record_winner(earlier, **changed)
    write("b.toml", "1.2", TAKES)
    said = (
        "the winner of phase 1.1, L2, was found with other values than study/a.toml now has: imginav run study/a.toml"
    )
    expected = (said,) if stale else ()
    (alone,) = checked(registry, "study/b.toml")
    assert (alone.faults, alone.notes) == (expected, ())
    _, later = checked(registry, "study")
    assert (later.faults, later.notes) == ((), expected)


def test_a_winner_of_other_layouts_is_a_fault_of_a_file_and_a_note_where_its_phase_runs_again(
    write: Write, registry: Registry
) -> None:
    record_winner(
        write("a.toml", "1.1", EARLIER), layouts=LayoutsFingerprint(rows=3, sha256="d" * 64, description="3 others")
    )
    write("b.toml", "1.2", TAKES)
    alone, in_study = checked(registry, "study/b.toml")[0], checked(registry, "study")[1]
    assert in_study.faults == ()
    for said in (*alone.faults, in_study.notes[-1]):
        assert said.startswith("[winners] takes encoder.latent_channels from phase 1.1, whose winner L2 was found on")
        assert "other layouts (3 others; SHA-256 dddddddddddd) than these (16 layouts; " in said
    assert len(alone.faults) == 1


def test_missing_winners_are_faults_where_they_are_required(write: Write, registry: Registry) -> None:
    earlier = write("a.toml", "1.1", EARLIER)
    write("b.toml", "1.2", TAKES)
    assert [phase.faults for phase in checked(registry, "study/b.toml", require_winners=True)] == [
        ("--require-winners: outputs holds no winner of phase 1.1; run it first",)
    ]
    record_winner(earlier)
    assert [phase.faults for phase in checked(registry, "study/b.toml", require_winners=True)] == [()]


def test_nothing_is_written_whatever_is_found(write: Write, registry: Registry) -> None:
    record_winner(write("a.toml", "1.1", EARLIER), manifest_sha256="0" * 64)
    callbacks = "[callbacks]\ncheckpoint = {}\nmetrics_csv = {}\nsamples = {}\ntensorboard = {}\nprogress = {}\n"
    write("b.toml", "1.2", TAKES + callbacks)
    write("c.toml", "1.3", '[sweep.experiments]\nA = {}\nB = { "encoder.downsampling_steps" = 6 }\n')
    before = files()
    found = checked(registry, "study", "study/b.toml")
    assert sorted((str(phase.path), len(phase.faults)) for phase in found) == [
        ("study/a.toml", 0),
        ("study/b.toml", 0),
        ("study/b.toml", 1),
        ("study/c.toml", 1),
    ]
    assert files() == before
    assert not [path for path in Path("outputs").iterdir() if path.name != "p1_tinies"]


def test_a_folder_whose_order_cannot_be_told_is_one_fault_beside_the_others(write: Write, registry: Registry) -> None:
    write("a.toml", "1.1", EARLIER)
    Path("study/a.toml").rename("a.toml")
    write("b.toml", "1.2", '[winners]\n"1.3" = ["encoder"]\n')
    write("c.toml", "1.3", '[winners]\n"1.2" = ["encoder"]\n')
    found = checked(registry, "study", "nowhere.toml", "a.toml")
    assert [phase.faults for phase in found] == [
        ("phases take winners from each other in a circle: 1.2 → 1.3 → 1.2; take one out",),
        ("no such file; name a phase's manifest, such as phases/1_5.toml",),
        (),
    ]
    with pytest.raises(UserError) as caught:
        report_faults(found)
    assert str(caught.value).splitlines() == [
        "2 faults found",
        "study: phases take winners from each other in a circle: 1.2 → 1.3 → 1.2; take one out",
        "nowhere.toml: no such file; name a phase's manifest, such as phases/1_5.toml",
    ]


def test_a_fault_is_gathered_once_with_the_experiments_that_have_it() -> None:
    faults = Faults(Path("a.toml"))
    for experiment in ("A", "A", "B"):
        with faults.of(experiment):
            raise UserError("a.toml: too small")
    with faults.of("C"):
        raise UserError("both", ["a.toml [trial]: one", "another"])
    faults.add("of the phase")
    assert faults.lines(3) == ("too small [A, B]", "[trial]: one [C]", "another [C]", "of the phase")
    assert faults.lines(2)[0] == "too small"


def test_the_command_ends_with_status_0_or_with_2_and_all_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    golden = Path(__file__).parents[2] / "core" / "manifest" / "wrong_manifests"
    for name in ("base.toml", "earlier.toml", "several_faults.toml", "bad_device.toml"):
        Path(name).write_bytes((golden / name).read_bytes())
    assert cli.main(["check", "earlier.toml"]) == 0
    right = "earlier.toml: right: 2 experiments; 8 embedded layouts of 32 px, drawn from seed 0\n"
    assert capsys.readouterr() == (right, "")
    assert cli.main(["check", "several_faults.toml", "earlier.toml", "bad_device.toml"]) == 2
    shown = capsys.readouterr()
    assert shown.out == f"several_faults.toml: 5 faults\n{right}bad_device.toml: 1 fault\n"
    lines = shown.err.splitlines()
    assert lines[0] == "imginav: 6 faults found"
    assert [line.partition(": ")[0] for line in lines[1:]] == ["several_faults.toml"] * 5 + ["bad_device.toml"]
    assert cli.main(["check", "earlier.toml", "--set", "losses.mse.weight=-1"]) == 2
    assert capsys.readouterr().err == (
        "imginav: 1 fault found\nearlier.toml: expected a number of at least 0, found -1.0 @ losses.mse.weight "
        "(--set)\n"
    )
    Path("later.toml").write_text(
        Path("earlier.toml").read_text().replace("0.1", "0.2").replace("earlier", "later")
        + '\n[winners]\n"0.1" = ["encoder.latent_channels"]\n'
    )
    assert cli.main(["check", "later.toml"]) == 0
    assert cli.main(["check", "later.toml", "--require-winners"]) == 2
    assert "--require-winners: outputs holds no winner of phase 0.1; run it first" in capsys.readouterr().err
    assert not Path("outputs").exists()
