"""Errors raised in a plugin of another distribution, as one sentence that names the plugin and the place."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

from imginav.errors import UserError
from imginav.formatting import format_path
from imginav.plugin.discovery import Provider, third_parties

MOST_CHARACTERS = 300
"""Of the error's own text in the sentence; `--debug` shows the rest."""

OF_WORKER = re.compile(r"^Caught \w+ in DataLoader worker process")
"""How the text of an error begins that torch carries over from a loading process, with the traceback as text."""


class PluginError(UserError):
    """A plugin of another distribution failed; `__cause__` is its own error."""


@contextmanager
def plugin_faults_named() -> Iterator[None]:
    """Turn an error whose traceback passes through a third party's plugin into PluginError; others stay as they are."""
    try:
        yield
    except Exception as error:
        if sentence := plugin_fault(error):
            raise PluginError(sentence) from error
        raise


def plugin_fault(error: Exception) -> str:
    """Return which third party's plugin failed, in which method and at which line; empty if none did.

    Of several plugins on the way, the one nearest to the fault is named. Errors that imginav defines, and a lack of
    memory, are no faults of a plugin.
    """
    owners, defined_in = third_parties(), type(error).__module__
    is_own = defined_in.startswith("imginav.") and not _owner(defined_in, owners)
    if is_own or type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
        return ""
    found = _in_worker(error, owners) if OF_WORKER.match(str(error)) else _in_traceback(error, owners)
    if found is None:
        return ""
    provider, method, file, line, reason = found
    return (
        f"{provider} failed in {method} ({format_path(file)}, line {line}): {reason}; {provider.remedy}; "
        "--debug shows the traceback"
    )


Found = tuple[Provider, str, str, int, str]
"""Provider, method, file, line, and the error with its text."""


def _in_traceback(error: Exception, owners: dict[str, Provider]) -> Found | None:
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if provider := _owner(frame.f_globals.get("__name__", ""), owners):
            found = provider, _method(frame, frame.f_code), frame.f_code.co_filename, line
    return (*found, f"{type(error).__name__}: {_informat_path(str(error))}") if found else None


def _in_worker(error: Exception, owners: dict[str, Provider]) -> Found | None:
    """Find the place in the text of a traceback; the plugin of the data set is imported here, too."""
    files = {getattr(module, "__file__", None): _owner(name, owners) for name, module in sys.modules.copy().items()}
    found = None
    for file, line, method in re.findall(r'^ +File "(.+)", line (\d+), in (\S+)$', str(error), re.MULTILINE):
        if provider := files.get(file):
            found = provider, method, file, int(line)
    return (*found, _informat_path(str(error).rstrip().rpartition("\n")[2])) if found else None


def _owner(module: str, owners: dict[str, Provider]) -> Provider | None:
    """Return who provides a module: it, or a package that it lies in, is that of a plugin."""
    while module and module not in owners:
        module = module.rpartition(".")[0]
    return owners.get(module)


def _method(frame: FrameType, code: CodeType) -> str:
    """Return the name of the function of a frame; of a method, behind the class of its object."""
    own = frame.f_locals.get("self")
    is_method = code.co_qualname.count(".") == 1 and own is not None
    return f"{type(own).__name__}.{code.co_name}" if is_method else code.co_qualname


def _informat_path(text: str) -> str:
    return " ".join(text.split())[:MOST_CHARACTERS] or "without a text"
