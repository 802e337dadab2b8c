"""Names of earlier versions: a plugin that uses one is told the name that it has now."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

import imginav
from imginav.processes.distributed import ALONE
from imginav.training.trainer import Trainer


@pytest.mark.parametrize(("old", "new"), [("Arm", "Candidate"), ("Place", "JobId"), ("Work", "JobSpec")])
def test_a_renamed_class_names_the_new_name(old: str, new: str) -> None:
    with pytest.raises(AttributeError, match=rf"^imginav\.{old} is called imginav\.{new} now; change the plugin$"):
        getattr(imginav, old)
    assert hasattr(imginav, new)


def test_a_name_that_never_was_is_an_ordinary_attribute_error(make_trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(AttributeError, match=r"^module 'imginav' has no attribute 'Nothing'$"):
        _ = imginav.Nothing
    trainer = make_trainer()
    with pytest.raises(AttributeError, match=r"^'Trainer' object has no attribute 'nothing'$"):
        _ = trainer.nothing  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"^'World' object has no attribute 'nothing'$"):
        _ = trainer.world.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(("old", "new"), [("first", "broadcast"), ("gather", "all_gather")])
def test_a_renamed_method_of_the_processes_names_the_new_name(old: str, new: str) -> None:
    with pytest.raises(AttributeError, match=rf"^trainer\.world\.{old} is called trainer\.world\.{new} now"):
        getattr(ALONE, old)
    assert callable(getattr(ALONE, new))


def test_a_renamed_attribute_of_the_trainer_names_the_new_name(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer()
    with pytest.raises(AttributeError, match=r"^trainer\.tally is called trainer\.totals now; change the plugin$"):
        _ = trainer.tally  # type: ignore[attr-defined]
    assert trainer.totals is None


def test_an_error_within_a_property_is_not_hidden(make_trainer: Callable[..., Trainer]) -> None:
    """Python asks for `__getattr__` where a property raises AttributeError as well."""
    trainer = make_trainer()
    trainer.device = SimpleNamespace()  # type: ignore[assignment]
    with pytest.raises(AttributeError, match="has no attribute 'world'"):
        _ = trainer.world
