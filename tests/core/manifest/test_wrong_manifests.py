"""What `imginav check` says of wrong phases, to the letter: `wrong_manifests/<name>.toml` and `<name>.txt`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imginav import UserError
from imginav.plugin.registry import installed
from imginav.study.phases import Options
from imginav_inspect.phase_check import check_phases, report_faults

FOLDER = Path(__file__).parent / "wrong_manifests"

WINNERS = FOLDER / "winners"
"""A winner of phase 0.1 for some of the wrong phases, by their name."""

RIGHT = {"base", "earlier", "circle_below"}
"""What the wrong phases stand upon."""

NAMES = sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem not in RIGHT)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_phase_is_refused_with_exactly_this_message(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", "torch_home")
    for file in (*FOLDER.glob("*.toml"), *FOLDER.glob("*.csv")):
        shutil.copy(file, file.name)
    if (winner := WINNERS / f"{name}.toml").is_file():
        folder = tmp_path / "outputs" / "earlier_latents"
        folder.mkdir(parents=True)
        shutil.copy(winner, folder / "winner.toml")
    checked = check_phases([Path(f"{name}.toml")], installed(), Options())
    with pytest.raises(UserError) as caught:
        report_faults(checked)
    assert f"{caught.value}\n" == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_every_wrong_phase_has_its_message_and_every_message_its_phase() -> None:
    assert len(NAMES) >= 25
    assert sorted(path.stem for path in FOLDER.glob("*.txt")) == NAMES
    assert {path.stem for path in WINNERS.iterdir()} <= set(NAMES)


def test_what_the_wrong_phases_stand_upon_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("base.toml", "earlier.toml"):
        shutil.copy(FOLDER / name, name)
    (checked,) = check_phases([Path("earlier.toml")], installed(), Options())
    assert checked.lines == [
        "earlier.toml: right: 2 experiments; 8 embedded layouts of 32 px, drawn from seed 0",
    ]
