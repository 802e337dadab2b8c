"""OpenPBS and PBS Professional: qsub, qstat, qselect, qdel.

Written by the manual pages of OpenPBS 23. There, qrerun is for operators alone, no exit status puts a job back into
its queue, and nothing signals a job before its wall time: the script does all three by what any user may do.
"""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from attrs import field, frozen

from imginav import Cluster, JobId, JobSpec, JobState, UserError
from imginav.plugin import answer, ask, bytes_of, one_line
from imginav_clusters import shell

ACTIVE = "BEHQRSTUW"

ASKED_AGAIN = 5
"""How often jobs are listed anew at most because some have ended meanwhile."""

GOES_ON_FOR, AFTER = "IMGINAV_PBS_JOB", "IMGINAV_PBS_AFTER"
"""Variables of a job: the one that it was submitted again for, and those that it comes after, with colons between."""

SUBMIT_AGAIN = f"""\
# PBS lets only its operators queue a job again. So one that has left is submitted again, as a job that goes on for it
# ($job). A job that comes after it looks, when it starts, for jobs that go on for those before it, and waits for them.
job=${{{GOES_ON_FOR}:-$PBS_JOBID}}
submit_again() {{ sed "/^#PBS -J/d" "$0" | qsub -v "{GOES_ON_FOR}=$job,{AFTER}=${AFTER}" "$@"; }}
active=$([ -z "${AFTER}" ] || qstat -f -F dsv $(qselect -u "$PBS_O_LOGNAME"))
before=$(for id in ${{{AFTER}//:/ }}; do grep -F "{GOES_ON_FOR}=${{id%]*}}" <<< "$active"; done)
before=$(sed -n "s/^Job Id: *\\([^|]*\\).*/\\1/p" <<< "$before" | paste -sd :)
if [ "$before" ]; then submit_again -W "depend=afterok:$before"; exit; fi""".splitlines()
"""Lines of bash. 12[].server is an array, 12[3].server its element, so that all elements begin with 12[."""


@frozen(kw_only=True)
class PBS(Cluster):
    """OpenPBS and PBS Professional: arrays, dependences, submitted again before the wall time is up."""

    time_notations: ClassVar[tuple[str, ...]] = ("minutes:seconds", "hours:minutes:seconds")

    select_options: str | None = field(default=None, validator=one_line)  # further resources, such as gpu_model=a100

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.nodes > 1:
            raise ValueError(f"expected nodes = 1, all that the cluster pbs can start, found {self.nodes}")
        if self.gpu_type:
            raise ValueError(
                f"expected no gpu_type, for which each site of PBS has a resource of its own, found {self.gpu_type!r}; "
                "set select_options, such as 'gpu_model=a100'"
            )

    def script(self, work: JobSpec) -> str:
        limit = f"%{self.concurrency}" if self.concurrency else ""
        directives = [
            f"-N {work.name}",
            *([f"-J {min(work.elements)}-{max(work.elements)}{limit}"] if work.is_array else []),
            *([f"-q {self.queue}"] if self.queue else []),
            *([f"-A {self.project}"] if self.project else []),
            f"-l select={self._select}",
            *([f"-l walltime={shell.clock(self.wall_seconds)}"] if self.wall_seconds else []),
            "-r y",
            "-j oe",
            f"-o {shell.quoted(f'{work.folder}/')}",
            *self.directives,
        ]
        timer = shell.timer(self, "USR1")
        lines = [
            *shell.heading(work, "PBS", directives, f"mkdir -p {shell.quoted(str(work.folder))} && qsub FILE"),
            'cd "$PBS_O_WORKDIR"',
            *_gaps(work),
            *SUBMIT_AGAIN,
            f'exec >> "{work.folder}/$job.log" 2>&1',
            "",
            *shell.setting_up(self),
            *timer,
            f"{shell.run_line(self, work)} &",
            *shell.waiting("USR1"),
            *(["kill $timer 2> /dev/null"] if timer else []),
            "",
            f"# A run that has left (status {shell.REQUEUE}) is submitted again; one that qdel has ended is not.",
            f'[ -z "$cancelled" ] || status={shell.CANCELLED}',
            f"if [ $status -eq {shell.REQUEUE} ]; then submit_again && status=0; fi",
            "exit $status",
        ]
        return "\n".join(lines) + "\n"

    @property
    def _select(self) -> str:
        parts = ["1", f"ncpus={self.cores}", f"ngpus={self.gpus}" if self.gpus else ""]
        memory = f"mem={bytes_of(self.memory) // 2**20}mb" if self.memory else ""
        return ":".join(filter(None, [*parts, memory, self.select_options]))

    def submission(self, work: JobSpec, after: Sequence[str]) -> list[str]:
        jobs = ":".join(after)
        return ["qsub", *(["-W", f"depend=afterok:{jobs}", "-v", f"{AFTER}={jobs}"] if after else []), str(work.script)]

    def submit(self, work: JobSpec, after: Sequence[str]) -> str:
        return answer(self.submission(work, after)).strip()

    def states(self, jobs: Sequence[str]) -> Mapping[JobId, JobState]:
        return {place: _state(record) for place, (_, record) in _known(jobs).items()}

    def cancel(self, places: Sequence[JobId]) -> None:
        known = _known(list(dict.fromkeys(place.job for place in places)))
        names = [known[place][0] if place in known else _name(place) for place in places]
        answer(["qdel", *names], remedy=shell.CANCEL_REMEDY)

    def log(self, folder: Path, place: JobId) -> Path:
        return folder / f"{_name(place)}.log"

    @classmethod
    def job_of(cls, environment: Mapping[str, str]) -> JobId | None:
        name = environment.get(GOES_ON_FOR) or environment.get("PBS_JOBID")
        return _place(name) if name else None


def _gaps(work: JobSpec) -> list[str]:
    """Return the line by which elements that nobody asked for end at once: an array of PBS has no gaps."""
    numbers = sorted(work.elements)
    if not work.is_array or numbers == list(range(numbers[0], numbers[-1] + 1)):
        return []
    wanted = " ".join(map(str, numbers))
    return [f'case " {wanted} " in *" ${{PBS_ARRAY_INDEX:-{numbers[0]}}} "*) ;; *) exit 0 ;; esac']


def _known(jobs: Sequence[str]) -> dict[JobId, tuple[str, Mapping[str, Any]]]:
    """Return the name and the record of each job and element, or of the job that goes on for it."""
    if not jobs:
        return {}
    records, active = _records(jobs)
    for _ in range(ASKED_AGAIN):
        if not any(name in records and records[name]["job_state"] not in ACTIVE for name in active):
            break
        records, active = _records(jobs)  # one has ended in between, and another may go on for it now
    found: dict[JobId, tuple[str, Mapping[str, Any]]] = {}
    for name, record in records.items():
        variables = record.get("Variable_List")
        place = _place(variables.get(GOES_ON_FOR, name) if isinstance(variables, dict) else name)
        if place.job in jobs and (place not in found or record["job_state"] in ACTIVE):
            found[place] = name, record
    return found


def _records(jobs: Sequence[str]) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Return what qstat says of these jobs and of all that are active, by their names, and the names of the latter."""
    active = answer(["qselect", "-u", getpass.getuser()], remedy="try it again later").split()
    # It refuses where it has forgotten one of them, and still prints the others.
    done = ask(["qstat", "-x", "-t", "-f", "-F", "json", *dict.fromkeys([*jobs, *active])])
    try:
        return json.loads(done.stdout).get("Jobs", {}), active
    except ValueError:
        raise UserError(f"qstat did not answer in JSON: {(done.stderr or done.stdout).strip()[:300]!r}") from None


def _place(name: str) -> JobId:
    """12.server is a job, 12[].server an array, 12[3].server its element."""
    index = re.search(r"\[(\d+)\]", name)
    return JobId(job=re.sub(r"\[\d+\]", "[]", name), index=int(index[1]) if index else None)


def _name(place: JobId) -> str:
    return place.job if place.index is None else place.job.replace("[]", f"[{place.index}]")


def _state(record: Mapping[str, Any]) -> JobState:
    hosts = re.findall(r"(?:^|\+)([^/+]+)/", record.get("exec_host", ""))
    return JobState(
        status=record["job_state"],
        is_active=record["job_state"] in ACTIVE,
        node=" ".join(dict.fromkeys(hosts)),
        reason=record.get("comment", ""),
    )
