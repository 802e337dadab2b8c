"""A stand-in for OpenPBS: `qsub`, `qstat`, `qselect` and `qdel` which refuse whatever their manual pages do not
document, record how they were called, and really run the jobs on this machine.

A job starts in a home folder, with the variables that PBS gives it and no others of whoever submitted it. What is
documented but not acted out here is refused too, in words that begin "stand-in does not implement".
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imginav_tests import stand_in
from imginav_tests.stand_in import Job, Refused, Signal, calls, expect, like, read, state, stop

__all__ = ["COMMANDS", "SUBMITS", "Refused", "Supervisor", "calls", "install", "state", "stop"]

SERVER = "server"
KILL_DELAY = 10.0  # of a queue, in seconds, where nothing else is set
NAME_LENGTH = 230  # PBS_MAXJOBNAME
DELETED = "Job deleted as result of dependency on job"


def install(folder: Path, *, second: float = 1.0, resources: Sequence[str] = ()) -> dict[str, str]:
    """Put the commands into `folder/bin` and return the environment variables to add.

    A second of walltime lasts `second` seconds. A site may have `resources` of its own.
    """
    (folder / "home").mkdir(parents=True)
    return stand_in.install(folder, "pbs", list(COMMANDS), {"second": second, "resources": list(resources)})


# ---------------------------------------------------------------- qsub


def _name(value: str) -> str:
    expect(re.fullmatch(r"[\w.+-]+", value, re.ASCII) and len(value) <= NAME_LENGTH, f"illegal -N value {value!r}")
    return value


def _range(value: str) -> dict[str, Any]:
    """Read `X-Y[:Z][%max]` (-J), where Y must be above X."""
    match = re.fullmatch(r"(\d+)-(\d+)(?::([1-9]\d*))?(?:%([1-9]\d*))?", value)
    if match is None or int(match[1]) >= int(match[2]):
        raise Refused("illegal -J value")
    indices = list(range(int(match[1]), int(match[2]) + 1, int(match[3] or 1)))
    return {"indices": indices, "limit": int(match[4] or 0)}


def _seconds(value: str) -> int:
    """Read `[[hours:]minutes:]seconds[.milliseconds]`."""
    expect(re.fullmatch(r"\d+(:\d+){0,2}(\.\d+)?", value), f"illegal time {value!r}")
    seconds = 0
    for part in value.partition(".")[0].split(":"):
        seconds = seconds * 60 + int(part)
    return seconds


CHUNK = {
    "ncpus": r"[1-9]\d*", "ngpus": r"\d+", "mpiprocs": r"[1-9]\d*", "ompthreads": r"[1-9]\d*",
    "mem": r"[1-9]\d*([kmgtp]?[bw])?", "host": r"\S+", "vnode": r"\S+",
}  # fmt: skip


def _resources(value: str) -> dict[str, Any]:
    """Read `select=1:ncpus=4:…`, `walltime=…` or `place=…` (-l); the old -l nodes= is refused."""
    key, _, rest = value.partition("=")
    if key == "walltime":
        return {"walltime": _seconds(rest)}
    if key == "place":
        expect(re.fullmatch(r"(free|pack|scatter)(:(excl|shared|exclhost))?", rest), f"illegal place {rest!r}")
        return {"place": rest}
    expect(key == "select", f"{key!r} is no resource of a whole job, or not implemented here")
    count, *parts = rest.split(":")
    expect(count == "1", "stand-in does not implement several chunks")
    chunk = dict(part.partition("=")[::2] for part in parts)
    expect(len(chunk) == len(parts), f"a resource is given twice in {rest!r}")
    return {"select": chunk}


def _additional(value: str) -> dict[str, Any]:
    """Read `depend=type:id[:id…]` (-W)."""
    match = re.fullmatch(r"depend=(afterok|afterany):(.+)", value)
    if match is None:
        raise Refused(f"stand-in does not implement -W {value}")
    ids = match[2].split(":")
    # depend_on_que: an element of an array cannot be waited for
    expect(all(re.fullmatch(rf"\d+(\[\])?\.{SERVER}", each) for each in ids), f"Illegal dependency {value!r}")
    kind = {"afterok": "done", "afterany": "ended"}[match[1]]
    return {"after": [(kind, int(re.match(r"\d+", each)[0])) for each in ids]}  # type: ignore[index]


def _variables(value: str) -> dict[str, str]:
    parts = [part.partition("=") for part in value.split(",")]
    expect(all(re.fullmatch(r"\w+", name) for name, _, _ in parts), f"illegal -v value {value!r}")
    return {name: text if equals else os.environ.get(name, "") for name, equals, text in parts}


_word = like(r"[^\s@]+", "a single name")
OPTIONS: dict[str, Callable[[str], Any]] = {
    "-N": _name, "-J": _range, "-l": _resources, "-W": _additional, "-v": _variables, "-q": _word, "-A": _word,
    "-P": _word, "-o": like(r"\S.*", "a path"), "-e": like(r"\S.*", "a path"), "-j": like("oe|eo|n", "a join"),
    "-r": like("[yn]", "y or n"), "-m": like("j?[abe]+|n", "mail events"), "-M": _word, "-S": like(r"/\S+", "a shell"),
}  # fmt: skip
DOCUMENTED = re.compile("-[aCcfhIGXkpRuVz]")


def _parse(words: Sequence[str], where: str) -> tuple[dict[str, Any], list[str]]:
    """Return the options among `words`, each value as its check returns it, and the operands behind them."""
    found: dict[str, Any] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        name = rest.pop(0)
        expect(not DOCUMENTED.fullmatch(name), f"stand-in does not implement {name}, {where}")
        expect(name in OPTIONS, f"invalid option {name!r}, {where}")
        expect(rest, f"option {name} requires an argument, {where}")
        value = OPTIONS[name](rest.pop(0))
        if name == "-l":
            expect(not found.get("-l", {}).keys() & value.keys(), f"a resource is given twice, {where}")
            value = {**found.get("-l", {}), **value}
        else:
            expect(name not in found, f"{name} is given twice, {where}")
        found[name] = value
    return found, rest


def _options(arguments: Sequence[str], script: str) -> tuple[dict[str, Any], list[str]]:
    """Return the options of the command line and of the script's directives, and the operands.

    The command line wins. Directives end at the first line that is neither empty nor a comment (qsub, "PBS directive").
    """
    given: list[str] = []
    for number, line in enumerate(script.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            break
        if line.startswith("#PBS"):
            words = shlex.split(line.removeprefix("#PBS"))
            _, operands = _parse(words, f"in line {number}")
            expect(not operands and words, f"directive error in line {number}: {line}")
            given += words
    own, operands = _parse(arguments, "on the command line")
    directives, _ = _parse(given, "in the script")
    return directives | own, operands


def qsub(folder: Path, arguments: Sequence[str], stdin: str) -> int:
    """Check a job script, keep a copy of it, and leave a process behind which runs it."""
    _, operands = _parse(arguments, "on the command line")
    expect(len(operands) <= 1, "stand-in does not implement a command on the command line")
    script = Path(operands[0]).read_text(encoding="utf-8") if operands and operands[0] != "-" else stdin
    options, _ = _options(arguments, script)
    settings = read(folder / "state" / "settings.json")
    for key, value in options.get("-l", {}).get("select", {}).items():
        expect(key in CHUNK or key in settings["resources"], f"Unknown resource: {key}")
        expect(re.fullmatch(CHUNK.get(key, r"\S+"), value), f"Illegal attribute or resource value: {key}={value}")
    array = options.get("-J", {"indices": [], "limit": 0})
    job: Job = {"options": options, "limit": array["limit"], "after": options.get("-W", {}).get("after", [])}
    job |= {"name": options.get("-N") or (Path(operands[0]).name if operands else "STDIN"), "slots": ["node1"]}
    job["variables"] = _environment(folder) | options.get("-v", {})
    with stand_in.locked(folder):
        for _, needed in job["after"]:
            expect((folder / "state" / f"{needed}.json").exists(), f"Unknown Job Id {needed}.{SERVER}")
        job_id = stand_in.add_job(folder, script, job, array["indices"], job["variables"])
    sys.stdout.write(f"{_id(job_id, bool(array['indices']))}\n")
    return 0


def _environment(folder: Path) -> dict[str, str]:
    """Return what a job gets without -V: a login's environment, and some of qsub's by other names."""
    path = f"{folder / 'bin'}{os.pathsep}{os.defpath}"
    login = {"HOME": str(folder / "home"), "USER": getpass.getuser(), "LOGNAME": getpass.getuser(), "PATH": path}
    login["PBS_O_LOGNAME"] = getpass.getuser()
    kept = {f"PBS_O_{name}": os.environ[name] for name in ("HOME", "PATH", "SHELL", "LANG") if name in os.environ}
    return {**login, **kept, "PBS_O_WORKDIR": str(Path.cwd()), "PBS_ENVIRONMENT": "PBS_BATCH"}


# ---------------------------------------------------------------- the process that runs a job


@dataclass
class Supervisor(stand_in.Supervisor):
    """What takes one job from Q to its end."""

    def step(self, job: Job) -> None:
        super().step(job)
        if self.obstacle(job) == stand_in.NEVER:  # depend_on_term: the jobs after it are deleted
            for element in job["elements"].values():
                if element["stat"] == "PEND":
                    element.update(stat="EXIT", finished=time.time(), pend_reason=DELETED)

    def signals(self, job: Job, element: dict[str, Any]) -> list[Signal]:
        """Return SIGTERM, and SIGKILL after kill_delay, at the end of the walltime and by qdel."""
        second, limit = self.settings["second"], job["options"].get("-l", {}).get("walltime")
        ends = [("limit", element["started"] + limit * second)] if limit is not None else []
        ends += [("kill", element["kill"])] if element["kill"] else []
        return [
            (when + delay * second, name, cause)
            for cause, when in ends
            for name, delay in (("TERM", 0.0), ("KILL", KILL_DELAY))
        ]

    def paths(self, job: Job, index: str) -> tuple[Path, list[Path | None], list[str]]:
        cwd = Path(job["variables"]["PBS_O_WORKDIR"])
        options, number = job["options"], f"{job['id']}{f'.{index}' if job['indices'] else ''}"
        names = [cwd / options.get(option, ".") for option in ("-o", "-e")]
        files = [
            path / f"{job['name']}.{letter}{number}" if path.is_dir() else path
            for path, letter in zip(names, "oe", strict=True)
        ]
        joined = options.get("-j", "n")
        output, errors = {"oe": (files[0], None), "eo": (files[1], None)}.get(joined, (files[0], files[1]))
        written = output if output.parent.is_dir() else None  # otherwise it stays in PBS's own folder
        return self.folder / "home", [written, errors], ["wb", "wb"]

    def variables(self, job: Job, index: str) -> dict[str, object]:
        name = _id(job["id"], bool(job["indices"]), index)
        array = {"PBS_ARRAY_ID": _id(job["id"], True), "PBS_ARRAY_INDEX": index} if job["indices"] else {}
        return {"PBS_JOBID": name, "PBS_JOBNAME": job["name"], "PBS_QUEUE": job["options"].get("-q", "workq"), **array}

    def is_queued_again(self, job: Job, element: dict[str, Any], code: int) -> bool:
        return False  # no exit status does; qrerun is for operators


# ---------------------------------------------------------------- qstat, qselect and qdel

LETTERS = {"PEND": "Q", "RUN": "R", "DONE": "F", "EXIT": "F"}


def _id(number: int, is_array: bool, index: str = "") -> str:
    return f"{number}{f'[{index}]' if is_array else ''}.{SERVER}"


def _find(folder: Path, text: str) -> tuple[Job, list[str]]:
    """Return a job and the indices meant by `12.server`, `12[].server` or `12[3].server`."""
    match = re.fullmatch(rf"(\d+)(?:\[(\d*)\])?(?:\.{SERVER})?", text)
    if match is None:
        raise Refused(f"illegally formed job identifier: {text}")
    path = folder / "state" / f"{match[1]}.json"
    job: Job = read(path) if path.exists() else {"elements": {}, "indices": []}
    indices = [match[2]] if match[2] else list(job["elements"])
    if not path.exists() or bool(job["indices"]) != ("[" in text) or not set(indices) <= job["elements"].keys():
        raise KeyError(f"Unknown Job Id {text}")
    return job, indices


def _record(job: Job, index: str | None) -> dict[str, Any]:
    """Return the attributes of a job, an element, or with None of a whole array."""
    elements = [job["elements"][index]] if index is not None else list(job["elements"].values())
    letters = {LETTERS[element["stat"]] for element in elements}
    letter = "B" if len(letters) > 1 or (index is None and letters == {"R"}) else letters.pop()
    waits = letter == "Q" and job["after"] and elements[0]["pend_reason"] != stand_in.FULL
    record: dict[str, Any] = {"Job_Name": job["name"], "Job_Owner": f"{getpass.getuser()}@node0"}
    record["job_state"] = "H" if waits else "X" if index is not None and job["indices"] and letter == "F" else letter
    if index is not None and elements[0]["started"]:
        record["exec_host"] = "node1/0*4"
    if elements[0]["pend_reason"]:
        record["comment"] = elements[0]["pend_reason"]
    if letter == "F":
        record["Exit_status"] = max(element["exit_code"] or 0 for element in elements)
    return record | {"Variable_List": job["variables"]}


def qstat(folder: Path, arguments: Sequence[str], stdin: str = "") -> int:
    """Show jobs in full: -f, with -F json or dsv, -x also what has ended, -t also elements."""
    options, rest = [], list(arguments)
    while rest and rest[0].startswith("-"):
        options.append(rest.pop(0))
        if options[-1] == "-F":
            expect(rest and rest[0] in ("json", "dsv"), "illegal -F value")
            options.append(rest.pop(0))
    expect(set(options) <= {"-x", "-t", "-f", "-F", "json", "dsv"}, f"invalid option among {options}")
    expect({"-f", "-F"} <= set(options), "stand-in does not implement other formats")
    shown: dict[str, Any] = {}
    missing = []
    with stand_in.locked(folder):
        for text in rest or [_id(int(path.stem), bool(read(path)["indices"])) for path in stand_in.job_files(folder)]:
            try:
                job, indices = _find(folder, text)
            except KeyError as unknown:
                missing.append(unknown.args[0])
                continue
            whole = job["indices"] and len(indices) > 1
            rows = [None, *(indices if "-t" in options else [])] if whole else indices
            for index in rows:
                name = _id(job["id"], bool(job["indices"]), index or "")
                record = _record(job, index)
                if "-x" in options or record["job_state"] not in "FX":
                    shown[name] = record
                elif name == text:
                    missing.append(f"{name} Job has finished, use -x or -H to obtain historical job information")
    if "json" in options:
        told = {"timestamp": int(time.time()), "pbs_version": "23.06.06", "pbs_server": SERVER}
        sys.stdout.write(json.dumps({**told, **({"Jobs": shown} if shown else {})}, indent=4) + "\n")
    else:
        sys.stdout.writelines(_dsv(name, record) for name, record in shown.items())
    sys.stderr.writelines(f"qstat: {line}\n" for line in missing)
    return 153 if missing else 0


def _dsv(name: str, record: Mapping[str, Any]) -> str:
    variables = ",".join(f"{key}={value}" for key, value in record["Variable_List"].items())
    texts = {**record, "Variable_List": variables}
    attributes = [f"{key}={text}".replace("|", r"\|") for key, text in texts.items()]
    return "|".join([f"Job Id: {name}", *attributes]) + "\n"


def qselect(folder: Path, arguments: Sequence[str], stdin: str = "") -> int:
    """Print the ids of a user's jobs that have not ended."""
    expect(len(arguments) == 2 and arguments[0] == "-u", "stand-in implements -u alone")
    with stand_in.locked(folder):
        for path in stand_in.job_files(folder):
            job = read(path)
            ended = all(element["stat"] in stand_in.ENDED for element in job["elements"].values())
            if arguments[1] == getpass.getuser() and not ended:
                sys.stdout.write(f"{_id(job['id'], bool(job['indices']))}\n")
    return 0


def qdel(folder: Path, arguments: Sequence[str], stdin: str = "") -> int:
    """Delete jobs: those that wait at once, those that run by SIGTERM and then SIGKILL."""
    expect(arguments and not any(word.startswith("-") for word in arguments), "stand-in implements no option of qdel")
    faults = []
    for text in arguments:
        with stand_in.locked(folder):
            try:
                job, indices = _find(folder, text)
            except KeyError as unknown:
                faults.append(unknown.args[0])
                continue
            elements = [job["elements"][index] for index in indices]
            elements = [element for element in elements if element["stat"] not in stand_in.ENDED]
            if not elements:
                faults.append(f"Job has finished {text}")
            for element in elements:
                if element["stat"] == "PEND":
                    element.update(stat="EXIT", finished=time.time(), exit_code=271, pend_reason="")
                else:
                    element["kill"] = element["kill"] or time.time()
            stand_in.write(folder / "state" / f"{job['id']}.json", job)
    sys.stderr.writelines(f"qdel: {line}\n" for line in faults)
    return 35 if faults else 0


SUBMITS = "qsub"
COMMANDS: dict[str, Callable[[Path, Sequence[str], str], int]] = {
    "qsub": qsub,
    "qstat": qstat,
    "qselect": qselect,
    "qdel": qdel,
}
