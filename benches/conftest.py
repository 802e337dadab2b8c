"""Benches: their options, what is measured, and the tables at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

from imginav import UserError
from imginav.manifest.loading import load
from imginav.manifest.tables import Machine
from imginav.plugin.checkpoint import Checkpoint
from imginav.plugin.registry import installed
from imginav.runs.experiment import build_trainer
from imginav.runs.run_folder import EVALUATION
from imginav.training.device import open_device
from imginav_benches import Pace, Subject, arms, cases_of, chosen, measure_in_turns, same_network_once
from imginav_benches.cases import base_case
from imginav_benches.measuring import QUICK, THOROUGH, Scaled, as_it_is, tiny
from imginav_benches.planning import Diffusion
from imginav_benches.subjects import FINAL
from imginav_benches.tables import write_tables
from imginav_evaluation.evaluate import Weights, evaluate

SAVED_AS = "benches"

SUBJECTS = pytest.StashKey[list[Subject]]()
"""What `--manifest` or `--checkpoint` names."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("imginav", "what imginav's benches measure")
    group.addoption("--manifest", type=Path, metavar="PHASE", help="a phase, all of whose experiments are measured")
    group.addoption("--checkpoint", type=Path, metavar="FILE", help="a checkpoint that is measured, with its weights")
    group.addoption("--device", default="auto", help="cpu, cuda, cuda:1; auto (default): a GPU where there is one")
    group.addoption("--quick", action="store_true", help="less of everything: under two minutes on two cores")
    group.addoption(
        "--smoke", action="store_true", help="each bench once, on its first values, tiny and untimed: whether it runs"
    )
    group.addoption(
        "--grid", action="store_true", help="every batch, size, precision and memory format, eager and compiled: hours"
    )
    group.addoption(
        "--sampling-steps", type=_numbers, default=(20, 50), metavar="N,N", help="of the diffusion model (20,50)"
    )
    group.addoption(
        "--unet-ms",
        type=float,
        default=40.0,
        metavar="MS",
        help="of one step over 32×32 cells (40); other latents in proportion to their cells",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    option = config.option
    if option.manifest and option.checkpoint:
        raise pytest.UsageError("--manifest and --checkpoint: name one of them")
    if option.smoke and option.grid:
        raise pytest.UsageError("--smoke and --grid: name one of them")
    if option.unet_ms <= 0:
        raise pytest.UsageError(f"--unet-ms {option.unet_ms:g}: expected milliseconds above 0")
    try:
        open_device(Machine(device=option.device))
        config.stash[SUBJECTS] = chosen(option.manifest, option.checkpoint)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    if option.smoke:
        option.benchmark_disable = True
        # One thread, here and in the processes that benches start: what is this small loses more than it gains by two.
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
    # Our tables say what is compared with what; pytest-benchmark's own is for comparing with a saved run.
    option.benchmark_quiet = option.benchmark_quiet or not option.benchmark_compare
    option.benchmark_columns = option.benchmark_columns or ["median", "iqr", "rounds"]


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["torch"] = torch.__version__
    machine_info["threads"] = torch.get_num_threads()
    machine_info["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose what is encoded and decoded: the subject under all conditions, the arms of 1.1 and 1.2 under one.

    With `--quick` and `--smoke` the subject alone.
    """
    if not {"subject", "case"} <= set(metafunc.fixturenames):
        return
    option = metafunc.config.option
    own = same_network_once(metafunc.config.stash[SUBJECTS])
    # Those of a sweep are compared with each other under one condition.
    cases = cases_of(option.device, quick=option.quick, grid=option.grid)[: None if len(own) == 1 else 1]
    cases = [evolve(case, size=_scaled(metafunc.config)(case.size)) for case in cases]
    # An arm that is measured as the subject already lends it its name.
    others = own if option.quick or option.smoke else same_network_once([*own, *arms()])
    pairs = [(subject, case) for subject in others[: len(own)] for case in cases]
    pairs += [(arm, base_case(option.device)) for arm in others[len(own) :]]
    metafunc.parametrize(
        ("subject", "case"), pairs, ids=[f"{subject.name.replace(', ', '+')}-{case.label}" for subject, case in pairs]
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--smoke`, take the first values of each bench alone: how it grows is not looked at."""
    if not config.option.smoke:
        return
    firsts: dict[tuple[object, ...], pytest.Item] = {}
    for item in items:
        values = item.callspec.params if hasattr(item, "callspec") else {}
        firsts.setdefault((item.path, item.originalname, values.get("operation")), item)
    taken = set(firsts.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in taken])
    items[:] = firsts.values()


@pytest.fixture
def pace(pytestconfig: pytest.Config) -> Pace:
    return QUICK if pytestconfig.option.quick else THOROUGH


@pytest.fixture(scope="session")
def scaled(pytestconfig: pytest.Config) -> Scaled:
    """Takes a size or a number of layouts, and returns the one that is measured."""
    return _scaled(pytestconfig)


@pytest.fixture(scope="session")
def subject_alone(pytestconfig: pytest.Config) -> Subject:
    """The first autoencoder that is measured."""
    return pytestconfig.stash[SUBJECTS][0]


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory, scaled: Scaled) -> Path:
    """The network of Phase 1.5 as it is initialised, as a checkpoint with its evaluation beside it."""
    settings = ["data.count=8", f"data.image_size={scaled(512)}", "data.crop=64", "machine.cache=false"]
    settings += ["evaluation.sampled_layouts=1", "evaluation.pairs=1"]
    resolved = load(FINAL, installed(), settings=settings, scale="full", use_site=False)
    trainer = build_trainer(resolved, log=lambda _: None)
    path = tmp_path_factory.mktemp("run") / "checkpoint_best.pt"
    Checkpoint(
        model=trainer.model.state_dict(),
        epoch=1,
        metrics={},
        manifest=resolved.to_toml(),
        origins=resolved.origins,
        spec=trainer.data.source.spec,
    ).save(path)
    evaluate(Weights.of(trainer), resolved, path.parent, timed=False).save(path.parent / EVALUATION)
    return path


@pytest.fixture
def interleaved(benchmark: Any, pace: Pace) -> Callable[..., None]:
    """Measure `ours` and a peer in turns, as many as the pace says."""
    return partial(measure_in_turns, benchmark, rounds=pace.turns)


@pytest.fixture
def interleaved_briefly(benchmark: Any, pace: Pace) -> Callable[..., None]:
    """Measure what takes seconds and a peer in turns, as few as the pace allows."""
    return partial(measure_in_turns, benchmark, rounds=pace.few_turns)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Save what was measured, for later runs to be compared with, unless it is saved under another name."""
    benches = session.config._benchmarksession
    if benches.benchmarks and not (benches.save or benches.json):
        benches.autosave = SAVED_AS
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    benches = [bench for bench in getattr(session, "benchmarks", ()) if bench]
    diffusion = Diffusion(config.option.sampling_steps, config.option.unet_ms)
    write_tables(benches, diffusion, terminalreporter.write_line)
    if benches and session.autosave:
        terminalreporter.write_line(f"saved in {session.storage.path}; --benchmark-compare compares a run with it")


def _scaled(config: pytest.Config) -> Scaled:
    return tiny if config.option.smoke else as_it_is


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if min(numbers) < 1:
        raise ValueError(text)
    return numbers
