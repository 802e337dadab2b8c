"""The Slurm that other tests use is a real one, whose jobs do what Slurm's manual says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imginav import JobId, JobSpec
from imginav.plugin.registry import installed
from imginav_clusters import Slurm
from imginav_jobs.job_records import RunJob, cancel
from imginav_tests.slurm import missing, running
from imginav_tests.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

TASK = "trap 'echo task got TERM; exit 7' TERM; echo task runs; while :; do sleep 0.1; done"


@dataclass(frozen=True)
class Cluster:
    """A Slurm that runs, and a folder for its jobs' scripts and output."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60
        )
        return done.stdout.strip()

    def submit(self, script: str, *options: str) -> str:
        """Submit a job and return its number."""
        path = self.folder / "job.sh"
        path.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        return self.run("sbatch", "--parsable", *options, str(path))

    def state(self, job: str) -> str:
        return self.run("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")

    def output(self, job: str, name: str = "{}.out") -> str:
        """Return what a job has written, when it has ended."""
        wait_until(lambda: self.state(job) in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"))
        return (self.folder / name.format(job)).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("slurm")
    with running(folder) as environment:
        yield Cluster(folder, environment)


def test_a_script_asks_for_gpus_that_no_other_job_has(cluster: Cluster) -> None:
    job = JobSpec(
        name="gpus",
        heading="",
        phase=Path("phase.toml"),
        arguments=(),
        elements={1: "run"},
        whole=True,
        folder=cluster.folder / "jobs",
    )
    job.folder.mkdir()
    script = Slurm(gpus=2, command='echo "gpus $CUDA_VISIBLE_DEVICES"; sleep 2; true').script(job)
    jobs = [cluster.submit(script.removeprefix("#!/bin/bash\n")) for _ in range(2)]
    assert sorted(cluster.output(job, str(cluster.folder / "jobs" / "{}.log")) for job in jobs) == [
        "gpus 0,1\n",
        "gpus 2,3\n",
    ]


def test_srun_passes_on_usr1_but_kills_its_task_on_term(cluster: Cluster) -> None:
    task = TASK.replace("TERM; echo task runs", "TERM; trap 'echo task got USR1; exit 8' USR1; echo task runs")
    outputs = {}
    for name in ("USR1", "TERM"):
        until = 'until grep -q "task runs" "$SLURM_JOB_ID.out"; do sleep 0.1; done'
        job = cluster.submit(
            f'srun bash -c "{task}" & {until}; kill -{name} $!; wait $!; echo "srun returned $?"', "--output=%j.out"
        )
        outputs[name] = cluster.output(job)

    assert "task got USR1" in outputs["USR1"]
    assert "srun returned 8" in outputs["USR1"]
    assert "task got TERM" not in outputs["TERM"]
    assert "srun returned 137" in outputs["TERM"]


def test_jobs_that_have_ended_or_are_forgotten_can_be_cancelled(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    ended, running = cluster.submit("true"), cluster.submit("sleep 60")
    wait_until(lambda: cluster.state(ended) == "COMPLETED")
    jobs = [
        RunJob(cluster="slurm", place=JobId(job=job), log=cluster.folder / "log") for job in (ended, "99999", running)
    ]
    cancel(jobs, installed())  # Slurm 22.05 refuses none of them
    wait_until(lambda: cluster.state(running) == "CANCELLED")


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
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment) as process:
        wait_until((tmp_path / "runs").exists)
        assert len(_processes(folder)) > 6, "the daemons, the supervisor and the job"
        process.send_signal(signal.SIGKILL)

    wait_until(lambda: not _processes(folder))


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
