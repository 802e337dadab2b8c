"""Submitting phases, and what is known of their jobs afterwards, with a cluster that only notes what it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import evolve, frozen

from imginav import Cluster, JobId, JobSpec, JobState, UserError
from imginav.manifest.loading import load_phase
from imginav.manifest.resolved import ResolvedPhase
from imginav.plugin.cluster import BaseCluster
from imginav.plugin.registry import Registry, installed
from imginav.runs.experiment import run_folder
from imginav.runs.own_job import note_own_job, place_in_array
from imginav.runs.records import JOB, load_record
from imginav.study.phases import Options
from imginav.study.selection import data_fingerprints
from imginav_jobs.job_records import JobRecord, jobs_of
from imginav_jobs.job_status import cancel_jobs, show_log, show_status
from imginav_jobs.submission import Request, submit
from imginav_tests.ranks import PHASE

SWEEP = """
[sweep]
experiments.A = { "encoder.latent_channels" = 2 }
experiments.B = { "encoder.latent_channels" = 3 }
experiments.C = { "encoder.latent_channels" = 4 }
selector = { type = "best" }
"""

SITE = """
[cluster]
type = "noting"
queue = "short"
"""


@frozen(kw_only=True)
class Noting(Cluster):
    """Notes what it is told to submit and to cancel."""

    submitted: ClassVar[list[tuple[JobSpec, str | None, list[str]]]] = []
    cancelled: ClassVar[list[JobId]] = []
    told: ClassVar[dict[JobId, JobState]] = {}
    fault: ClassVar[str] = ""
    refused: ClassVar[dict[JobId, JobState]] = {}  # what becomes of a job that it refuses to cancel

    def script(self, work: JobSpec) -> str:
        return f"{self.queue}: {' '.join(work.arguments)}\n"

    def submission(self, work: JobSpec, after: Sequence[str]) -> list[str]:
        return ["note"]

    def submit(self, work: JobSpec, after: Sequence[str]) -> str:
        assert work.script.read_text() == self.script(work)
        self.submitted.append((work, self.queue, list(after)))
        return str(len(self.submitted))

    def states(self, jobs: Sequence[str]) -> Mapping[JobId, JobState]:
        if self.fault:
            raise UserError(self.fault)
        return {place: state for place, state in self.told.items() if place.job in jobs}

    def cancel(self, places: Sequence[JobId]) -> None:
        refused = [place for place in places if place in self.refused]
        self.cancelled.extend(place for place in places if place not in refused)
        self.told.update({place: self.refused[place] for place in refused})
        if refused:
            raise UserError(f"{', '.join(place.name for place in refused)} was refused")

    def log(self, folder: Path, place: JobId) -> Path:
        return folder / f"{place.name}.log"

    @classmethod
    def job_of(cls, environment: Mapping[str, str]) -> JobId | None:
        job, _, index = environment.get("NOTED", "").partition(".")
        return JobId(job=job, index=int(index) if index else None) if job else None


@frozen(kw_only=True)
class NoScheduler(BaseCluster):
    """Is of the kind `cluster`, and cannot submit jobs."""

    @classmethod
    def job_of(cls, environment: Mapping[str, str]) -> JobId | None:
        return None


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The installed components with the noting cluster, in an empty working folder with a site file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Noting, "fault", "")
    for noted in (Noting.submitted, Noting.cancelled, Noting.told, Noting.refused):
        noted.clear()
    Path("imginav.toml").write_text(SITE)
    registry = installed()
    registry.add("cluster", "noting", Noting)
    return registry


def write(number: str, text: str = "") -> Path:
    path = Path("phases") / f"{number}.toml"
    path.parent.mkdir(exist_ok=True)
    named = PHASE.replace('"9"', f'"{number}"').replace('"shared"', f'"p{number[-1]}_tiny"')
    path.write_text(named.replace('"shares"', f'"p{number[-1]}_tinies"') + text)
    return path


def load(path: Path, registry: Registry) -> ResolvedPhase:
    return load_phase(path, registry)


Submit = Callable[..., list[str]]

Finish = Callable[..., None]


@pytest.fixture
def finished(known: Registry, finish: Finish) -> Callable[..., None]:
    """Let some experiments of a phase be finished, by their labels."""

    def finishing(path: Path, *labels: str) -> None:
        phase = load(path, known)
        finish(phase, data_fingerprints(phase), **dict.fromkeys(labels, 0.5))

    return finishing


@pytest.fixture
def submitted(known: Registry) -> Submit:
    """Submit, and return what was said."""

    def submitting(*paths: Path, **request: object) -> list[str]:
        lines: list[str] = []
        submit(Request(paths=paths, **request), known, Options(), lines.append)  # type: ignore[arg-type]
        return lines

    return submitting


WAITS = JobState(status="PEND", is_active=True, reason="resources")
RUNS = JobState(status="RUN", is_active=True, node="node7")
STUCK = JobState(status="PEND", is_active=True, is_stuck=True, reason="never")
ENDED = JobState(status="DONE", is_active=False)


def test_a_sweep_is_an_array_and_a_single_experiment_is_none(submitted: Submit) -> None:
    assert submitted(write("1.1", SWEEP)) == [
        "noting job 1: 3 experiments; its script is outputs/p1_tinies/jobs/p1_tinies.sh"
    ]
    work, queue, after = Noting.submitted[0]
    assert (work.elements, work.whole, work.is_array) == (
        {1: "p1_tiny_A", 2: "p1_tiny_B", 3: "p1_tiny_C"},
        True,
        True,
    )
    assert (queue, after, work.arguments) == ("short", [], ())
    assert submitted(write("1.2"))[0].startswith(
        "noting job 2: p2_tiny; its script is outputs/p2_tinies/jobs/p2_tiny.sh"
    )
    assert not Noting.submitted[1][0].is_array


def test_finished_experiments_are_left_out_and_what_is_open_keeps_its_number(
    submitted: Submit, finished: Finish
) -> None:
    path = write("1.1", SWEEP)
    finished(path, "B")
    submitted(path)
    assert Noting.submitted[0][0].elements == {1: "p1_tiny_A", 3: "p1_tiny_C"}
    assert not Noting.submitted[0][0].whole
    submitted(path, only=("C",))
    assert Noting.submitted[1][0].elements == {3: "p1_tiny_C"}


def test_a_phase_that_is_trained_and_has_no_winner_gets_a_job_that_decides(submitted: Submit, finished: Finish) -> None:
    path = write("1.1", SWEEP)
    finished(path, "A", "B", "C")
    submitted(path)
    assert Noting.submitted[0][0].elements == {1: "p1_tiny_A"}


def test_what_is_finished_needs_no_job(submitted: Submit, finished: Finish) -> None:
    path = write("1.1")
    finished(path, "p1_tiny")
    assert submitted(path) == ["phase 1.1 is finished: there is nothing to submit"]
    assert Noting.submitted == []


def test_in_a_chain_each_phase_waits_for_those_whose_winner_it_takes(submitted: Submit, finished: Finish) -> None:
    write("1.1", SWEEP)
    write(
        "1.2",
        SWEEP.replace("latent_channels", "base_channels")
        .replace("= 2", "= 16")
        .replace("= 3", "= 32")
        .replace("= 4", "= 48"),
    )
    write("1.5", '[winners]\n"1.1" = ["encoder.latent_channels"]\n"1.2" = ["encoder.base_channels"]\n')
    finished(Path("phases/1.5.toml"), "p5_tiny")  # with other values than those to come
    lines = submitted(Path("phases"))
    assert [after for _, _, after in Noting.submitted] == [[], [], ["1", "2"]]
    assert "p5_tiny, after 1, 2; its script" in lines[-1]
    assert [work.arguments for work, _, _ in Noting.submitted] == [(), (), ("--require-winners",)]


def test_what_waits_or_runs_is_not_submitted_again_and_is_waited_for(submitted: Submit) -> None:
    write("1.1", SWEEP)
    write("1.5", '[winners]\n"1.1" = ["encoder.latent_channels"]\n')
    submitted(Path("phases/1.1.toml"))
    Noting.told.update({JobId(job="1", index=1): RUNS, JobId(job="1", index=2): WAITS, JobId(job="1", index=3): ENDED})
    lines = submitted(Path("phases"))
    assert lines[:2] == ["A has noting job 1[1] already (RUN)", "B has noting job 1[2] already (PEND)"]
    assert Noting.submitted[1][0].elements == {3: "p1_tiny_C"}
    assert Noting.submitted[2][2] == ["1", "2"]


def test_what_waits_in_vain_is_ended_and_submitted_again(submitted: Submit) -> None:
    write("1.1", SWEEP)
    write("1.5", '[winners]\n"1.1" = ["encoder.latent_channels"]\n')
    submitted(Path("phases/1.1.toml"), only=("A",))
    Noting.told[JobId(job="1")] = STUCK
    assert submitted(Path("phases"))[0] == "A: job 1 can never start (its dependency failed); cancelled"
    assert Noting.cancelled == [JobId(job="1")]
    assert [after for _, _, after in Noting.submitted] == [[], [], ["2"]]


PROFILES = """
[cluster.profiles.large]
experiments = ["B", "1.5"]
queue = "long"
gpus = 4

[cluster.profiles.other]
experiments = ["*_C"]
queue = "night"
"""


def test_profiles_are_jobs_of_their_own(submitted: Submit) -> None:
    Path("imginav.toml").write_text(SITE + PROFILES)
    path = write("1.1", SWEEP)
    submitted(path)
    assert [(work.name, queue, list(work.elements)) for work, queue, _ in Noting.submitted] == [
        ("p1_tiny_A", "short", [1]),
        ("p1_tiny_B_large", "long", [2]),
        ("p1_tiny_C_other", "night", [3]),
    ]
    submitted(write("1.5"))
    assert Noting.submitted[3][:2][1] == "long"
    submitted(path, profile="other")
    assert [(work.name, queue) for work, queue, _ in Noting.submitted[4:]] == [("p1_tinies", "night")]
    with pytest.raises(
        UserError, match=r"--profile larg: .* has no such profile, did you mean 'large'.; it has large, ot"
    ):
        submitted(path, profile="larg")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "[cluster.profiles.a]\nqueue = 'x'",
            "expected a list of phases or experiments, such as .*, found None @ cluster.pro",
        ),
        ("[cluster.profiles.a]\nexperiments = []", "expected a list of phases or experiments"),
        (
            "[cluster.profiles.a]\nexperiments = ['1']\ntype = 'slurm'",
            "expected what a profile can change; the cluster has",
        ),
        ("[cluster.profiles.a]\nexperiments = ['1']\nque = 'x'", r"que.* @ cluster.profiles.a"),
        (
            "memory = '32'",
            "expected a size of memory with its unit, such as '32GB' or '500MB', found '32' @ cluster.memory",
        ),
        ("wall_time = '5m'", "expected a notice shorter than wall_time = '5m', found '5m'"),
        ('setup = ["a\\nb"]', "expected text in one line, without control characters"),
        ("gpus = -1", "expected a number from 0 to 64, found -1 @ cluster.gpus"),
    ],
)
def test_what_a_cluster_cannot_have_is_a_fault(known: Registry, text: str, fault: str) -> None:
    Path("imginav.toml").write_text(f"{SITE}{text}\n")
    with pytest.raises(UserError, match=fault):
        load(write("1.1"), known)


def test_without_a_cluster_there_is_nothing_to_submit_to(submitted: Submit) -> None:
    Path("imginav.toml").unlink()
    with pytest.raises(UserError, match=r"there is no \[cluster\] to submit to; add \[cluster\] type = 'lsf'"):
        submitted(write("1.1"))


def test_a_cluster_that_cannot_submit_is_refused_by_name(submitted: Submit, known: Registry) -> None:
    known.add("cluster", "none", NoScheduler)
    Path("imginav.toml").write_text("[cluster]\ntype = 'none'\n")
    with pytest.raises(UserError, match=r"cluster\.type = 'none': its class does not derive from imginav\.Cluster"):
        submitted(write("1.1"))


def test_what_is_wrong_with_the_last_phase_is_told_before_the_first_is_submitted(submitted: Submit) -> None:
    write("1.1", SWEEP)
    write("1.5", '[winners]\n"1.1" = ["encoder.base_channels"]\n')
    with pytest.raises(UserError, match="base_channels"):
        submitted(Path("phases"))
    assert Noting.submitted == []


def test_a_scheduler_that_cannot_be_asked_is_not_given_jobs(submitted: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("1.1")
    submitted(path)
    monkeypatch.setattr(Noting, "fault", "it is down")
    with pytest.raises(UserError, match="noting cannot be asked: it is down"):
        submitted(path)
    assert len(Noting.submitted) == 1


def test_what_the_cluster_is_told_is_no_matter_of_the_run(known: Registry) -> None:
    options = Options(settings=("cluster.queue=long", "train.epochs=1"), scale="full")
    path = write("1.1", '[trial]\n"train.epochs" = 1\n')
    submit(Request(paths=(path,)), known, options, lambda _: None)
    work, queue, _ = Noting.submitted[0]
    assert (queue, work.arguments) == ("long", ("--set", "train.epochs=1", "--full"))


def test_the_machine_that_submits_need_not_have_what_computes(submitted: Submit) -> None:
    Path("imginav.toml").write_text(SITE + '[machine]\ndevice = "cuda:63"\n')
    path = write("1.1")
    path.write_text(path.read_text().replace('device = "cpu"\n', ""))
    assert len(submitted(path)) == 1


def test_only_is_for_one_phase(submitted: Submit) -> None:
    write("1.1", SWEEP)
    write("1.2")
    with pytest.raises(UserError, match="--only A: is for one phase, and there are 2; name one of them"):
        submitted(Path("phases"), only=("A",))


def test_a_dry_run_prints_the_script_and_leaves_nothing(
    submitted: Submit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Noting, "fault", "it is not here")
    assert submitted(write("1.1", SWEEP), dry_run=True, require_winners=True) == []
    assert capsys.readouterr().out == "short: \n"
    assert Noting.submitted == []
    assert not Path("outputs").exists()


def test_what_a_user_should_know_is_said_once_and_apart_from_the_scripts(
    submitted: Submit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Noting, "warnings", lambda self: [f"{self.queue} is slow"])
    Path("imginav.toml").write_text(f"{SITE}[cluster.profiles.long]\nexperiments = ['C']\nqueue = 'long'\n")
    paths = write("1.1", SWEEP), write("1.2")
    for dry_run in (True, False):
        submitted(*paths, dry_run=dry_run)
        told = capsys.readouterr()
        assert told.err == "warning: short is slow\nwarning: long is slow\n"
        assert "slow" not in told.out


def test_a_script_that_somebody_has_changed_is_kept(submitted: Submit) -> None:
    path = write("1.1")
    submitted(path)
    script = Path("outputs/p1_tinies/jobs/p1_tiny.sh")
    script.write_text("mine\n")
    assert submitted(path)[0] == f"the script of an earlier job is kept in {script}.1"
    assert Path(f"{script}.1").read_text() == "mine\n"
    assert script.read_text() == "short: \n"


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.split()[1:2] == [name]]
    return line.split()


def test_status_shows_the_scheduler_and_the_files(
    submitted: Submit, known: Registry, finished: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("1.1", SWEEP)
    submitted(path)
    finished(path, "A")
    Noting.told.update({JobId(job="1", index=2): RUNS, JobId(job="1", index=3): STUCK})
    Path("outputs/p1_tinies/jobs/1[2].log").write_text("it works\n")
    show_status([path], known, Options())
    text = capsys.readouterr().out
    assert row(text, "A")[2:6] == ["noting", "1[1]", "-", "finished"]
    assert row(text, "B")[2:] == ["noting", "1[2]", "RUN", "not", "started", "node7", "outputs/p1_tinies/jobs/1[2].log"]
    assert "noting 1[3]   PEND: never, and never starts" in text
    assert "1 of 3" in text


def test_status_without_a_scheduler_is_that_of_the_files(
    submitted: Submit, known: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("1.1", SWEEP)
    submitted(path)
    monkeypatch.setattr(Noting, "fault", "it is not here")
    show_status([path], known, Options())
    text = capsys.readouterr().out
    assert row(text, "A")[2:5] == ["noting", "1[1]", "-"]
    assert "noting cannot be asked: it is not here; the states are those of the files alone" in text


def test_status_reads_a_phase_as_its_newest_jobs_were_submitted(
    known: Registry, finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("1.1", SWEEP + '[trial]\n"train.batch_size" = 4\n')
    times = iter(["2026-01-02T00:00:00+00:00", "2026-01-01T00:00:00+00:00"])
    long = Options(settings=("train.epochs=7", "cluster.queue=long"), scale="full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imginav_jobs.submission.utc_now", lambda: next(times))
        submit(Request(paths=(path,)), known, long, lambda _: None)
        submit(Request(paths=(path,)), known, Options(settings=("train.epochs=3",)), lambda _: None)
    phase = long.load(path, known)
    finish(phase, data_fingerprints(phase), A=0.5, B=0.6)
    show_status([path], known, Options())
    text = capsys.readouterr().out
    assert text.startswith("using --set train.epochs=7 --full, with which the jobs of phase 1.1 were submitted\n")
    assert "2 of 3" in text
    # What the command gives itself counts.
    show_status([path], known, Options(settings=("train.epochs=8",)))
    text = capsys.readouterr().out
    assert text.startswith("using --full, with which the jobs of phase 1.1 were submitted\n")
    assert "0 of 3" in text


def test_runs_are_cancelled_and_their_logs_found_by_the_values_they_were_submitted_with(
    known: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("1.1")
    Path("other.toml").write_text(SITE)
    options = Options(site=Path("other.toml"), settings=("phase.experiment=mine",))
    submit(Request(paths=(path,)), known, options, lambda _: None)
    Path("outputs/p1_tinies/jobs/1.log").write_text("it works\n")
    said = "using --site other.toml --set phase.experiment=mine, with which the jobs of phase 1.1 were submitted"
    show_log(path, [], known, Options(), follow=False)
    assert capsys.readouterr() == ("it works\n", f"{said}\n")
    Noting.told[JobId(job="1")] = RUNS
    lines: list[str] = []
    cancel_jobs([path], [], known, Options(), lines.append)
    assert lines == [said, "mine: noting job 1 is being cancelled"]


def test_a_record_of_an_earlier_version_has_no_values(known: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("1.1")
    folder = Path("outputs/p1_tinies/jobs")
    folder.mkdir(parents=True)
    record = {"cluster": "noting", "job": "5", "submitted": "2025-01-01", "elements": {"p1_tiny": 0}}
    (folder / "noting_5.json").write_text(json.dumps(record))
    show_status([path], known, Options())
    text = capsys.readouterr().out
    assert "using" not in text
    assert row(text, "p1_tiny")[2:4] == ["noting", "5"]


def test_the_last_job_of_a_run_counts(submitted: Submit, known: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("1.1")
    times = iter(["2026-01-02T00:00:00+00:00", "2026-01-01T00:00:00+00:00"])  # ids need not rise
    monkeypatch.setattr("imginav_jobs.submission.utc_now", lambda: next(times))
    submitted(path)
    submitted(path)
    jobs, _ = jobs_of([load(path, known)], known)
    assert jobs["p1_tiny"].name == "1"


def test_a_run_says_itself_which_job_it_was_in(
    known: Registry, finished: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("1.1")
    environment = {"NOTED": "77.3"}
    note_own_job(known, environment)
    assert environment[JOB] == "noting 77 3"
    monkeypatch.setenv(JOB, environment[JOB])
    finished(path, "p1_tiny")
    (experiment,) = load(path, known).experiments
    record = load_record(run_folder(experiment).record)
    assert record is not None
    assert record.job == "noting 77 3"
    jobs, _ = jobs_of([load(path, known)], known)
    assert jobs["p1_tiny"].name == "77[3]"
    # What was submitted later by imginav counts.
    JobRecord(cluster="noting", job="78", submitted="2026-01-01", elements={"p1_tiny": 0}).save(
        Path("outputs/p1_tinies/jobs")
    )
    assert jobs_of([load(path, known)], known)[0]["p1_tiny"].name == "78"
    Path("outputs/p1_tinies/jobs/noting_78.json").unlink()
    evolve(record, job="flux 5").save(run_folder(experiment).record)
    with pytest.raises(
        UserError, match="a job was submitted to a cluster of kind 'flux'; install its plugin: there are l"
    ):
        jobs_of([load(path, known)], known)


def test_the_number_in_an_array_is_that_of_the_scheduler(known: Registry) -> None:
    assert place_in_array(known, {"NOTED": "77.3"}) == 3
    assert place_in_array(known, {"NOTED": "77.0"}) == 0
    assert place_in_array(known, {"LSB_JOBID": "7", "LSB_JOBINDEX": "2"}) == 2
    for environment in ({}, {"NOTED": "77"}, {"LSB_JOBID": "7", "LSB_JOBINDEX": "0"}):
        with pytest.raises(
            UserError, match=r"--index auto: this process is no element of a job array .*lsf, noting, pbs, slurm"
        ):
            place_in_array(known, environment)


def test_jobs_are_ended_by_name_and_only_those_that_go_on(submitted: Submit, known: Registry) -> None:
    path = write("1.1", SWEEP)
    submitted(path)
    Noting.told.update({JobId(job="1", index=1): RUNS, JobId(job="1", index=2): WAITS, JobId(job="1", index=3): ENDED})
    lines: list[str] = []
    cancel_jobs([path], ["B", "C"], known, Options(), lines.append)
    assert Noting.cancelled == [JobId(job="1", index=2)]
    assert lines == ["p1_tiny_B: noting job 1[2] is being cancelled"]
    with pytest.raises(UserError, match="none of them has a job that waits or runs; imginav status shows"):
        cancel_jobs([path], ["C"], known, Options(), lines.append)
    cancel_jobs([Path("phases")], [], known, Options(), lines.append)
    assert Noting.cancelled[1:] == [JobId(job="1", index=1), JobId(job="1", index=2)]


def test_a_job_that_ends_before_it_is_cancelled_is_no_fault(submitted: Submit, known: Registry) -> None:
    path = write("1.1", SWEEP)
    submitted(path)
    places = [JobId(job="1", index=index) for index in (1, 2, 3)]
    Noting.told.update(dict.fromkeys(places, RUNS))
    Noting.refused[places[1]] = ENDED
    lines: list[str] = []
    cancel_jobs([path], [], known, Options(), lines.append)
    assert lines == [
        "p1_tiny_A: noting job 1[1] is being cancelled",
        "p1_tiny_B: noting job 1[2] has ended",
        "p1_tiny_C: noting job 1[3] is being cancelled",
    ]
    assert set(Noting.cancelled) == {places[0], places[2]}
    Noting.refused.update({places[1]: ENDED, places[2]: RUNS})
    Noting.told[places[1]] = RUNS
    with pytest.raises(UserError, match=r"^1\[3\] was refused$"):
        cancel_jobs([path], ["B", "C"], known, Options(), lines.append)


def test_a_log_is_printed_and_followed_to_its_end(
    submitted: Submit, known: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("1.1", SWEEP)
    with pytest.raises(UserError, match="has 3 experiments; name one of them with --only: p1_tiny_A, p1_tiny_B, p1_ti"):
        show_log(path, [], known, Options(), follow=False)
    with pytest.raises(UserError, match=r"p1_tiny_A has had no job; submit it by imginav submit phases/1.1.toml"):
        show_log(path, ["A"], known, Options(), follow=False)
    submitted(path)
    Noting.told[JobId(job="1", index=1)] = WAITS
    with pytest.raises(UserError, match=r"noting job 1\[1\] of p1_tiny_A has written nothing yet \(PEND\): outputs/"):
        show_log(path, ["A"], known, Options(), follow=False)
    log = Path("outputs/p1_tinies/jobs/1[1].log")
    written = iter(["first\n", "second\n"])

    def sleep(_: float) -> None:
        with log.open("a") as stream:
            stream.write(next(written))
        if log.read_text() == "first\nsecond\n":
            Noting.told[JobId(job="1", index=1)] = ENDED

    monkeypatch.setattr("imginav_jobs.job_status.time.sleep", sleep)
    monkeypatch.setattr("imginav_jobs.job_status.ASKED_SECONDS", 0.0)
    capsys.readouterr()
    show_log(path, ["A"], known, Options(), follow=True)
    assert capsys.readouterr().out == "first\nsecond\n"
    show_log(path, ["A"], known, Options(), follow=False)
    assert capsys.readouterr().out == "first\nsecond\n"


def test_a_damaged_record_of_a_job_is_one_sentence(submitted: Submit, known: Registry) -> None:
    path = write("1.1")
    submitted(path)
    Path("outputs/p1_tinies/jobs/noting_1.json").write_text("{")
    with pytest.raises(UserError, match=r"noting_1.json: cannot be read as the record of a job .*; remove it"):
        jobs_of([load(path, known)], known)
