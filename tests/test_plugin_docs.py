"""docs/plugins.md: each of its examples is installed and works, and each public name has its line."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tomli
import torch
from PIL import Image

import imginav
import imginav_clusters.pbs
from imginav import Candidate, DataSpec, LayoutSource, Workplace, plugin
from imginav.cli import main
from imginav.plugin import run_view
from imginav.plugin.commands import CommandSpecs
from imginav.plugin.hookspecs import RunSpecs
from imginav.plugin.registry import PluginSpecs, Registry, installed
from imginav_clusters import shell
from imginav_tests.csv_tables import read_table
from imginav_tests.probed import subject
from imginav_tests.trained import trained_autoencoder

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()

FILES = dict(re.findall(r"`([\w./]+)`:\n\n```(?:python|toml)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
"""The files that the page shows, by their names."""

PHASE = """
[phase]
id = "0"
experiment = "examples"
group = "group"

[data]
type = "pictures"
folder = "pictures"
image_size = 32

[encoder]
type = "patches"
latent_channels = 4
base_channels = 16
downsampling_steps = 2

[decoder]
type = "patches"
heads.rgb = { type = "tanh_rgb" }

[losses]
huber = { delta = 0.2, weight = 2.0 }

[train]
epochs = 4
batch_size = 4
split = 0.75
optimizer = { type = "rmsprop", learning_rate = 1e-3, smoothing = 0.9 }
lr_schedule = { type = "linear_decay", final = 0.5 }

[callbacks]
target_loss = { value = 100.0 }
gradient_norms = {}
checkpoint = {}
metrics_csv = {}
"""


@pytest.fixture
def page(site_packages: Path, install: Callable[..., None]) -> Registry:
    """Install all examples of the page, each as a distribution of its own, and return what is installed then."""
    for path, text in FILES.items():
        if path.endswith(".py"):
            (site_packages / path).parent.mkdir(exist_ok=True)
            (site_packages / path).write_text(text)
            module = path.removesuffix(".py").removesuffix("/__init__")
            group = "imginav.commands" if "def imginav_commands" in text else "imginav"
            if "/" not in module and "hookimpl" in text:  # a plugin in one file has none, and is not installed
                install(f"page-{module}".replace("_", "-"), module, module=module, group=group)
    return installed()


@pytest.fixture
def phase(page: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A phase of the examples, in a working folder with sixteen pictures."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("pictures").mkdir()
    for number in range(16):
        pixels = np.full((32, 32, 3), 255, np.uint8)
        pixels[: rng.integers(8, 24), : rng.integers(8, 24)] = rng.integers(0, 256, 3)
        Image.fromarray(pixels).save(f"pictures/{number:02}.png")
    Path("phase.toml").write_text(PHASE)
    return Path("phase.toml")


def section(heading: str) -> str:
    """Return the part of the page under a heading, up to the next one of its level."""
    level = heading.partition(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{2,{len(level)}}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def tables(text: str) -> dict[str, set[str]]:
    """Return the names in the first column of each table, by its header."""
    found = re.findall(r"^(\|.*\|)\n\|[-|]+\|\n((?:\|.*\|\n?)+)", text, re.MULTILINE)
    return {
        header: {name for row in rows.splitlines() for name in re.findall(r"`(?:\w+\.)?(\w+)", row.split("|")[1])}
        for header, rows in found
    }


def test_every_python_block_is_a_file_and_an_entry_point_names_its_module() -> None:
    assert len(re.findall(r"^```python$", PAGE, re.MULTILINE)) == sum(path.endswith(".py") for path in FILES)
    project = tomli.loads(FILES["pyproject.toml"])["project"]
    assert f"{project['entry-points']['imginav']['huber']}/__init__.py" in FILES
    assert len([line for line in FILES["imginav_huber/huber.py"].splitlines() if line.strip()]) <= 15


def test_the_plugin_in_one_file_is_listed(
    page: Registry, site_packages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "--plugin", str(site_packages / "mine.py")]) == 0
    assert "smooth_l2" in capsys.readouterr().out


def test_there_is_an_example_of_each_kind(page: Registry) -> None:
    own = {(r.kind, r.name) for r in page if r.provider.distribution.startswith("page-")}
    assert {kind for kind, _ in own} == {r.kind for r in page}
    kinds = next(names for header, names in tables(PAGE).items() if header.startswith("| kind |"))
    assert kinds == {r.kind for r in page}
    assert all(r.description for r in page)


def test_the_examples_train_together(phase: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(phase)]) == 0
    folder = Path("outputs/examples")
    (row,) = read_table(folder / "examples_metrics.csv")  # the callback has ended it after the first of four epochs
    assert float(row["train_loss"]) == pytest.approx(2 * float(row["train_loss_huber"]))
    printed = capsys.readouterr().out
    assert "val_loss has come down to 100" in printed
    assert f"summary: {folder / 'summary.txt'}" in printed
    (norms,) = (folder / "gradient_norms.csv").read_text().splitlines()[1:]
    assert norms.startswith("1,")
    assert float(norms.partition(",")[2]) > 0
    measured = json.loads((folder / "evaluation.json").read_text())
    assert 0 <= measured["metrics"]["val_brightness_error"] <= 2
    assert "mean of a reconstruction" in measured["reconstruction"]["definitions"]["val_brightness_error"]
    summary = f"examples: val_mse {measured['metrics']['val_mse']:.4f} after 1 epochs\n"
    assert (folder / "summary.txt").read_text() == summary
    assert Path("outputs/group/examples_summary.txt").read_text() == summary
    assert Path("outputs/group/states.txt").read_text() == "examples: finished\n"


def test_the_state_of_the_callback_survives_a_checkpoint(page: Registry, tmp_path: Path) -> None:
    states = []
    for _ in range(2):
        callback = page.find("callback", "gradient_norms")().build()
        if states:
            callback.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        else:
            callback.rows, callback.largest = [{"epoch": 1, "largest_norm": 2.0}], torch.tensor(3.0)
            torch.save(callback.state_dict(), tmp_path / "state.pt")
        states.append(callback.state_dict())
    assert states[0] == states[1]


def test_the_data_set_says_what_is_wrong(phase: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pictures/05.png").write_bytes(b"no picture")
    Path("empty").mkdir()
    assert main(["run", str(phase), "--set", "data.folder=empty"]) == 2
    assert "data.folder = 'empty' has no PNG file; name another folder" in capsys.readouterr().err
    assert main(["run", str(phase)]) == 2
    assert "05.png'; repair the file, or remove it from data.folder" in capsys.readouterr().err


def test_the_command_counts(phase: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", str(phase)]) == 0
    assert main(["count", str(phase), "--set", "data.count=8"]) == 0
    assert capsys.readouterr().out == "examples: 16 layouts\nexamples: 8 layouts\n"


def test_the_encoder_can_be_variational(page: Registry) -> None:
    for variational in (False, True):
        encoder = page.find("encoder", "patches")(latent_channels=3, downsampling_steps=3, variational=variational)
        assert encoder.build()(torch.zeros(2, 3, 32, 16)).shape == (2, 3 * (1 + variational), 4, 2)


def test_the_optimizer_and_its_schedule_do_what_they_say(page: Registry) -> None:
    network = torch.nn.Linear(2, 1)
    optimizer = page.find("optimizer", "rmsprop")(learning_rate=0.1, smoothing=0.9).build(network)
    schedule = page.find("lr_schedule", "linear_decay")(final=0.5).build(optimizer, 10)
    assert optimizer.defaults["alpha"] == 0.9
    before = network.weight.detach().clone()
    rates = []
    for _ in range(10):
        network(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert not torch.equal(network.weight, before)
    assert rates == pytest.approx([0.1 * (1 - 0.05 * step) for step in range(1, 11)])


def test_the_selector_takes_the_fewest_parameters_of_what_is_level(page: Registry) -> None:
    def candidate(name: str, parameters: int, *values: float) -> Candidate:
        return Candidate(name=name, values=values, latent_dimensions=64, parameters=parameters)

    selector = page.find("selector", "fewest_parameters")()
    candidates = [candidate("A", 30, 0.10, 0.14), candidate("B", 20, 0.13, 0.15), candidate("C", 10, 0.5, 0.5)]
    for ordered in (candidates, candidates[::-1]):
        choice = selector.select(ordered)
        assert choice.winner == "B"
        assert choice.because == "of 2 level with A it has the fewest parameters, 20"


def test_what_the_exporter_wrote_computes_the_same(page: Registry, spec: DataSpec, tmp_path: Path) -> None:
    for variational in (False, True):
        heads = {"rgb": {"type": "tanh_rgb"}}
        trained = trained_autoencoder(page, spec, "patches", heads, variational=variational)
        exporter = page.find("exporter", "graph")()
        exporter.check()
        folder = tmp_path / str(variational)
        folder.mkdir()
        exporter.write(trained, folder)
        encode, decode = exporter.open(folder, trained.latent)
        images = torch.rand(3, 3, 16, 24) * 2 - 1
        with torch.no_grad():
            torch.testing.assert_close(encode.eval()(images), trained.encoder(images))
            torch.testing.assert_close(decode.eval()(encode(images)[0]), trained.decoder(encode(images)[0]))


def test_the_probe_measures_smooth_latents_as_predictable_and_scrambled_ones_as_not(
    page: Registry, tmp_path: Path
) -> None:
    probe = page.find("probe", "neighbour")()
    smooth = probe.measure(subject(), Workplace(folder=tmp_path))["neighbour_error"]
    noisy = probe.measure(subject(lambda latents: torch.randn_like(latents)), Workplace(folder=tmp_path))[
        "neighbour_error"
    ]
    assert len(smooth.values) == 2
    assert max(smooth.values) < 1.0
    assert min(noisy.values) == pytest.approx(1.5, abs=0.1)  # the variance of a value, and of the mean of two others
    assert smooth.definition == probe.definitions["neighbour_error"]


def test_the_cluster_of_a_site_has_its_habits(phase: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--set", "cluster.type=our_lsf", "--set", "cluster.memory=32GB")
    assert main(["submit", str(phase), "--dry-run", *settings]) == 0
    told = capsys.readouterr()
    assert '#BSUB -R "rusage[mem=8192]"\n' in told.out
    assert '#BSUB -gpu "num=1:mode=exclusive_process"\n' in told.out
    assert "warning: our queues end a job after 15 minutes; set cluster.wall_time, such as 24h\n" in told.err
    assert main(["submit", str(phase), "--dry-run", *settings, "--set", "cluster.wall_time=24:00"]) == 0
    told = capsys.readouterr()
    assert "#BSUB -W 24:00\n" in told.out
    assert "15 minutes" not in told.err


def test_what_the_page_shows_of_a_cluster_is_its_source() -> None:
    (excerpt,) = re.findall(r"^```text\n(    def submission.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    source = inspect.getsource(imginav_clusters.pbs)
    parts = excerpt.split("\n\n")
    assert len(parts) == 4
    assert [part for part in parts if f"{part.rstrip()}\n" not in source] == []


@pytest.mark.parametrize("module", [imginav, plugin], ids=lambda module: module.__name__)
def test_every_public_name_has_its_line_and_is_there(module: object) -> None:
    name = getattr(module, "__name__", "")
    public = set(getattr(module, "__all__", ()))
    (documented,) = tables(section(f"### {name}")).values()
    assert documented == public
    assert all(getattr(module, each) is not None for each in public)


def test_every_attribute_that_a_hook_may_touch_is_documented() -> None:
    protocols = {
        name: {each for each in {*vars(protocol), *protocol.__annotations__} if not each.startswith("_")}
        for name, protocol in vars(run_view).items()
        if inspect.isclass(protocol) and protocol.__module__ == run_view.__name__
    }
    assert len(protocols) >= 14
    documented = tables(section("## What callbacks and listeners may touch"))
    for header, names in documented.items():
        shown = [name for name in protocols if f"`{name}`" in header]
        assert names == set().union(*(protocols.pop(name) for name in shown)), header
    assert not protocols


def test_every_hook_and_its_arguments_are_on_the_page() -> None:
    for specs in (PluginSpecs, CommandSpecs):
        for name, spec in vars(specs).items():
            if not name.startswith("_"):
                assert f"`{name}({', '.join(p for p in inspect.signature(spec).parameters if p != 'self')})`" in PAGE
    for name, spec in vars(RunSpecs).items():
        if not name.startswith("_"):
            arguments = ", ".join(f"`{p}`" for p in inspect.signature(spec).parameters if p != "self")
            assert f"| `{name}` | {arguments} |" in section("### Callback")


def test_what_a_cluster_and_a_data_set_are_built_on_is_on_the_page() -> None:
    lines = next(names for header, names in tables(section("### Cluster")).items() if header.startswith("| name "))
    own = {name for name, value in vars(shell).items() if getattr(value, "__module__", "") == shell.__name__}
    constants = {name for name in vars(shell) if name.isupper()}
    assert lines == {name for name in own if not name.startswith("_")} | constants
    methods = next(names for header, names in tables(section("### Dataset")).items() if "method" in header)
    assert methods == {name for name in vars(LayoutSource) if not name.startswith("_")}
    methods = next(names for header, names in tables(section("### Cluster")).items() if "method" in header)
    assert methods == {*imginav.Cluster.__abstractmethods__, "has_arrays", "time_notations", "warnings"}


def test_names_of_earlier_versions_are_on_the_page() -> None:
    for old, new in imginav._RENAMED.items():
        assert f"`imginav.{old}`" in PAGE
        assert f"`{new}`" in section("## When something is wrong")
