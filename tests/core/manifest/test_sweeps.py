"""The experiments of a phase: names, values, seeds, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imginav import UserError
from imginav.manifest.loading import load
from imginav.manifest.resolved import ResolvedPhase
from imginav.plugin.registry import Registry
from imginav.plugin.validators import FILE_NAME
from imginav_tests.examples import examples

Load = Callable[..., ResolvedPhase]


def test_each_experiment_has_its_name_its_values_and_their_origin(load_text: Load) -> None:
    phase = load_text(
        """
        [sweep.experiments]
        L1 = { "encoder.latent_channels" = 4 }
        [sweep.experiments.L2]
        encoder.latent_channels = 8
        "train.epochs" = 3
        """,
    )
    assert phase.names == ["L1", "L2"]
    assert [e.manifest.phase.experiment for e in phase.experiments] == ["p1_tiny_L1", "p1_tiny_L2"]
    assert [e.manifest.encoder.latent_channels for e in phase.experiments] == [4, 8]
    assert [e.manifest.train.epochs for e in phase.experiments] == [2, 3]
    assert phase.varied == ("encoder.latent_channels", "train.epochs")
    assert phase.experiments[0].changes == {"encoder.latent_channels": 4, "train.epochs": 2}
    assert phase.experiments[1].origins["encoder.latent_channels"] == "phase.toml [sweep] L2"
    assert phase.experiments[1].origins["encoder.base_channels"] == "phase.toml"


def test_a_grid_is_every_combination(load_text: Load) -> None:
    phase = load_text(
        """
        [sweep.grid]
        "encoder.latent_channels" = [4, 8]
        train.optimizer.learning_rate = [1e-3, 1e-4]
        """,
    )
    assert phase.names == [
        "latent_channels4-learning_rate0.001",
        "latent_channels4-learning_rate0.0001",
        "latent_channels8-learning_rate0.001",
        "latent_channels8-learning_rate0.0001",
    ]
    assert phase.experiments[3].manifest.train.optimizer.learning_rate == 1e-4


def test_seeds_repeat_each_experiment_on_the_same_split(load_text: Load) -> None:
    text = '[sweep]\nseeds = [1, 2]\n[sweep.experiments]\nA = {}\nB = { "train.epochs" = 3 }\n'
    phase = load_text(text)
    assert phase.names == ["A", "B"]
    trains = {phase.label(e): e.manifest.train for e in phase.experiments}
    assert [(run, train.seed, train.split_seed) for run, train in trains.items()] == [
        ("A_seed1", 1, 42),
        ("A_seed2", 2, 42),
        ("B_seed1", 1, 42),
        ("B_seed2", 2, 42),
    ]
    assert load_text(text, "train.split_seed=7").experiments[0].manifest.train.split_seed == 7
    with pytest.raises(UserError, match=r"--set train.seed: the experiments of phase.toml differ in train.seed"):
        load_text(text, "train.seed=7")
    single = load_text(text.replace("[1, 2]", "[5]"))
    assert {single.label(e): e.manifest.train.seed for e in single.experiments} == {"A": 5, "B": 5}


def test_what_is_switched_off_is_among_the_values_of_an_experiment(load_text: Load) -> None:
    phase = load_text(
        """
        [sweep.experiments]
        F1 = { "losses.segmentation" = false }
        F2 = {}
        F3 = { "losses.l1" = { weight = 0.5 } }
        F4 = { "losses.l1.weight" = 0.7 }
        """,
    )
    assert phase.varied == ("losses.segmentation", "losses.l1")
    segmentation = {"type": "cross_entropy", "weight": 0.1, "output": "segmentation", "target": "segmentation"}
    assert [e.changes["losses.segmentation"] for e in phase.experiments] == [False, *[segmentation] * 3]
    assert [e.changes["losses.l1"] for e in phase.experiments][:2] == [False, False]
    assert phase.experiments[2].changes["losses.l1"]["weight"] == 0.5


def test_false_takes_out_a_head_of_several_outputs_with_all_of_them(load_text: Load) -> None:
    phase = load_text(
        """
        [sweep.experiments.A]
        "decoder.heads.rgb" = false
        "decoder.heads.segmentation" = false
        "decoder.heads.p" = { type = "palette" }
        [sweep.experiments.B]
        [sweep.experiments.C]
        decoder.heads.segmentation = false
        losses.segmentation = false
        """
    )
    assert phase.varied == ("decoder.heads.rgb", "decoder.heads.segmentation", "decoder.heads.p", "losses.segmentation")
    assert [list(e.manifest.decoder.heads) for e in phase.experiments] == [["p"], ["rgb", "segmentation"], ["rgb"]]
    assert [e.manifest.decoder.output_names for e in phase.experiments] == [
        ("rgb", "segmentation"),
        ("rgb", "segmentation"),
        ("rgb",),
    ]
    palette = {"type": "palette", "colours": "likeliest", "hidden": 0}
    assert [e.changes["decoder.heads.p"] for e in phase.experiments] == [palette, False, False]


def test_an_experiment_is_left_out_by_false(load_text: Load) -> None:
    text = '[sweep.experiments]\nA = {}\nB = { "train.epochs" = 3 }\n'
    assert load_text(text, "sweep.experiments.A=false").names == ["B"]
    assert load_text(text, "sweep=false").names == ["p1_tiny"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sweep]\n", "expected experiments or a grid, found neither @ sweep"),
        ("[sweep.experiments]\nA = {}\nB = {}\n", "the experiments A and B are the same, value by value"),
        ('[sweep.experiments]\n"a b" = {}\n', "for experiments, found 'a b' @ sweep"),
        (
            '[sweep.experiments]\nA = { "machine.workers" = 2 }\n',
            "[sweep] A: changes machine, which says where",
        ),
        ('[sweep.experiments]\nA = { "train.epoch" = 2 }\n', "unknown key 'epoch', did you mean 'epochs'?"),
        ('[sweep.experiments]\nA = { "train.epochs" = 0 }\n', "found 0 @ train.epochs (phase.toml [sweep] A)"),
        ('[sweep.grid]\n"train.epochs" = []\n', "sweep.grid.train.epochs = []: expected a list of at least one value"),
        ('[sweep.grid]\n"train.epochs" = 3\n', "sweep.grid.train.epochs = 3: expected a list"),
        ("[sweep]\nseeds = [1, 1]\nexperiments.A = {}\n", "expected seeds of at least 0, each once, found [1, 1]"),
        ("[sweep]\nexperiments.A = {}\nselector = { type = 'bes' }\n", "no selector 'bes' is installed, did you mean"),
        ("[sweep]\nexperiments.A = 3\n", "expected a table, found 3 @ sweep.experiments.A"),
        ("[sweep]\nexperiment.A = {}\n", "unknown key 'experiment', did you mean 'experiments'?"),
        ("[winners]\n'1.0' = 'encoder'\n", "expected a list, each of it text in quotes, found 'encoder' @ winners.1.0"),
    ],
)
def test_what_cannot_be_a_sweep_is_refused(load_text: Load, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(text)
    assert message in str(caught.value)


def test_a_fault_of_all_experiments_is_said_once(load_text: Load) -> None:
    with pytest.raises(UserError) as caught:
        load_text('[sweep.experiments]\nA = {}\nB = { "train.epochs" = 3 }\n', "encoder.latent_channels=0")
    assert str(caught.value).splitlines() == [
        "phase.toml: 1 fault",
        "  expected a number from 1 to 4096, found 0 @ encoder.latent_channels (--set)",
    ]


@pytest.mark.parametrize("key", ["train.epochs", "train", "losses.kld.weight"])
def test_a_setting_over_what_the_experiments_vary_is_refused(load_text: Load, key: str) -> None:
    text = '[sweep.experiments]\nA = { "train.epochs" = 3 }\nB = { "losses.kld" = false, "train.epochs" = 4 }\n'
    value = "{ epochs = 3 }" if key == "train" else "3"
    with pytest.raises(UserError, match=rf"--set {key}.*: the experiments of phase.toml differ in .*--only"):
        load_text(text, f"{key}={value}")


def test_the_fingerprint_tells_values_and_nothing_else(load_text: Load) -> None:
    def of(*settings: str) -> str:
        return load_text("", *settings).experiments[0].sha256

    same = ["phase.title=x", "machine.workers=3", "output.shared=elsewhere", "callbacks.samples={}"]
    assert {of(setting) for setting in same} == {of()}
    other = ["train.epochs=3", "data.count=8", "losses.mse.weight=2", "callbacks.ema={}", "encoder.base_channels=32"]
    assert len({of(), *(of(setting) for setting in other)}) == 6


def test_where_the_layouts_lie_is_no_part_of_the_fingerprint(load_text: Load) -> None:
    def of(path: str, *settings: str) -> str:
        return load_text("", "data.type=layouts", f"data.manifest={path}", *settings).experiments[0].sha256

    assert of("a.csv") == of("elsewhere/a.csv")
    assert of("a.csv") != of("a.csv", "data.filters.is_empty=false")


channels = st.integers(1, 64)


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    # Some disks know no capitals, and some names are those of devices.
    values=st.dictionaries(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True), channels, min_size=1).filter(
        lambda values: all(map(FILE_NAME.fullmatch, values))
    ),
    rate=st.floats(1e-9, 10),
    variational=st.booleans(),
)
def test_every_experiment_of_a_sweep_survives_a_round_trip_through_its_manifest(
    load_text: Load, registry: Registry, values: dict[str, int], rate: float, variational: bool
) -> None:
    unique = {name: value for name, value in values.items() if list(values.values()).count(value) == 1}
    lines = "".join(f'{name} = {{ "encoder.latent_channels" = {value} }}\n' for name, value in unique.items())
    text = f"[sweep.experiments]\n{lines}" if unique else ""
    toml = f"encoder.variational={str(variational).lower()}"
    phase = load_text(text, f"train.optimizer.learning_rate={rate!r}", toml)
    for experiment in phase.experiments:
        Path("again.toml").write_text(experiment.to_toml())
        again = load(Path("again.toml"), registry)
        assert again.manifest == experiment.manifest
        assert again.sha256 == experiment.sha256
