"""Manifests: layers, origins, strictness."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imginav import UserError
from imginav.manifest.loading import load, load_phase
from imginav.manifest.resolved import ResolvedPhase
from imginav.plugin.registry import Registry, installed
from imginav.plugin.validators import seconds_of
from imginav_tests.examples import examples

PHASE = """
[phase]
id = "1.5"
experiment = "final"
group = "phase"

[data]
type = "procedural"
image_size = 64
room_share = 0.5

[encoder]
type = "conv"
base_channels = 16
downsampling_steps = 2

[decoder]
type = "conv"
heads.rgb = { type = "rgb" }

[losses]
mse = {}

[train]
epochs = 50
optimizer = { type = "adamw" }

[callbacks]
metrics_csv = {}
checkpoint = { every = 5 }

[trial]
"data.count" = 6
"train.epochs" = 2
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return installed()


@pytest.fixture
def phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A correct phase in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    path = Path("phase.toml")
    path.write_text(PHASE)
    return path


def test_the_trial_is_in_force_where_no_layouts_are_configured(phase: Path, registry: Registry) -> None:
    resolved = load(phase, registry)
    assert resolved.trial
    assert (resolved.manifest.train.epochs, resolved.manifest.data.count) == (2, 6)
    assert resolved.origins["train.epochs"] == "phase.toml [trial]"


def test_a_quick_trial_changes_more_than_a_trial(phase: Path, registry: Registry) -> None:
    phase.write_text(PHASE + '\n[quick]\n"train.epochs" = 1\n')
    resolved = load(phase, registry, scale="quick")
    assert resolved.trial
    assert resolved.origins["train.epochs"] == "phase.toml [quick]"
    assert (resolved.manifest.train.epochs, resolved.manifest.train.batch_size) == (
        1,
        load(phase, registry).manifest.train.batch_size,
    )
    assert load(phase, registry).manifest.train.epochs == 2
    phase.write_text(PHASE)
    with pytest.raises(UserError, match=r"--quick: phase.toml has no \[quick\] table to say what a trial changes"):
        load(phase, registry, scale="quick")


def test_what_was_tuned_for_one_optimizer_passes_to_no_other(phase: Path, registry: Registry) -> None:
    phase.write_text(PHASE.replace('{ type = "adamw" }', '{ type = "adamw", learning_rate = 1e-3 }'))

    def other(*settings: str) -> tuple[ResolvedPhase, float]:
        loaded = load_phase(phase, registry, settings=[f"train.optimizer.{setting}" for setting in settings])
        return loaded, loaded.manifest.train.optimizer.learning_rate

    muon, rate = other("type=muon")
    assert rate == type(muon.manifest.train.optimizer)().learning_rate
    assert muon.experiments[0].origins["train.optimizer.learning_rate"] == "default"
    assert muon.notes == (
        "train.optimizer.type = 'muon': without learning_rate = 0.001, which another type was tuned with",
    )
    own, rate = other("type=muon", "learning_rate=0.5")
    assert (rate, own.notes) == (0.5, ())
    same, rate = other("type=adamw")
    assert (rate, same.notes) == (1e-3, ())


def test_full_scale_can_be_forced(phase: Path, registry: Registry) -> None:
    resolved = load(phase, registry, scale="full")
    assert not resolved.trial
    assert resolved.manifest.train.epochs == 50


def test_layouts_in_the_site_file_turn_the_trial_off_and_it_can_be_forced(phase: Path, registry: Registry) -> None:
    Path("imginav.toml").write_text('[data]\ntype = "layouts"\nmanifest = "layouts.csv"\n')
    resolved = load(phase, registry)
    assert not resolved.trial
    assert registry.name_of(type(resolved.manifest.data)) == "layouts"
    assert resolved.origins["data.manifest"] == "imginav.toml"
    assert load(phase, registry, scale="trial").manifest.train.epochs == 2


def test_another_type_keeps_the_keys_that_it_knows_and_drops_the_others_of_lower_layers(
    phase: Path, registry: Registry
) -> None:
    resolved = load(phase, registry, settings=["data.type=layouts", "data.manifest=a.csv"])
    assert resolved.manifest.data.image_size == 64
    assert "room_share" not in resolved.tables["data"]


def test_another_type_does_not_excuse_unknown_keys_of_its_own_layer(phase: Path, registry: Registry) -> None:
    with pytest.raises(UserError, match="unknown key 'room_share'"):
        load(phase, registry, settings=["data.type=layouts", "data.manifest=a.csv", "data.room_share=0.1"])


def test_the_command_line_goes_before_the_trial_the_site_and_the_phase(phase: Path, registry: Registry) -> None:
    Path("imginav.toml").write_text("[data]\nimage_size = 128\n[machine]\nworkers = 3\n")
    resolved = load(phase, registry, settings=["data.count=9", "machine.workers=1", "train.seed = 7"])
    assert resolved.manifest.data.image_size == 128
    assert resolved.manifest.data.count == 9
    assert resolved.manifest.machine.workers == 1
    assert resolved.manifest.train.seed == 7
    assert resolved.origins["data.count"] == "--set"
    assert resolved.origins["data.image_size"] == "imginav.toml"
    assert resolved.origins["encoder.variational"] == "default"


def test_a_site_file_cannot_change_what_is_tried(phase: Path, registry: Registry) -> None:
    Path("elsewhere.toml").write_text("[train]\nepochs = 1\n")
    with pytest.raises(UserError, match=r"elsewhere.toml: expected only the tables data, callb.*found train.epochs"):
        load(phase, registry, site=Path("elsewhere.toml"))


def test_a_site_file_may_say_what_a_run_does_in_trouble(phase: Path, registry: Registry) -> None:
    Path("imginav.toml").write_text('[train]\ntime_limit = "11h30m"\non_non_finite = "skip"\n')
    resolved = load(phase, registry)
    assert (resolved.manifest.train.time_limit, resolved.manifest.train.on_non_finite) == ("11h30m", "skip")
    plain = load(phase, registry, settings=["train.time_limit=2h", "data.on_bad=skip", "train.non_finite_limit=3"])
    Path("imginav.toml").unlink()
    # No result of a run without troubles depends on it.
    assert resolved.sha256 == plain.sha256 == load(phase, registry).sha256
    assert load(phase, registry, settings=["train.epochs=3"]).sha256 != plain.sha256


@pytest.mark.parametrize("limit", ["", "11", "h", "1h1h", "-1h", "1.5h", "0s", "0h0m", "1m2h", "11 h", "1h30"])
def test_a_time_limit_that_is_no_time_is_refused(phase: Path, registry: Registry, limit: str) -> None:
    with pytest.raises(UserError, match=r"expected a time such as '11h30m', '90m' or '1d2h', found '.*' @ train.ti"):
        load(phase, registry, settings=[f"train.time_limit={limit!r}"])


@pytest.mark.parametrize(("limit", "seconds"), [("11h30m", 41_400), ("90m", 5_400), ("1d2h3m4s", 93_784), ("45s", 45)])
def test_a_time_limit_is_of_days_hours_minutes_and_seconds(limit: str, seconds: int) -> None:
    assert seconds_of(limit) == seconds


def test_a_callback_is_switched_off_by_false(phase: Path, registry: Registry) -> None:
    resolved = load(phase, registry, settings=["callbacks.checkpoint=false"])
    assert list(resolved.manifest.callbacks) == ["metrics_csv"]


def test_all_faults_are_reported_at_once_with_file_key_expected_and_found(phase: Path, registry: Registry) -> None:
    phase.write_text(
        PHASE.replace("base_channels = 16", "latent_chanels = 16")
        .replace("epochs = 50", "epochs = 3.7")
        .replace('type = "adamw"', 'type = "adamx"')
        .replace("every = 5", 'every = "5"')
        .replace('id = "1.5"', "id = 1.5")
        .replace("mse = {}", "mse = { weight = -1 }\nkld = 3\nperceptual = { layers = ['relu9'] }")
        .replace('group = "phase"', 'group = "../up"')
    )
    with pytest.raises(UserError) as caught:
        load(phase, registry, scale="full")
    assert str(caught.value).splitlines() == [
        "phase.toml: 9 faults",
        "  expected a whole number, found '5' @ callbacks.checkpoint.every (phase.toml)",
        "  unknown key 'latent_chanels', did you mean 'latent_channels'?; known are: latent_channels, base_channels, "
        "downsampling_steps, variational @ encoder.latent_chanels (phase.toml)",
        "  expected a table with the type of loss, found 3 @ losses.kld (phase.toml)",
        "  expected a number of at least 0, found -1.0 @ losses.mse.weight (phase.toml)",
        "  expected a list, each of it 'relu1_2' or 'relu2_2' or 'relu3_3', found ['relu9'] "
        "@ losses.perceptual.layers (phase.toml)",
        "  expected a plain name of letters, digits, '.', '_' and '-' that starts with a letter or digit, "
        "found '../up' @ phase.group (phase.toml)",
        "  expected text in quotes, found 1.5 @ phase.id (phase.toml)",
        "  expected a whole number, found 3.7 @ train.epochs (phase.toml)",
        "  no optimizer 'adamx' is installed, did you mean 'adamw'?; installed are: adamw (imginav), muon (imginav), "
        "sgd (imginav) @ train.optimizer (phase.toml)",
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.epochs=true", "expected a whole number, found True @ train.epochs (--set)"),
        ("encoder.variational=1", "expected true or false, found 1 @ encoder.variational (--set)"),
        ("encoder.variational='false'", "expected true or false, found 'false' @ encoder.variational (--set)"),
        ("train.epochs=1O", "expected a whole number, found '1O' @ train.epochs (--set)"),
        ("train.split=1.0", "expected a number between 0 and 1, both excluded, found 1.0 @ train.split (--set)"),
        ("train.split=nan", "expected a finite number, found nan @ train.split (--set)"),
        ("train.optimizer.learning_rate=inf", "expected a finite number, found inf"),
        ("machine.workers=-1", "expected workers from 0 to 256, or 'auto', found -1 @ machine (--set)"),
        ("machine.workers=many", "expected a whole number or 'auto', found 'many' @ machine.workers (--set)"),
        ("machine.precision=half", "expected 'auto' or 'fp32' or 'bf16' or 'fp16', found 'half'"),
        ("data.crop=512", "expected a crop of at most image_size = 64, found 512 @ data"),
        ("data.count=1e3", "expected a whole number, found 1000.0 @ data.count (--set)"),
        ("losses.mse=false", "expected at least one loss in [losses], found none @ the manifest"),
        (
            "losses.mse.type=[1]",
            "expected type = one of 'cross_entropy', 'kld', 'l1', 'mean_square', 'mse', 'perceptual', found [1]",
        ),
        ("train=3", "expected a table, found 3 @ train (--set)"),
        ("traim.epochs=3", "unknown key 'traim', did you mean 'train'?"),
        ("encoder.base_channels=12", "expected base_channels to be a multiple of 8"),
        ("phase.experiment=phase", "expected experiment and group to differ, found 'phase' for both @ phase"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_was_expected_and_found(
    phase: Path, registry: Registry, setting: str, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        load(phase, registry, settings=[setting])
    assert message in str(caught.value)


def test_a_missing_value_is_named(phase: Path, registry: Registry) -> None:
    phase.write_text(PHASE.replace("epochs = 50", "").replace('"train.epochs" = 2', ""))
    with pytest.raises(UserError, match=r"expected a value, found nothing @ train.epochs \(phase.toml\)"):
        load(phase, registry)


@pytest.mark.parametrize("setting", ["train.epochs", "=3", "train..epochs=3"])
def test_a_setting_that_is_no_assignment_is_refused(phase: Path, registry: Registry, setting: str) -> None:
    with pytest.raises(UserError, match="expected key=value"):
        load(phase, registry, settings=[setting])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[phase\n", "is not valid TOML: .*line 1"),
        (b'x = "\xff"', "is not UTF-8 text"),
        (b"x = " + b"[" * 10_000, "is nested too deeply|is not valid TOML"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(phase: Path, registry: Registry, content: bytes, message: str) -> None:
    phase.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(phase, registry)


def test_a_missing_file_and_a_folder_are_refused(phase: Path, registry: Registry) -> None:
    with pytest.raises(UserError, match=r"nowhere.toml: no such file"):
        load(Path("nowhere.toml"), registry)
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        load(Path(), registry)


def test_a_trial_is_refused_where_the_phase_has_none(phase: Path, registry: Registry) -> None:
    phase.write_text(PHASE.partition("[trial]")[0])
    assert not load(phase, registry).trial
    with pytest.raises(UserError, match=r"has no \[trial\] table"):
        load(phase, registry, scale="trial")


def test_a_typo_in_the_trial_is_named_with_its_table(phase: Path, registry: Registry) -> None:
    phase.write_text(PHASE.replace('"train.epochs" = 2', '"train.epoch" = 2'))
    with pytest.raises(UserError, match=r"unknown key 'epoch', did you mean 'epochs'.*\(phase.toml \[trial\]\)"):
        load(phase, registry)


def test_the_resolved_manifest_names_an_origin_beside_each_value(phase: Path, registry: Registry) -> None:
    text = load(phase, registry, settings=["train.seed=7"]).to_toml()
    assert "seed = 7 # --set" in text
    assert "epochs = 2 # phase.toml [trial]" in text
    assert "batch_size = 16 # default" in text
    tables = tomli.loads(text)
    assert tables["losses"]["mse"]["type"] == "mse"
    said = tables["resolved"]
    assert (said["source"], said["scale"]) == ("phase.toml", "trial")
    assert {"origin": "--set", "keys": ["train.seed"]} in said["origins"]


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ("resolved = 3", "expected a table, found 3 @ resolved"),
        ('[resolved]\nsource = "a"\nscale = "half"', "expected 'full' or 'trial', found 'half' @ resolved.scale"),
    ],
)
def test_a_damaged_table_of_origins_is_named(phase: Path, registry: Registry, table: str, fault: str) -> None:
    phase.write_text(f"{table}\n{PHASE}" if "=" in table.partition("\n")[0] else f"{PHASE}\n{table}\n")
    with pytest.raises(UserError, match=fault):
        load(phase, registry)


def test_tables_that_were_read_already_stand_for_the_file(phase: Path, registry: Registry) -> None:
    resolved = load(Path("a.pt"), registry, tables=tomli.loads(phase.read_text()))
    assert resolved.manifest == load(phase, registry).manifest
    assert resolved.origins["train.batch_size"] == "default"
    assert {"a.pt", "a.pt [trial]"} <= set(resolved.origins.values())
    with pytest.raises(UserError, match=r"unknown key 'extends'.* @ extends \(a.pt\)"):
        load(Path("a.pt"), registry, tables={"extends": "phase.toml"})


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.integers(1, 8),
    channels=st.integers(1, 512),
    variational=st.booleans(),
    weight=st.floats(0, 1e6),
    learning_rate=st.floats(0, 1),
    split=st.floats(0, 1, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 2**63 - 1),
    every=st.none() | st.integers(1, 1000),
)
def test_a_manifest_survives_a_round_trip(phase: Path, registry: Registry, **values: object) -> None:
    settings_ = [
        f"encoder.downsampling_steps={values['steps']}",
        f"encoder.latent_channels={values['channels']}",
        f"encoder.variational={str(values['variational']).lower()}",
        f"losses.mse.weight={values['weight']!r}",
        f"train.optimizer.learning_rate={values['learning_rate']!r}",
        f"train.split={values['split']!r}",
        f"train.seed={values['seed']}",
        *([] if values["every"] is None else [f"callbacks.checkpoint.keep={values['every']}"]),
    ]
    first = load(phase, registry, settings=settings_)
    written = Path("resolved.toml")
    written.write_text(first.to_toml())
    second = load(written, registry)
    assert second.manifest == first.manifest
    assert not second.trial
