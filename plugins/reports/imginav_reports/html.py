"""Pages of HTML that need no other file, and how values are written in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import fmean
from typing import Any

import jinja2
import tomlkit
from markupsafe import Markup

from imginav.formatting import format_bytes

MOST_PLAIN = 1e5
"""From which on a figure has thousands separators and no fraction."""


def page(template: str, **values: Any) -> str:
    """Return a page that is made of a template; all text in it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imginav_reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "figure": figure,
        "toml": as_toml,
        "bytes": format_bytes,
        "moment": moment,
        "fixed": fixed,
        "breakable": breakable,
    }
    return environment.get_template(template).render(**values)


def figure(value: float | None, digits: int = 5) -> str:
    """Return a figure with digits enough to tell two runs apart; a dash for what is not known."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0 or math.isinf(value):
        return f"{value:g}".replace("inf", "∞")
    if abs(value) >= MOST_PLAIN:
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".removesuffix(".")


def fixed(value: float, decimals: int = 3) -> str:
    """Return a figure of a column in which the decimal points stand below each other."""
    return f"{value:.{decimals}f}" if math.isfinite(value) else figure(value)


def as_toml(value: Any) -> str:
    """Return a value as a manifest would have it."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update(value)
        return str(table.as_string())
    return str(tomlkit.item(value).as_string())


def breakable(name: str) -> Markup:
    """Return a name as HTML that may be broken into lines behind its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def moment(text: str) -> str:
    """Return a time in ISO 8601 for people: to the minute; other text as it is."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{at:%Y-%m-%d %H:%M} {at.tzname() or ''}".rstrip()


def with_spread(values: Sequence[float]) -> str:
    """Return the mean of several seeds with half of what lies between them."""
    spread = (max(values) - min(values)) / 2
    return figure(fmean(values), 3) + (f" ± {figure(spread, 2)}" if len(values) > 1 else "")
