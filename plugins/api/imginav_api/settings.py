"""Settings as Python has them: a dict of dotted keys, in place of `--set KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import tomlkit
from tomlkit.exceptions import ConvertError

from imginav.errors import UserError, shown


def as_settings(values: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return values by their dotted keys, such as {"train.epochs": 3}, as texts of `--set`.

    Paths become text, and nested dicts are tables. A key that ends in `:` replaces a table instead of adding to it.
    Raises UserError for a value that TOML does not have, such as None, and for a key that is not text.
    """
    return tuple(f"{_key(key)}={_toml(key, value)}" for key, value in (values or {}).items())


def _key(key: object) -> str:
    if not isinstance(key, str) or not key:
        raise UserError(f"settings: {shown(key)} is not a key; write a dotted one as text, such as 'train.epochs'")
    return key


def _toml(key: str, value: Any) -> str:
    try:
        return str(_inline(value).as_string())
    except (ConvertError, ValueError, TypeError):
        raise UserError(
            f"settings[{key!r}] = {shown(value)}: TOML has no such value; take a number, text, true or false, a list "
            "or a dict, and leave out what is to keep its default"
        ) from None


def _inline(value: Any) -> Any:
    """Return a value as an item of TOML that stands in one line."""
    if isinstance(value, PurePath):
        return tomlkit.item(str(value))
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        for name, item in value.items():
            table.append(_key(name), _inline(item))
        return table
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        for item in value:
            array.append(_inline(item))
        return array
    if not isinstance(value, bool | int | float | str) and hasattr(value, "item"):
        return tomlkit.item(value.item())  # a number of numpy or torch
    return tomlkit.item(value)
