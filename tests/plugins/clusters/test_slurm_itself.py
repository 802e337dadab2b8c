"""The Slurm that other tests use is a real one, whose jobs do what Slurm's manual says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imginav_tests.slurm import missing, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

WARNED = """
echo "start ${SLURM_RESTART_COUNT:-0} $(date +%s)"
if [ -n "${SLURM_RESTART_COUNT:-}" ]; then exit; fi
trap 'echo "USR1 $(date +%s)"; scontrol requeue "$SLURM_JOB_ID"' USR1
sleep 300 &
wait
"""

TASK = "trap 'echo task got TERM; exit 7' TERM; echo task runs; while :; do sleep 0.1; done"


@dataclass(frozen=True)
class Cluster:
    """A Slurm that runs, and a folder for its jobs' scripts and output."""

    folder: Path
    environment: dict[str, str]
    warned: str = ""

    def run(self, *command: str) -> str:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60
        )
        return done.stdout.strip()

    def submit(self, script: str, *options: str) -> str:
        """Submit a job and return its number; its output is in `<number>.out`."""
        path = self.folder / "job.sh"
        path.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        return self.run("sbatch", "--parsable", "--output=%j.out", *options, str(path))

    def state(self, job: str) -> str:
        return self.run("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")

    def output(self, job: str) -> str:
        """Return what a job has written, when it has ended."""
        _wait(lambda: self.state(job) in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"))
        return (self.folder / f"{job}.out").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("slurm")
    with running(folder) as environment:
        # Its signal takes half a minute to come, in which the other tests run.
        options = ("--time=1", "--signal=B:USR1@60", "--open-mode=append")
        yield Cluster(folder, environment, Cluster(folder, environment).submit(WARNED, *options))


def test_a_job_runs_and_its_output_is_in_the_file(cluster: Cluster) -> None:
    job = cluster.submit('echo "$SLURM_JOB_ID $SLURM_JOB_PARTITION $SLURM_JOB_NUM_NODES"', "--partition=other")

    assert cluster.output(job) == f"{job} other 1\n"


def test_an_array_element_knows_its_index_and_no_more_run_at_once_than_asked(cluster: Cluster) -> None:
    script = "echo $SLURM_ARRAY_TASK_ID; date +%s.%N; sleep 1; date +%s.%N"

    job = cluster.submit(script, "--array=1-3%2", "--output=%A_%a.out")

    times = []
    for index in ("1", "2", "3"):
        known, start, end = cluster.output(f"{job}_{index}").split()
        assert known == index
        times.append((float(start), float(end)))
    assert times[2][0] > min(end for _, end in times[:2])


def test_a_job_waits_for_the_one_that_it_depends_on(cluster: Cluster) -> None:
    first = cluster.submit("sleep 1; date +%s.%N")
    second = cluster.submit("date +%s.%N", f"--dependency=afterok:{first}")

    assert float(cluster.output(second)) > float(cluster.output(first))


def test_a_job_never_starts_where_the_one_that_it_depends_on_has_failed(cluster: Cluster) -> None:
    first = cluster.submit("exit 3")
    second = cluster.submit("echo runs", f"--dependency=afterok:{first}")

    assert cluster.output(first) == ""
    _wait(lambda: "DependencyNeverSatisfied" in cluster.run("squeue", "--noheader", f"--jobs={second}", "--format=%r"))
    cluster.run("scancel", second)


def test_jobs_get_gpus_of_their_own(cluster: Cluster) -> None:
    script = "echo $CUDA_VISIBLE_DEVICES; sleep 2"

    jobs = [cluster.submit(script, "--gres=gpu:2") for _ in range(2)]

    assert sorted(cluster.output(job) for job in jobs) == ["0,1\n", "2,3\n"]


def test_scancel_sends_a_tasks_signal_and_srun_returns_its_exit_status(cluster: Cluster) -> None:
    script = f'srun bash -c "{TASK}" & wait $!; echo "srun returned $?"; exit 3'
    job = cluster.submit(script)
    output = cluster.folder / f"{job}.out"
    _wait(lambda: output.is_file() and "task runs" in output.read_text())

    cluster.run("scancel", "--signal=TERM", f"{job}.0")

    assert "task got TERM" in cluster.output(job)
    assert "srun returned 7" in cluster.output(job)
    assert cluster.state(job) == "FAILED"


def test_srun_passes_on_usr1_but_kills_its_task_on_term(cluster: Cluster) -> None:
    task = TASK.replace("TERM; echo task runs", "TERM; trap 'echo task got USR1; exit 8' USR1; echo task runs")
    outputs = {}
    for name in ("USR1", "TERM"):
        until = 'until grep -q "task runs" "$SLURM_JOB_ID.out"; do sleep 0.1; done'
        job = cluster.submit(f'srun bash -c "{task}" & {until}; kill -{name} $!; wait $!; echo "srun returned $?"')
        outputs[name] = cluster.output(job)

    assert "task got USR1" in outputs["USR1"]
    assert "srun returned 8" in outputs["USR1"]
    assert "task got TERM" not in outputs["TERM"]
    assert "srun returned 137" in outputs["TERM"]


def test_two_nodes_run_the_tasks_of_one_job_beside_another_slurm(tmp_path: Path, cluster: Cluster) -> None:
    with running(tmp_path / "another", nodes=2) as environment:
        both = Cluster(tmp_path, environment)
        job = both.submit('scontrol show hostnames; srun sh -c "echo $SLURM_NODEID"', "--nodes=2", "--gres=gpu:1")
        first, second, *_ = both.output(job).split()
        jobs = both.run("squeue", "--noheader", "--states=all", "--format=%N")

    assert first == os.uname().nodename.partition(".")[0]
    assert jobs == f"{first},{second}", "and it knows of no jobs but its own"
    assert cluster.run("sinfo", "--noheader", "--partition=main", "--format=%D") == "1"


def test_no_process_is_left_even_where_the_test_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "slurm"
    job = "setsid nohup sleep 100 > sleeps 2>&1 &\necho > runs; sleep 100"
    (tmp_path / "job.sh").write_text(f"#!/bin/bash\n{job}\n", encoding="utf-8")
    program = (
        "import os, pathlib, subprocess, sys, time\n"
        "from imginav_tests.slurm import running\n"
        "with running(pathlib.Path('slurm')) as environment:\n"
        "    subprocess.run(['sbatch', '-o', 'out', 'job.sh'], env={**os.environ, **environment}, check=True)\n"
        "    time.sleep(100)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment) as process:
        _wait((tmp_path / "runs").exists)
        assert len(_processes(folder)) > 6, "the daemons, the supervisor and the job"
        process.send_signal(signal.SIGKILL)

    _wait(lambda: not _processes(folder))


def test_a_warned_job_requeues_itself_and_goes_on_in_the_same_file(cluster: Cluster) -> None:
    lines = cluster.output(cluster.warned).splitlines()

    lines = [line for line in lines if not line.startswith("slurmstepd")]
    assert [line.rpartition(" ")[0] for line in lines] == ["start 0", "USR1", "start 1"]
    first, warned, again = (int(line.rpartition(" ")[2]) for line in lines)
    assert warned - first <= 45, "which is before the minute is over"
    assert again - warned <= 30, "which is 6 s where the machine has nothing else to do, and 121 s by default"


def _wait(condition: Callable[[], bool], patience: float = 90) -> None:
    until = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < until, "waited for too long"
        time.sleep(0.1)


def _processes(folder: Path) -> list[str]:
    """Return the processes that know of a Slurm, since its settings are among their environment variables."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"SLURM_CONF={folder}/".encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue  # it has ended meanwhile
    return found
