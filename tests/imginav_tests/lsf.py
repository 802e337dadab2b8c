"""A stand-in for IBM Spectrum LSF 10.1: `bsub`, `bjobs`, `bkill` and `blaunch` which refuse whatever the command
reference does not document, record how they were called, and really run the jobs on this machine.

The pages named in comments are those of the LSF 10.1 command reference, unless another book is named. What is
documented but not acted out here is refused too, in words that begin "stand-in does not implement".

Installed as `openlava`, it refuses what OpenLava 4 does not know, and prints its tables.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imginav_tests import stand_in
from imginav_tests.stand_in import FULL, Job, Refused, Signal, calls, expect, like, positive, read, state, stop

__all__ = ["COMMANDS", "FULL", "SUBMITS", "Refused", "Supervisor", "calls", "install", "state", "stop"]

REASONS = {
    "TERM_RUNLIMIT": "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
    "TERM_OWNER": "TERM_OWNER: job killed by owner",
    "TERM_FORCE_OWNER": "TERM_FORCE_OWNER: job killed by owner without time for cleanup",
}
VERSIONS = {
    "lsf10": "IBM Spectrum LSF Standard 10.1.0.14, Jun 13 2023\nCopyright International Business Machines Corp.\n",
    "openlava": "OpenLava 4.0.0, Jun 11 2017\n",
}


def install(
    folder: Path,
    *,
    minute: float = 60.0,
    hosts: Sequence[str] = ("node1",),
    variant: str = "lsf10",
    takes_units: bool = True,
    unit_for_limits: str = "",
    requeue_exit_values: Sequence[int] = (),
) -> dict[str, str]:
    """Put the commands into `folder/bin` and return the environment variables to add.

    One minute of `-W` and `-wt` lasts `minute` seconds, and jobs run as if on `hosts`. A site may refuse memory with a
    unit (`takes_units`), have an LSF_UNIT_FOR_LIMITS, and a queue with REQUEUE_EXIT_VALUES.
    """
    settings = {"minute": minute, "hosts": list(hosts), "variant": variant, "takes_units": takes_units}
    settings |= {"unit_for_limits": unit_for_limits, "requeue_exit_values": list(requeue_exit_values)}
    variables = stand_in.install(folder, "lsf", list(COMMANDS), settings)
    return {**variables, "LSF_BINDIR": f"{folder.resolve()}/bin", "LSF_ENVDIR": f"{folder.resolve()}/state"}


# ---------------------------------------------------------------- bsub: the values of its options

SIZE = r"(?:[KMGTPEZ]B?)"  # bsub -M and bsub -R list KB or K to ZB or Z
ARRAY_SIZE = 1000  # MAX_JOB_ARRAY_SIZE, where a site sets no other
LEGACY_GPUS = {"ngpus_shared", "ngpus_excl_t", "ngpus_excl_p"}
GPU = {  # bsub -gpu
    "num": r"[1-9]\d*(/(task|host))?", "mode": r"shared|exclusive_process", "j_exclusive": r"yes|no", "aff": r"yes|no",
    "mps": r"no|(yes|per_socket|per_gpu)(,shared)?(,nocvd)?", "block": r"yes|no", "gpack": r"yes|no",
    "gvendor": r"amd|nvidia", "gmodel": r"\w[\w.-]*", "gtile": r"[1-9]\d*|'?!'?", "gmem": rf"[1-9]\d*{SIZE}?",
    "glink": r"yes", "mig": r"[1-9]\d*(/[1-9]\d*)?",
}  # fmt: skip


def _tasks(value: str) -> int:
    """Read `min_tasks[,max_tasks]` (bsub -n); the stand-in gives the least."""
    least, _, most = value.partition(",")
    expect(not most or positive(most) >= positive(least), f"{value!r} has a maximum below its minimum")
    return positive(least)


def _minutes(value: str) -> int:
    """Read `[hour:]minute` (bsub -W, bsub -wt), where the minutes may be more than 59."""
    expect("/" not in value, "stand-in does not implement a run time that another host's speed is to correct")
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", value)
    minutes = int(match[1] or 0) * 60 + int(match[2]) if match else 0
    expect(minutes, f"{value!r} is not a time as [hour:]minute")
    return minutes


def _signal_name(value: str) -> str:
    """Read a signal's name (bsub -wa; `CHKPNT` and commands are lsb.queues' JOB_WARNING_ACTION only)."""
    expect(value != "CHKPNT", "stand-in does not implement checkpoints as the warning action")
    expect(f"SIG{value}" in signal.Signals.__members__, f"{value!r} is no signal's name without SIG, such as URG")
    return value


def _indices(text: str) -> list[int]:
    """Read indices, each as `start[-end[:step]]` (Administering LSF, "Job arrays")."""
    indices: list[int] = []
    for part in text.split(","):
        bounds = re.fullmatch(r"\s*([1-9]\d*)(?:-([1-9]\d*)(?::([1-9]\d*))?)?\s*", part)
        if bounds is None:
            raise Refused(f"{part!r} is not an index, nor indices as start-end[:step]")
        first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        expect(first <= last <= ARRAY_SIZE, f"{part!r} runs backwards or beyond {ARRAY_SIZE}")
        indices += range(first, last + 1, int(bounds[3] or 1))
    return indices


def _job_name(value: str) -> dict[str, Any]:
    """Read a job's name (bsub -J), or an array's with its indices, `name[1-5,8,10-20:2]%limit`."""
    if not set("[]%") & set(value):
        expect(value.strip() and len(value) <= 4094, "not a job's name")
        return {"name": value, "indices": [], "limit": 0}
    match = re.fullmatch(r"([\w.-]+)\[([^\[\]]*)\](?:%(\d+))?", value, re.ASCII)
    if match is None:
        raise Refused(f"{value!r} is neither a job's name nor an array's, as name[1-5]%2")
    indices = _indices(match[2])
    expect(len(set(indices)) == len(indices), f"an index is repeated in {value!r}")
    return {"name": match[1], "indices": sorted(indices), "limit": positive(match[3]) if match[3] else 0}


def _gpu(value: str) -> dict[str, str]:
    if value == "-":
        return {}
    found: dict[str, str] = {}
    for part in value.split(":"):
        key, _, setting = part.partition("=")
        expect(key in GPU, f"{key!r} is no GPU requirement")
        expect(key not in found, f"{key!r} is given twice")
        expect(re.fullmatch(GPU[key], setting), f"{key} cannot be {setting!r}")
        found[key] = setting
    return found


def _requirement(value: str) -> dict[str, str]:
    """Read a resource requirement (bsub -R; Administering LSF, "Resource requirement strings")."""
    expect("{" not in value, "stand-in does not implement compound or alternative resource requirements")
    # LSF takes what names no section for select[...]; here that would hide every typo in a section's name
    sections = r"(?:select|order|rusage|span|same|cu|affinity)\[[^\[\]]*\]"
    expect(re.fullmatch(rf"{sections}( +{sections})*", value.strip()), f"{value!r} is no row of section[...]")
    found: dict[str, str] = {}
    for name, content in re.findall(r"(\w+)\[([^\[\]]*)\]", value):
        expect(name not in found and content.strip(), f"{name}[] is empty or given twice")
        expect(name != "select" or not found, "select[] is not the first section")
        found[name] = content
    if "span" in found:
        expect(re.fullmatch(r"hosts=1|ptile=[1-9]\d*", found["span"]), f"span[{found['span']}] is not known here")
    for usage in re.split(r"\|\||[,:]", found.get("rusage", "mem=1")):
        name, _, amount = usage.strip().partition("=")
        expect(name not in LEGACY_GPUS, f"{name} was replaced by bsub -gpu")
        number = rf"\d+{SIZE}?" if name in ("mem", "swp", "tmp") else r"\d+(\.\d+)?"
        pattern = {"duration": r"\d+[mhs]?", "decay": r"[01]"}.get(name, rf"{number}(/(job|task|host))?")
        expect(re.fullmatch(r"[A-Za-z]\w*", name) and re.fullmatch(pattern, amount), f"{usage!r} is no usage")
    return found


def _exit_codes(value: str) -> dict[str, Any]:
    """Read `"[all] [~number ...] | [number ...] [EXCLUDE(exit_code ...)]"` (bsub -Q)."""
    expect("EXCLUDE" not in value, "stand-in does not implement EXCLUDE, the requeue on another host")
    words = value.split()
    every = words[:1] == ["all"]
    expect(words and all(re.fullmatch(r"~\d+" if every else r"\d+", word) for word in words[every:]), f"{value!r}")
    codes = [int(word.strip("~")) for word in words[every:]]
    expect(all(code <= 255 for code in codes), "an exit code is above 255")
    return {"all": every, "codes": codes}


def _dependency(value: str) -> list[tuple[str, int]]:
    """Read a dependency expression (bsub -w), of which only `done(id)` and `ended(id)` joined by && are acted out."""
    conditions = "done|ended|exit|external|numdone|numended|numexit|numhold|numpend|numrun|numstart"
    token = re.compile(rf'\s*(&&|\|\||!|\(|\)|(?:{conditions}|post_done|post_err|started)\([^()]*\)|\d+|"[^"]+")\s*')
    tokens, position = [], 0
    while position < len(value):
        match = token.match(value, position)
        if match is None:
            raise Refused(f"bad dependency condition at {value[position:]!r}")
        tokens.append(match[1])
        position = match.end()
    # written as its kinds (operand x, and, or, not, parentheses), a right expression shrinks to one operand
    shape = "".join({"&&": "&", "||": "|"}.get(word, word if word in "!()" else "x") for word in tokens)
    while (shorter := re.sub(r"!x|\(x\)|x[&|]x", "x", shape, count=1)) != shape:
        shape = shorter
    expect(shape == "x", f"bad dependency condition {value!r}")
    needed = []
    for word in tokens:
        match = re.fullmatch(r"(done|ended)\(\s*(\d+)\s*\)", word)
        expect(match or word in ("&&", "(", ")"), f"stand-in does not implement {word} in a dependency condition")
        if match:
            needed.append((match[1], int(match[2])))
    return needed


def _environment(value: str) -> dict[str, str]:
    """Return the job's environment as `-env "none" | "all[, ~name][, name=value]" | "name[=value], ..."` wants it."""
    site = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME", "SHELL") if name in os.environ}
    site["PATH"] = os.defpath
    if value == "none":
        return site
    expect("'" not in value, "stand-in does not implement quoted values in -env")
    first, *others = (part.strip() for part in value.split(","))
    chosen = dict(os.environ) if first == "all" else site
    for part in others if first == "all" else [first, *others]:
        expect(re.fullmatch(r"~?\w+|\w+=.*", part) and part not in ("all", "none"), f"{part!r} is no variable")
        name, equals, setting = part.partition("=")
        expect(first == "all" or not name.startswith("~"), "~ needs all before it")
        if name.startswith("~"):
            chosen.pop(name[1:], None)
        elif equals or name in os.environ:
            chosen[name] = setting if equals else os.environ[name]
    return chosen


_word = like(r"[^\s\[\]{}\"'=]+", "a single name")
_file = like(r".*\S.*[^/]|[^/\s]", "a file's path, or a folder's, which the stand-in does not implement")
OPTIONS: dict[str, Callable[[str], Any]] = {
    "-J": _job_name, "-q": _word, "-n": _tasks, "-R": _requirement, "-W": _minutes, "-gpu": _gpu, "-wt": _minutes,
    "-wa": _signal_name, "-Q": _exit_codes, "-o": _file, "-oo": _file, "-e": _file, "-eo": _file, "-w": _dependency,
    "-P": _word, "-G": _word, "-app": _word, "-u": _word, "-sp": positive, "-env": _environment,
    "-M": like(rf"[1-9]\d*{SIZE}?!?", "a limit such as 4GB"), "-cwd": like(r".*\S.*", "a folder's path"),
    "-L": like(r"/.{0,57}", "the full path of a login shell"),
}  # fmt: skip
FLAGS = {"-r", "-rn", "-x", "-N", "-B"}
DOCUMENTED = re.compile(  # of the other options, those likely to be tried
    "-(a|ar|b|C|c|clusters|D|data|E|Ep|eptl|ext|F|f|freq|g|H|hostfile|I|Ip|Is|i|is|Jd|K|k|"
    "m|network|notify|outdir|p|pack|ptl|S|s|sla|Sp|T|t|ti|U|ul|v|We)"
)


def _parse(words: Sequence[str], where: str) -> dict[str, Any]:
    """Return the options among `words`, each value as its check returns it; `-R` alone may be given repeatedly."""
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        name = rest.pop(0)
        expect(not DOCUMENTED.fullmatch(name), f"stand-in does not implement {name}, {where}")
        expect(name in FLAGS or name in OPTIONS, f"{name!r} is no option, {where}")
        expect(name == "-R" or name not in found, f"{name} is given twice, {where}")
        if name in FLAGS:
            found[name] = True
            continue
        expect(rest, f"{name} lacks its value, {where}")
        text = rest.pop(0)
        try:
            value = OPTIONS[name](text)
        except Refused as refusal:
            raise Refused(f"{name} {text!r}: {refusal}, {where}") from None
        found[name] = [*found.get(name, []), value] if name == "-R" else value
        if name == "-w":
            found["dependency"] = text
    return found


def _options(arguments: Sequence[str], script: str) -> dict[str, Any]:
    """Return the options of the command line and of the script's directives; the command line wins (bsub, command)."""
    given: list[str] = []
    for number, line in enumerate(script.splitlines(), 1):
        if line.startswith("#BSUB"):
            try:
                words = shlex.split(line.removeprefix("#BSUB"))
            except ValueError as error:
                raise Refused(f"line {number}: {error}") from None
            expect(line[5:6].isspace() and words, f"line {number}: no option after #BSUB")
            _parse(words, f"in line {number}")  # for the line's number in the message
            given += words
    options = _parse(given, "in the script") | _parse(arguments, "on the command line")
    for one, other in (("-wa", "-wt"), ("-wt", "-wa")):
        expect(one not in options or other in options, f"{one} has no effect without {other}")
    for one, other in (("-r", "-rn"), ("-o", "-oo"), ("-e", "-eo")):
        expect(not {one, other} <= options.keys(), f"{one} conflicts with {other}")
    return options


def _allocate(options: dict[str, Any], hosts: Sequence[str]) -> list[str]:
    """Return one host name for each slot, or none where the hosts are too few."""
    slots = options.get("-n", 1)
    span = next((found["span"] for found in options.get("-R", []) if "span" in found), "")
    if span.startswith("ptile="):
        each = int(span.removeprefix("ptile="))
        used = list(hosts)[: math.ceil(slots / each)]
        return [host for host in used for _ in range(each)][:slots] if len(used) * each >= slots else []
    if span == "hosts=1":
        return [hosts[0]] * slots
    return sorted(
        (hosts[slot % len(hosts)] for slot in range(slots)), key=list(hosts).index
    )  # LSF may well spread them


def bsub(folder: Path, arguments: Sequence[str], script: str) -> int:
    """Check a job script, keep a copy of it, and leave a process behind which runs it."""
    settings = read(folder / "state" / "settings.json")
    if list(arguments) == ["-V"]:
        sys.stderr.write(VERSIONS[settings["variant"]])
        return 0
    options = _options(arguments, script)
    _refuse_what_this_site_lacks(options, settings)
    expect(script.strip(), "stand-in does not implement a command on the command line; no script on stdin")
    name = options.pop("-J", None) or {"name": "", "indices": [], "limit": 0}
    job: Job = {"options": options, "limit": name["limit"], "after": options.get("-w", [])}
    job |= {"queue": options.get("-q", "normal"), "slots": _allocate(options, settings["hosts"])}
    # without a name the job is called after its command, which for a script is its first line
    job["name"] = name["name"] or next(line for line in script.splitlines() if line.strip())
    with stand_in.locked(folder):
        for _, needed in job["after"]:
            expect((folder / "state" / f"{needed}.json").exists(), f"{needed}: No matching job found")
        job_id = stand_in.add_job(folder, script, job, name["indices"], options.pop("-env", None))
    sys.stdout.write(f"Job <{job_id}> is submitted to {'' if '-q' in options else 'default '}queue <{job['queue']}>.\n")
    return 0


def _refuse_what_this_site_lacks(options: dict[str, Any], settings: dict[str, Any]) -> None:
    if settings["variant"] == "openlava":  # lsb.sub.c, the template of its options
        lacking = {"-gpu", "-wt", "-wa", "-Q", "-app", "-env", "-oo", "-eo", "-rn", "-cwd"} & options.keys()
        expect(not lacking, f"invalid option {' '.join(sorted(lacking))}")
    sizes = [options.get("-M", ""), *(found.get("rusage", "") for found in options.get("-R", []))]
    written = [size for size in sizes if re.search(rf"\d{SIZE}", size)]
    expect(settings["takes_units"] or not written, f"{' '.join(written)}: Bad resource requirement syntax")


def badmin(folder: Path, arguments: Sequence[str], script: str = "") -> int:
    """Print the parameters of lsf.conf that are set."""
    settings = read(folder / "state" / "settings.json")
    expect(settings["variant"] == "lsf10", "unknown command showconf")
    expect(list(arguments) == ["showconf", "mbd"], f"stand-in does not implement {' '.join(arguments)}")
    unit = settings["unit_for_limits"]
    lines = ["MBD configuration at Sat Nov 28 23:59:00 2026", " LSB_SHAREDIR = /lsf/work"]
    sys.stdout.write("\n".join([*lines, *([f" LSF_UNIT_FOR_LIMITS = {unit}"] if unit else [])]) + "\n")
    return 0


# ---------------------------------------------------------------- the process that runs a job


@dataclass
class Supervisor(stand_in.Supervisor):
    """What takes one job from PEND to its end."""

    def signals(self, job: Job, element: dict[str, Any]) -> list[Signal]:
        """Return the signals that a running element gets, now or later.

        At the run limit LSF sends SIGUSR2, and kills the job as bkill does if it has not ended within ten minutes
        (bsub -W). Here the next signal follows as soon as bkill's do (JOB_TERMINATE_INTERVAL, ten seconds).
        """
        minute, options = self.settings["minute"], job["options"]
        pause, due = 10 / 60 * minute, list[Signal]()
        if "-W" in options:
            limit = element["started"] + options["-W"] * minute
            if "-wa" in options:
                due.append((limit - options["-wt"] * minute, options["-wa"], "warning"))
            due += [(limit + pause * i, name, "limit") for i, name in enumerate(("USR2", "INT", "TERM", "KILL"))]
        if element["kill"]:
            due += [(element["kill"] + pause * i, name, "kill") for i, name in enumerate(("INT", "TERM", "KILL"))]
        return due

    def paths(self, job: Job, index: str) -> tuple[Path, list[Path | None], list[str]]:
        """Return an element's folder, its files for output and errors, and how they are opened."""

        def expand(text: str) -> str:
            return text.replace("%J", str(job["id"])).replace("%I", index)

        options = job["options"]
        cwd = Path(job["cwd"], expand(options.get("-cwd", ".")))
        names = [options.get("-o", options.get("-oo")), options.get("-e", options.get("-eo"))]
        files = [cwd / expand(name) if name else None for name in names]
        # LSF mails what it has no file for, or cannot write; nobody reads the stand-in's mail
        files = [file if file and file.parent.is_dir() and not file.is_dir() else None for file in files]
        return cwd, files, ["wb" if "-oo" in options else "ab", "wb" if "-eo" in options else "ab"]

    def variables(self, job: Job, index: str) -> dict[str, object]:
        """Return those of the Configuration Reference, "Environment variables set for job execution"."""
        slots = job["slots"]
        counts = {host: slots.count(host) for host in slots}
        variables = {"LSB_JOBID": job["id"], "LSB_JOBINDEX": index, "LSB_JOBNAME": _name(job, index)}
        variables |= {"LSB_QUEUE": job["queue"], "LSB_HOSTS": " ".join(slots), "LSB_DJOB_NUMPROC": len(slots)}
        variables |= {"LSB_MCPU_HOSTS": " ".join(f"{host} {count}" for host, count in counts.items())}
        variables |= {"LSB_SUB_HOST": os.uname().nodename, "LS_SUBCWD": job["cwd"]}
        if self.settings["variant"] == "lsf10":
            hostfile = self.folder / "state" / f"{job['id']}.{index}.hosts"
            hostfile.write_text("".join(f"{host}\n" for host in slots), encoding="utf-8")
            variables["LSB_DJOB_HOSTFILE"] = hostfile
        return variables

    def is_queued_again(self, job: Job, element: dict[str, Any], code: int) -> bool:
        codes = job["options"].get("-Q", {"all": False, "codes": self.settings["requeue_exit_values"]})
        listed = (code in codes["codes"]) != codes["all"] if code or not codes["all"] else False
        return listed and element["reason"] not in ("TERM_OWNER", "TERM_FORCE_OWNER")

    def report(self, job: Job, index: str, code: int, requeued: bool) -> None:
        """Append to the output what LSF says of each job there."""
        cwd, (output, _), _ = self.paths(job, index)
        if output is None or requeued or "-N" in job["options"]:  # -N has the report mailed
            return
        element, name = job["elements"][index], _name(job, index)
        end = f"Exited with exit code {code}." if code else "Successfully completed."
        if element["reason"]:
            end = f"{REASONS[element['reason']]}.\n{end}"
        identity = f"{job['id']}[{index}]" if job["indices"] else job["id"]
        host = job["slots"][0]
        text = f"""
------------------------------------------------------------
Sender: LSF System <lsfadmin@{host}>
Subject: Job {identity}: <{name}> in cluster <stand_in> {"Exited" if code else "Done"}

Job <{name}> was submitted from host <{os.uname().nodename}> by user <{getpass.getuser()}> in cluster <stand_in>.
Job was executed on host(s) <{_hosts(job)}>, in queue <{job["queue"]}>.
<{cwd}> was used as the working directory.

{end}
"""
        with output.open("a", encoding="utf-8") as file:
            file.write(text)


# ---------------------------------------------------------------- bjobs and bkill


def _name(job: Job, index: str) -> str:
    return f"{job['name']}[{index}]" if job["indices"] else str(job["name"])


def _hosts(job: Job) -> str:
    return ":".join(job["slots"])


def _when(seconds: float | None) -> str:
    return time.strftime("%b %e %H:%M", time.localtime(seconds)) if seconds else ""


def _fields(job: Job, index: str) -> dict[str, object]:
    """Return the fields of bjobs -o, those that are empty as empty texts."""
    element, options = job["elements"][index], job["options"]
    started, finished = element["started"], element["finished"]
    return {
        "jobid": job["id"],
        "jobindex": index,
        "stat": element["stat"],
        "user": getpass.getuser(),
        "queue": job["queue"],
        "job_name": _name(job, index),
        "proj_name": options.get("-P", "default"),
        "application": options.get("-app", ""),
        "from_host": os.uname().nodename,
        "exec_host": _hosts(job) if started else "",
        "nreq_slot": options.get("-n", 1),
        "exit_code": element["exit_code"] or "",
        "exit_reason": REASONS.get(element["reason"], ""),
        "pend_reason": element["pend_reason"] if element["stat"] == "PEND" else "",
        "dependency": options.get("dependency", ""),
        "submit_time": _when(job["submitted"]),
        "start_time": _when(started),
        "finish_time": _when(finished),
        "run_time": f"{int((finished or time.time()) - started) if started else 0} second(s)",
        "sub_cwd": job["cwd"],
        "output_file": options.get("-o", options.get("-oo", "")),
        "error_file": options.get("-e", options.get("-eo", "")),
    }


FIELDS = {
    "jobid", "jobindex", "stat", "user", "queue", "job_name", "proj_name", "application", "from_host", "exec_host",
    "nreq_slot", "exit_code", "exit_reason", "pend_reason", "dependency", "submit_time", "start_time", "finish_time",
    "run_time", "sub_cwd", "output_file", "error_file",
}  # fmt: skip
ALIASES = {"id": "jobid", "name": "job_name", "proj": "proj_name", "project": "proj_name", "app": "application"}


def _elements(folder: Path, text: str) -> tuple[Job, list[str]]:
    """Return a job and the indices meant by `123`, `123[2]` or `123[1-3]`; a missing job is a `KeyError`."""
    match = re.fullmatch(r"(\d+)(?:\[([^\[\]]+)\])?", text)
    if match is None:
        raise Refused(f"{text}: Illegal job ID.")
    path = folder / "state" / f"{match[1]}.json"
    if not path.exists():
        raise KeyError(text)
    job = read(path)
    wanted = [str(index) for index in _indices(match[2])] if match[2] else list(job["elements"])
    if not set(wanted) <= job["elements"].keys():
        raise KeyError(text)
    return job, wanted


def _columns(text: str) -> tuple[list[tuple[str, int]], str]:
    """Read `"field[:[-][width]] ... [delimiter='character']"` (bjobs -o): the fields with widths, the delimiter."""
    delimiter = re.search(r"""\s*delimiter=(['"])(.*?)\1\s*$""", text)
    if delimiter:
        expect(len(delimiter[2]) == 1, f"delimiter {delimiter[2]!r} is not a single character")
        text = text[: delimiter.start()]
    columns = []
    for word in text.split():
        match = re.fullmatch(r"(\w+)(?::(-?)(\d*))?", word)
        name = ALIASES.get(match[1].lower(), match[1].lower()) if match else ""
        if match is None or name not in FIELDS:
            raise Refused(f"{word!r} is no field, or none that the stand-in implements")
        columns.append((name, int((match[2] or "") + (match[3] or "0"))))
    expect(columns, "no field after -o")
    return columns, delimiter[2] if delimiter else " "


def bjobs(folder: Path, arguments: Sequence[str], script: str = "") -> int:
    """Show jobs as a table, or as JSON."""
    if read(folder / "state" / "settings.json")["variant"] == "openlava":
        return _plain_bjobs(folder, arguments)
    given, rest, ids = set(), list(arguments), []
    columns, delimiter = _columns("jobid user stat queue from_host exec_host job_name submit_time")
    while rest:
        word = rest.pop(0)
        if word == "-o":
            expect(rest, "-o lacks its value")
            columns, delimiter = _columns(rest.pop(0))
        elif word.startswith("-"):
            expect(word in ("-a", "-w", "-noheader", "-json"), f"{word!r} is no option, or not implemented here")
        else:
            ids.append(word)
        given.add(word)
    expect("-json" not in given or "-o" in given, "-json needs -o")
    expect(not {"-json", "-noheader"} <= given, "-json has no header to leave out")
    shown: list[tuple[Job, str]] = []
    missing = []
    with stand_in.locked(folder):
        for text in ids or [path.stem for path in stand_in.job_files(folder)]:
            try:
                job, wanted = _elements(folder, text)
            except KeyError:
                missing.append(f"Job <{text}> is not found")
                continue
            every = ids or "-a" in given
            shown += [(job, i) for i in wanted if every or job["elements"][i]["stat"] in ("PEND", "RUN")]
    values = [[str(_fields(job, index)[name]) for name, _ in columns] for job, index in shown]
    if "-o" not in given:  # the plain table has the index with the id, having no column for it
        values = [[f"{row[0]}[{i}]" if job["indices"] else row[0], *row[1:]]
                  for row, (job, i) in zip(values, shown, strict=True)]  # fmt: skip
    if "-json" in given:
        records = [{name.upper(): text for (name, _), text in zip(columns, row, strict=True)} for row in values]
        records += [{"ERROR": text} for text in missing]
        sys.stdout.write(json.dumps({"COMMAND": "bjobs", "JOBS": len(records), "RECORDS": records}, indent=2) + "\n")
    elif values:
        header = [] if "-noheader" in given else [[name.upper() for name, _ in columns]]
        table = header + [[text or "-" for text in row] for row in values]
        for number, (_, width) in enumerate(columns):
            longest = max(len(row[number]) for row in table) if delimiter == " " else 0
            for row in table:
                text = row[number][: abs(width)] if width else row[number]
                row[number] = text.rjust(-width) if width < 0 else text.ljust(width or longest)
        sys.stdout.write("".join(delimiter.join(row).rstrip(" ") + "\n" for row in table))
    if not values and not missing:
        missing.append("No job found" if "-a" in given else "No unfinished job found")
    sys.stderr.write("".join(f"{line}\n" for line in missing))
    return 255 if missing else 0


def _plain_bjobs(folder: Path, arguments: Sequence[str]) -> int:
    """Show jobs as OpenLava does (bjobs.c): their states, or with -p why they are pending."""
    options = {word for word in arguments if word.startswith("-")}
    ids = [word for word in arguments if word not in options]
    expect(options <= {"-a", "-w", "-p"}, f"invalid option -- {' '.join(sorted(options))}")
    lines, missing = [], []
    with stand_in.locked(folder):
        for text in ids or [path.stem for path in stand_in.job_files(folder)]:
            try:
                job, wanted = _elements(folder, text)
            except KeyError:
                missing.append(f"Job <{text}> is not found")
                continue
            for index in wanted:
                element = job["elements"][index]
                if element["stat"] == "PEND" or ("-p" not in options and (ids or element["stat"] == "RUN")):
                    lines.append(_plain_row(job, index, "-p" in options))
    if lines:
        sys.stdout.write("JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n")
        sys.stdout.writelines(lines)
    elif not missing:
        missing.append("No job found")
    sys.stderr.write("".join(f"{line}\n" for line in missing))
    return 255 if missing else 0


def _plain_row(job: Job, index: str, pending: bool) -> str:
    element, user, host = job["elements"][index], getpass.getuser(), os.uname().nodename
    name, when = _name(job, index), _when(job["submitted"])
    head = f"{job['id']:<7} {user:<7} {element['stat']:<5.5} "
    if pending:
        reason = f" {element['pend_reason']}: 1 host;\n"
        return f"{head}{job['queue']:<10} {host:<11} {'':<11} {name:<10} {when}  \n{reason}"
    counts = {slot: job["slots"].count(slot) for slot in job["slots"]}
    hosts = ":".join(f"{count}*{slot}" if count > 1 else slot for slot, count in counts.items())
    hosts = hosts if element["started"] else "   -   "
    return f"{head}{job['queue']:<10} {host:<11} {hosts:<11} {name:<10} {when}\n"


def bkill(folder: Path, arguments: Sequence[str], script: str = "") -> int:
    """Kill jobs, or send them a signal."""
    rest, ids, name, force = list(arguments), [], "", False
    while rest:
        word = rest.pop(0)
        if word == "-s":
            expect(rest, "-s lacks its value")
            value = rest.pop(0)
            known = {str(number.value): number.name[3:] for number in signal.Signals}
            name = known.get(value, value.removeprefix("SIG"))
            expect(f"SIG{name}" in signal.Signals.__members__, f"{value!r} is no signal")
        elif word.startswith("-") or word == "0":
            expect(word == "-r", f"{word!r} is no option, or not implemented here")
            force = True
        else:
            ids.append(word)
    expect(ids, "no job id")
    expect(not (force and name), "-r conflicts with -s")
    status = 0
    for text in ids:
        with stand_in.locked(folder):
            try:
                job, wanted = _elements(folder, text)
            except KeyError:
                sys.stderr.write(f"Job <{text}>: No matching job found\n")
                status = 255
                continue
            elements = [job["elements"][index] for index in wanted]
            elements = [element for element in elements if element["stat"] in ("PEND", "RUN")]
            if not elements:
                sys.stderr.write(f"Job <{text}>: Job has already finished\n")
                status = 255
                continue
            for element in elements:
                _kill(element, name, force)
            stand_in.write(folder / "state" / f"{job['id']}.json", job)
        sys.stdout.write(f"Job <{text}> is being {'signaled' if name not in ('', 'KILL') else 'terminated'}\n")
    return status


def _kill(element: dict[str, Any], name: str, force: bool) -> None:
    """Do to an unfinished element what bkill was called for: a signal's `name`, `force` of `-r`, or the usual three."""
    if name not in ("", "KILL"):
        expect(element["stat"] == "RUN", "a pending job has no process to signal")
        element["signals"].append([name, "bkill -s"])
        stand_in.send_signal(element["pgid"], signal.Signals[f"SIG{name}"])
        return
    element["reason"] = "TERM_FORCE_OWNER" if force else "TERM_OWNER"
    if element["stat"] == "PEND" or force:
        element.update(stat="EXIT", finished=time.time())
    elif not name:
        element["kill"] = element["kill"] or time.time()  # its supervisor sends INT, TERM and KILL from now on
    if element["pgid"] and (force or name):
        element["signals"].append(["KILL", "bkill"])
        stand_in.send_signal(element["pgid"], signal.SIGKILL)


# ---------------------------------------------------------------- blaunch


def blaunch(folder: Path, arguments: Sequence[str], script: str = "") -> int:
    """Run a command once for each host, all at once and all on this machine; return the largest exit status.

    The synopsis is `blaunch [-n] [-u host_file | -z host_name ... | host_name] [-use-login-shell | -no-shell] command`.
    """
    expect("LSB_DJOB_HOSTFILE" in os.environ, "blaunch works only within a job")
    allocated = Path(os.environ["LSB_DJOB_HOSTFILE"]).read_text(encoding="utf-8").split()
    rest, hosts, stdin = list(arguments), list[str](), None
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "-n":
            stdin = subprocess.DEVNULL
        elif word in ("-z", "-u"):
            expect(rest and not hosts, f"{word} lacks its hosts, or comes on top of others")
            text = rest.pop(0)
            hosts = (Path(text).read_text(encoding="utf-8") if word == "-u" else text).split()
            expect(hosts, f"{word} names no host")
        else:
            expect(word in ("-use-login-shell", "-no-shell"), f"{word!r} is no option")
    # a command without a host would run once for each slot; taking its first word for a host finds a mistyped one
    hosts = hosts or [rest.pop(0)] if rest else []
    expect(rest, "no command")
    strangers = set(hosts) - set(allocated)
    expect(not strangers, f"not allocated to this job: {', '.join(sorted(strangers))}")
    tasks = [subprocess.Popen(rest, stdin=stdin, env=os.environ | {"LSB_STAND_IN_HOST": host}) for host in hosts]
    statuses = [task.wait() for task in tasks]
    return max(status if status >= 0 else 128 - status for status in statuses)


SUBMITS = "bsub"
COMMANDS: dict[str, Callable[[Path, Sequence[str], str], int]] = {
    "bsub": bsub,
    "bjobs": bjobs,
    "bkill": bkill,
    "blaunch": blaunch,
    "badmin": badmin,
}
