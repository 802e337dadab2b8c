"""Latents of a set of layouts: written once, whole, and read by index."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.utils.data import DataLoader

import imginav
from imginav import LatentDataset, UserError, files
from imginav.data.batches import rgb_of, turn
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.registry import Registry
from imginav.processes.stop_request import Interrupted, StopRequest
from imginav.runs.lock import RunLock
from imginav_handoff import latent_cache
from imginav_handoff.export_folder import write_digests
from imginav_handoff.images import as_images
from imginav_handoff.latent_cache import EmbedRequest, embed
from imginav_handoff.latent_set import FLIPS, load_latent_set_record, read_shard, verify_latent_set
from imginav_tests.csv_tables import read_table
from imginav_tests.waiting import status_of, wait_until

MakeCheckpoint = Callable[..., Path]
Embed = Callable[..., Path]
Resolve = Callable[..., ResolvedManifest]

FP32 = "machine.precision=fp32"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def embedded(tmp_path: Path, registry: Registry, said: list[str]) -> Embed:
    """Embed the layouts of a checkpoint, five in each shard."""

    def run(checkpoint: Path, to: str = "latents", **options: Any) -> Path:
        request = EmbedRequest(checkpoint=checkpoint, to=tmp_path / to, **{"shard": 5, "precision": "fp32", **options})
        embed(request, registry, log=said.append)
        return tmp_path / to

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("variational", ["false", "true"])
def test_scaled_latents_of_the_training_split_have_unit_standard_deviation(
    make_checkpoint: MakeCheckpoint, embedded: Embed, variational: str
) -> None:
    folder = embedded(make_checkpoint(f"encoder.variational={variational}", FP32))
    latents = LatentDataset(folder, split="train")
    torch.manual_seed(0)
    values = torch.stack([latents[index]["latents"] for _ in range(20) for index in range(len(latents))])
    assert float(values.mean()) == pytest.approx(0, abs=0.02)
    assert float(values.std()) == pytest.approx(1, abs=0.01)
    record = load_latent_set_record(folder)
    assert (record.measured_on, record.mean) == ("train", pytest.approx(0, abs=1e-3))
    assert record.std == pytest.approx(1, abs=1e-3)


def test_every_latent_is_that_of_its_layout(make_checkpoint: MakeCheckpoint, embedded: Embed, resolve: Resolve) -> None:
    checkpoint = make_checkpoint(FP32)
    folder = embedded(checkpoint)
    source = resolve().manifest.data.open()
    pretrained = imginav.load(checkpoint)
    latents = LatentDataset(folder)
    assert [row.layout for row in latents.rows] == list(range(len(source)))
    for index in range(len(source)):
        pixels = rgb_of(source.read(index), source.spec.palette)
        item = latents[index]
        expected = pretrained.encode(as_images(torch.from_numpy(pixels)[None]))[0]
        torch.testing.assert_close(item["latents"], expected, atol=1e-4, rtol=1e-4)
        assert latents.rows[index].sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()
        assert (item["layout"], item["flip"], item["label"]) == (index, 0, index % 2)
        assert latents.rows[index].scene == f"scene {index // 2}"
    trained = {row.layout for row in LatentDataset(folder, split="train").rows}
    judged = {row.layout for row in LatentDataset(folder, split="validation").rows}
    assert (len(trained), len(judged)) == (12, 4)
    assert trained | judged == set(range(16))


def test_flips_are_encoded_as_flipped_layouts(
    make_checkpoint: MakeCheckpoint, embedded: Embed, resolve: Resolve
) -> None:
    checkpoint = make_checkpoint(FP32)
    latents = LatentDataset(embedded(checkpoint, flips="both"))
    source = resolve().manifest.data.open()
    pretrained = imginav.load(checkpoint)
    assert [(row.layout, row.flip) for row in latents.rows] == [(n, flip) for n in range(16) for flip in (0, 2, 1, 3)]
    for index in range(4, 8):
        pixels = rgb_of(turn(source.read(1), latents.rows[index].flip), source.spec.palette).copy()
        expected = pretrained.encode(as_images(torch.from_numpy(pixels)[None]))[0]
        torch.testing.assert_close(latents[index]["latents"], expected, atol=1e-4, rtol=1e-4)
    mirrored = rgb_of(source.read(1), source.spec.palette)[:, ::-1]
    assert latents.rows[5].sha256 == hashlib.sha256(np.ascontiguousarray(mirrored).tobytes()).hexdigest()
    assert {row.flip for row in LatentDataset(latents._folder, flips=False).rows} == {0}
    assert FLIPS["horizontal"] == (0, 2)


def test_numpy_reads_it_alone(make_checkpoint: MakeCheckpoint, embedded: Embed) -> None:
    folder = embedded(make_checkpoint("encoder.variational=true", FP32))
    space = json.loads((folder / "latent.json").read_text())
    shard = load_file(folder / "latents_00000.safetensors")
    scaled = (shard["mean"] - space["shift_factor"]) * space["scaling_factor"]
    latents = LatentDataset(folder, draw=False)
    for index in range(5):
        np.testing.assert_allclose(scaled[index], latents[index]["latents"].numpy(), rtol=1e-5, atol=1e-5)
    assert shard["log_variance"].shape == shard["mean"].shape == (5, 2, 8, 8)
    assert shard["layout"].tolist() == [0, 1, 2, 3, 4]
    rows = read_table(folder / "index.csv")
    assert [(row["latent"], row["shard"], row["position"]) for row in rows[4:6]] == [
        ("4", "latents_00000.safetensors", "4"),
        ("5", "latents_00001.safetensors", "0"),
    ]


def test_a_variational_latent_is_drawn_anew_each_time(make_checkpoint: MakeCheckpoint, embedded: Embed) -> None:
    folder = embedded(make_checkpoint("encoder.variational=true", FP32))
    latents = LatentDataset(folder)
    mean = LatentDataset(folder, draw=False)[3]["latents"]
    torch.manual_seed(1)
    drawn = torch.stack([latents[3]["latents"] for _ in range(500)])
    log_variance = torch.from_numpy(load_file(folder / "latents_00000.safetensors")["log_variance"][3])
    expected = torch.exp(0.5 * log_variance) * latents.latent.scaling_factor
    off = (drawn - mean) / expected
    assert float(off.mean()) == pytest.approx(0, abs=0.02)
    assert float(off.std()) == pytest.approx(1, abs=0.02)


def test_half_precision_halves_the_files_and_says_where_it_is_too_small(
    make_checkpoint: MakeCheckpoint, embedded: Embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(FP32)
    full, half = embedded(checkpoint), embedded(checkpoint, "half", precision="fp16")
    first, second = (load_file(folder / "latents_00000.safetensors")["mean"] for folder in (full, half))
    assert (second.dtype, second.nbytes) == (np.float16, first.nbytes // 2)
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3)
    whole = latent_cache.Embedder.encode

    def larger(self: Any, loaded: Any) -> dict[str, torch.Tensor]:
        return {name: tensor * 1e9 for name, tensor in whole(self, loaded).items()}

    monkeypatch.setattr("imginav_handoff.latent_cache.Embedder.encode", larger)
    with pytest.raises(UserError, match="latents are larger than fp16 holds; take --precision fp32"):
        embedded(checkpoint, "larger", precision="fp16")
    embedded(checkpoint, "larger in full")


def test_latents_that_are_not_finite_name_their_layout(
    make_checkpoint: MakeCheckpoint, embedded: Embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(FP32)
    monkeypatch.setattr(
        "imginav_handoff.latent_cache.Embedder.encode",
        lambda self, loaded: {"mean": torch.full((len(loaded.indices), 2, 8, 8), torch.nan)},
    )
    with pytest.raises(UserError, match="block 0: its latents are not finite in fp32"):
        embedded(checkpoint)


def test_a_finished_set_is_left_as_it_is(make_checkpoint: MakeCheckpoint, embedded: Embed, said: list[str]) -> None:
    checkpoint = make_checkpoint(FP32)
    before = contents(embedded(checkpoint))
    said.clear()
    assert contents(embedded(checkpoint)) == before
    assert "is finished already, with the same weights, layouts and options" in said[-1]


def test_shards_that_are_missing_cut_off_or_changed_are_made_anew(
    make_checkpoint: MakeCheckpoint, embedded: Embed, said: list[str]
) -> None:
    checkpoint = make_checkpoint(FP32)
    folder = embedded(checkpoint)
    before = contents(folder)
    (folder / "latents_00000.safetensors").unlink()
    shard = folder / "latents_00001.safetensors"
    shard.write_bytes(before[shard.name][:-100])
    changed = bytearray(before["latents_00002.safetensors"])
    changed[-3] ^= 255
    (folder / "latents_00002.safetensors").write_bytes(changed)
    (folder / "SHA256SUMS").unlink()
    said.clear()
    assert contents(embedded(checkpoint)) == before
    assert "15 of them now" in said[-1]


@pytest.mark.parametrize("option", [{"flips": "both"}, {"shard": 6}, {"precision": "fp16"}])
def test_other_options_do_not_go_into_the_same_folder(
    make_checkpoint: MakeCheckpoint, embedded: Embed, option: dict[str, Any]
) -> None:
    checkpoint = make_checkpoint(FP32)
    before = contents(embedded(checkpoint))
    with pytest.raises(UserError, match=f"holds latents of another {next(iter(option))}; name another folder"):
        embedded(checkpoint, **option)
    assert contents(embedded(checkpoint)) == before


def test_other_weights_and_layouts_do_not_either(make_checkpoint: MakeCheckpoint, embedded: Embed) -> None:
    checkpoint = make_checkpoint(FP32)
    embedded(checkpoint)
    with pytest.raises(UserError, match="holds latents of another weights"):
        embedded(make_checkpoint("train.seed=1", "train.split_seed=0", FP32, name="other"))
    with pytest.raises(UserError, match="holds latents of another layouts"):
        embedded(checkpoint, settings=("data.count=12",))


def test_a_folder_of_something_else_is_refused(
    make_checkpoint: MakeCheckpoint, embedded: Embed, tmp_path: Path
) -> None:
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / "thesis.tex").write_text("years of work")
    checkpoint = make_checkpoint(FP32)
    with pytest.raises(UserError, match=r"holds something else \(thesis\.tex\); name another folder"):
        embedded(checkpoint)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is no folder; name another one"):
        embedded(checkpoint, "file")


def test_two_commands_never_write_the_same_set(
    make_checkpoint: MakeCheckpoint, embedded: Embed, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(FP32)
    with (
        RunLock(tmp_path / "latents", StopRequest().abort),
        pytest.raises(UserError, match=r"latents is being written by process \d+ on"),
    ):
        embedded(checkpoint)


def test_layouts_that_cannot_be_read_end_it_or_are_left_out_and_listed(
    make_checkpoint: MakeCheckpoint,
    embedded: Embed,
    resolve: Resolve,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    checkpoint = make_checkpoint(FP32)
    source = type(resolve().manifest.data.open())
    whole = source.read

    def read(self: Any, index: int) -> Any:
        if index in (3, 15):
            raise UserError(f"block {index} cannot be read")
        return whole(self, index)

    monkeypatch.setattr(source, "read", read)
    with pytest.raises(UserError, match="block 3 cannot be read"):
        embedded(checkpoint)
    folder = embedded(checkpoint, "skipped", settings=("data.on_bad=skip",), flips="horizontal")
    record = load_latent_set_record(folder)
    assert record.left_out == ("block 3 cannot be read", "block 15 cannot be read")
    assert record.latents == 28
    assert [row.layout for row in LatentDataset(folder, flips=False).rows] == [*range(3), *range(4, 15)]
    assert "left out: block 3 cannot be read" in said
    verify_latent_set(folder, said.append)
    assert any("28 latents of 16 layouts × 2 flips, none lost, none doubled, 2 left out" in line for line in said)


def test_a_full_disk_loses_nothing(
    make_checkpoint: MakeCheckpoint, embedded: Embed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(FP32)
    before = contents(embedded(checkpoint, "unbroken"))
    write = files._write
    monkeypatch.setattr(files, "DISK_FULL_WAITS_SECONDS", ())

    def full(path: Path, content: Any, keep: Path | None) -> None:
        if path.name == "latents_00002.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content, keep)

    with monkeypatch.context() as patched:
        patched.setattr(files, "_write", full)
        with pytest.raises(
            UserError, match="No space left on device; free some space, and give the same command again"
        ):
            embedded(checkpoint)
    assert len(list((tmp_path / "latents").glob("*.safetensors"))) == 2
    assert contents(embedded(checkpoint)) == before


def test_an_unfinished_set_is_not_read(make_checkpoint: MakeCheckpoint, embedded: Embed) -> None:
    folder = embedded(make_checkpoint(FP32))
    table = json.loads((folder / "latent_set.json").read_text())
    (folder / "latent_set.json").write_text(json.dumps({**table, "finished": False}))
    for read in (LatentDataset, verify_latent_set):
        with pytest.raises(UserError, match="is not finished; give the command that writes it again"):
            read(folder)
    with pytest.raises(UserError, match="is no set of latents: it has no"):
        LatentDataset(folder.parent)


def test_verify_finds_what_digests_alone_would_not(
    make_checkpoint: MakeCheckpoint, embedded: Embed, said: list[str]
) -> None:
    folder = embedded(make_checkpoint(FP32))
    verify_latent_set(folder, said.append)
    assert any("16 latents of 16 layouts, none lost, none doubled" in line for line in said)
    before = contents(folder)

    def refused(change: Callable[[], object], message: str, *, digests: bool = True) -> None:
        change()
        if digests:
            write_digests(folder)
        with pytest.raises(UserError, match=message):
            verify_latent_set(folder)
        for name, content in before.items():
            (folder / name).write_bytes(content)

    first, second = folder / "latents_00000.safetensors", folder / "latents_00001.safetensors"
    index = folder / "index.csv"
    record = json.loads((folder / "latent_set.json").read_text())
    refused(lambda: first.write_bytes(first.read_bytes()[:-1] + b"\xff"), "is not what was written", digests=False)
    refused(lambda: first.write_bytes(first.read_bytes()[:-1] + b"\xff"), "is damaged: its latents are not what was")
    refused(lambda: shutil.copy(first, second), "does not hold the layouts that it is for, each once")
    refused(lambda: index.write_text(index.read_text().replace("block 3", "block 4")), "does not agree with the shards")
    refused(
        lambda: (folder / "latent_set.json").write_text(json.dumps({**record, "std": 1.01})),
        "does not agree with the latents",
    )
    verify_latent_set(folder)


def test_other_processes_read_it(make_checkpoint: MakeCheckpoint, embedded: Embed) -> None:
    latents = LatentDataset(embedded(make_checkpoint(FP32)))
    first = latents[0]["latents"]  # opens a shard here
    assert torch.equal(pickle.loads(pickle.dumps(latents))[0]["latents"], first)  # noqa: S301  # as spawn does it
    batches = list(DataLoader(latents, batch_size=8, num_workers=2))
    assert [tuple(batch["latents"].shape) for batch in batches] == [(8, 2, 8, 8)] * 2
    assert torch.equal(batches[0]["latents"][0], first)
    assert torch.cat([batch["layout"] for batch in batches]).tolist() == list(range(16))


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_as_an_unbroken_one(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint("data.type=procedural", "data.image_size=64", "data.count=60", FP32)

    def start(to: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-X",
            "faulthandler",
            "-m",
            "imginav",
            "embed",
            str(checkpoint),
            "--out",
            to,
            "--shard",
            "4",
        ]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)

    assert status_of(start("unbroken"), 120) == 0
    there = 0
    for signals in (signal.SIGKILL, signal.SIGTERM):
        process = start("killed")
        wait_until(lambda seen=there: len(list((tmp_path / "killed").glob("latents_*"))) > seen, process, pause=0.001)
        process.send_signal(signals)
        assert status_of(process) == (-signal.SIGKILL if signals == signal.SIGKILL else 85)
        there = len(list((tmp_path / "killed").glob("latents_*")))
        assert there < 15
    assert status_of(start("killed"), 120) == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "unbroken")


def test_a_signal_is_heard_between_two_batches_and_not_within_the_pool(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[bool] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **named: Any) -> Future[Any]:
            os.kill(os.getpid(), signal.SIGTERM)
            submitted.append(True)
            return super().submit(*arguments, **named)

    monkeypatch.setattr(latent_cache, "ThreadPoolExecutor", Pool)
    request = EmbedRequest(checkpoint=make_checkpoint(FP32), to=tmp_path / "latents", shard=5, precision="fp32")
    stop_request = StopRequest()
    with stop_request.install_handlers(), pytest.raises(Interrupted, match="SIGTERM"):
        embed(request, registry, stop_request, log=lambda _: None)
    assert submitted


def test_shards_say_what_they_hold(make_checkpoint: MakeCheckpoint, embedded: Embed, tmp_path: Path) -> None:
    shard = read_shard(embedded(make_checkpoint(FP32)) / "latents_00003.safetensors")
    assert [row.name for row in shard.rows] == ["block 15"]
    assert shard.holds([(15, 0)])
    assert not shard.holds([(14, 0), (15, 0)])
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"x\.safetensors: cannot be read"):
        read_shard(tmp_path / "x.safetensors")
