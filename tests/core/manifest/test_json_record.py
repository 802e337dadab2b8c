"""JSON records: what is saved is loaded again, and a damaged file is one sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from attrs import field, frozen, validators

from imginav import UserError
from imginav.manifest.json_record import MissingRecordError, from_json, load_record_of, save_record, to_json


@frozen(kw_only=True)
class Part:
    values: dict[str, float] = field(factory=dict)
    size: tuple[int, int] = (1, 2)


@frozen(kw_only=True)
class Record:
    name: str
    count: int = field(default=1, validator=validators.ge(1))
    best: float | None = None
    parts: tuple[Part, ...] = ()
    whole: Part | None = None


VERSION = ("version", 3)


def load(path: Path) -> Record:
    return load_record_of(path, Record, "a record", "write it again", VERSION)


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for record in (Record(name="Straße"), Record(name="", best=1, parts=(Part(values={"a.b": 2}),), whole=Part())):
        save_record(path, record, VERSION)
        assert load(path) == record
        table = json.loads(path.read_text(encoding="utf-8"))
        assert list(table) == ["version", "name", "count", "best", "parts", "whole"]
        assert from_json(to_json(record), Record) == record


def test_what_is_not_finite_is_null_in_the_file_and_nan_again(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    save_record(path, Record(name="a", whole=Part(values={"x": math.nan, "y": -math.inf})), VERSION)
    table = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert table["whole"]["values"] == {"x": None, "y": None}
    loaded = load(path).whole
    assert loaded is not None
    assert all(math.isnan(value) for value in loaded.values.values())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value: line 1"),
        ("[]", "it holds no table"),
        ("{}", "it is of another version than 3"),
        ('{"version": 2, "name": "a"}', "it is of another version than 3"),
        ('{"version": 3}', "name is required"),
        ('{"version": 3, "name": null}', "expected text in quotes, found None @ name"),
        ('{"version": 3, "name": "a", "count": 1.0}', "expected a whole number, found 1.0 @ count"),
        ('{"version": 3, "name": "a", "count": 0}', "'count' must be >= 1: 0 @ count"),
        ('{"version": 3, "name": "a", "other": 0}', "unknown key 'other'; known are: .* @ other"),
        ('{"version": 3, "name": "a", "parts": [{"size": [1]}]}', r"expected a list, .*found \[1\] @ parts.0.size"),
        ('{"version": 3, "name": "a", "whole": {"values": {"x": "1"}}}', "found '1' @ whole.values.x"),
    ],
)
def test_a_damaged_record_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(
        UserError, match=rf"a.json: cannot be read as a record \(.*{reason}.*\); write it again"
    ) as caught:
        load(path)
    assert not isinstance(caught.value, MissingRecordError)
    assert "\n" not in str(caught.value)


def test_a_missing_record_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none.json", tmp_path / "file" / "a.json"):
        with pytest.raises(MissingRecordError, match=r"cannot be read as a record \(No.* directory\); write it again"):
            load(path)
    with pytest.raises(UserError, match=r"cannot be read as a record \(Is a directory\)"):
        load(tmp_path)
