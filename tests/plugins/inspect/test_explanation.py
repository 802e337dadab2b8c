"""`imginav explain`: where each value came from, the whole way down, from whatever a run has left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tomli
import torch
from attrs import evolve
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imginav import UserError, cli
from imginav.manifest.loading import load
from imginav.manifest.resolved import ResolvedManifest, ResolvedPhase
from imginav.plugin.checkpoint import Checkpoint
from imginav.plugin.registry import Registry
from imginav_inspect.explanation import explain
from imginav_tests.examples import examples
from imginav_tests.records import candidate, winner

Load = Callable[..., ResolvedPhase]


WINNER = winner(
    winner="L3",
    because="less than 10 % is gained by more",
    rule="smallest_good_enough 10 %",
    values={"encoder.latent_channels": 16},
    experiments={
        "L1": candidate(0.00262, "32×32×4"),
        "L2": candidate(0.00159, "32×32×8"),
        "L3": candidate(0.00110, "32×32×16"),
        "L4": candidate(None, "", "cut off"),
    },
)


@pytest.fixture
def resolved(load_text: Load) -> ResolvedManifest:
    """A manifest that takes a value from the winner of phase 1.1."""
    phase = load_text()
    WINNER.save(phase.shared, phase.structurer)
    return load_text('[winners]\n"1.1" = ["encoder.latent_channels"]\n', "train.seed=7", number="1.5").experiments[0]


@pytest.fixture
def folder(resolved: ResolvedManifest) -> Path:
    """A run folder with a manifest and a checkpoint."""
    folder = Path("outputs/run")
    folder.mkdir(parents=True)
    (folder / "manifest.toml").write_text(resolved.to_toml(), encoding="utf-8")
    checkpoint(resolved.to_toml()).save(folder / "run_checkpoint_best.pt")
    return folder


def checkpoint(manifest: str) -> Checkpoint:
    return Checkpoint(model={"weight": torch.ones(2)}, epoch=1, metrics={}, manifest=manifest, origins={})


@pytest.mark.parametrize("name", ["", "manifest.toml", "run_checkpoint_best.pt"])
def test_a_folder_its_manifest_and_a_checkpoint_are_explained_alike(
    folder: Path, registry: Registry, resolved: ResolvedManifest, name: str
) -> None:
    explanation = explain(folder / name, registry)
    assert explanation.heading == ("Resolved from phase.toml, at full scale; beside each value, where it came from.")
    # Of a table without values there is nothing to explain.
    assert {key: origin for key, _, origin in explanation.values} == {
        key: origin for key, origin in resolved.origins.items() if key not in ("callbacks", "evaluation.probes")
    }
    assert explanation.lineage == {"1.1": WINNER}
    lines = explanation.lines
    assert "train.seed = 7 · --set" in lines
    assert "encoder.base_channels = 16 · phase.toml" in lines
    assert "encoder.variational = false · default" in lines
    assert 'phase.id = "1.5" · phase.toml' in lines


def test_a_value_from_a_winner_shows_who_won_and_why(folder: Path, registry: Registry) -> None:
    assert (
        "encoder.latent_channels = 16 · phase 1.1, L3 won: val_mse 0.00110 against 0.00159 (L2) · "
        "rule smallest_good_enough 10 %"
    ) in explain(folder, registry).lines


def test_the_lineage_follows_with_the_figures_of_all_experiments(folder: Path, registry: Registry) -> None:
    assert explain(folder, registry).lines[-7:] == [
        "",
        "phase 1.1, L3 won: val_mse 0.00110 against 0.00159 (L2) · rule smallest_good_enough 10 %",
        "  because less than 10 % is gained by more",
        "  val_mse: L1 0.00262 (32×32×4), L2 0.00159 (32×32×8), L3 0.00110 (32×32×16), L4 cut off",
        "  val_mse is the mean squared error over all pixels of all whole validation layouts, in [-1, 1]",
        "  16 blocks; 12 train, 4 validate, by scene; at full scale",
        "  decided 2025-01-01T00:00:00+00:00 with imginav 0.1.0, from phases/1_1.toml",
    ]


def test_a_decision_of_a_person_is_told_with_its_reason(load_text: Load, registry: Registry) -> None:
    phase = load_text()
    because = 'our "UNet"\nhas 8 channels # really'
    evolve(WINNER, winner="L2", chosen_by="person", because=because, values={"encoder.latent_channels": 8}).save(
        phase.shared, phase.structurer
    )
    later = load_text('[winners]\n"1.1" = ["encoder.latent_channels"]\n', number="1.5").experiments[0]
    Path("manifest.toml").write_text(later.to_toml())
    assert (
        "encoder.latent_channels = 8 · phase 1.1, L2 set by a person, because "
        "'our \"UNet\"\\nhas 8 channels # really': val_mse 0.00159 against 0.00110 (L3)"
    ) in explain(Path("manifest.toml"), registry).lines


def test_the_command_prints_the_explanation(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("imginav.plugin.registry.installed", lambda: registry)
    assert cli.main(["explain", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == explain(folder, registry).lines
    assert cli.main(["explain", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("imginav: nowhere: no such file; name a")


REMEDY = "; name a run folder, its manifest.toml, or a checkpoint (.pt)"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere", None, f"nowhere: no such file{REMEDY}"),
        ("empty", "", f"empty/manifest.toml: no such file{REMEDY}"),
        ("nowhere.pt", None, "nowhere.pt: no such checkpoint"),
        ("a.toml", b"\xff", "a.toml: is not UTF-8 text (byte 0); save it as UTF-8"),
        ("a.toml", b"", f"a.toml: holds no resolved manifest, which begins with 'Resolved from'{REMEDY}"),
        ("a.toml", b"[train]\nepochs = 3\n", "a.toml: holds no resolved manifest, which begins with"),
        ("a.toml", b"# Resolved from a\nx = \n", "a.toml: is not valid TOML: "),
        ("a.toml", b"# Resolved from a\nx = 1\nx = 2\n", "a.toml: is not valid TOML: "),
        (
            "a.toml",
            b"# Resolved from a\nlineage = 3\n",
            "a.toml: expected a table, found 3 @ lineage; restore the file, or take a checkpoint (.pt)",
        ),
        (
            "a.toml",
            b"# Resolved from a\n[lineage.x]\nphase = 3\n",
            "expected text in quotes, found 3 @ lineage.x.phase",
        ),
        ("a.pt", b"", "a.pt: cannot be read as a checkpoint: EOFError"),
        (
            "a.pt",
            b"no checkpoint at all",
            "a.pt: cannot be read as a checkpoint: it is none, or holds more than tensors and plain values",
        ),
        ("a.pt", b"PK\x03\x04 no archive", "a.pt: cannot be read as a checkpoint: "),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    registry: Registry,
    name: str,
    content: bytes | str | None,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    elif content is not None:
        Path(name).mkdir()
    with pytest.raises(UserError) as caught:
        explain(Path(name), registry)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_was_cut_off_anywhere_is_refused(folder: Path, registry: Registry) -> None:
    path = folder / "run_checkpoint_best.pt"
    whole = path.read_bytes()
    for length in range(0, len(whole), 997):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"best.pt: cannot be read as a checkpoint: .*; take another"):
            explain(path, registry)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, registry: Registry) -> None:
    torch.save({"state_dict": {}}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a.pt: is no checkpoint of this version of imginav \(format 2\)"):
        explain(tmp_path / "a.pt", registry)
    checkpoint("epochs = 3\n").save(tmp_path / "b.pt")
    with pytest.raises(UserError, match=r"b.pt: holds no resolved manifest, which begins with 'Resolved from'"):
        explain(tmp_path / "b.pt", registry)


printable = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]).filter(str.isprintable), min_size=1)


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(origin='quotes " and \' and """, a # and = [x]')
@example(origin="# a folder/phase.toml")
@example(origin="#folder")
@example(origin="Größe/层/phase.toml · rule 10 %")
@example(origin="long/" * 60)
@example(origin="back\\slash\\u0041\\n")
@given(origin=printable.map(str.strip).filter(bool))
def test_origins_survive_the_way_through_the_manifest(
    resolved: ResolvedManifest, registry: Registry, origin: str
) -> None:
    odd = evolve(resolved, origins=dict.fromkeys(resolved.origins, origin), source=Path(origin))
    path = Path("odd.toml")
    path.write_text(odd.to_toml(), encoding="utf-8")
    explanation = explain(path, registry)
    assert {o for _, _, o in explanation.values} == {origin}
    assert explanation.heading.startswith(f"Resolved from {Path(origin)}, at full scale")
    assert load(path, registry).manifest == resolved.manifest
    assert set(load(path, registry).origins.values()) == {"odd.toml"}


@pytest.mark.parametrize("odd", ["two\nlines", "tab\t", "bell\x07", "\udcff from a file name", "\u2028"])
def test_an_origin_that_cannot_be_printed_breaks_no_manifest(
    resolved: ResolvedManifest, registry: Registry, odd: str
) -> None:
    text = evolve(resolved, origins=dict.fromkeys(resolved.origins, odd)).to_toml()
    assert tomli.loads(text)["train"]["seed"] == 7
    Path("odd.toml").write_text(text, encoding="utf-8")
    (origin,) = {o for _, _, o in explain(Path("odd.toml"), registry).values}
    assert origin == odd.encode("unicode_escape").decode()
