"""Commands of installed plugins, and what is refused with the culprit's name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from imginav import UserError
from imginav.cli import main
from imginav.plugin.commands import Command, Commands, add_installed
from imginav.study.commands import add_commands
from imginav_tests.foreign_plugins import left_out

Install = Callable[..., None]

PLUGIN = """
from imginav import hookimpl

def greet(options):
    '''Greet somebody by name.

    As often as it is called.
    '''
    print(f"hello {options.name}")
    return 7

def add_arguments(command):
    command.add_argument("name", help="whom to greet")

@hookimpl
def imginav_commands(commands):
    commands.add("greet", greet, add_arguments)
"""


@pytest.fixture
def install_commands(install: Install) -> Install:
    """Install a distribution with commands."""

    def write(distribution: str, entry_point: str, source: str = PLUGIN) -> None:
        install(distribution, entry_point, source, group="imginav.commands")

    return write


def all_commands() -> list[Command]:
    commands = Commands()
    add_commands(commands)
    add_installed(commands)
    return list(commands)


def test_a_command_of_another_distribution_runs_and_its_status_is_the_exit_status(
    install_commands: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install_commands("own-greeting", "own")
    assert main(["greet", "Ada"]) == 7
    assert capsys.readouterr().out == "hello Ada\n"
    with pytest.raises(SystemExit):
        main(["greet", "--help"])
    shown = capsys.readouterr().out
    assert "As often as it is called." in shown
    assert "whom to greet" in shown


def test_the_help_says_which_distribution_a_command_is_from(
    install_commands: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_commands("own-greeting", "own")
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "greet Greet somebody by name [own-greeting 1.2]" in lines
    (run,) = (line for line in lines if line.startswith("run "))
    assert not run.endswith("]")


def test_the_commands_of_imginav_come_first(install_commands: Install) -> None:
    install_commands("aaa", "aaa")  # which is found before imginav
    commands = all_commands()
    assert commands[0].name == "run"
    assert [command.name for command in commands if command.provider.distribution != "imginav"] == ["greet"]
    assert commands[-1].name == "greet"


@pytest.mark.parametrize("name", ["own", "own-greeting", "other, own"])
def test_a_plugin_can_be_left_out_by_entry_point_and_by_distribution(
    install_commands: Install, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    install_commands("own-greeting", "own")
    assert "greet" in {command.name for command in all_commands()}
    monkeypatch.setenv("IMGINAV_DISABLE_PLUGINS", left_out(name))
    assert "greet" not in {command.name for command in all_commands()}


def test_one_name_for_two_commands_names_both_providers(
    install_commands: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install_commands("first", "one")
    install_commands("second", "two")
    assert main(["plugins"]) == 2
    assert capsys.readouterr().err == (
        "imginav: the command 'greet' is provided twice, by plugin 'one' of first 1.2 and by plugin 'two' of "
        "second 1.2; uninstall one of them or leave it out with IMGINAV_DISABLE_PLUGINS=two\n"
    )


def test_a_command_of_the_core_cannot_be_replaced(install_commands: Install) -> None:
    install_commands("first", "one", PLUGIN.replace('"greet"', '"run"'))
    with pytest.raises(UserError, match=r"^the command 'run' is provided twice, by imginav 0\.\S+ and by plugin 'one'"):
        all_commands()


def test_two_distributions_with_one_entry_point_name_are_both_named(install_commands: Install) -> None:
    install_commands("first", "own")
    install_commands("second", "own", PLUGIN.replace("greet", "wave"))
    with pytest.raises(UserError, match=r"of first 1\.2 and .*of second 1\.2 use the same entry-point name"):
        all_commands()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere_to_be_found", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise RuntimeError('bad day')", "cannot be loaded: RuntimeError: bad day"),
        ("from imginav import Arm", r"cannot be loaded: ImportError: imginav\.Arm is called imginav\.Candidate now"),
        ("from attrs import nothing", "cannot be loaded: ImportError: cannot import name 'nothing' from 'attrs'"),
        (
            PLUGIN.replace("def imginav_commands", "def imginav_command"),
            "does not know .*'imginav_command'.*; the hooks of .*commands are imginav_commands, command_started$",
        ),
        (
            PLUGIN.replace("def imginav_commands(commands)", "def imginav_components(registry)"),
            "does not know .*'imginav_components'",  # it is of the other group
        ),
        (PLUGIN.replace("(commands)", "(commands, more)"), "does not know or cannot call.*more"),
        ("", "offers nothing: its module has none of the functions imginav_commands, command_started marked @hookimpl"),
        (PLUGIN.replace("@hookimpl", ""), "offers nothing"),
        (PLUGIN.replace('"greet"', '"Greet"'), "adds the command 'Greet'; take a name of small letters and dashes"),
        (PLUGIN.replace('"greet"', '"greet me"'), "adds the command 'greet me'; take a name of small letters"),
        (PLUGIN.replace('"greet"', '""'), "adds the command ''; take a name of small letters"),
    ],
)
def test_a_faulty_plugin_is_named_with_its_fault(install_commands: Install, source: str, message: str) -> None:
    install_commands("own-greeting", "own", source)
    with pytest.raises(UserError, match=f"^plugin 'own' of own-greeting 1.2 .*{message}"):
        all_commands()
