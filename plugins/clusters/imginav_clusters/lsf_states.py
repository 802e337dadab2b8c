"""The states of jobs, as `bjobs` prints them: as JSON, which IBM's LSF 10.1 can, or as a table."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence

from imginav import JobId, JobState, UserError
from imginav.plugin import ask

ACTIVE = ("PEND", "PROV", "PSUSP", "RUN", "USUSP", "SSUSP", "WAIT", "UNKWN")

NEVER = re.compile(r"dependency condition (?:invalid or )?never satisfied|Dependency condition invalid", re.IGNORECASE)

FIELDS = ("jobid", "jobindex", "stat", "exec_host", "pend_reason")

ROW = re.compile(r"(\d+)(?:\[(\d+)\])? +\S+ +([A-Z]+) +\S+ +\S+ +(.*?) +[A-Z]\w\w +\d+ +\d+:\d+\s*")
"""A job in a table: id, user, state, queue, submission host, then execution host and name, then the submission time.

A value that is longer than its column moves those behind it; but only a job's name has spaces.
"""


def json_states(jobs: Sequence[str]) -> dict[JobId, JobState]:
    """Return the states by `bjobs -json`; raises UserError where the answer is none."""
    command = ["bjobs", "-a", "-json", "-o", " ".join(FIELDS), *jobs]
    done = ask(command)
    try:
        records = json.loads(done.stdout)["RECORDS"]
    except (ValueError, KeyError, TypeError):
        raise _not_understood(command, "LSF 10.1", done.stderr or done.stdout) from None
    return dict(_state(record) for record in records if "ERROR" not in record)


def table_states(jobs: Sequence[str]) -> dict[JobId, JobState]:
    """Return the states by plain `bjobs`, and by `bjobs -p` why jobs are pending."""
    command = ["bjobs", "-a", "-w", *jobs]
    done = ask(command)
    head, *lines = done.stdout.splitlines() or [""]
    if not head.startswith("JOBID") and not re.search("is not found|No job found", done.stderr):
        raise _not_understood(command, "LSF", done.stderr or done.stdout)
    rows = [match for line in lines if (match := ROW.fullmatch(line))]
    pending = any(row[3] == "PEND" for row in rows)
    reasons = _reasons(ask(["bjobs", "-p", *jobs]).stdout.splitlines()) if pending else {}
    return dict(_state({**_record(row), "PEND_REASON": reasons.get(_place(row), "")}) for row in rows)


def element(index: str) -> int | None:
    """Return the number of an array's element; LSF says 0 for a job that is in no array."""
    return int(index) or None if index.isdigit() else None


def _not_understood(command: Sequence[str], scheduler: str, said: str) -> UserError:
    return UserError(f"{shlex.join(command)} did not answer as {scheduler} does: {said.strip()[:300]!r}")


def _state(record: Mapping[str, str]) -> tuple[JobId, JobState]:
    # Of an array's element, some versions say its number in the id as well: 123[2].
    job, index = record["JOBID"].partition("[")[0], record.get("JOBINDEX", "0")
    reason = " ".join(record.get("PEND_REASON", "").split())
    word = record["STAT"]
    hosts = dict.fromkeys(re.sub(r"^\d+\*", "", host) for host in record.get("EXEC_HOST", "").split(":") if host)
    return JobId(job=job, index=element(index)), JobState(
        status=word,
        is_active=word in ACTIVE,
        is_stuck=word == "PEND" and bool(NEVER.search(reason)),
        node=" ".join(hosts),
        reason=reason,
    )


def _reasons(lines: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return why jobs are pending, which `bjobs -p` prints in the lines below each."""
    reasons: dict[tuple[str, str], str] = {}
    place = ("", "")
    for line in lines:
        if row := ROW.fullmatch(line):
            place = _place(row)
        else:
            reasons[place] = f"{reasons.get(place, '')} {line.strip()}".strip()
    return reasons


def _record(row: re.Match[str]) -> dict[str, str]:
    """Return a row of the table as one of the records that -json prints."""
    host, _, name = row[4].partition(" ")  # a pending job has a dash for its host, or nothing
    job, index = _place(row)
    return {"JOBID": job, "JOBINDEX": index, "STAT": row[3], "EXEC_HOST": host.strip("-") if name else ""}


def _place(row: re.Match[str]) -> tuple[str, str]:
    """Return a job's id and its number in the array, which stands behind the id or behind the name."""
    index = re.search(r"\[(\d+)\]$", row[4])
    return row[1], row[2] or (index[1] if index else "0")
