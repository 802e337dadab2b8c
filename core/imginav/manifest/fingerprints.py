"""Fingerprints: whether two runs were made from the same manifest, the same layouts, the same split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from attrs import frozen


@frozen(kw_only=True)
class LayoutsFingerprint:
    """The fingerprint of a set of layouts: two with the same one hold the same layouts in the same order."""

    rows: int
    sha256: str  # of what each layout is, its size and the palette; not of where the set lies
    description: str  # for people

    def same(self, other: LayoutsFingerprint) -> bool:
        """Whether both are the same layouts, whatever they are called."""
        return (self.rows, self.sha256) == (other.rows, other.sha256)


@frozen(kw_only=True)
class SplitFingerprint:
    """The fingerprint of a split."""

    train: int
    validation: int
    by: str  # what was kept together
    sha256: str  # of the layouts that validate


@frozen(kw_only=True)
class DataFingerprint:
    """On what a run was trained and judged; figures of two runs can be compared where it is the same."""

    layouts: LayoutsFingerprint
    split: SplitFingerprint

    def same(self, other: DataFingerprint) -> bool:
        """Whether figures of both can be compared."""
        return self.layouts.same(other.layouts) and self.split == other.split


def sha256_of_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines of text, in hexadecimal."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode(errors="surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


def sha256_of_tables(tables: Any) -> str:
    """Return the SHA-256 of tables and values as TOML has them; the order of keys means nothing."""
    return sha256_of_lines([json.dumps(tables, sort_keys=True, default=str)])
