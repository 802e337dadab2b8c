"""A real Slurm on this machine, for tests: Debian's packages `slurm-wlm` and `munge`, started as root.

Several may run side by side, each with ports, keys and folders of its own. Settings differ from a cluster's where that
saves time. What cannot be set is how often Slurm looks at the time limits, every 30 s from its start: `--time` and
`--signal` are acted on then and not in between. `--time=1 --signal=B:USR1@60` sends the signal at the first such look,
and `--time` has no finer unit than minutes, since seconds are rounded up.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
PROGRAMS = (*DAEMONS, "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])  # daemons are not where users look
PATIENCE = 60.0  # in seconds: a start takes one or two, but the machine may have much else to do
PORTS = range(20000, 32000)  # below those that Linux gives to connections, which come and go meanwhile
GPUS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")  # different devices, and any machine has these
PR_SET_CHILD_SUBREAPER = 36

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job starts again only when its credential has expired: 120 s if nothing is said, and Slurm allows no
# less than 5.
AuthInfo=socket={private}/munge.socket,cred_expire=5

StateSaveLocation={private}/state
SlurmdSpoolDir={private}/spool-%n
# What runs a job, a process of its own, has no standard error as the daemons have.
SlurmdLogFile={folder}/steps-%n.log
SlurmctldPidFile={private}/slurmctld.pid
SlurmdPidFile={private}/slurmd-%n.pid

# What a container allows: no cgroups.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
PropagateResourceLimits=NONE

SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# Nodes may have more cores than the machine, so that several jobs run at once.
SlurmdParameters=config_overrides
GresTypes=gpu

SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
PriorityType=priority/basic
JobRequeue=1
ReturnToService=2
InactiveLimit=30
KillWait=20
MinJobAge=300
OverTimeLimit=0

{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=other Nodes=ALL MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16 Boards=1 SocketsPerBoard=1 "
    "CoresPerSocket=16 ThreadsPerCore=1 RealMemory=65536 Gres=gpu:4 State=UNKNOWN"
)


class NotStarted(Exception):  # noqa: N818 - what happened, not what a caller did wrong
    """Slurm does not run, and its logs say why."""


# ---------------------------------------------------------------- what a test uses


def missing() -> str:
    """Return why a Slurm cannot be started here, or nothing."""
    if sys.platform != "linux":
        return "Slurm is started on Linux only"
    absent = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if absent:
        return f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed"
    return "" if os.geteuid() == 0 else "starting a Slurm takes root"


@contextmanager
def running(folder: Path, *, nodes: int = 1) -> Iterator[dict[str, str]]:
    """Run a Slurm, whose settings and logs are in `folder`, and yield the environment variables to add.

    Each of its nodes has 16 cores and 4 GPUs, all of them make-believe. At the end, and also when the process that
    asked for it is killed, no process of it or of its jobs is left.
    """
    if reason := missing():
        raise NotStarted(reason)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    supervisor = _start(folder, nodes, environment)
    try:
        yield environment
    finally:
        _stop(supervisor)


# ---------------------------------------------------------------- start and stop


def _start(folder: Path, nodes: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the daemons and return, once all nodes are idle, the process that ends them."""
    logs = ""
    for _ in range(5):
        for log in folder.glob("*.log"):
            log.unlink()
        # Sockets want short paths, which pytest's folders are not. The supervisor removes it.
        private = Path(tempfile.mkdtemp(prefix="slurm-"))
        commands = _configure(folder, private, nodes)
        # -I and -S: nothing a test puts into the environment changes the supervisor
        start = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
        supervisor = subprocess.Popen(
            [*start, str(folder), str(private), json.dumps(commands)],
            stdin=subprocess.PIPE,
            env={"PATH": PATH, **environment},  # a test's own SLURM_ and SBATCH_ variables are not the daemons'
            start_new_session=True,  # Ctrl-C is for the tests, which then end this in order
        )
        try:
            _wait_until_idle(supervisor, environment, nodes)
        except NotStarted as error:
            _stop(supervisor)
            logs = _last_lines(folder)
            if "Address already in use" not in logs:
                raise NotStarted(f"{error}\n{logs}") from None
            continue  # another program has taken a port after it was found to be free
        except BaseException:
            _stop(supervisor)
            raise
        return supervisor
    raise NotStarted(f"whatever ports it was given were taken\n{logs}")


def _configure(folder: Path, private: Path, nodes: int) -> list[list[str]]:
    """Write the files that the daemons read, and return the command of each daemon."""
    host = socket.gethostname().partition(".")[0]
    # Programs look up the first node of their job, to meet there. Slurm sorts the names: the machine's comes first.
    names = [host, *(f"{host}-{number}" for number in range(2, nodes + 1))]
    port, *ports = _free_ports(1 + nodes)
    described = [NODE.format(name=name, host=host, port=number) for name, number in zip(names, ports, strict=True)]
    settings = SLURM_CONF.format(folder=folder, private=private, host=host, port=port, nodes="\n".join(described))
    (folder / "slurm.conf").write_text(settings, encoding="utf-8")
    gpus = "".join(f"Name=gpu File={device}\n" for device in GPUS)
    (folder / "gres.conf").write_text(gpus, encoding="utf-8")
    (private / "state").mkdir()
    (private / "munge.key").write_bytes(os.urandom(128))
    (private / "munge.key").chmod(0o600)
    munged = ["munged", "--foreground", "--force"]  # it would insist on a folder that all users may enter
    munged += [f"--socket={private}/munge.socket", f"--key-file={private}/munge.key"]
    munged += [f"--pid-file={private}/munged.pid", f"--seed-file={private}/munged.seed"]
    return [munged, ["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in names)]


def _free_ports(count: int) -> list[int]:
    """Return ports that no program listens on; where another takes one all the same, a start is tried anew."""
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise NotStarted(f"no free ports in {PORTS}")


def _wait_until_idle(supervisor: subprocess.Popen[bytes], environment: dict[str, str], nodes: int) -> None:
    """Wait until all nodes are idle."""
    command = [shutil.which("sinfo", path=PATH) or "sinfo", "--noheader", "--partition=main", "--format=%T %D"]
    answer = ""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if supervisor.poll() is not None:
            raise NotStarted("a daemon of Slurm ended at once")
        sinfo = subprocess.run(command, env={"PATH": PATH, **environment}, capture_output=True, text=True, check=False)
        answer = sinfo.stdout.strip() or sinfo.stderr.strip()
        if answer == f"idle {nodes}":
            return
        time.sleep(0.1)
    raise NotStarted(f"Slurm's nodes are not idle after {PATIENCE:.0f} s; sinfo says {answer!r}")


def _stop(supervisor: subprocess.Popen[bytes]) -> None:
    """Let the supervisor end all that it started, and wait for it."""
    with suppress(BrokenPipeError):  # it has ended by itself
        supervisor.communicate(b"end\n", timeout=PATIENCE)


def _last_lines(folder: Path, count: int = 15) -> str:
    """Return the end of each log."""
    parts = []
    for log in sorted(folder.glob("[0-9]*.log")):  # the others repeat what these say
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
        parts.append("\n".join([f"--- {log}", *lines]))
    return "\n".join(parts)


# ---------------------------------------------------------------- the process that ends all others


def _supervise(folder: Path, private: Path, commands: Sequence[Sequence[str]]) -> None:
    """Run the daemons until one ends, standard input ends or something comes from it; then kill all that is left.

    Jobs leave the process groups and sessions of the daemons, and may outlive their parents. All of them stay
    descendants of this process, since it adopts orphans.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process cannot adopt orphans")
    daemons = set()
    for number, command in enumerate(commands):
        if number == 1:  # those of Slurm give up where munged does not answer
            _await_socket(private / "munge.socket")
        with (folder / f"{number}-{command[0]}.log").open("ab") as output:
            daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        daemons.add(daemon.pid)
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        if daemons & _reap():
            break
    while descendants := _descendants():
        for process in descendants:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
        _reap()
    shutil.rmtree(private, ignore_errors=True)


def _await_socket(path: Path) -> None:
    """Wait until a program answers at the socket, or until it is not worth waiting any longer."""
    until = time.monotonic() + PATIENCE / 2
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(path))
            return
        time.sleep(0.02)


def _reap() -> set[int]:
    """Take note of the children that have ended, and return their numbers."""
    ended = set()
    with suppress(ChildProcessError):
        while child := os.waitpid(-1, os.WNOHANG)[0]:
            ended.add(child)
    return ended


def _descendants() -> set[int]:
    """Return the numbers of all processes that this one has started, they have started, and so on."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            # a program's name, in parentheses, may contain whatever it likes
            parents[int(stat.parent.name)] = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


if __name__ == "__main__":
    _supervise(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
