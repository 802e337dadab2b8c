"""Whatever stands in manifests, site files, winners and settings: it is loaded, or it is a user error."""

from __future__ import annotations

import copy
import datetime
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imginav import UserError
from imginav.manifest.loading import load, load_phase
from imginav.manifest.resolved import ResolvedPhase
from imginav.plugin.registry import Registry, installed
from imginav.runs.experiment import run_folder
from imginav_inspect.explanation import explain
from imginav_tests.examples import examples

PHASES = Path(__file__).parents[3] / "phases"

NAMES = ("1_1", "1_2", "1_3", "1_4", "1_5")

RIGHT = {path.stem: tomli.loads(path.read_text(encoding="utf-8")) for path in PHASES.glob("*.toml")}

WINNER: dict[str, Any] = {
    "phase": "1.1",
    "source": "phases/1_1.toml",
    "winner": "L3",
    "chosen_by": "rule",
    "because": "it is the best",
    "date": "2025-01-01T00:00:00+00:00",
    "rule": "best",
    "front": ["L1", "L3"],
    "scale": "full",
    "code_version": "0.1.0",
    "manifest_sha256": "c" * 64,
    "values": {"encoder.latent_channels": 8, "encoder.base_channels": 32},
    "metric": {"name": "val_mse", "mode": "min", "definition": "mean squared error"},
    "layouts": {"rows": 16, "sha256": "a" * 64, "description": "16 layouts"},
    "split": {"train": 12, "validation": 4, "by": "scene", "sha256": "b" * 64},
    "experiments": {
        "L1": {"state": "finished", "runs": ["L1"], "values": [0.2], "mean": 0.2, "latent": "32×32×4"},
        "L3": {"state": "finished", "runs": ["L3"], "values": [0.1], "mean": 0.1, "latent": "32×32×8"},
    },
}

SITE: dict[str, Any] = {
    "data": {"type": "layouts", "manifest": "layouts.csv", "filters": {"is_empty": False, "rooms__ge": 2}},
    "machine": {"workers": 8, "device": "cpu"},
    "output": {"experiments": "experiments", "shared": "shared"},
    "callbacks": {"tensorboard": {}, "samples": False},
}

TEXTS = (
    "",
    "auto",
    "conv",
    "mse",
    "1.1",
    "..",
    "../up",
    "/abs/olute",
    "C:\\x",
    "CON",
    "aux.txt",
    "a.",
    "a.b",
    "a" * 101,
    "a" * 12_000,
    "\0",
    "\n",
    "\x1b[2J",
    "\x7f\x85\u2028",
    "\u202e",
    "\u200d",
    "é",
    "e\u0301",
    "🦊",
    "$\\frac$",
    "<script>",
    "{{ 1 }}",
    '"',
    "# no comment",
)

KEYS = (*TEXTS, "type", "extends", "lineage", "trial", "sweep", "winners", "phase", "train.epochs", "losses", "weight")

ODD = (
    True,
    False,
    0,
    -1,
    3,
    2**63 - 1,
    -(2**63),
    2**64,
    10**400,
    0.0,
    -0.0,
    0.5,
    5e-324,
    1e308,
    float("nan"),
    float("inf"),
    datetime.date(1979, 5, 27),
    datetime.time(7, 32),
    datetime.datetime(1979, 5, 27, 7, 32, tzinfo=datetime.UTC),
    [],
    [1, "a", 2.5],
    [[1], [[]]],
    [{}],
    {},
    {"type": "mse"},
    {"type": ["conv"]},
    {"a.b": 1},
    {"": {"": 1}},
    {"train.epochs": 2},
    {"train": {"epochs": 2}, "train.epochs": 3},
)

VALUES = st.sampled_from([*ODD, *TEXTS]) | st.integers() | st.floats() | st.text(max_size=8) | st.booleans()

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "rename", "insert", "copy", "swap", "wrap"]),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
        st.sampled_from(KEYS) | st.text(max_size=4),
        VALUES,
    ),
    min_size=1,
    max_size=4,
)

in_one_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def registry() -> Registry:
    return installed()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with the phases in it."""
    monkeypatch.chdir(tmp_path)
    for name in RIGHT:
        shutil.copy(PHASES / f"{name}.toml", f"{name}.toml")
    return tmp_path


def toml(value: Any) -> str:
    """Return a value as TOML in one line, whatever is in it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def write(path: Path, tables: Mapping[str, Any]) -> None:
    lines = [f"{toml(str(key))} = {toml(value)}" for key, value in tables.items()]
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")


def places(table: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Return each key with the table that it stands in."""
    for key, value in table.items():
        yield table, key
        if isinstance(value, dict):
            yield from places(value)


def changed(tables: Mapping[str, Any], changes: Sequence[tuple[str, int, int, str, Any]]) -> dict[str, Any]:
    """Return tables with some changes at places that the numbers choose."""
    tree = copy.deepcopy(dict(tables))
    for what, first, second, name, value in changes:
        known = list(places(tree))
        if not known:
            break
        (table, key), (other, other_key) = known[first % len(known)], known[second % len(known)]
        if what == "put":
            table[key] = copy.deepcopy(value)
        elif what == "delete":
            del table[key]
        elif what == "rename":
            table[name] = table.pop(key)
        elif what == "insert":
            table[name] = copy.deepcopy(value)
        elif what == "copy":
            other[other_key] = copy.deepcopy(table[key])
        elif what == "swap":
            table[key], other[other_key] = copy.deepcopy(other[other_key]), copy.deepcopy(table[key])
        else:
            table[key] = [table[key]]
    return tree


def loaded(registry: Registry, path: str, **options: Any) -> ResolvedPhase | None:
    """Return the phase, or none where it is refused by the one error that a user can cause, and in its words."""
    said, phase = "", None
    try:
        phase = load_phase(Path(path), registry, **options)
    except UserError as error:
        said = str(error)
    if phase is None:
        assert said.strip()
        assert len(said) < 100_000
        assert said.replace("\n", "").isprintable()
    else:
        assert_sound(phase, registry)
    return phase


def assert_sound(phase: ResolvedPhase, registry: Registry) -> None:
    """What is accepted stays in its folders, and is what its resolved manifest says."""
    for experiment in phase.experiments[:2]:
        stays_within_its_folders(experiment)
        Path("resolved.toml").write_text(experiment.to_toml(), encoding="utf-8")
        again = load(Path("resolved.toml"), registry)
        assert again.manifest == experiment.manifest
        assert again.tables == experiment.tables


def stays_within_its_folders(experiment: Any) -> None:
    own, output = run_folder(experiment), experiment.manifest.output
    roots = output.experiments.absolute().resolve(), output.shared.absolute().resolve()
    assert own.root.absolute().resolve().parent == roots[0]
    assert own.shared.absolute().resolve().parent == roots[1]


@settings(in_one_folder, max_examples=examples(1000))
@given(st.sampled_from(NAMES), st.booleans(), CHANGES)
def test_a_phase_with_something_changed_is_loaded_or_refused(
    registry: Registry, name: str, below: bool, changes: list[tuple[str, int, int, str, Any]]
) -> None:
    for file in ("base", name):
        write(Path(f"{file}.toml"), changed(RIGHT[file], changes if below == (file == "base") else []))
    loaded(registry, f"{name}.toml")


@settings(in_one_folder, max_examples=examples(300))
@given(st.text(max_size=60) | st.text("[]{}=.\"'\n#\\ax1-:T", max_size=40))
def test_any_text_is_loaded_or_refused(registry: Registry, text: str) -> None:
    Path("any.toml").write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    loaded(registry, "any.toml")


@settings(in_one_folder, max_examples=examples(300))
@given(st.binary(max_size=60), st.integers(0, 2000))
def test_any_bytes_in_a_phase_are_loaded_or_refused(registry: Registry, content: bytes, at: int) -> None:
    right = (PHASES / "1_5.toml").read_bytes()
    Path("any.toml").write_bytes(right[: at % len(right)] + content + right[at % len(right) + len(content) :])
    loaded(registry, "any.toml")


SETTINGS = st.text(max_size=30) | st.builds(
    "{}={}".format,
    st.sampled_from(
        [
            ".".join(keys)
            for keys in (
                *(("train", key) for key in ("epochs", "batch_size", "seed", "split", "monitor", "optimizer")),
                *(("data", key) for key in ("type", "image_size", "crop", "crops", "count", "filters.x")),
                *(("data", key) for key in ("seed", "whole_epochs", "augment", "style", "palette")),
                *(
                    ("encoder", key)
                    for key in ("type", "base_channels", "blocks", "latent_channels", "downsampling_steps")
                ),
                *(("losses", key) for key in ("mse", "mse.weight", "'a.b'", "new.type", "perceptual.layers")),
                *(("phase", key) for key in ("id", "title", "experiment", "group")),
                *(("output", key) for key in ("experiments", "shared")),
                ("callbacks", "checkpoint"),
                *(("machine", key) for key in ("workers", "cache", "compile")),
                *(("train", "optimizer", key) for key in ("learning_rate", "adamw_learning_rate", "momentum")),
                ("sweep",),
                ("sweep", "grid"),
                ("sweep", "seeds"),
                ("winners",),
                ("trial",),
                ("lineage",),
                ("extends",),
                ("''",),
            )
        ]
    ),
    VALUES.map(toml) | st.text(max_size=20),
)


@settings(in_one_folder, max_examples=examples(400))
@given(st.sampled_from(NAMES), st.lists(SETTINGS, min_size=1, max_size=2))
def test_any_settings_are_loaded_or_refused(registry: Registry, name: str, said: list[str]) -> None:
    loaded(registry, f"{name}.toml", settings=said)


@settings(in_one_folder, max_examples=examples(250))
@given(CHANGES)
def test_any_site_file_is_loaded_or_refused(registry: Registry, changes: list[tuple[str, int, int, str, Any]]) -> None:
    write(Path("site.toml"), changed(SITE, changes))
    loaded(registry, "1_5.toml", site=Path("site.toml"))


@settings(in_one_folder, max_examples=examples(250))
@given(CHANGES, st.booleans())
def test_any_winner_is_taken_or_refused(
    registry: Registry, changes: list[tuple[str, int, int, str, Any]], required: bool
) -> None:
    Path("outputs/phase1_1").mkdir(parents=True, exist_ok=True)
    write(Path("outputs/phase1_1/winner.toml"), changed(WINNER, changes))
    phase = loaded(registry, "1_2.toml", require_winners=required)
    if phase and phase.lineage:
        assert [winner.summary.isprintable() for winner in phase.lineage.values()] == [True]


@settings(in_one_folder, max_examples=examples(150))
@given(CHANGES, st.text("[]{}=.\"'\n#\\ax1", max_size=10))
@example([], "[a]\nx=1\n[a.b]\n[b]\n[a.c]")
def test_any_resolved_manifest_is_explained_or_refused(
    registry: Registry, changes: list[tuple[str, int, int, str, Any]], end: str
) -> None:
    write(Path("any.toml"), changed({**RIGHT["base"], "lineage": {"1.1": WINNER}}, changes))
    text = Path("any.toml").read_text(encoding="utf-8", errors="surrogatepass")
    Path("any.toml").write_text(f"# Resolved from x\n{text}\n{end}", encoding="utf-8", errors="surrogatepass")
    try:
        explanation = explain(Path("any.toml"), registry)
    except UserError:
        return
    assert all(line.isprintable() for line in explanation.lines)
