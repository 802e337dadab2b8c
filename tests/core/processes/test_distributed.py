from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore

from imginav.runs.experiment import build_trainer
from imginav.runs.records import load_record
from imginav_tests.csv_tables import TIMES, read_table
from imginav_tests.ranks import Ended, in_processes, resolve, train
from imginav_tests.waiting import status_of
from imginav_tests.weights import same_weights


def metrics(folder: Path) -> list[dict[str, float]]:
    rows = read_table(folder / "shared/shared_metrics.csv", without=TIMES)
    return [{name: float(cell) for name, cell in row.items()} for row in rows]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "shared/shared_checkpoint_latest.pt"
    model: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return model


def trained(
    folder: Path,
    size: int,
    *settings: str,
    evaluated: bool = False,
    own: Mapping[int, tuple[str, ...]] | None = None,
) -> list[Ended]:
    folder.mkdir(exist_ok=True)
    return in_processes(size, train, folder, settings, evaluated, own)


def same(one: Path, other: Path) -> None:
    """Whether two runs have the same metrics and weights, but for the order in which numbers are added."""
    rows = metrics(one)
    assert len(rows) == 2
    for row, again in zip(rows, metrics(other), strict=True):
        assert again == pytest.approx(row, rel=1e-4, abs=1e-7)
    expected = weights(one)
    for name, tensor in weights(other).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (2, ()),
        (3, ("encoder.variational=true", "losses.kld.weight=0.01", "machine.accumulate=2")),
        (2, ("data.crop=16", "data.whole_epochs=1", "data.augment=true")),
    ],
    ids=["2", "3, variational, in parts", "2, crops"],
)
def test_several_processes_train_what_one_does_with_the_same_global_batch(
    tmp_path: Path, size: int, settings: tuple[str, ...]
) -> None:
    evaluated = not settings
    (alone,) = trained(tmp_path / "one", 1, *settings, evaluated=evaluated)
    ended = trained(tmp_path / "several", size, *settings, evaluated=evaluated)
    assert [end.status for end in (alone, *ended)] == [0] * (size + 1), ended
    same(tmp_path / "one", tmp_path / "several")
    # The first one has evaluated all layouts by itself.
    assert ended[0].value["metrics"] == pytest.approx(alone.value["metrics"], rel=1e-4, abs=1e-7, nan_ok=True)
    # Each layout is validated once, by one of them, in batches for a share of the memory.
    assert sum(sum(end.value["sizes"]) for end in ended) == sum(alone.value["sizes"])
    assert all(max(end.value["sizes"]) <= max(1, max(alone.value["sizes"]) // size) for end in ended)
    # All of them know the metrics of all layouts, and hold the same weights, bit for bit.
    for end in ended[1:]:
        assert end.value["validated"] == ended[0].value["validated"]
        assert end.value["history"] == ended[0].value["history"]  # also by the first one's clock
        assert end.value["weights"] == ended[0].value["weights"]
    line = f"{size} processes: each global batch of 5 layouts is shared out, {5 / size:g} to each"
    assert [end.value["lines"].count(line) for end in ended] == [1] + [0] * (size - 1)


def test_a_part_that_comes_in_later_is_refused(tmp_path: Path) -> None:
    ended = trained(tmp_path, 2, "decoder.heads.rgb.type='coming'")
    assert [end.status for end in ended] == [2, 2]
    assert "networks whose parts come and go from step to step are trained by one process" in _told(ended)


def test_what_the_first_process_stops_is_stopped_for_all(tmp_path: Path) -> None:
    ended = trained(tmp_path, 2, "callbacks.acting={rank=0,step=2,act='stop'}")
    assert [end.status for end in ended] == [0, 0], ended
    assert len(metrics(tmp_path)) == 1


def test_running_means_are_the_first_processs_in_all(tmp_path: Path) -> None:
    ended = trained(tmp_path, 2, "encoder.type='normalising'")
    buffers = [end.value["buffers"] for end in ended]
    assert "encoder.1.running_mean" in buffers[0]
    assert buffers[0] == buffers[1]


def test_one_process_writes(tmp_path: Path) -> None:
    ended = trained(tmp_path, 2)
    assert [end.status for end in ended] == [0, 0]
    first, other = (end.value["callbacks"] for end in ended)
    assert {"checkpoint", "metrics_csv", "ema", "early_stopping", "the run's record"} <= set(first)
    assert other == ["ema", "early_stopping"]
    assert len(metrics(tmp_path)) == 2
    assert not list(tmp_path.rglob("*.1"))
    assert not list(tmp_path.rglob(".*"))


def test_a_finished_run_is_left_by_all(tmp_path: Path) -> None:
    trained(tmp_path, 1, evaluated=True)
    ended = trained(tmp_path, 2)
    assert [end.status for end in ended] == [0, 0]
    assert any("is finished already" in line for line in ended[0].value["lines"])


@pytest.mark.parametrize("variational", ["true", "false"])
def test_a_run_goes_on_in_another_number_of_processes(tmp_path: Path, variational: str) -> None:
    settings = (
        f"encoder.variational={variational}",
        "losses.kld=" + ("{weight=0.01}" if variational == "true" else "false"),
    )
    trained(tmp_path / "unbroken", 1, *settings)
    broken = tmp_path / "broken"
    # A signal that one process alone has got lets all of them leave after the same step.
    for size, rank, step in ((2, 1, 2), (1, 0, 4), (2, 0, 8)):
        acting = f"callbacks.acting={{rank={rank},step={step},act='leave'}}"
        ended = trained(broken, size, *settings, acting)
        assert [end.status for end in ended] == [85] * size, ended
        record = load_record(broken / "shared/run.json")
        assert record is not None
        assert (record.state, record.error) == ("interrupted", "SIGTERM")
    ended = trained(broken, 2, *settings)
    assert [end.status for end in ended] == [0, 0], ended
    assert any(
        line.startswith("shared was interrupted: it goes on in epoch 2 of 2, after 3")
        for line in ended[0].value["lines"]
    )
    same(tmp_path / "unbroken", broken)


@pytest.mark.parametrize("act", ["record slowly", "save slowly"])
def test_processes_leave_together_since_torchrun_ends_those_that_are_left(tmp_path: Path, act: str) -> None:
    ended = trained(tmp_path, 2, f"callbacks.acting={{rank=0,step=2,act='{act}'}}")
    assert [end.status for end in ended] == [85, 85], ended
    assert ended[1].at > ended[0].at - 1


def test_a_callback_that_comes_in_where_a_run_goes_on_begins_with_the_same_weights_in_all(tmp_path: Path) -> None:
    for name, size in (("one", 1), ("several", 2)):
        leaving = ("callbacks.ema=false", "callbacks.acting={rank=0,step=3,act='leave'}")
        assert [end.status for end in trained(tmp_path / name, size, *leaving)] == [85] * size
        assert [end.status for end in trained(tmp_path / name, size)] == [0] * size
    same(tmp_path / "one", tmp_path / "several")


def test_what_plugins_draw_goes_on_where_it_was(tmp_path: Path) -> None:
    drawing = "callbacks.drawing={type='acting',rank=0,step=0,act='draw'}"
    trained(tmp_path / "unbroken", 2, drawing)
    ended = trained(tmp_path / "broken", 2, drawing, "callbacks.acting={rank=1,step=3,act='leave'}")
    assert [end.status for end in ended] == [85, 85], ended
    trained(tmp_path / "broken", 2, drawing)
    assert same_weights(weights(tmp_path / "broken"), weights(tmp_path / "unbroken"))


def _told(ended: list[Ended]) -> str:
    """Return what the one process has said that says anything."""
    (said,) = [end.said for end in ended if end.said]
    return said


@pytest.mark.parametrize("rank", [0, 2])
def test_the_failure_of_one_process_ends_all_with_its_message(tmp_path: Path, rank: int) -> None:
    ended = trained(tmp_path, 3, f"callbacks.acting={{rank={rank},step=2,act='fail'}}")
    assert [end.status for end in ended] == [2, 2, 2]
    whose = "" if rank == 0 else f"process {rank} on "
    assert _told(ended).startswith(whose)
    assert _told(ended).endswith("it fails; mend it")
    record = load_record(tmp_path / "shared/run.json")
    assert record is not None
    assert (record.state, record.error) == ("failed", _told(ended))


def test_a_process_that_is_killed_ends_all(tmp_path: Path) -> None:
    ended = trained(tmp_path, 2, "callbacks.acting={rank=1,step=2,act='die'}")
    assert [end.status for end in ended] == [2, -9]
    assert "ended from outside, as the system does when memory runs out" in _told(ended)
    record = load_record(tmp_path / "shared/run.json")
    assert record is not None
    assert record.state == "failed"
    ended = trained(tmp_path, 2)
    assert [end.status for end in ended] == [0, 0], ended


def test_a_fault_of_the_program_in_one_process_ends_all(tmp_path: Path) -> None:
    ended = trained(tmp_path, 2, "callbacks.acting={rank=1,step=2,act='break'}")
    assert [end.status for end in ended] == [1, 1], ended


JOINING = """
from pathlib import Path

import torch

from imginav.processes.distributed import joined
from imginav.processes.stop_request import StopRequest


def gloo_threads():
    return sum("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))


with joined(StopRequest()) as world:
    network = world.wrap(torch.nn.Linear(2, 2), torch.device("cpu"), list)
    network.cycle = [network]
    network(torch.zeros(1, 2)).sum().backward()
    world.barrier()
    del network
    print(gloo_threads() > 0)
print(gloo_threads())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the names of threads are read from /proc")
def test_no_thread_of_the_group_outlives_it() -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    told |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    processes = [  # not those that others are forked from: what torch imports late is part of it
        subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", JOINING],
            env=os.environ | told | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        status_of(process)
    assert [process.communicate()[0].split() for process in processes] == [["True", "0"]] * 2


def test_what_all_refuse_is_told_once(tmp_path: Path) -> None:
    ended = trained(tmp_path, 2, "train.batch_size=1")
    assert [end.status for end in ended] == [2, 2]
    assert _told(ended).endswith(
        "train.batch_size = 1 is the global batch, of which 2 processes would not each have a layout; start fewer of "
        "them"
    )


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ("train.epochs=3", "train.epochs = 3 (there 2)"),
        ("train.time_limit='9h'", "train.time_limit = '9h' (there left out)"),
        ("callbacks.ema=false", "callbacks.ema.decay = left out (there "),
        ("data.count=27", "data.count = 27 (there 28)"),
        ("machine.precision='fp16'", "machine.precision = 'fp16' (there 'fp32')"),
        ("evaluation.pairs=1", "evaluation.pairs = 1 (there 3)"),
    ],
)
def test_ranks_that_have_resolved_different_manifests_end_before_the_first_step(
    tmp_path: Path, other: str, difference: str
) -> None:
    ended = trained(tmp_path, 3, own={2: (other,)})
    assert [end.status for end in ended] == [2, 2, 2], ended
    host = socket.gethostname()
    assert _told(ended).startswith(f"process 2 on {host} resolved another manifest than process 0 on {host}: ")
    assert difference in _told(ended)
    assert _told(ended).endswith("make them the same, and give the same command again")
    assert not (tmp_path / "shared").exists()


def test_callbacks_in_another_order_are_another_manifest(tmp_path: Path) -> None:
    one, other = (f"callbacks.{name}={{type='acting',rank=9,step=0,act=''}}" for name in ("one", "other"))
    ended = trained(tmp_path, 2, own={0: (one, other), 1: (other, one)})
    assert [end.status for end in ended] == [2, 2], ended
    assert "the order of callbacks = checkpoint, ema, early_stopping, metrics_csv, other, one (there" in _told(ended)


def test_what_each_machine_may_have_of_its_own_is_not_compared(tmp_path: Path) -> None:
    ended = trained(tmp_path, 2, own={1: ("machine.threads=1", "machine.accumulate=2", "output.shared='elsewhere'")})
    assert [end.status for end in ended] == [0, 0], ended
    assert ended[0].value["weights"] == ended[1].value["weights"]


def test_ranks_that_have_opened_different_layouts_end_before_the_first_step(
    tmp_path: Path, write_layouts: Callable[..., Path]
) -> None:
    listed = write_layouts([{"layout_path": f"{number}.png", "type": "room"} for number in range(12)])
    shorter = listed.with_name("shorter.csv")
    shorter.write_text("".join(listed.read_text().splitlines(keepends=True)[:-1]))
    own = {
        rank: (f"data={{type='layouts', image_size=32, manifest={str(path)!r}}}",)
        for rank, path in enumerate((listed, shorter))
    }
    ended = trained(tmp_path, 2, own=own)
    assert [end.status for end in ended] == [2, 2], ended
    host = socket.gethostname()
    assert _told(ended).startswith(f"process 1 on {host} opened other layouts than process 0 on {host}: layouts = 11 ")
    assert "(there 12 with SHA-256 " in _told(ended)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_cannot_resolve_its_manifest_ends_all_with_its_message(
    tmp_path: Path, rank: int, finished: bool
) -> None:
    if finished:
        (alone,) = trained(tmp_path, 1, evaluated=True)
        assert alone.status == 0, alone
    ended = trained(tmp_path, 2, own={rank: ("train.epochs=0",)})
    assert [end.status for end in ended] == [2, 2], ended
    assert _told(ended).startswith("process 1 on " if rank else "")
    assert "expected a number from 1 to 1000000, found 0 @ train.epochs" in _told(ended)


def test_a_rank_with_another_manifest_is_refused_where_the_run_is_finished_as_well(tmp_path: Path) -> None:
    trained(tmp_path, 1, evaluated=True)
    ended = trained(tmp_path, 2, own={1: ("train.epochs=3",)})
    assert [end.status for end in ended] == [2, 2], ended
    assert "train.epochs = 3 (there 2)" in _told(ended)


SOME = [*range(0, 28, 3), *range(1, 12, 3)]
"""Torn layouts, so many that some batches have none for a process, and some have none at all."""


def test_layouts_that_cannot_be_read_are_left_out_by_all_as_by_one(tmp_path: Path) -> None:
    settings = (f"data={{type='torn',torn={SOME},image_size=32,count=28,on_bad='skip'}}", "train.batch_size=2")
    (alone,) = trained(tmp_path / "one", 1, *settings)
    ended = trained(tmp_path / "several", 2, *settings)
    assert [end.status for end in (alone, *ended)] == [0, 0, 0], ended
    same(tmp_path / "one", tmp_path / "several")
    assert len(SOME) == len(alone.value["notes"])
    assert sorted(ended[0].value["notes"]) == sorted(alone.value["notes"])


def test_a_process_that_can_read_nothing_leaves_it_to_the_others(tmp_path: Path) -> None:
    size = "train.batch_size=2"
    data = build_trainer(resolve(tmp_path, size), lambda _: None).data
    second = [data.names_of_batch(1, number)[-1] for number in range(data.steps_per_epoch)]
    torn = sorted({int(name.split()[-1]) for name in second} | set(data.split.validation[1::2]))
    settings = (f"data={{type='torn',torn={torn},image_size=32,count=28,on_bad='skip'}}", size, "train.epochs=1")
    (alone,) = trained(tmp_path / "one", 1, *settings)
    ended = trained(tmp_path / "several", 2, *settings)
    assert [end.status for end in (alone, *ended)] == [0, 0, 0], ended
    assert ended[1].value["sizes"] == []
    assert ended[1].value["validated"] == pytest.approx(alone.value["validated"], rel=1e-4)


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_layouts_of_which_none_can_be_read_end_all(tmp_path: Path, on_bad: str) -> None:
    torn = list(range(28))
    ended = trained(tmp_path, 2, f"data={{type='torn',torn={torn},image_size=32,count=28,on_bad={on_bad!r}}}")
    assert [end.status for end in ended] == [2, 2], ended
    expected = "is torn; mend it" if on_bad == "error" else "epoch 1 had no batch that led to a step"
    assert expected in _told(ended)
