"""`imginav probe`, and phases whose winner the probe decides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli

from imginav import UserError
from imginav.cli import main
from imginav.manifest.loading import Scale, load_phase
from imginav.plugin.registry import Registry, installed
from imginav.processes.stop_request import StopRequest
from imginav.runs.evaluation_result import load_evaluation
from imginav.study.phases import Options
from imginav_probe.flow_probe import FlowProbe
from imginav_probe.targets import ProbeOptions, probe_all
from imginav_tests.waiting import wait_until

MakeCheckpoint = Callable[..., Path]

PHASE = """
[phase]
id = "9"
experiment = "small"
group = "smalls"

[data]
type = "procedural"
image_size = 32
count = 12

[encoder]
type = "conv"
latent_channels = 2
base_channels = 16
downsampling_steps = 3

[decoder]
type = "conv"
heads.rgb = { type = "rgb" }

[losses]
mse = {}

[train]
epochs = 1
batch_size = 4
split = 0.7
optimizer = { type = "adamw", learning_rate = 2e-2 }

[callbacks]
checkpoint = {}
metrics_csv = {}

[evaluation]
noise = []
pairs = 1
steps = 3

[machine]
precision = "fp32"
threads = 1

[sweep.experiments]
A = { "encoder.latent_channels" = 2 }
B = { "encoder.latent_channels" = 3 }
"""

PROBED = """
[evaluation.probes]
flow = { type = "flow", steps = 3, batch_size = 4, width = 64, depth = 1, samples = 16, seeds = 2, condition = "walls" }

[sweep.selector]
type = "gated"
factor = 100.0
"""


@pytest.mark.parametrize("name", ["1_1", "1_2", "1_3"])
def test_a_phase_is_probed_and_chosen_by_it_at_full_scale_alone(name: str) -> None:
    path = Path(__file__).parents[3] / "phases" / f"{name}.toml"
    scales: tuple[Scale, ...] = ("full", "trial")
    full, trial = (load_phase(path, installed(), use_site=False, scale=scale) for scale in scales)
    assert full.selector is not None
    assert full.selector.metrics == {"metric": "probe_fdd", "gate": "val_mse"}
    assert all(isinstance(one.manifest.evaluation.probes["flow"], FlowProbe) for one in full.experiments)
    assert trial.selector is not None
    assert trial.selector.metrics == {"metric": "val_mse"}
    assert not any(one.manifest.evaluation.probes for one in trial.experiments)


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_probe: FlowProbe) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as error:
        return int(error.code or 0)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.usefixtures("_folder")
def test_a_phase_that_asks_for_it_is_probed_within_its_runs_and_won_by_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("p.toml").write_text(PHASE + PROBED)
    assert run("check", "p.toml") == 0
    assert [run("run", "p.toml", "--only", name) for name in "AB"] == [0, 0]
    evaluations = {name: load_evaluation(Path(f"outputs/small_{name}/evaluation.json")) for name in "AB"}
    for evaluation in evaluations.values():
        assert len(evaluation.probes["probe_fdd"].values) == 2
        assert evaluation.metrics["probe_fdd"] == pytest.approx(sum(evaluation.probes["probe_fdd"].values) / 2)
        assert 0 <= evaluation.metrics["probe_control_recall"] <= 1
        assert evaluation.probes["probe_control_recall"].reconstructed is not None
    winner = tomli.loads(Path("outputs/smalls/winner.toml").read_text())
    best = min(evaluations, key=lambda name: evaluations[name].metrics["probe_fdd"])
    assert (winner["winner"], winner["metric"]["name"]) == (best, "probe_fdd")
    assert len(winner["experiments"]["A"]["values"]) == 2
    assert set(winner["experiments"]["A"]["figures"]) == {"probe_fdd", "val_mse"}
    page = Path("outputs/small_A/report.html").read_text()
    assert "What diffusion makes of it" in page
    assert page.count("flow: ") >= 3  # samples, nearest, control
    phase = Path("outputs/smalls/report.html").read_text()
    assert "probe: fdd" in phase
    assert "What each rule would choose" in phase
    assert "gated probe_fdd (min), val_mse × 100" in phase
    assert "smallest_good_enough 10 %" in phase
    capsys.readouterr()
    assert run("probe", "p.toml") == 0
    assert capsys.readouterr().out.count("is measured already") == 2


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.usefixtures("_folder")
def test_finished_runs_are_probed_afterwards_and_the_winner_is_decided_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("p.toml").write_text(PHASE + '[sweep.selector]\ntype = "best"\n')
    assert run("run", "p.toml", "--only", "A") == 0
    assert run("run", "p.toml", "--only", "B") == 0
    Path("p.toml").write_text(PHASE + PROBED)
    assert run("winner", "p.toml") == 2
    assert "'probe_fdd' is no metric of small_A yet; measure it with imginav probe p.toml" in capsys.readouterr().err
    assert run("probe", "p.toml") == 0
    out = capsys.readouterr().out
    assert "true layouts" in out
    assert "reconstructions" in out
    assert tomli.loads(Path("outputs/smalls/winner.toml").read_text())["metric"]["name"] == "probe_fdd"
    assert "What diffusion makes of it" in Path("outputs/small_B/report.html").read_text()
    assert "probe_control_recall" in load_evaluation(Path("outputs/small_A/evaluation.json")).metrics
    assert run("probe", "p.toml", "--condition", "none", "--set", "machine.threads=1") == 0
    again = load_evaluation(Path("outputs/small_A/evaluation.json"))
    assert "probe_control_recall" not in {**again.metrics, **again.probes}  # which was measured with other settings
    assert len(again.probes["probe_fdd"].values) == 2
    # Other settings for one of them alone cannot be compared.
    path = Path("outputs/small_A/evaluation.json")
    table = json.loads(path.read_text())
    table["probes"]["probe_fdd"]["definition"] += ", and more"
    path.write_text(json.dumps(table))
    assert run("winner", "p.toml") == 2
    assert "probe_fdd of small_A and small_B was measured in different ways" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.usefixtures("_folder")
def test_a_probe_that_is_killed_goes_on_and_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    Path("p.toml").write_text(PHASE.partition("[sweep.experiments]")[0])
    assert run("run", "p.toml") == 0
    checkpoint = next(Path("outputs/small").glob("*best.pt"))
    command = [sys.executable, "-m", "imginav", "probe", str(checkpoint), "--steps", "120", "--seeds", "1"]
    command += ["--samples", "16", "--set", "machine.cache='cache'"]
    subprocess.run([*command, "--to", "whole"], check=True, capture_output=True)
    killed = subprocess.Popen([*command, "--to", "killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(Path("killed/state.pt").is_file, killed)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not Path("killed/samples.png").exists()
    subprocess.run([*command, "--to", "killed"], check=True, capture_output=True)
    whole, resumed = (json.loads(Path(name, "probe.json").read_text()) for name in ("whole", "killed"))
    assert resumed["metrics"] == whole["metrics"]
    assert Path("killed/samples.png").read_bytes() == Path("whole/samples.png").read_bytes()


@pytest.fixture
def options() -> Callable[..., ProbeOptions]:
    def make(*paths: Path | str, **values: Any) -> ProbeOptions:
        found: dict[str, Any] = {"type": "flow", "values": {}, "to": None, "study": Options()}
        return ProbeOptions(paths=tuple(map(Path, paths)), **{**found, **values})

    return make


def test_what_cannot_be_probed_is_refused_before_anything_is(
    options: Callable[..., ProbeOptions], registry: Registry, tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    good = make_checkpoint()
    (tmp_path / "empty").mkdir()
    refused = {
        r"nowhere\.pt: does not exist; name a run, a checkpoint": options(good, "nowhere.pt"),
        r"empty: is a folder that neither a run nor export wrote": options(good, tmp_path / "empty"),
        r"--to there: is for a single checkpoint": options(good, good, to=Path("there")),
        r"--type flaw: no probe 'flaw' is installed, did you mean 'flow'": options(good, type="flaw"),
        r"--height 3: the probe flow has no such value": options(good, values={"height": 3}),
        r"--samples: .*found 1": options(good, values={"samples": 1}),
    }
    for message, wrong in refused.items():
        with pytest.raises(UserError, match=message):
            probe_all(wrong, registry, StopRequest())
    assert not list(tmp_path.rglob("probe.json"))


def test_several_autoencoders_stand_side_by_side(
    options: Callable[..., ProbeOptions],
    registry: Registry,
    make_checkpoint: MakeCheckpoint,
    tiny_probe: FlowProbe,
    capsys: pytest.CaptureFixture[str],
) -> None:
    two = [make_checkpoint(name="a"), make_checkpoint("encoder.latent_channels=3", name="b")]
    values = {"steps": 2, "seeds": 2, "samples": 16}
    probe_all(options(*two, values=values), registry, StopRequest())
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.split()[:1] == ["tiny"]]
    assert ["8×8×2" in rows[0], "8×8×3" in rows[1]] == [True, True]
    assert all(row.count("±") >= 5 for row in rows)
    assert "loss" not in out  # those of different latents cannot be compared
    assert (two[0].parent / "tiny_checkpoint_best_probe" / "probe.json").is_file()


@pytest.mark.usefixtures("_folder")
def test_a_phase_of_which_nothing_has_finished_is_refused_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.toml").write_text(PHASE)
    assert run("probe", "p.toml") == 2
    assert "p.toml: none of its experiments has finished; run it first: imginav run p.toml" in capsys.readouterr().err
