"""`imginav` in processes of its own, without the seconds that each needs to import torch.

They are forked from a server that has imported everything, and are otherwise as `python -m imginav` starts them: with
their own arguments, environment, working folder, streams and session, and with a status at their end. What depends on a
fresh interpreter is tested with `sys.executable`.
"""

from __future__ import annotations

import atexit
import importlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from multiprocessing import spawn, util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from imginav_tests.foreign_plugins import is_foreign

IMPORTED = ("torch._dynamo", "torchmetrics", "matplotlib.figure", "matplotlib.backends.backend_agg", "imginav.cli")
"""What commands import late, beside the plugins."""


class Command:
    """A running command; a `subprocess.Popen` as far as tests need one."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        one_stream: bool = False,
        strike: tuple[str, int] | None = None,
    ) -> None:
        """Start it in a session of its own; with `strike`, it is killed at that moment (see struck.py)."""
        # Files, not pipes: nobody has to read while it runs.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # read when it has ended
        self._errors = self._output if one_stream else tempfile.TemporaryFile()  # noqa: SIM115  # as above
        self.args = [str(argument) for argument in arguments]
        self.returncode: int | None = None
        told = {"arguments": self.args, "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
        server = _server()
        self._status, theirs = socket.socketpair()
        socket.send_fds(server, [b"."], [theirs.fileno(), self._output.fileno(), self._errors.fileno()])
        theirs.close()
        self._answers = Connection(self._status.detach())
        self._answers.send({**told, "strike": strike})
        self.pid: int = self._answers.recv()
        self._said = ("", "")

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.returncode is None and self._answers.poll():
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not self._answers.poll(timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return self._said

    def _end(self) -> None:
        self.returncode = self._answers.recv()
        self._answers.close()
        texts = []
        for stream in (self._output, self._errors):
            if not stream.closed:
                stream.seek(0)
                texts.append(stream.read().decode())
                stream.close()
        self._said = texts[0], "".join(texts[1:])

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    arguments: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    strike: tuple[str, int] | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = Command(arguments, cwd=cwd, env=env, strike=strike)
    try:
        output, errors = command.communicate(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()
        raise
    return subprocess.CompletedProcess(command.args, command.wait(), output, errors)


@cache
def _server() -> socket.socket:
    """Start the server of this process; it ends with it."""
    ours, theirs = socket.socketpair()
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    server = subprocess.Popen(
        [sys.executable, "-m", "imginav_tests.commands", str(theirs.fileno())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def serve(channel: socket.socket) -> None:
    """Fork a process for each command that comes, and tell how it ended, until nobody can ask any more."""
    for name in IMPORTED:
        importlib.import_module(name)
    for group in ("imginav", "imginav.commands"):
        for entry in entry_points(group=group):
            if not is_foreign(entry):
                entry.load()
    waiting = selectors.DefaultSelector()
    waiting.register(channel, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is channel:
                message, fds, _, _ = socket.recv_fds(channel, 1, 3)
                if not message:
                    return
                answers = Connection(fds[0])
                pid = _fork(answers.recv(), fds[1], fds[2])
                os.close(fds[1])
                os.close(fds[2])
                answers.send(pid)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answers))
            else:
                pid, answers = key.data
                waiting.unregister(key.fileobj)
                os.close(int(key.fileobj))  # type: ignore[arg-type]  # registered by its number
                _, status = os.waitpid(pid, 0)
                with suppress(OSError):  # nobody waits for it
                    answers.send(os.waitstatus_to_exitcode(status))
                answers.close()


def _fork(told: dict[str, Any], output: int, errors: int) -> int:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.closerange(3, 4096)
        os.chdir(told["cwd"])
        os.environ.clear()
        os.environ.update(told["env"])
        sys.path[0] = told["cwd"]
        sys.argv = ["imginav", *told["arguments"]]
        util.spawnv_passfds = _fork_spawned  # type: ignore[assignment]  # takes the same
        _leave(lambda: _main(told))
    return pid


def _main(told: dict[str, Any]) -> int:
    from imginav import cli

    if told["strike"]:
        from imginav_tests.struck import Strike, watch

        watch(Strike(*told["strike"]))
    return cli.main(told["arguments"])


_spawnv_passfds = util.spawnv_passfds


def _fork_spawned(path: bytes, arguments: Sequence[str], passed: Sequence[int]) -> int:
    """Fork what multiprocessing would spawn; it gets its work as a spawned process does, pickled through a pipe."""
    code = next((str(argument) for argument in arguments if "spawn_main(" in str(argument)), None)
    if code is None:
        pid: int = _spawnv_passfds(path, arguments, passed)
        return pid
    pid = os.fork()
    if pid == 0:
        for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
            if callable(signal.getsignal(number)):  # a handler, which no new program would have
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        kept = {0, 1, 2, *passed}
        for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            if descriptor not in kept:
                with suppress(OSError):  # that of the listing itself
                    os.close(descriptor)
        # At its end it would remove the temporary folders of the process that it was forked from.
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]
        sys.argv = ["-c", "--multiprocessing-fork"]
        _leave(lambda: exec(code, {"spawn_main": spawn.spawn_main}))  # noqa: S102  # what a new interpreter would get
    return pid


def _leave(function: Callable[[], int | None]) -> NoReturn:
    """Call the last function of a process, and end it as an interpreter ends."""
    code: Any = 1
    try:
        code = function()
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # noqa: BLE001  # as an interpreter shows what nobody catches
        traceback.print_exc()
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
