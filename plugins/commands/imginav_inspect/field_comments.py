"""What the source of a class says about it and its fields, for people to read elsewhere."""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
from functools import cache

TOOLS = re.compile(r"#\s*(type:\s*ignore(\[[^\]]*\])?|noqa(:[A-Z0-9, ]+)?)\s*")
"""What a comment says to tools, not to people."""


def summary_of(cls: type) -> str:
    """Return the first paragraph of a class's docstring as one line; empty where it has none."""
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


def comment_of(cls: type, field: str) -> str:
    """Return the comment that stands behind a field, in the nearest class that has one for it.

    Empty where there is none, or no source.
    """
    return next((said[field] for base in cls.__mro__ if field in (said := _comments_in(base))), "")


@cache
def _comments_in(cls: type) -> dict[str, str]:
    """Return the comments behind the fields that a class itself declares; none where its source cannot be had."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
        (definition,) = ast.parse(source).body
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (OSError, TypeError, ValueError, SyntaxError, tokenize.TokenError):
        return {}
    by_line = {token.start[0]: TOOLS.sub("", token.string) for token in tokens if token.type == tokenize.COMMENT}
    found = {}
    for node in getattr(definition, "body", ()):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            # A field of several lines has its comment on one of them.
            said = [by_line.get(line, "").strip("# ") for line in range(node.lineno, (node.end_lineno or 0) + 1)]
            if any(said):
                found[node.target.id] = " ".join(filter(None, said))
    return found
