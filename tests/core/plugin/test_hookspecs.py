"""The callbacks of a run."""

from __future__ import annotations

import inspect

import pytest

from imginav import UserError, hookimpl
from imginav.plugin.hookspecs import RunSpecs
from imginav.training.run_hooks import RunHooks

EVENTS = {name: spec for name, spec in vars(RunSpecs).items() if not name.startswith("_")}


class Speaker:
    def __init__(self, name: str, log: list[str]) -> None:
        self._name, self._log = name, log

    @hookimpl
    def epoch_started(self) -> None:
        self._log.append(self._name)


class First(Speaker):
    @hookimpl(tryfirst=True)
    def epoch_started(self) -> None:
        super().epoch_started()


class Last(Speaker):
    @hookimpl(trylast=True)
    def epoch_started(self) -> None:
        super().epoch_started()


def test_callbacks_are_called_in_the_order_of_the_manifest_between_first_and_last() -> None:
    log: list[str] = []
    classes = {"checkpoint": Last, "b": Speaker, "ema": First, "a": Speaker, "c": Speaker}
    hooks = RunHooks({name: cls(name, log) for name, cls in classes.items()})
    hooks.epoch_started(None, 1)  # type: ignore[arg-type]  # nobody looks at the trainer
    assert log == ["ema", "b", "a", "c", "checkpoint"]


def test_a_misspelt_event_is_refused_with_the_nearest() -> None:
    class Misspelt:
        @hookimpl
        def epoch_finishd(self) -> None: ...

    with pytest.raises(UserError, match=r"callbacks.mine: Misspelt has a hook .*did you mean 'epoch_finished'\?; the"):
        RunHooks({"mine": Misspelt()})


def test_an_event_of_an_earlier_version_is_refused_with_its_name_of_today() -> None:
    class Earlier:
        @hookimpl
        def batch_left_out(self) -> None: ...

    with pytest.raises(UserError, match=r"Earlier has a hook .*'batch_left_out'.*, which is called batch_skipped now;"):
        RunHooks({"mine": Earlier()})


def test_an_unknown_argument_is_refused() -> None:
    class Curious:
        @hookimpl
        def epoch_finished(self, trainer: object, weather: object) -> None: ...

    with pytest.raises(UserError, match=r"callbacks.mine: Curious has a hook that does not fit:.*weather"):
        RunHooks({"mine": Curious()})


def test_a_callback_without_hooks_is_refused() -> None:
    class Silent:
        def epoch_finished(self) -> None: ...

    with pytest.raises(UserError, match=r"callbacks.mine: Silent has no method marked @hookimpl"):
        RunHooks({"mine": Silent()})


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_documented_and_has_its_call_in_the_facade(event: str) -> None:
    assert inspect.getdoc(EVENTS[event])
    call = inspect.signature(getattr(RunHooks, event))
    assert list(call.parameters) == list(inspect.signature(EVENTS[event]).parameters)


def test_states_are_kept_by_name() -> None:
    class Counter(Speaker):
        count = 0

        def state_dict(self) -> dict[str, int]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.count = state["count"]

    counter, fresh = Counter("a", []), Counter("a", [])
    counter.count = 5
    state = RunHooks({"counter": counter, "speaker": Speaker("b", [])}).state_dict()
    assert state == {"counter": {"count": 5}}
    RunHooks({"counter": fresh, "new": Counter("c", [])}).load_state_dict(state)
    assert fresh.count == 5
