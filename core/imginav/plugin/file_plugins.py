"""Plugins that are single files of the user's: `--plugin ./mine.py`.

Each is the module `imginav.plugin.file_plugins.mine`. An environment variable names the files, so that all processes of
a command import them, also where a component is unpickled before any other code runs. No compiled file is read in
place of a source: what is imported are the bytes whose SHA-256 the command has seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from imginav.errors import UserError
from imginav.plugin.hookspecs import hookimpl

FILES = "IMGINAV_PLUGIN_FILES"
"""The environment variable with path and SHA-256 of each file, as JSON, by the name of its module."""

__path__: list[str] = []  # it is a package, whose modules `_Finder` finds


def files_in_use() -> dict[str, tuple[str, str]]:
    """Return path and SHA-256 of each file in use, by the full name of its module."""
    found = json.loads(os.environ.get(FILES) or "{}")
    return {f"{__name__}.{name}": (path, sha256) for name, (path, sha256) in found.items()}


def use_files(paths: Sequence[Path]) -> None:
    """Make Python files plugins of this process, and of those that it starts from now on.

    Raises UserError where one is missing, is no Python file, or has the name of another.
    """
    used = json.loads(os.environ.get(FILES) or "{}")
    for path in paths:
        name = re.sub(r"\W", "_", path.stem)
        place = str(path.resolve())
        if path.suffix != ".py" or not path.is_file():
            raise UserError(f"--plugin {path}: is no Python file; name one with components, such as ./mine.py")
        if used.get(name, (place,))[0] != place:
            raise UserError(f"--plugin {path}: {used[name][0]} has the same name; rename one of them")
        try:
            used[name] = place, hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"--plugin {path}: cannot be read: {error.strerror}") from None
        sys.modules.pop(f"{__name__}.{name}", None)
    if used:
        os.environ[FILES] = json.dumps(used)


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in (used := files_in_use()):
            return None
        file, sha256 = used[fullname]
        return spec_from_file_location(fullname, file, loader=_Loader(fullname, file, sha256))


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, sha256: str) -> None:
        super().__init__(fullname, path)
        self._sha256 = sha256

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source; `SourceFileLoader` would take a compiled file that lies beside it, whatever it holds."""
        source = self.get_data(self.path)
        if hashlib.sha256(source).hexdigest() != self._sha256:
            raise ImportError(f"{self.path} has changed since the command began; give the command again")
        code: CodeType = self.source_to_code(source, self.path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if not hasattr(module, "imginav_components"):
            _register_classes(module)


def _register_classes(module: ModuleType) -> None:
    """Give a module without the hook one that registers its components, each under its class name in snake case."""
    from imginav.plugin.components import Component  # needs torch

    classes = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Component) and value.__module__ == module.__name__
        if not name.startswith("_")
    ]

    def imginav_components(registry: Any) -> None:  # the Registry, whose module imports this one
        for cls in classes:
            registry.add(cls.kind, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower(), cls)

    if classes:
        vars(module)["imginav_components"] = hookimpl(imginav_components)


sys.meta_path.append(_Finder())
