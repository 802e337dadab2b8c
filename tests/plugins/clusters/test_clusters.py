"""What the clusters make of a job: scripts that people read, and what they hear of schedulers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from attrs import evolve

from imginav import Cluster, JobId, JobState, UserError, cli
from imginav.plugin import answer
from imginav.plugin.registry import installed
from imginav_clusters import LSF, PBS, Local, Slurm
from imginav_clusters.local import AFTER
from imginav_jobs.job_records import RunJob, cancel
from imginav_tests import lsf, pbs
from imginav_tests.job_specs import job_spec
from imginav_tests.waiting import wait_until

ROOT = Path(__file__).parents[3]

KINDS = {"lsf": LSF, "pbs": PBS, "slurm": Slurm, "local": Local}

CHECKS = {"lsf": lsf._options, "pbs": pbs._options}
"""What raises for what a scheduler does not document."""


def directives(script: str) -> list[str]:
    return [line for line in script.splitlines() if line.startswith(("#BSUB", "#PBS", "#SBATCH"))]


def run_lines(script: str) -> list[str]:
    return [line for line in script.splitlines() if "imginav run" in line]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbers", [(1,), (2,), (1, 2, 3), (1, 3, 4)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"gpus": 4}, {"gpus": 0}, {"nodes": 2, "gpus": 4}, {"wall_time": "24h", "memory": "32GB", "queue": "long"}],
    ids=str,
)
def test_scripts_are_bash_and_what_schedulers_document(
    kind: str, numbers: tuple[int, ...], settings: dict[str, object]
) -> None:
    if kind == "pbs" and "nodes" in settings:
        return
    script = KINDS[kind](**settings).script(job_spec(*numbers, whole=len(numbers) == 3))
    done = subprocess.run(["/bin/bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, script.splitlines())) < 200
    (line,) = run_lines(script)
    assert "'data.manifest=a b.csv'" in line
    if kind in CHECKS:
        CHECKS[kind]([], script)


@pytest.mark.parametrize("kind", ["lsf", "pbs", "slurm"])
def test_a_folder_may_have_a_space_in_its_name(kind: str) -> None:
    script = KINDS[kind]().script(job_spec(1, folder=Path("my outputs/jobs")))
    assert '"my outputs/jobs/' in directives(script)[-1]
    assert subprocess.run(["/bin/bash", "-n"], input=script, text=True, check=False).returncode == 0
    if kind == "lsf":
        assert lsf._options([], script)["-o"].startswith("my outputs/jobs/")
    if kind == "pbs":
        assert pbs._options([], script)[0]["-o"] == "my outputs/jobs/"


def test_a_job_of_lsf_has_what_it_is_given() -> None:
    cluster = LSF(
        queue="gpuv100",
        wall_time="23h30m",
        notice="10m",
        gpus=2,
        gpu_type="TeslaV100",
        gpu_options="mode=exclusive_process",
        cores=8,
        memory="64GB",
        project="plan",
        concurrency=4,
        modules=("cuda/12", "gcc"),
        setup=("source venv/bin/activate",),
        directives=('-R "select[gpu32gb]"',),
    )
    script = cluster.script(job_spec(1, 2, 3, 5, whole=False))
    assert directives(script) == [
        '#BSUB -J "group[1-3,5]%4"',
        "#BSUB -q gpuv100",
        "#BSUB -P plan",
        "#BSUB -n 8",
        '#BSUB -R "span[hosts=1]"',
        '#BSUB -R "rusage[mem=65536]"',
        '#BSUB -gpu "num=2:gmodel=TeslaV100:mode=exclusive_process"',
        "#BSUB -W 23:30",
        "#BSUB -wt 10",
        "#BSUB -wa USR2",
        '#BSUB -Q "85"',
        "#BSUB -r",
        "#BSUB -o outputs/group/jobs/%J_%I.lsf.log",
        '#BSUB -R "select[gpu32gb]"',
    ]
    lines = script.splitlines()
    assert lines[lines.index("module load cuda/12") :][:3] == [
        "module load cuda/12",
        "module load gcc",
        "source venv/bin/activate",
    ]
    assert run_lines(script) == ["imginav run phases/1.toml --set 'data.manifest=a b.csv' --index auto --gpus 2 &"]


def test_a_job_of_slurm_has_what_it_is_given() -> None:
    cluster = Slurm(
        queue="gpu",
        wall_time="1d2h",
        gpus=2,
        gpu_type="a100",
        cores=8,
        memory="64GB",
        project="plan",
        concurrency=4,
        directives=("--qos=high",),
    )
    assert directives(cluster.script(job_spec(1, 2, 3))) == [
        "#SBATCH --job-name=group",
        "#SBATCH --array=1-3%4",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=plan",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=65536M",
        "#SBATCH --gres=gpu:a100:2",
        "#SBATCH --time=26:00:00",
        "#SBATCH --signal=B:USR1@300",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=outputs/group/jobs/%A_%a.log",
        "#SBATCH --qos=high",
    ]
    single = cluster.script(job_spec(3, whole=False))
    assert "#SBATCH --array=1-3%4" not in directives(single)
    assert "#SBATCH --output=outputs/group/jobs/%j.log" in directives(single)
    assert run_lines(single)[0].endswith("--index 3 --gpus 2 &")


def test_a_single_experiment_is_chosen_only_where_there_are_others() -> None:
    assert run_lines(Slurm().script(job_spec(1)))[0].endswith("'data.manifest=a b.csv' &")
    assert run_lines(Slurm().script(job_spec(2, whole=False)))[0].endswith("--index 2 &")
    assert run_lines(Slurm(gpus=0).script(job_spec(1)))[0].endswith("--set machine.device=cpu &")
    assert run_lines(Local(concurrency=2).script(job_spec(1, 2, 3)))[0].endswith("--jobs 2 &")
    assert run_lines(Local().script(job_spec(1, 3, whole=False)))[0].endswith("--only run_1 --only run_3 &")


@pytest.mark.parametrize("kind", ["lsf", "pbs", "slurm"])
def test_the_scripts_that_lie_ready_are_those_that_submit_writes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "phases", "phases")
    shutil.copy(f"phases/cluster/{kind}.toml", "imginav.toml")
    wide = ("--set", "cluster.nodes=2", "--set", "cluster.gpus=4")
    names: dict[str, tuple[str, ...]] = dict.fromkeys(("1_1", "1_2", "1_3", "1_4", "1_5"), ())
    if kind != "pbs":
        names["1_5_two_nodes"] = wide
    assert {path.stem for path in Path(f"phases/cluster/{kind}").iterdir()} == set(names)
    for name, settings in names.items():
        phase = f"phases/{name.removesuffix('_two_nodes')}.toml"
        assert cli.main(["submit", phase, "--require-winners", "--dry-run", *settings]) == 0
        script = Path(f"phases/cluster/{kind}/{name}.sh").read_text()
        assert capsys.readouterr().out == script
        if kind in CHECKS:
            CHECKS[kind]([], script)


def test_what_slurm_says_is_understood(program: Callable[[str, str], None]) -> None:
    program(
        "squeue",
        "printf '%s\\n' '7|1|RUNNING|node1|None' '7|2|PENDING||(JobArrayTaskLimit)'"
        " '8|N/A|PENDING||DependencyNeverSatisfied' '9|N/A|COMPLETED|node2|None'"
        " '10|N/A|TIMEOUT|node2|TimeLimit' 'a line of a site'",
    )
    assert Slurm().states(["7", "8", "9"]) == {
        JobId(job="7", index=1): JobState(status="RUNNING", is_active=True, node="node1"),
        JobId(job="7", index=2): JobState(status="PENDING", is_active=True, reason="JobArrayTaskLimit"),
        JobId(job="8"): JobState(status="PENDING", is_active=True, is_stuck=True, reason="DependencyNeverSatisfied"),
        JobId(job="9"): JobState(status="COMPLETED", is_active=False, node="node2"),
    }
    assert Slurm().states([]) == {}


def test_an_answer_that_is_none_is_one_sentence(program: Callable[[str, str], None], tmp_path: Path) -> None:
    program("bjobs", "echo 'bjobs: LSF is down'; exit 1")
    with pytest.raises(UserError, match=r"did not answer as LSF 10.1 does: 'bjobs: LSF is down'"):
        LSF().states(["7"])
    program("bsub", "echo 'Request queued'")
    job = job_spec(1, folder=tmp_path)
    job.script.write_text("true\n")
    with pytest.raises(UserError, match="bsub did not say which job it has made, but 'Request queued'; look by bjobs"):
        LSF().submit(job, [])
    program("sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    with pytest.raises(UserError, match=r"sbatch --parsable .*was refused: sbatch: error: invalid partition; change"):
        Slurm().submit(job_spec(1), [])


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="squeue cannot be found on this machine; give the command where jobs are sub"):
        Slurm().states(["7"])
    with pytest.raises(UserError, match="bkill cannot be found"):
        answer(["bkill", "7"])


@pytest.mark.parametrize(
    ("cluster", "environment", "place"),
    [
        (LSF, {"LSB_JOBID": "7", "LSB_JOBINDEX": "3"}, JobId(job="7", index=3)),
        (LSF, {"LSB_JOBID": "7", "LSB_JOBINDEX": "0"}, JobId(job="7")),
        (LSF, {}, None),
        (Slurm, {"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, JobId(job="7", index=2)),
        (Slurm, {"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}, JobId(job="7", index=0)),
        (Slurm, {"SLURM_JOB_ID": "8"}, JobId(job="8")),
        (Slurm, {"SLURM_JOB_ID": ""}, None),
        (PBS, {"PBS_JOBID": "7[3].server", "PBS_ARRAY_INDEX": "3"}, JobId(job="7[].server", index=3)),
        (PBS, {"PBS_JOBID": "9.server", "IMGINAV_PBS_JOB": "7[3].server"}, JobId(job="7[].server", index=3)),
        (PBS, {"PBS_JOBID": "9.server", "IMGINAV_PBS_JOB": ""}, JobId(job="9.server")),
        (PBS, {}, None),
        (Local, {}, None),
    ],
)
def test_a_process_knows_which_job_it_is(
    cluster: type[Cluster], environment: Mapping[str, str], place: JobId | None
) -> None:
    assert cluster.job_of(environment) == place


IN_A_JOB = {"LSB_JOBID": "7", "SLURM_JOB_ID": "7", "PBS_JOBID": "7.server"}

RUN = """#!/bin/bash
echo $$ > started
trap 'echo USR1 > heard; exit 85' USR1
trap 'echo TERM > heard; exit 99' TERM
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize(
    ("kind", "sent", "status", "requeued"),
    [
        ("lsf", signal.SIGUSR2, 85, False),  # LSF queues it again by itself
        ("lsf", signal.SIGTERM, 143, False),
        ("slurm", signal.SIGUSR1, 85, True),
        ("slurm", signal.SIGTERM, 85, False),
        ("pbs", signal.SIGUSR1, 0, True),
        ("pbs", signal.SIGTERM, 143, False),
    ],
)
def test_a_script_hands_on_signals_and_asks_to_be_queued_again_unless_it_was_cancelled(
    kind: str, sent: signal.Signals, status: int, requeued: bool, program: Callable[[str, str], None], tmp_path: Path
) -> None:
    program("scontrol", f'echo "$@" > {tmp_path}/requeued')
    program("qsub", f'echo "$@" > {tmp_path}/requeued')
    (tmp_path / "run").write_text(RUN)
    (tmp_path / "run").chmod(0o755)
    script = tmp_path / "job.sh"
    script.write_text(KINDS[kind](command=str(tmp_path / "run")).script(job_spec(1)))
    environment = {**os.environ, **IN_A_JOB, "PBS_O_WORKDIR": str(tmp_path)}
    process = subprocess.Popen(["/bin/bash", script], cwd=tmp_path, env=environment)
    wait_until((tmp_path / "started").exists)
    time.sleep(0.2)
    process.send_signal(sent)
    assert process.wait(30) == status
    assert (tmp_path / "heard").read_text() == "USR1\n"
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        said = {"slurm": "requeue 7\n", "pbs": "-v IMGINAV_PBS_JOB=7.server,IMGINAV_PBS_AFTER=\n"}
        assert (tmp_path / "requeued").read_text() == said[kind]


@pytest.mark.parametrize("kind", ["lsf", "pbs", "slurm"])
def test_a_script_ends_as_its_run(kind: str, program: Callable[[str, str], None], tmp_path: Path) -> None:
    program("train", "exit 3")
    script = tmp_path / "job.sh"
    script.write_text(KINDS[kind](command="train").script(job_spec(1)))
    environment = {**os.environ, **IN_A_JOB, "PBS_O_WORKDIR": str(tmp_path)}
    assert subprocess.run(["/bin/bash", script], cwd=tmp_path, env=environment, check=False).returncode == 3


def test_a_job_on_this_machine_waits_for_the_one_before_it_and_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(AFTER, raising=False)
    (tmp_path / "sleeper").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "sleeper").chmod(0o755)
    sleeping = Local(command=str(tmp_path / "sleeper"))
    first, second = job_spec(1, folder=tmp_path / "jobs"), job_spec(2, folder=tmp_path / "jobs")
    (tmp_path / "jobs").mkdir()
    first.script.write_text(sleeping.script(first))
    second.script.write_text(evolve(sleeping, command="echo").script(second))
    before = sleeping.submit(first, [])
    after = sleeping.submit(second, [before])
    assert sleeping.states([before, after]) == {
        JobId(job=before): JobState(status="runs", is_active=True),
        JobId(job=after): JobState(status="runs", is_active=True),
    }
    log = sleeping.log(tmp_path / "jobs", JobId(job=after))
    time.sleep(1.5)
    assert log.read_text() == ""
    sleeping.cancel([JobId(job=before)])
    wait_until(lambda: "phases/1.toml" in log.read_text())
    assert not sleeping.states([before])[JobId(job=before)].is_active
    sleeping.cancel([JobId(job=before)])


def test_a_job_on_this_machine_that_has_ended_is_not_cancelled_by_its_number() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as other:  # which has got the number of the job
        Local().cancel([JobId(job=f"{other.pid}-1")])
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.3)
        other.kill()


def test_what_ends_before_lsf_cancels_it_is_ended_and_the_rest_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in lsf.install(tmp_path / "lsf").items():
        monkeypatch.setenv(name, value)
    job = job_spec(1, 2, 3, folder=tmp_path)
    job.script.write_text('#!/bin/bash\n#BSUB -J "group[1-3]"\n[ $LSB_JOBINDEX = 1 ] || exec sleep 60\n')
    try:
        number = LSF().submit(job, [])
        wait_until(lambda: sorted(state.status for state in LSF().states([number]).values()) == ["DONE", "RUN", "RUN"])
        jobs = [
            RunJob(cluster="lsf", place=JobId(job=number, index=index), log=tmp_path / "log")  # as read before
            for index in (1, 2, 3)
        ]
        assert jobs[0].place in cancel(jobs, installed())
        wait_until(lambda: not any(state.is_active for state in LSF().states([number]).values()))
        assert cancel(jobs, installed()) == {run.place for run in jobs}
    finally:
        lsf.stop(tmp_path / "lsf")
