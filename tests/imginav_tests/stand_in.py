"""What stands in for schedulers has in common: commands that refuse what their references do not document, record how
they were called, and really run the jobs on this machine.

A module for each scheduler (`lsf`, `pbs`) has its commands, and a `Supervisor` that says what its jobs get.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Job = dict[str, Any]  # what a file state/<job id>.json holds
Signal = tuple[float, str, str]  # when it is due, its name without SIG, what it is sent for
TICK = 0.03  # how often a job is looked at, in seconds
LIFETIME = 3600.0  # a job nobody stopped, such as one whose dependency is never met, is given up after this long
FULL = "The job array has reached its running element limit"
NEVER = "Dependency condition invalid or never satisfied"
ENDED = ("DONE", "EXIT")


class Refused(Exception):  # noqa: N818 - what a scheduler does, not what went wrong here
    """A command was given something that its scheduler does not document, or that the stand-in does not act out."""


# ---------------------------------------------------------------- what a test uses


def install(folder: Path, scheduler: str, commands: Sequence[str], settings: Mapping[str, object]) -> dict[str, str]:
    """Put the commands of a scheduler's module into `folder/bin`, and return the environment variables to add."""
    folder = folder.resolve()
    (folder / "state").mkdir(parents=True)
    (folder / "bin").mkdir()
    write(folder / "state" / "settings.json", {"scheduler": scheduler, **settings})
    for command in commands:
        wrapper = folder / "bin" / command
        # -I and -S: what a test puts into the environment is for the job, and must not change the stand-in
        start = shlex.join([*PYTHON, scheduler, command, str(folder)])
        wrapper.write_text(f'#!/bin/sh\nexec {start} "$@"\n', encoding="utf-8")
        wrapper.chmod(0o755)
    return {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


PYTHON = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]


def stop(folder: Path) -> None:
    """End every process that is left, and let no job start any more."""
    folder = folder.resolve()
    with locked(folder):
        (folder / "state" / "stopped").touch()
        for path in job_files(folder):
            job = read(path)
            with contextlib.suppress(OSError):  # its number may be another process's by now, hence the look at it
                if str(folder) in Path(f"/proc/{job['supervisor']}/cmdline").read_text(encoding="utf-8"):
                    os.kill(job["supervisor"], signal.SIGKILL)
            for element in job["elements"].values():
                if element["stat"] == "RUN":
                    send_signal(element["pgid"], signal.SIGKILL)
                    element.update(stat="EXIT", finished=time.time())
            write(path, job)


def calls(folder: Path) -> list[dict[str, Any]]:
    """Return what each command was called with: `command`, `arguments`, `stdin` (the script), `cwd`."""
    path = folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def state(folder: Path, job_id: int) -> Job:
    """Return all that is known of a job; its `elements` count their `requeues`, and list the `signals` sent."""
    job: Job = read(folder / "state" / f"{job_id}.json")
    return job


# ---------------------------------------------------------------- files that several processes share


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> None:
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(value, indent=1), encoding="utf-8")
    beside.replace(path)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    with (folder / "state" / "lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def job_files(folder: Path) -> list[Path]:
    return sorted(
        (path for path in (folder / "state").glob("*.json") if path.stem.isdigit()), key=lambda p: int(p.stem)
    )


def send_signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


# ---------------------------------------------------------------- values of options


def expect(condition: object, complaint: str) -> None:
    if not condition:
        raise Refused(complaint)


def like(pattern: str, what: str) -> Callable[[str], str]:
    """Return a check for a value which is `what`, and used as it is."""

    def check(value: str) -> str:
        expect(re.fullmatch(pattern, value), f"{value!r} is not {what}")
        return value

    return check


def positive(value: str) -> int:
    expect(re.fullmatch(r"[1-9]\d*", value), f"{value!r} is not a positive number")
    return int(value)


# ---------------------------------------------------------------- a job, and the process that runs it


def add_job(folder: Path, script: str, job: Job, indices: Sequence[int], environment: Mapping[str, str] | None) -> int:
    """Add a job with an element for each index, 0 if there is none; leave a process behind which runs it.

    The caller holds the lock. The job is read again for `id`, `indices`, `limit`, `after` (conditions with the numbers
    of jobs), `slots` (the name of a host for each) and `cwd`, which `job` may bring along.
    """
    expect(not (folder / "state" / "stopped").exists(), "the stand-in was stopped")
    job_id = max((int(path.stem) for path in job_files(folder)), default=100) + 1
    (folder / "state" / f"{job_id}.sh").write_text(script, encoding="utf-8")
    element: Job = {"stat": "PEND", "pend_reason": "New job is waiting for scheduling", "reason": "", "requeues": 0}
    element |= dict.fromkeys(("exit_code", "started", "finished", "pgid", "kill")) | {"signals": []}
    whole: Job = {"id": job_id, "indices": list(indices), "submitted": time.time(), "cwd": str(Path.cwd()), **job}
    whole["elements"] = {str(index): element for index in indices or [0]}
    scheduler = read(folder / "state" / "settings.json")["scheduler"]
    with (folder / "state" / f"{job_id}.log").open("w", encoding="utf-8") as log:
        whole["supervisor"] = subprocess.Popen(
            [*PYTHON, scheduler, "supervise", str(folder), str(job_id)],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        ).pid  # fmt: skip
    write(folder / "state" / f"{job_id}.json", whole)
    return job_id


@dataclass
class Supervisor:
    """What takes one job from PEND to its end."""

    folder: Path
    job_id: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def run(self) -> int:
        self.settings = read(self.folder / "state" / "settings.json")
        born = time.monotonic()
        path = self.folder / "state" / f"{self.job_id}.json"
        while path.exists() and time.monotonic() < born + LIFETIME:  # a test's folder may vanish before its jobs end
            with locked(self.folder):
                job = read(path)
                before = json.dumps(job)
                self.step(job)
                if json.dumps(job) != before:
                    write(path, job)
            if not self.processes and all(element["stat"] in ENDED for element in job["elements"].values()):
                return 0
            time.sleep(TICK)
        for process in self.processes.values():
            send_signal(process.pid, signal.SIGKILL)
        return 1

    def step(self, job: Job) -> None:
        """Look at each element once: end those that ended, signal those that are due, start those that may."""
        for index, process in list(self.processes.items()):
            if process.poll() is None:
                self.send(job, job["elements"][index], process.pid)
            else:
                # What schedulers do with processes that outlive the script is not documented. Killing them at once
                # shows a script that dies of a signal which the program it waits for was meant to catch.
                send_signal(process.pid, signal.SIGKILL)
                del self.processes[index]
                self.end(job, index, process.returncode)
        reason = self.obstacle(job)
        for index, element in job["elements"].items():
            if element["stat"] == "PEND":
                full = job["limit"] and len(self.processes) >= job["limit"]
                element["pend_reason"] = reason or (FULL if full else "")
                if not element["pend_reason"]:
                    self.start(job, index)

    def obstacle(self, job: Job) -> str:
        """Return why no element may start, or nothing."""
        waiting = ""
        for condition, needed in job["after"]:
            stats = [element["stat"] for element in state(self.folder, needed)["elements"].values()]
            if condition == "done" and "EXIT" in stats:
                return NEVER
            if not set(stats) <= set(ENDED):
                waiting = "Job dependency condition not satisfied"
        return waiting or ("" if job["slots"] else "Not enough hosts to meet the job's spanning requirement")

    def send(self, job: Job, element: dict[str, Any], group: int) -> None:
        """Send the signals that are due to all processes of a running element, each once."""
        now = time.time()
        for when, name, cause in sorted(self.signals(job, element)):
            if now >= when and [name, cause] not in element["signals"]:
                element["signals"].append([name, cause])
                if cause == "limit" and not element["reason"]:
                    element["reason"] = "TERM_RUNLIMIT"
                send_signal(group, signal.Signals[f"SIG{name}"])

    def signals(self, job: Job, element: dict[str, Any]) -> list[Signal]:
        """Return the signals that a running element gets, now or later."""
        raise NotImplementedError

    def paths(self, job: Job, index: str) -> tuple[Path, list[Path | None], list[str]]:
        """Return an element's folder, its files for output and errors, and how they are opened."""
        raise NotImplementedError

    def variables(self, job: Job, index: str) -> dict[str, object]:
        """Return the environment variables that the scheduler adds for an element."""
        raise NotImplementedError

    def is_queued_again(self, job: Job, element: dict[str, Any], code: int) -> bool:
        """Return whether a running element that has ended with a status goes back into the queue."""
        raise NotImplementedError

    def report(self, job: Job, index: str, code: int, requeued: bool) -> None:
        """Append to the output what the scheduler says of each job there."""

    def start(self, job: Job, index: str) -> None:
        element, script = job["elements"][index], self.folder / "state" / f"{job['id']}.sh"
        # a script that names no shell is the Bourne shell's (bsub, command)
        first = script.read_text(encoding="utf-8").splitlines()[0]
        shell = first.removeprefix("#!").strip().split(maxsplit=1) if first.startswith("#!") else ["/bin/sh"]
        cwd, (output, errors), (output_mode, errors_mode) = self.paths(job, index)
        environment = os.environ | {name: str(value) for name, value in self.variables(job, index).items()}
        element.update(stat="RUN", started=time.time(), signals=[], reason="", kill=None)
        with contextlib.ExitStack() as files:
            stdout = files.enter_context((output or Path(os.devnull)).open(output_mode))
            same = errors == output or (output is not None and errors is None)
            stderr = subprocess.STDOUT if same else files.enter_context((errors or Path(os.devnull)).open(errors_mode))
            try:
                cwd.mkdir(parents=True, exist_ok=True)
                self.processes[index] = subprocess.Popen(
                    [*shell, str(script)], cwd=cwd, env=environment,
                    stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, process_group=0,
                )  # fmt: skip
                element["pgid"] = self.processes[index].pid
            except OSError as error:
                stdout.write(f"{error}\n".encode())
        if index not in self.processes:
            self.end(job, index, 127)

    def end(self, job: Job, index: str, status: int) -> None:
        element = job["elements"][index]
        code = status if status >= 0 else 128 - status  # a signal's number is below 0 here, above 128 in schedulers
        again = self.is_queued_again(job, element, code)
        if again:
            element.update(stat="PEND", requeues=element["requeues"] + 1, pgid=None, started=None)
            element["pend_reason"] = "New job is waiting for scheduling"
        elif element["stat"] == "RUN":  # one that was killed by force has ended already
            element.update(stat="EXIT" if code else "DONE", exit_code=code, finished=time.time())
            if not code:
                element["reason"] = ""
        self.report(job, index, code, again)


# ---------------------------------------------------------------- the commands


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands: the scheduler's module, its name, the stand-in's folder, and what it was called with."""
    scheduler, command, place, *given = arguments
    module, folder = importlib.import_module(f"imginav_tests.{scheduler}"), Path(place)
    if command == "supervise":
        # whoever submitted it may ignore or block signals, which the job's own processes would then do too
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGURG):
            signal.signal(number, signal.SIG_DFL)
        supervisor: Supervisor = module.Supervisor(folder, int(given[0]))
        return supervisor.run()
    reads = command == module.SUBMITS and not sys.stdin.isatty() and not Path((given or ["-"])[-1]).is_file()
    script = sys.stdin.read() if reads else ""
    call = {"command": command, "arguments": given, "stdin": script, "cwd": str(Path.cwd())}
    with locked(folder), (folder / "calls.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(call) + "\n")
    try:
        return int(module.COMMANDS[command](folder, given, script))
    except module.stand_in.Refused as refusal:
        sys.stderr.write(f"{command}: {refusal}.{' Job not submitted.' if command == module.SUBMITS else ''}\n")
        return 255


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main(sys.argv[1:]))
