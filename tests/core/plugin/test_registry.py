"""What is installed, and what is refused with the culprit's name."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

import pytest
from attrs import frozen

from imginav import Component, UserError
from imginav.plugin.registry import Registry, installed
from imginav_tests.foreign_plugins import left_out

Install = Callable[..., None]

PLUGIN = """
from attrs import frozen
from imginav import Loss, hookimpl

@frozen(kw_only=True)
class Own(Loss):
    '''A loss of its own.'''
    def __call__(self, outputs, batch):
        return outputs[self.output].mean()

@hookimpl
def imginav_components(registry):
    registry.add("loss", "own", Own)
"""


def test_every_kind_of_component_is_installed_through_the_entry_points() -> None:
    kinds = {registration.kind for registration in installed()}
    assert kinds == {
        "callback",
        "cluster",
        "dataset",
        "decoder",
        "encoder",
        "exporter",
        "head",
        "loss",
        "lr_schedule",
        "metric",
        "optimizer",
        "probe",
        "selector",
    }


def test_a_built_in_component_has_its_provider_and_a_description() -> None:
    mse = next(r for r in installed() if (r.kind, r.name) == ("loss", "mse"))
    assert mse.provider.distribution == "imginav"
    assert mse.provider.version == importlib.metadata.version("imginav")
    assert mse.file.endswith("pixels.py")
    assert all(r.description for r in installed())


def test_a_plugin_of_another_distribution_is_found(install: Install) -> None:
    install("own-loss", "own", PLUGIN)
    own = next(r for r in installed() if r.name == "own")
    assert str(own.provider) == "plugin 'own' of own-loss 1.2"
    assert own.description == "A loss of its own."


@pytest.mark.parametrize("name", ["own", "own-loss", "other, own"])
def test_a_plugin_can_be_left_out_by_entry_point_and_by_distribution(
    install: Install, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    install("own-loss", "own", PLUGIN)
    monkeypatch.setenv("IMGINAV_DISABLE_PLUGINS", left_out(name))
    assert "own" not in {r.name for r in installed()}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere_to_be_found", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise RuntimeError('bad day')", "cannot be loaded: RuntimeError: bad day"),
        (PLUGIN.replace("def imginav_components", "def imginav_component"), "does not know .*imginav_component"),
        (PLUGIN.replace("(registry)", "(registry, more)"), "does not know or cannot call.*more"),
        (PLUGIN.replace("@hookimpl", ""), "offers nothing"),
        (PLUGIN.replace("@frozen(kw_only=True)", ""), "Own is not a frozen attrs class"),
        (PLUGIN.replace('"loss", "own"', '"head", "own"'), "registers head 'own', but Own is of kind 'loss'"),
        (PLUGIN.replace("Own)", "7)"), "7 is not a class that derives from one of imginav's components"),
    ],
)
def test_a_faulty_plugin_is_named_with_its_fault(install: Install, source: str, message: str) -> None:
    install("own-loss", "own", source, module=f"own_{abs(hash(source))}")
    with pytest.raises(UserError, match=f"plugin 'own' of own-loss 1.2.*{message}"):
        installed()


def test_two_distributions_with_one_entry_point_name_are_both_named(install: Install) -> None:
    install("first", "own", PLUGIN)
    install("second", "own", PLUGIN)
    with pytest.raises(UserError, match=r"of first 1\.2 and .*of second 1\.2 use the same entry-point name"):
        installed()


def test_one_name_for_two_components_names_both_providers(install: Install) -> None:
    install("first", "one", PLUGIN)
    install("second", "two", PLUGIN)
    with pytest.raises(UserError, match=r"loss 'own' is provided twice, by plugin 'one' of first.*'two' of second"):
        installed()


def test_an_unknown_name_lists_the_nearest_first_with_its_distribution() -> None:
    with pytest.raises(LookupError, match=r"no loss 'msse' is installed, did you mean 'mse'\?.*are: mse \(imginav\)"):
        installed().find("loss", "msse")


def test_a_kind_that_the_core_does_not_know_can_be_registered() -> None:
    @frozen(kw_only=True)
    class Selector(Component):
        kind = "selector"

    registry = Registry()
    registry.add("selector", "best", Selector)
    assert registry.find("selector", "best") is Selector
