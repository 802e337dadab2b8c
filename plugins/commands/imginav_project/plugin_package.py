"""`imginav new plugin`: the package of a plugin, with a component that works, its tests and a README."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import jinja2
from attrs import frozen

from imginav.errors import UserError
from imginav.files import write_text
from imginav.plugin.commands import Commands, add_installed
from imginav.plugin.registry import Registry
from imginav.study.commands import add_commands
from imginav_project.kinds import COMMAND, KINDS

NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
"""What a plugin can be called: words of small letters and digits, with a dash or an underscore between two."""

PREFIX = "imginav"


@frozen(kw_only=True)
class PluginPackage:
    """The names of a plugin package."""

    name: str  # as the user has given it
    kind: str  # one of KINDS

    def __attrs_post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise UserError(f"{self.name!r}: a plugin's name is of small letters, digits, - and _, such as sharpness")

    @property
    def words(self) -> list[str]:
        """The words of the name, without a leading `imginav`."""
        words = re.split("[_-]", self.name)
        return words[1:] if words[0] == PREFIX and len(words) > 1 else words

    @property
    def component(self) -> str:
        """Its name in a manifest, or on the command line."""
        return ("-" if self.kind == COMMAND else "_").join(self.words)

    @property
    def module(self) -> str:
        return "_".join([PREFIX, *self.words])

    @property
    def distribution(self) -> str:
        return "-".join([PREFIX, *self.words])

    @property
    def class_name(self) -> str:
        name, kind = "".join(word.capitalize() for word in self.words), KINDS[self.kind]
        return name if name.endswith(kind) and name != kind else name + kind  # the kind alone is the base class

    @property
    def group(self) -> str:
        """Its entry-point group."""
        return "imginav.commands" if self.kind == COMMAND else "imginav"


def write(package: PluginPackage, folder: Path, registry: Registry) -> Path:
    """Write the package into a folder, and return the folder.

    Raises UserError if the folder has anything in it, or an installed plugin or module has one of its names.
    """
    _refuse_taken_names(package, registry)
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty, and imginav new overwrites nothing; name another folder with --to")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder to write with --to")
    for path, text in sorted(_files(package).items()):
        write_text(folder / path, text)
    return folder


def next_steps(package: PluginPackage, folder: Path) -> str:
    """Return what was written, and the commands to type next."""
    source = folder / package.module / f"{package.kind}.py"
    return (
        f"wrote {folder}/: the {package.kind} {package.component} in {source}, its test and a README\n\n"
        "next:\n"
        f"  cd {shlex.quote(str(folder))} && pip install -e '.[test]' && pytest\n"
        f"  imginav {'--help' if package.kind == COMMAND else 'plugins'}    # lists it"
    )


def _refuse_taken_names(package: PluginPackage, registry: Registry) -> None:
    """Two plugins of one name would both be refused, and a module of one name would hide the other."""
    taken = {(each.kind, each.name): each.provider for each in registry}
    taken |= {(COMMAND, each.name): each.provider for each in _commands()}
    if provider := taken.get((package.kind, package.component)):
        raise UserError(f"{package.name}: {provider} has the {package.kind} {package.component!r}; take another name")
    if find_spec(package.module):
        raise UserError(f"{package.name}: the module {package.module} is installed already; take another name")


def _commands() -> Commands:
    commands = Commands()
    add_commands(commands)
    add_installed(commands)
    return commands


def _files(package: PluginPackage) -> dict[str, str]:
    """Return the text of each file by its path."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("imginav_project", "templates/plugin"),
        autoescape=False,  # noqa: S701  # Python, TOML and Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    names = {
        "p": package,
        "imginav_version": version(PREFIX),
        "article": "an" if package.kind[0] in "aeio" else "a",
        "kind_words": package.kind.replace("lr_", "learning-rate "),
    }

    def text(template: str) -> str:
        return templates.get_template(template).render(names)

    return {
        "pyproject.toml": text("pyproject.toml.j2"),
        "README.md": text("README.md.j2"),
        f"{package.module}/__init__.py": text("__init__.py.j2"),
        f"{package.module}/{package.kind}.py": text(f"kinds/{package.kind}.py.j2"),
        "tests/conftest.py": text("conftest.py.j2"),
        f"tests/test_{package.kind}.py": text(f"kinds/{package.kind}_test.py.j2"),
    }
