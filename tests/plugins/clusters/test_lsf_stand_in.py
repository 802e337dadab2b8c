"""The stand-in for LSF refuses what LSF does not document, and runs what it accepts."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imginav_tests import lsf


class Cluster:
    """The stand-in, installed, and the ways to use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.variables: dict[str, str] = lsf.install(folder / "lsf", minute=0.5, hosts=("node1", "node2"))
        self.work.mkdir()

    def run(self, *command: str, script: str = "") -> subprocess.CompletedProcess[str]:
        environment = os.environ | self.variables
        return subprocess.run(
            command,
            input=script,
            env=environment,
            cwd=self.work,
            text=True,
            capture_output=True,
            timeout=20,
            check=False,
        )

    def submit(self, directives: str, body: str) -> int:
        lines = "".join(f"#BSUB {line}\n" for line in directives.splitlines())
        done = self.run("bsub", script=f"#!/bin/bash\n{lines}{body}\n")
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split("<")[1].split(">")[0])

    def element(self, job_id: int, index: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = lsf.state(self.folder / "lsf", job_id)["elements"][str(index)]
        return found

    def wait(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, [path.read_text() for path in (self.folder / "lsf" / "state").glob("*.log")]
            time.sleep(0.03)

    def finish(self, *job_ids: int) -> None:
        def over() -> bool:
            elements = [e for i in job_ids for e in lsf.state(self.folder / "lsf", i)["elements"].values()]
            return all(element["stat"] in ("DONE", "EXIT") for element in elements)

        self.wait(over)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    lsf.stop(tmp_path / "lsf")


WRONG = [
    "-J",
    "-J name[0-3]",
    "-J name[3-1]",
    "-J name[1-5",
    "-J name[1,1]",
    "-J name%2",
    "-j name",
    "--job-name name",
    "-q two words",
    "-n 0",
    "-n 8,4",
    "-n four",
    "-M 4gigabytes",
    "-W 1:30:00",
    "-W 90m",
    "-W 0",
    "-wa URG",
    "-wt 5",
    "-wa SIGURG -wt 5",
    "-wa URG -wt 5s",
    "-Q 85,86",
    "-Q 300",
    "-Q '~85'",
    "-gpu 1",
    "-gpu num=1:mode=exclusive",
    "-gpu num=1,mode=shared",
    "-R 'span[hosts=2]'",
    "-R 'span[hosts=1'",
    "-R 'spam[hosts=1]'",
    "-R 'rusage[mem=4GBytes]'",
    "-R 'rusage[mem]'",
    "-R 'span[hosts=1]rusage[mem=4]'",
    "-R 'rusage[mem=4] select[type==any]'",
    "-w 'done(1'",
    "-w 'done(1) and done(2)'",
    "-w 'finished(1)'",
    "-r -rn",
    "-o a -oo b",
    "-n 1 -n 2",
    "-n 1 # four of them",
    "-J 'open",
    "-L bash",
]


@pytest.mark.parametrize("words", WRONG)
def test_a_typo_in_a_directive_is_refused(words: str) -> None:
    with pytest.raises(lsf.Refused):
        lsf._options([], f"#!/bin/bash\n#BSUB {words}\ntrue\n")


@pytest.mark.parametrize(
    "words",
    [
        "-J 'name[1, 3-5, 10-20:2]%4' -q long -P project -G group -app training -u none -sp 10 -N -B -x",
        "-n 4 -R 'select[type==any && mem>400] order[ut]' -R 'span[ptile=2] rusage[mem=4GB:duration=1h,tmp=5/host]'",
        "-M 32GB -W 1:30 -wt '0:10' -wa 'URG' -Q '85 86' -r",
        "-M 500! -W 90 -Q 'all ~1 ~2' -rn -L /bin/bash -cwd /tmp -env 'all, A=1, ~B'",
        '-gpu "num=2/task:mode=exclusive_process:j_exclusive=yes:gmodel=NVIDIAA100-40G:mps=no:aff=no:gmem=10G"',
        "-o out/%J.%I -e err.%J",
        "-oo out -eo err",
        "-w '(done(1) && ended(2)) && done(3)'",
    ],
)
def test_what_is_documented_is_accepted(words: str) -> None:
    lsf._options([], f"#!/bin/bash\n#BSUB {words}\ntrue\n")


@pytest.mark.parametrize("words", ["-H", "-w 'done(1) || done(2)'", "-w 'exit(1, 3)'", "-Q 'EXCLUDE(9)'", "-wa CHKPNT"])
def test_what_is_documented_but_not_acted_out_is_refused_in_other_words(words: str) -> None:
    with pytest.raises(lsf.Refused, match="stand-in does not implement"):
        lsf._options([], f"#BSUB {words}\n")


def test_a_refused_script_is_not_submitted(cluster: Cluster) -> None:
    done = cluster.run("bsub", script="#!/bin/bash\n#BSUB -n 1\n#BSUB -R 'span[host=1]'\ntouch ran\n")
    assert (done.returncode, done.stdout) == (255, "")
    assert "line 3" in done.stderr
    assert "Job not submitted" in done.stderr
    done = cluster.run("bsub", script="#BSUB -w 'done(99999)'\ntrue\n")
    assert (done.returncode, done.stdout) == (255, "")
    assert cluster.run("bjobs", "-a").stderr == "No job found\n"
    assert [call["command"] for call in lsf.calls(cluster.folder / "lsf")] == ["bsub", "bsub", "bjobs"]
    assert lsf.calls(cluster.folder / "lsf")[1]["stdin"] == "#BSUB -w 'done(99999)'\ntrue\n"


def test_a_job_runs_with_its_variables_and_leaves_a_report(cluster: Cluster) -> None:
    body = (
        'echo "$LSB_JOBID $LSB_JOBINDEX $LSB_JOBNAME $LSB_QUEUE $LSB_MCPU_HOSTS $TERM_OF $PWD"; cat $LSB_DJOB_HOSTFILE'
    )
    script = f"#!/bin/bash\n#BSUB -J name -n 4 -o out.%J.%I -q long\n#BSUB -R span[ptile=2]\n{body}; exit 3\n"
    cluster.variables["TERM_OF"] = "submission"
    done = cluster.run("bsub", "-q", "short", script=script)
    assert done.stdout == "Job <101> is submitted to queue <short>.\n"
    cluster.finish(101)
    cluster.wait(lambda: "Exited with exit code 3." in (cluster.work / "out.101.0").read_text())
    lines = (cluster.work / "out.101.0").read_text().splitlines()
    assert lines[0] == f"101 0 name short node1 2 node2 2 submission {cluster.work}"
    assert lines[1:5] == ["node1", "node1", "node2", "node2"]
    assert "Sender: LSF System <lsfadmin@node1>" in lines


def test_output_that_cannot_be_written_is_dropped(cluster: Cluster) -> None:
    job = cluster.submit("-o missing/out", "echo lost; touch ran")
    cluster.finish(job)
    assert cluster.element(job)["stat"] == "DONE"
    assert [path.name for path in cluster.work.iterdir()] == ["ran"]


def test_an_array_runs_no_more_than_its_limit_at_once(cluster: Cluster) -> None:
    job = cluster.submit(
        "-J name[1-3,7]%2 -o out.%J.%I", "touch started.$LSB_JOBINDEX; while [ ! -e go ]; do sleep 0.02; done"
    )
    cluster.wait(lambda: len(list(cluster.work.glob("started.*"))) == 2)
    shown = cluster.run(
        "bjobs", "-noheader", "-o", "jobindex stat pend_reason delimiter='|'", f"{job}"
    ).stdout.splitlines()
    assert shown[:2] == ["1|RUN|-", "2|RUN|-"]
    assert shown[3] == "7|PEND|The job array has reached its running element limit"
    (cluster.work / "go").touch()
    cluster.finish(job)
    assert sorted(path.name for path in cluster.work.glob("started.*")) == [f"started.{i}" for i in (1, 2, 3, 7)]


def test_a_job_waits_for_those_it_depends_on(cluster: Cluster) -> None:
    first = cluster.submit(
        "-J name[1-2]", "while [ ! -e go ]; do sleep 0.02; done; echo first >> order; [ $LSB_JOBINDEX = 1 ]"
    )
    after = cluster.submit(f"-w 'ended({first})'", "echo after >> order")
    never = cluster.submit(f"-w 'done({first}) && ended({after})'", "echo never >> order")
    shown = cluster.run("bjobs", "-noheader", "-o", "stat pend_reason dependency delimiter='|'", f"{after}").stdout
    assert shown == f"PEND|Job dependency condition not satisfied|ended({first})\n"
    (cluster.work / "go").touch()
    cluster.finish(first, after)
    invalid = "Dependency condition invalid or never satisfied"
    cluster.wait(lambda: cluster.element(never)["pend_reason"] == invalid)
    assert (cluster.work / "order").read_text().split() == ["first", "first", "after"]


def test_an_exit_code_for_it_puts_a_job_back_into_the_queue(cluster: Cluster) -> None:
    body = 'echo "$LSB_JOBID.$LSB_JOBINDEX" >> runs; [ $(wc -l < runs) -gt 2 ] || exit 85; exit 4'
    job = cluster.submit("-J name[2] -Q '85 86' -o out", body)
    cluster.finish(job)
    element = cluster.element(job, 2)
    assert (element["stat"], element["exit_code"], element["requeues"]) == ("EXIT", 4, 2)
    assert (cluster.work / "runs").read_text().split() == [f"{job}.2"] * 3


CATCHES = """
trap '' USR2
python3 -c '
import pathlib, signal, time
note = lambda number, frame: pathlib.Path("signals").open("a").write(signal.Signals(number).name + " ")
for number in (signal.SIGURG, signal.SIGUSR2, signal.SIGINT, signal.SIGTERM): signal.signal(number, note)
pathlib.Path("ready").touch()
while True: time.sleep(0.02)
'
"""


def test_a_warning_comes_before_the_run_limit_and_then_the_signals_that_end_the_job(cluster: Cluster) -> None:
    job = cluster.submit("-W 8 -wt 3 -wa URG -o out", CATCHES.replace("trap '' USR2", "trap '' USR2 INT TERM"))
    cluster.finish(job)
    element = cluster.element(job)
    assert (cluster.work / "signals").read_text().split()[:2] == ["SIGURG", "SIGUSR2"]
    assert element["signals"] == [["URG", "warning"], *([name, "limit"] for name in ("USR2", "INT", "TERM", "KILL"))]
    assert (element["stat"], element["exit_code"]) == ("EXIT", 137)
    assert 4 <= element["finished"] - element["started"] < 6
    shown = cluster.run("bjobs", "-noheader", "-o", "exit_reason", f"{job}").stdout
    assert shown == "TERM_RUNLIMIT: job killed after reaching LSF run time limit\n"
    cluster.wait(lambda: "TERM_RUNLIMIT" in (cluster.work / "out").read_text())


def test_a_job_may_save_its_state_on_the_warning_and_go_back_into_the_queue(cluster: Cluster) -> None:
    body = "if [ -e saved ]; then exit 0; fi; trap 'touch saved; exit 85' URG; while :; do sleep 0.02; done"
    job = cluster.submit("-W 20 -wt 18 -wa URG -Q 85", body)
    cluster.finish(job)
    element = cluster.element(job)
    assert (element["stat"], element["requeues"], element["reason"]) == ("DONE", 1, "")


def test_a_killed_job_does_not_go_back_into_the_queue(cluster: Cluster) -> None:
    body = "trap 'exit 85' INT; touch ready.$LSB_JOBINDEX; while :; do sleep 0.02; done"
    job = cluster.submit("-J name[1-3]%2 -Q 85", body)
    cluster.wait(lambda: len(list(cluster.work.glob("ready.*"))) == 2)
    done = cluster.run("bkill", f"{job}[3]", f"{job}[1]")
    assert done.stdout == f"Job <{job}[3]> is being terminated\nJob <{job}[1]> is being terminated\n"
    assert cluster.element(job, 3)["stat"] == "EXIT"
    cluster.wait(lambda: cluster.element(job, 1)["stat"] == "EXIT")
    assert (cluster.element(job, 1)["exit_code"], cluster.element(job, 1)["requeues"]) == (85, 0)
    assert cluster.run("bjobs", "-noheader", "-o", "jobindex").stdout == "2\n"
    assert cluster.run("bkill", "-r", f"{job}").returncode == 0
    assert cluster.element(job, 2)["reason"] == "TERM_FORCE_OWNER"
    again = cluster.run("bkill", f"{job}", "999")
    assert (again.returncode, again.stdout) == (255, "")
    assert again.stderr == f"Job <{job}>: Job has already finished\nJob <999>: No matching job found\n"


def test_a_signal_sent_to_a_job_does_not_end_it(cluster: Cluster) -> None:
    job = cluster.submit("", "trap 'touch caught; exit 0' USR1; touch ready; while :; do sleep 0.02; done")
    cluster.wait((cluster.work / "ready").exists)
    assert cluster.run("bkill", "-s", "USR1", f"{job}").stdout == f"Job <{job}> is being signaled\n"
    cluster.finish(job)
    assert (cluster.work / "caught").exists()
    assert cluster.element(job)["stat"] == "DONE"


def test_jobs_are_shown_in_the_formats_asked_for(cluster: Cluster) -> None:
    job = cluster.submit("-J name[1-2]", "exit $((LSB_JOBINDEX - 1))")
    cluster.finish(job)
    none = cluster.run("bjobs", "-noheader", "-o", "jobid")
    assert (none.returncode, none.stdout, none.stderr) == (255, "", "No unfinished job found\n")
    fields = "jobid jobindex stat exit_code job_name exec_host"
    done = cluster.run("bjobs", "-o", f"{fields} delimiter='^'", "999", f"{job}[2]", f"{job}[1]")
    assert (done.returncode, done.stderr) == (255, "Job <999> is not found\n")
    assert done.stdout.splitlines() == [
        "JOBID^JOBINDEX^STAT^EXIT_CODE^JOB_NAME^EXEC_HOST",
        f"{job}^2^EXIT^1^name[2]^node1",
        f"{job}^1^DONE^-^name[1]^node1",
    ]
    assert cluster.run("bjobs", "-o", "jobid:5 stat:-6", f"{job}[1-1]").stdout == f"JOBID   STAT\n{job}     DONE\n"
    shown = json.loads(cluster.run("bjobs", "-a", "-json", "-o", "id stat exit_code").stdout)
    assert (shown["COMMAND"], shown["JOBS"]) == ("bjobs", 2)
    assert shown["RECORDS"][0] == {"JOBID": f"{job}", "STAT": "DONE", "EXIT_CODE": ""}
    assert f"{job}[2]" in cluster.run("bjobs", "-a", "-w").stdout
    for wrong in (["-o", "jobid state"], ["-o", "jobid delimiter='ab'"], ["-json"], ["--json"]):
        assert cluster.run("bjobs", *wrong).returncode == 255


def test_blaunch_runs_a_command_for_each_host_of_the_job(cluster: Cluster) -> None:
    body = """
blaunch -z "node1 node2" sh -c 'host=$LSB_STAND_IN_HOST; echo $host > on.$host; [ $host = node1 ] || exit 7'
echo $? > both
blaunch node2 touch single
blaunch node3 touch never
echo $? > stranger
"""
    job = cluster.submit("-n 2 -R span[ptile=1]", body)
    cluster.finish(job)
    texts = {path.name: path.read_text().strip() for path in cluster.work.iterdir()}
    assert texts == {"on.node1": "node1", "on.node2": "node2", "both": "7", "single": "", "stranger": "255"}
    assert cluster.run("blaunch", "node1", "true").returncode == 255


def test_stopping_ends_what_is_left(cluster: Cluster) -> None:
    job = cluster.submit("", "trap '' INT TERM; touch ready; sleep 100")
    cluster.wait((cluster.work / "ready").exists)
    group = cluster.element(job)["pgid"]
    lsf.stop(cluster.folder / "lsf")
    cluster.wait(lambda: not _lives(group))
    assert cluster.run("bsub", script="true\n").returncode == 255


def _lives(group: int) -> bool:
    """Return whether a process of a group is left which has not ended (it may wait for its parent to notice)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            status, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and status != "Z":
            return True
    return False


def test_the_fields_that_may_be_asked_for_are_those_there_are(cluster: Cluster) -> None:
    job = lsf.state(cluster.folder / "lsf", cluster.submit("", "true"))
    assert lsf._fields(job, "0").keys() == lsf.FIELDS
