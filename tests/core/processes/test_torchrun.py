from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from imginav import UserError
from imginav.exit_status import REQUEUE
from imginav.processes import torchrun
from imginav.processes.children import Ending
from imginav.processes.launcher import Launcher
from imginav.processes.stop_request import Interrupted, StopRequest


def ends(monkeypatch: pytest.MonkeyPatch, exitcode: int, told: Ending | None) -> None:
    """Let one of the processes that are started end so, after it has told that."""

    def run(*_: str) -> None:
        launcher = Launcher.of_this_process()
        if launcher is not None and told is not None:
            told.report(launcher.folder)
        raise ChildFailedError("imginav", {1: ProcessFailure(1, 0, exitcode, "")})

    def start(*_: object) -> Callable[..., None]:
        return run

    monkeypatch.setattr(torchrun, "elastic_launch", start)


LEAVES = Ending(status=REQUEUE, reason="SIGUSR1")
FAILS = Ending(status=2, reason="it fails; mend it", rank=1, host="node7")


@pytest.mark.parametrize(
    ("exitcode", "told", "error", "said"),
    [
        pytest.param(REQUEUE, LEAVES, Interrupted, "SIGUSR1", id="left"),
        pytest.param(-signal.SIGABRT, LEAVES, Interrupted, "SIGUSR1", id="left, and torch did not end as it should"),
        pytest.param(2, FAILS, UserError, "process 1 on node7: it fails; mend it", id="failed"),
        pytest.param(-signal.SIGALRM, FAILS, UserError, "process 1 on node7: it fails; mend it", id="did not end"),
        pytest.param(
            -signal.SIGABRT, FAILS, UserError, "process 1 of the run was ended by SIGABRT; give the same command again",
            id="aborted",
        ),
        pytest.param(1, None, UserError, "process 1 of the run ended with status 1", id="told nothing"),
    ],
)  # fmt: skip
def test_what_the_processes_have_told_says_how_a_run_has_ended(
    monkeypatch: pytest.MonkeyPatch, exitcode: int, told: Ending | None, error: type[BaseException], said: str
) -> None:
    ends(monkeypatch, exitcode, told)

    with pytest.raises(error) as raised:
        torchrun.launch(torchrun.Launch(gpus=2), ["run", "phase.toml"], StopRequest(), concludes=True)

    assert str(raised.value) == said
