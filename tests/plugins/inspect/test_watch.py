"""What `imginav watch` makes of the files of runs."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve
from rich.console import Console

from imginav import UserError
from imginav.manifest.site import experiments_folder
from imginav.runs.records import utc_now
from imginav_inspect import watch as watch_module
from imginav_inspect.watch import read_run, trend, view, watch
from imginav_tests.records import run_record

RECORD = run_record(experiment="ae_L1", epoch=3, epochs=10, seconds=30.0, started=utc_now(), updated=utc_now())

METRICS = f"""epoch,{"".join(f"{part}_loss,{part}_loss_mse,{part}_loss_mse_weighted," for part in ("train", "val"))}\
seconds,images_per_second
1,0.5,0.5,0.5,0.4,0.4,0.4,10.0,100
2,0.3,0.3,0.3,0.00931,0.00931,0.00931,12.0,110
3,0.2,0.2,0.2,0.00949,0.00949,0.00949,11.0,120
"""


def write_run(root: Path, name: str = "ae_L1", metrics: str = METRICS, **changes: object) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    evolve(RECORD, experiment=name, **changes).save(folder / "run.json")
    (folder / f"{name}_metrics.csv").write_text(metrics)
    return folder


def shown(place: Path, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(view(watch_module.runs_in(place), width, height=None))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    return str(text)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs whose records say so run, though nobody holds their locks."""
    monkeypatch.setattr("imginav.runs.records.is_held", lambda _: True)


def test_a_trend_goes_from_the_lowest_bar_to_the_highest() -> None:
    assert trend([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert trend([1, 10, 100]) == "▁▅█"  # logarithmic: halfway
    assert trend([-1, 0, 1]) == "▁▅█"
    assert trend([3, 3, 3]) == "▁▁▁"
    assert trend([1, math.nan, 2, math.inf]) == "▁ █ "
    assert trend([]) == trend([math.nan]) == ""


def test_a_long_trend_has_means_of_its_parts() -> None:
    assert trend([0.0] * 30 + [7.0] * 30, 4) == "▁▁██"
    assert len(trend([float(n) for n in range(10_000)])) == 20


def test_what_is_left_follows_from_the_last_epochs_and_the_place_within_the_running_one(
    tmp_path: Path, running: None
) -> None:
    folder = write_run(tmp_path, state="running", batch=30, batches=120)
    assert read_run(folder).seconds_left == pytest.approx(11 * (10 - 3 - 0.25))
    between = write_run(tmp_path, "ae_L2", state="running")
    assert read_run(between).seconds_left == pytest.approx(11 * 7)
    assert read_run(write_run(tmp_path, "ae_L3", metrics="", state="running")).seconds_left is None
    assert read_run(write_run(tmp_path, "ae_L4")).seconds_left is None


def test_the_best_epoch_is_by_what_the_manifest_monitors(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    assert read_run(folder).best == pytest.approx({"epoch": 2} | dict(read_run(folder).rows[1]))
    (folder / "manifest.toml").write_text("[train]\nmonitor = 'images_per_second'\nmonitor_mode = 'max'\n")
    best = read_run(folder).best
    assert best is not None
    assert best["epoch"] == 3


def test_a_single_run_is_shown_with_its_losses_and_last_epochs(tmp_path: Path, running: None) -> None:
    text = shown(write_run(tmp_path, state="running", batch=30, batches=120))
    lines = text.splitlines()
    headings = ["run", "state", "epoch", "val_loss", "left", "best", "trend", "train loss", "img/s", "on"]
    assert re.split(r" {2,}", lines[0].strip()) == headings
    assert re.split(r" {2,}", lines[1].strip()) == [
        *("ae_L1", "running", "━━━╌╌╌╌╌ 3/10 +25%", "0.00949", "≤ 74 s", "0.00931 @ 2", "█▁▁", "0.2", "120", "node-7")
    ]
    assert "losses, unweighted" in text
    assert "loss_mse  0.2    0.00949" in text
    assert "mse_weighted" not in text
    assert "last epochs" in text


@pytest.mark.parametrize("width", [60, 75, 80, 100, 140])
def test_on_narrow_terminals_names_are_cut_off_and_figures_are_not(tmp_path: Path, running: None, width: int) -> None:
    write_run(tmp_path, "phase1_5_AE_final_of_a_very_long_name_that_nobody_needs", state="running")
    line = shown(tmp_path, width).splitlines()[1]
    assert line.startswith("phase1_5_AE")
    for figure in ("running", "━━╌╌╌╌╌╌ 3/10", "0.00949", "≤ 77 s", *(("0.00931 @ 2",) if width >= 75 else ())):
        assert figure in line
    assert line.rstrip().endswith({60: "≤ 77 s", 75: "0.00931 @ 2", 80: "█▁▁", 100: "120", 140: "node-7"}[width])


def test_what_needs_somebody_to_look_stands_first_and_what_went_wrong_below(tmp_path: Path) -> None:
    write_run(tmp_path, "ae_done")
    write_run(tmp_path, "ae_lost", state="running")  # nobody holds its lock
    write_run(tmp_path, "ae_failed", state="failed", error="train.batch_size = 1: too\x1b[2J few")
    (write_run(tmp_path, "ae_broken") / "run.json").write_text("{")
    write_run(tmp_path, "ae_done.1")  # kept aside
    text = shown(tmp_path)
    names = [line.split()[0] for line in text.splitlines()[1:5]]
    assert names == ["ae_failed", "ae_lost", "ae_broken", "ae_done"]
    assert "ae_failed: train.batch_size = 1: too\\x1b[2J few" in text
    assert "ae_lost: its process on node-7 is gone" in text
    assert "ae_broken: " in text
    assert "cannot be read as the record of a run" in " ".join(text.split())  # it may be broken into lines
    assert "ae_done.1" not in text
    assert "\x1b" not in text


def test_what_does_not_fit_on_the_screen_is_counted(tmp_path: Path) -> None:
    for number in range(30):
        write_run(tmp_path, f"ae_{number:02}")
    console = Console(file=io.StringIO(), width=100)
    console.print(view(watch_module.runs_in(tmp_path), 100, height=18))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "ae_09" in text
    assert "ae_10" not in text
    assert "… and 20 more" in text
    assert len(text.splitlines()) <= 18


@pytest.mark.parametrize(
    "metrics",
    [
        "",
        "epoch,val_loss\n",
        "epoch,val_loss\n1,nan\n2,inf\n",
        "epoch\n1\n",
        "epoch,val_loss\n1,0.5,7,8\n2\n",
        'epoch,val_loss\n1,"0.5\n',
        "\0\0\nepoch",
        "ep\xfcch,val_loss\nx,y\n",
        "[bold]markup[/],val_loss\n1,0.5\n",
    ],
)
def test_metrics_that_are_half_there_or_no_metrics_end_nothing(tmp_path: Path, metrics: str) -> None:
    folder = write_run(tmp_path, metrics=metrics)
    assert "ae_L1" in shown(folder)


def test_metrics_that_cannot_be_read_are_the_fault_of_their_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder / "ae_L1_metrics.csv").unlink()
    (folder / "ae_L1_metrics.csv").mkdir()
    assert read_run(folder).state == "unreadable"
    (write_run(tmp_path, "ae_L2") / "manifest.toml").write_text("[")
    assert read_run(tmp_path / "ae_L2").state == "unreadable"


def test_a_place_is_a_run_one_of_its_files_or_a_folder_of_runs(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "outputs")
    write_run(tmp_path / "outputs" / "deeper", "ae_L2")
    names = [
        [run.name for run in watch_module.runs_in(place)]
        for place in (folder, folder / "ae_L1_metrics.csv", folder.parent, tmp_path)
    ]
    assert names == [["ae_L1"], ["ae_L1"], ["ae_L1", "ae_L2"], ["ae_L1"]]
    for nowhere in (tmp_path / "nowhere", folder / "no_such_file.csv"):
        with pytest.raises(UserError, match=r"holds no run \(no run.json\); name a run folder"):
            watch_module.runs_in(nowhere)


def test_the_site_says_where_runs_lie(tmp_path: Path) -> None:
    site = tmp_path / "imginav.toml"
    assert experiments_folder(site) == Path("outputs")
    site.write_text("[output]\nexperiments = '/scratch/runs'\n")
    assert experiments_folder(site) == Path("/scratch/runs")
    site.write_text("[output]\nexperiments = 7\n")
    assert experiments_folder(site) == Path("outputs")


def test_a_live_view_of_one_run_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: None) -> None:
    folder = write_run(tmp_path, state="running")
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, height=30)
    monkeypatch.setattr(watch_module, "Console", lambda **_: screen)
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        state = "finished" if len(looks) == 3 else "running"
        evolve(RECORD, state=state, epoch=3 + len(looks)).save(folder / "run.json")

    monkeypatch.setattr(watch_module.time, "sleep", sleep)
    watch(folder, every=0.5, once=False)
    assert looks == [0.5] * 3
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "4/10" in text
    assert "finished" in text


def test_watching_imports_no_torch_and_says_it_once_into_a_pipe(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs")
    code = (
        "import sys; from imginav import cli; status = cli.main(['watch']); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ae_L1  finished" in done.stdout
    (tmp_path / "outputs" / "ae_L1" / "run.json").unlink()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr == (
        "imginav: outputs: holds no run (no run.json); name a run folder or one that holds some, or start a run first\n"
    )
