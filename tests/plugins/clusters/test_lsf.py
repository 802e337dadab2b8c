"""What LSF and OpenLava are told and what they say, which differs from site to site."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imginav import JobId, JobState, UserError
from imginav_clusters import LSF
from imginav_tests import lsf
from imginav_tests.job_specs import job_spec
from imginav_tests.waiting import wait_until

Program = Callable[[str, str], None]


def directives(**settings: object) -> list[str]:
    script = LSF(**settings).script(job_spec(1))  # type: ignore[arg-type]
    return [line.removeprefix("#BSUB ") for line in script.splitlines() if line.startswith("#BSUB")]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "32768"),
        ({"memory_per": "core"}, "8192"),
        ({"rusage_unit": "GB", "memory_per": "core", "cores": 5}, "7"),
        ({"memory": "1500MB", "rusage_unit": "GB"}, "2"),
        ({"rusage_unit": "written"}, "32GB"),
        ({"rusage_unit": "written", "memory_per": "core", "cores": 5}, "6710887KB"),
    ],
)
def test_memory_is_reserved_in_the_unit_of_the_site(settings: dict[str, object], expected: str) -> None:
    written = directives(**{"memory": "32GB", **settings})
    assert f'-R "rusage[mem={expected}]"' in written
    assert not [line for line in written if line.startswith("-M")]


@pytest.mark.parametrize(("unit", "expected"), [("KB", "33554432"), ("MB", "32768"), ("written", "32GB")])
def test_a_limit_has_a_unit_of_its_own(unit: str, expected: str) -> None:
    written = directives(memory="32GB", memory_limit_unit=unit)
    assert f"-M {expected}" in written
    assert '-R "rusage[mem=32768]"' in written


VERSIONS = {
    "IBM Spectrum LSF Standard 10.1.0.14, Jun 13 2023": True,
    "IBM Platform LSF 9.1.3.0, Jul 04 2014": False,
    "Platform LSF 10.1.0": True,
    "OpenLava 4.0.0, Jun 11 2017": False,
    "a wrapper of this site": True,
}


@pytest.mark.parametrize(("version", "is_ibm"), VERSIONS.items())
def test_bsub_is_asked_once_which_of_the_family_it_is(
    version: str, is_ibm: bool, program: Program, tmp_path: Path
) -> None:
    program("bsub", f"echo asked >> {tmp_path}/asked; echo '{version}' >&2")
    for _ in range(3):
        written = directives(wall_time="24h", gpus=2)
    assert [line for line in written if line.startswith(("-gpu", "-W", "-w", "-Q"))] == (
        ['-gpu "num=2"', "-W 24:00", "-wt 5", "-wa USR2", '-Q "85"'] if is_ibm else ["-W 24:00"]
    )
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_a_site_file_may_say_it_where_there_is_no_bsub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert '-Q "85"' in directives()
    assert not [
        line for line in directives(variant="openlava", wall_time="2h") if line.startswith(("-gpu", "-w", "-Q"))
    ]
    assert LSF(wall_time="2h", memory="1GB").warnings() == []


def test_several_machines_are_refused_where_a_job_does_not_know_its_hosts() -> None:
    with pytest.raises(UserError, match=r"cluster.nodes = 2: OpenLava does not .*; set cluster.nodes = 1"):
        directives(variant="openlava", nodes=2)


@pytest.fixture
def openlava(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An OpenLava whose queue requeues on 85, in an empty working folder; a minute lasts two seconds."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    site = lsf.install(tmp_path / "lsf", minute=2, variant="openlava", takes_units=False, requeue_exit_values=[85])
    for name, value in site.items():
        monkeypatch.setenv(name, value)
    yield work
    lsf.stop(tmp_path / "lsf")


def test_what_is_missing_at_the_site_is_a_warning_each(openlava: Path) -> None:
    requeue, gpus, unit = LSF(memory="1GB", rusage_unit="written").warnings()
    assert requeue.startswith(
        "OpenLava has no bsub -Q, so that a job is queued again only if its queue has REQUEUE_EXIT"
    )
    assert gpus.startswith("OpenLava has no bsub -gpu, so that cluster.gpus = 1 asks the scheduler for none;")
    assert unit == (
        "cluster.rusage_unit = 'written', but OpenLava refuses units in rusage[mem=]; set rusage_unit = 'MB'"
    )
    assert len(LSF(memory="1GB", gpus=0, memory_limit_unit="KB").warnings()) == 1
    assert len(LSF(directives=("-R 'rusage[ngpus=1]'",)).warnings()) == 1


@pytest.mark.parametrize(
    ("site", "settings", "expected"),
    [
        ("", {}, []),
        ("", {"memory_limit_unit": "KB"}, []),
        ("KB", {"memory_limit_unit": "KB"}, []),
        ("GB", {"rusage_unit": "GB", "memory_limit_unit": "GB"}, []),
        ("GB", {"rusage_unit": "written", "memory_limit_unit": "written"}, []),
        ("", {"rusage_unit": "KB"}, [("rusage_unit", "MB", "not set")]),
        ("KB", {"rusage_unit": "KB"}, [("rusage_unit", "MB", "KB")]),
        ("GB", {}, [("rusage_unit", "GB", "GB")]),
        ("MB", {"memory_limit_unit": "KB"}, [("memory_limit_unit", "MB", "MB")]),
        ("", {"memory_limit_unit": "MB"}, [("memory_limit_unit", "KB", "not set")]),
    ],
)
def test_a_unit_that_is_not_the_sites_is_a_warning(
    site: str,
    settings: dict[str, str],
    expected: list[tuple[str, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in lsf.install(tmp_path / "lsf", unit_for_limits=site).items():
        monkeypatch.setenv(name, value)
    warnings = LSF(memory="1GB", **settings).warnings()  # type: ignore[arg-type]
    assert len(warnings) == len(expected)
    for warning, (key, right, reason) in zip(warnings, expected, strict=True):
        assert warning.startswith(f"cluster.{key} = '{settings.get(key, 'MB')}', but this site reads a bare number in ")
        assert warning.endswith(f" as {right} (LSF_UNIT_FOR_LIMITS is {reason}); set {key} = '{right}'")
    assert LSF(**settings).warnings() == []  # type: ignore[arg-type]  # without any memory


RUN = """#!/bin/bash
echo "run $LSB_JOBINDEX" >> runs
trap 'exit 85' USR1
[ $(grep -c "run $LSB_JOBINDEX" runs) -gt 1 ] && exit 0
while :; do sleep 0.05; done
"""


def test_a_job_of_openlava_leaves_before_its_wall_time_and_is_queued_again(openlava: Path, tmp_path: Path) -> None:
    run = openlava / "run"
    run.write_text(RUN)
    run.chmod(0o755)
    # The time is the stand-in's, whose minute lasts two seconds, but `sleep` waits for true ones.
    cluster = LSF(command=str(run), wall_time="1h", notice="3599s")
    job, after = job_spec(1, 2, folder=openlava / "jobs"), job_spec(3, folder=openlava / "jobs")
    job.folder.mkdir()
    for spec in (job, after):
        spec.script.write_text(cluster.script(spec))
    array = cluster.submit(job, [])
    follower = cluster.submit(after, [array])
    waiting = cluster.states([follower])[JobId(job=follower)]
    assert waiting == JobState(status="PEND", is_active=True, reason="Job dependency condition not satisfied: 1 host;")
    wait_until(
        lambda: not any(state.is_active for state in LSF().states([array, follower, "999"]).values()), seconds=30
    )
    states = LSF().states([array, follower])
    assert {place.name: state.status for place, state in states.items()} == {
        f"{array}[1]": "DONE",
        f"{array}[2]": "DONE",
        follower: "DONE",
    }
    assert {state.node for state in states.values()} == {"4*node1".partition("*")[2]}
    elements = lsf.state(tmp_path / "lsf", int(array))["elements"]
    assert [element["requeues"] for element in elements.values()] == [1, 1]
    assert not any(element["signals"] for element in elements.values())  # those of the script itself came first
    assert "sleep 1 &" in job.script.read_text()


def test_a_job_that_ends_early_leaves_no_timer_behind(openlava: Path, program: Program) -> None:
    program("train", "exit 3")
    script = openlava / "job.sh"
    script.write_text(LSF(command="train", wall_time="2h", notice="1337s").script(job_spec(1)))
    done = subprocess.run(["/bin/bash", script], env={**os.environ, "LSB_JOBID": "7"}, check=False)
    assert done.returncode == 3
    sleeping = ["pgrep", "-f", "^sleep 5863$"]
    wait_until(lambda: subprocess.run(sleeping, stdout=subprocess.DEVNULL, check=False).returncode == 1, seconds=10)


def test_states_as_json(program: Program) -> None:
    records = """{"COMMAND":"bjobs","JOBS":3,"RECORDS":[
        {"JOBID":"7[1]","JOBINDEX":"1","STAT":"RUN","EXEC_HOST":"4*node1:4*node2","PEND_REASON":""},
        {"JOBID":"8","JOBINDEX":"0","STAT":"PEND","EXEC_HOST":"",
         "PEND_REASON":"Dependency condition invalid or never satisfied;"},
        {"JOBID":"9","ERROR":"Job <9> is not found"}]}"""
    program("bjobs", f"cat <<'END'\n{records}\nEND\nexit 255")
    assert LSF().states(["7", "8", "9"]) == {
        JobId(job="7", index=1): JobState(status="RUN", is_active=True, node="node1 node2"),
        JobId(job="8"): JobState(
            status="PEND", is_active=True, is_stuck=True, reason="Dependency condition invalid or never satisfied;"
        ),
    }


TABLE = """JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME
7       a_user_with_a_long_name RUN   normal     login.of.a.long.name 4*node1:4*node2 group[1] Nov 28 23:55
7       me      PEND  normal     login          -        group[2] Nov  8 03:05
8[3]    me      DONE  normal     login       node2       *ong[3]    Nov 28 23:55
9       me      PEND  normal     login                   follower   Nov 28 23:55
10      me      EXIT  a_queue_with_a_long_name login node1 a name    Nov 28 23:55
a line of the site
"""

PENDING = """JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME
7       me      PEND  normal     login                   group[2]   Nov  8 03:05
 The job array has reached its running element limit;
9       me      PEND  normal     login                   follower   Nov 28 23:55
 Dependency condition invalid or never satisfied: 1 host;
 Load information unavailable: 2 hosts;
"""


def test_states_as_a_table(program: Program) -> None:
    program("bsub", "echo OpenLava 4.0.0")
    program("bjobs", f"[ $1 = -p ] && cat <<'END' || cat <<'OTHER'\n{PENDING}END\n{TABLE}OTHER")
    assert LSF().states(["7", "8", "9", "10"]) == {
        JobId(job="7", index=1): JobState(status="RUN", is_active=True, node="node1 node2"),
        JobId(job="7", index=2): JobState(
            status="PEND", is_active=True, reason="The job array has reached its running element limit;"
        ),
        JobId(job="8", index=3): JobState(status="DONE", is_active=False, node="node2"),
        JobId(job="9"): JobState(
            status="PEND",
            is_active=True,
            is_stuck=True,
            reason="Dependency condition invalid or never satisfied: 1 host; Load information unavailable: 2 hosts;",
        ),
        JobId(job="10"): JobState(status="EXIT", is_active=False, node="node1"),
    }
    program("bjobs", "echo 'Job <7> is not found' >&2; exit 255")
    assert LSF().states(["7"]) == {}
    program("bjobs", "echo 'bjobs: batch daemon is not responding' >&2; exit 255")
    with pytest.raises(UserError, match=r"did not answer as LSF does: 'bjobs: batch daemon is not responding'"):
        LSF().states(["7"])


def test_a_stand_in_for_openlava_refuses_what_ibm_alone_has(openlava: Path) -> None:
    def refused(*command: str, script: str = "") -> str:
        done = subprocess.run(command, input=script, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (255, "")
        return done.stderr

    for words in ("-gpu num=1", "-Q 85", "-W 10 -wt 5 -wa USR2"):
        assert "invalid option" in refused("bsub", script=f"#BSUB {words}\ntrue\n")
    for words in ("-M 8GB", "-R rusage[mem=8GB]"):
        assert "Bad resource requirement syntax" in refused("bsub", script=f"#BSUB {words}\ntrue\n")
    for words in ("-json -o jobid", "-o jobid", "-noheader"):
        assert "invalid option" in refused("bjobs", *words.split())
    assert "unknown command" in refused("badmin", "showconf", "mbd")
