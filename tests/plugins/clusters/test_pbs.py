"""What PBS is told and what it says, and jobs that go on for others, which PBS itself knows nothing of."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imginav import JobId, JobSpec, JobState, UserError
from imginav_clusters import PBS
from imginav_tests import pbs
from imginav_tests.job_specs import job_spec
from imginav_tests.waiting import wait_until


def test_a_job_has_what_it_is_given() -> None:
    cluster = PBS(
        queue="gpu",
        wall_time="26:00:00",
        notice="10m",
        gpus=2,
        cores=8,
        memory="64GB",
        project="plan",
        concurrency=4,
        select_options="gpu_model=a100",
        directives=("-m n",),
    )
    script = cluster.script(job_spec(1, 3, 4, whole=False))
    assert [line for line in script.splitlines() if line.startswith("#PBS")] == [
        "#PBS -N group",
        "#PBS -J 1-4%4",
        "#PBS -q gpu",
        "#PBS -A plan",
        "#PBS -l select=1:ncpus=8:ngpus=2:mem=65536mb:gpu_model=a100",
        "#PBS -l walltime=26:00:00",
        "#PBS -r y",
        "#PBS -j oe",
        "#PBS -o outputs/group/jobs/",
        "#PBS -m n",
    ]
    assert "{ sleep 93000 &" in script
    single = PBS(gpus=0).script(job_spec(1))
    assert "#PBS -l select=1:ncpus=4\n" in single
    assert "-J" not in "".join(line for line in single.splitlines() if line.startswith("#PBS"))
    assert "sleep" not in single


def test_what_it_cannot_start_is_refused() -> None:
    with pytest.raises(ValueError, match="expected nodes = 1, all that the cluster pbs can start, found 2"):
        PBS(nodes=2)
    with pytest.raises(
        ValueError, match=r"expected no gpu_type, .* found 'a100'; set select_options, such as 'gpu_mod"
    ):
        PBS(gpu_type="a100")


QSTAT = """{"timestamp": 1479277336, "pbs_version": "22.05", "pbs_server": "server", "Jobs": {
    "7[].server": {"Job_Name": "group", "job_state": "B", "array": "True"},
    "7[1].server": {"Job_Name": "group", "job_state": "R", "exec_host": "node1/0*4+node2/0*4+node1/1*4"},
    "7[3].server": {"Job_Name": "group", "job_state": "Q", "comment": "Not Running: no free node"},
    "7[4].server": {"Job_Name": "group", "job_state": "X", "Variable_List": {"HOME": "/home/me"}},
    "11.server": {"Job_Name": "group", "job_state": "F", "Variable_List": {"IMGINAV_PBS_JOB": "7[4].server"}},
    "12.server": {"Job_Name": "group", "job_state": "Q", "Variable_List": {"IMGINAV_PBS_JOB": "7[4].server"}},
    "13.server": {"Job_Name": "other", "job_state": "R", "Variable_List": {"IMGINAV_PBS_JOB": "6.server"}},
    "8.server": {"Job_Name": "run_2", "job_state": "F", "exec_host": "node2/1"}}}"""


def test_what_it_says_is_understood(program: Callable[[str, str], None], tmp_path: Path) -> None:
    program("qselect", "printf '12.server\\n13.server\\n'")
    program(
        "qstat", f"echo $@ > {tmp_path}/asked; echo 'Unknown Job Id 9.server' >&2; cat <<'END'\n{QSTAT}\nEND\nexit 153"
    )
    assert PBS().states(["7[].server", "8.server", "9.server"]) == {
        JobId(job="7[].server"): JobState(status="B", is_active=True),
        JobId(job="7[].server", index=1): JobState(status="R", is_active=True, node="node1 node2"),
        JobId(job="7[].server", index=3): JobState(status="Q", is_active=True, reason="Not Running: no free node"),
        JobId(job="7[].server", index=4): JobState(status="Q", is_active=True),
        JobId(job="8.server"): JobState(status="F", is_active=False, node="node2"),
    }
    asked = "-x -t -f -F json 7[].server 8.server 9.server 12.server 13.server\n"
    assert (tmp_path / "asked").read_text() == asked
    assert PBS().states([]) == {}
    program("qdel", f'echo "$@" > {tmp_path}/ended')
    PBS().cancel([JobId(job="7[].server", index=3), JobId(job="7[].server", index=4), JobId(job="9.server")])
    assert (tmp_path / "ended").read_text() == "7[3].server 12.server 9.server\n"
    program("qstat", "echo 'qstat: cannot connect to server' >&2; exit 1")
    with pytest.raises(UserError, match="qstat did not answer in JSON: 'qstat: cannot connect to server'"):
        PBS().states(["8.server"])


def test_a_job_that_ends_between_two_questions_is_looked_for_again(
    program: Callable[[str, str], None], tmp_path: Path
) -> None:
    # 12 has ended since qselect named it; 13 goes on for it since then.
    program("qselect", f"[ -e {tmp_path}/asked ] && echo 13.server || echo 12.server")
    goes_on = '"%s.server": {"job_state": "%s", "Variable_List": {"IMGINAV_PBS_JOB": "7.server"}}'
    first, second = (
        f'{{"Jobs": {{"7.server": {{"job_state": "F"}}, {goes_on % each}}}}}' for each in (("12", "F"), ("13", "R"))
    )
    program("qstat", f"[ -e {tmp_path}/asked ] && echo '{second}' || echo '{first}'; touch {tmp_path}/asked")
    assert PBS().states(["7.server"]) == {JobId(job="7.server"): JobState(status="R", is_active=True)}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, where a PBS is at hand."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, value in pbs.install(tmp_path / "pbs", resources=["gpu_model"]).items():
        monkeypatch.setenv(name, value)
    yield folder
    pbs.stop(tmp_path / "pbs")


RUN = """#!/bin/bash
me=$(sed "s/.*--index //;s/ .*//" <<< "$*")
[ "$me" = auto ] && me=$(sed "s/.*\\[//;s/\\].*//" <<< "${IMGINAV_PBS_JOB:-$PBS_JOBID}")
echo "$me $PBS_JOBID" >> runs
trap 'exit 85' USR1
trap '' TERM
[ -e "leaves.$me" ] && rm "leaves.$me" && while :; do sleep 0.05; done
trap '' USR1
while [ -e "waits.$me" ]; do sleep 0.05; done
[ ! -e "fails.$me" ]
"""


@pytest.fixture
def submitted(work: Path) -> Callable[..., tuple[PBS, JobSpec, str]]:
    """Submit a job of experiments, whose runs do as files in the working folder say."""
    (work / "run").write_text(RUN)
    (work / "run").chmod(0o755)
    cluster = PBS(command=str(work / "run"), wall_time="1:00", notice="59s", select_options="gpu_model=a100")

    def submitting(*numbers: int, after: tuple[str, ...] = ()) -> tuple[PBS, JobSpec, str]:
        job = job_spec(*numbers, whole=False, folder=work / "jobs")
        job.folder.mkdir(exist_ok=True)
        job.script.write_text(cluster.script(job))
        return cluster, job, cluster.submit(job, after)

    return submitting


def words(*jobs: str) -> dict[str, str]:
    return {place.name: state.status for place, state in PBS().states(jobs).items()}


def runs() -> list[str]:
    return Path("runs").read_text().splitlines() if Path("runs").exists() else []


def test_a_chain_ends_although_all_of_its_jobs_leave_before_their_wall_time(
    work: Path, submitted: Callable[..., tuple[PBS, JobSpec, str]]
) -> None:
    for name in ("leaves.1", "leaves.3", "leaves.2", "waits.1"):
        (work / name).touch()
    cluster, job, array = submitted(1, 3)
    *_, follower = submitted(2, after=(array,))
    *_, last = submitted(4, after=(follower,))
    assert words(follower, last) == {follower: "H", last: "H"}
    jobs = work.parent / "pbs" / "state"
    # The array itself is over, but for its first element another job goes on: what comes after waits for that one.
    wait_until(lambda: (jobs / "107.json").exists(), seconds=60)
    assert words(follower, last) == {follower: "H", last: "H"}
    assert sorted(line.split()[0] for line in runs()) == ["1", "1", "3", "3"]
    (work / "waits.1").unlink()
    wait_until(
        lambda: not any(state.is_active for state in cluster.states([array, follower, last]).values()), seconds=60
    )
    assert [line.split()[0] for line in runs()][4:] == ["2", "2", "4"]
    # The element that nobody asked for has ended at once.
    assert not cluster.log(job.folder, JobId(job=array, index=2)).exists()
    for place in (JobId(job=array, index=1), JobId(job=array, index=3), JobId(job=follower), JobId(job=last)):
        assert cluster.log(job.folder, place).exists(), place
    elements = [e for path in jobs.glob("1*.json") for e in pbs.read(path)["elements"].values()]
    assert {element["exit_code"] for element in elements} == {0}
    assert not any(element["signals"] for element in elements)


def test_a_job_that_goes_on_for_another_is_shown_and_cancelled_as_it(
    work: Path, submitted: Callable[..., tuple[PBS, JobSpec, str]]
) -> None:
    for name in ("leaves.1", "waits.1"):
        (work / name).touch()
    cluster, _, array = submitted(1, 2)
    *_, follower = submitted(3, after=(array,))
    # 103 goes on for the first element, and 104 for the follower, which has looked for such jobs by then.
    wait_until((work.parent / "pbs" / "state" / "104.json").exists, seconds=30)
    wait_until(lambda: len(runs()) == 3, seconds=30)
    goes_on = work.parent / "pbs" / "state" / "103.json"
    place = JobId(job=array, index=1)
    assert cluster.states([array])[place].status == "R"
    assert sorted(line.split()[0] for line in runs()) == ["1", "1", "2"]
    cluster.cancel([place])
    wait_until(lambda: any(e["signals"] for e in pbs.read(goes_on)["elements"].values()), seconds=30)
    (work / "waits.1").unlink()  # its run ends well, but after the job has got SIGTERM
    wait_until(lambda: not any(state.is_active for state in cluster.states([array, follower]).values()), seconds=30)
    assert not [line for line in runs() if line.startswith("3")]
    with pytest.raises(UserError, match=r"qdel '101\[1\]\.server' was refused: .*Job has finished"):
        cluster.cancel([place])


def test_what_comes_after_a_failed_job_is_deleted(
    work: Path, submitted: Callable[..., tuple[PBS, JobSpec, str]]
) -> None:
    (work / "fails.1").touch()
    cluster, _, first = submitted(1)
    *_, after = submitted(2, after=(first,))
    wait_until(lambda: words(first, after) == {first: "F", after: "F"}, seconds=30)
    assert [line.split()[0] for line in runs()] == ["1"]
    assert cluster.states([after])[JobId(job=after)].reason.startswith("Job deleted as result of dependency")


WRONG = [
    "-J 1",
    "-J 3-3",
    "-J 1-5,8",
    "-N two words",
    "-l nodes=1:ppn=4",
    "-l select=1:ncpus=four",
    "-l select=1:gpus=1",
    "-l walltime=24h",
    "-W depend=afterok:7[3].server",
    "-W depend=done:7.server",
    "-o",
    "-j oee",
    "--name job",
    "-q a -q b",
]


@pytest.mark.parametrize("line", WRONG)
def test_the_stand_in_refuses_a_typo_in_a_directive(line: str, work: Path) -> None:
    (work / "job.sh").write_text(f"#!/bin/bash\n#PBS {line}\ntrue\n")
    done = subprocess.run(["qsub", "job.sh"], capture_output=True, text=True, check=False)  # noqa: S607  # the stand-in
    assert (done.returncode, done.stdout) == (255, "")
    assert "Job not submitted" in done.stderr
