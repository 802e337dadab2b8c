"""The benches as a user starts them, on a tiny network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from imginav_benches.subjects import FINAL

ROOT = Path(__file__).parents[2]

SMALL = """\
extends = "{final}"
[encoder]
base_channels = 16
latent_channels = 4
"""


def run_benches(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    storage = f"--benchmark-storage=file://{folder}"
    # The benches are no part of the tests that run here in several processes.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run([*command, storage], capture_output=True, text=True, cwd=ROOT, env=environment)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL.format(final=FINAL))
    return path


@pytest.mark.slow
@pytest.mark.integration
def test_a_manifest_is_measured_saved_and_compared(small: Path, tmp_path: Path) -> None:
    chosen = [
        "benches/test_coding.py",
        "--quick",
        "--device",
        "cpu",
        "--manifest",
        str(small),
        "-k",
        "1.5 and b1-512px or all_heads",
    ]
    first = run_benches(*chosen, "--sampling-steps", "10", "--unet-ms", "7", folder=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Encoding and decoding" in first.stdout
    assert "One image of 512 px" in first.stdout
    planned = next(line for line in first.stdout.splitlines() if "32×32×4" in line).split()
    assert planned[:3] == ["1.5", "32×32×4", "4,096"]
    assert planned[5:7] == ["10", "7"]
    (saved,) = tmp_path.glob("*/0001_*.json")
    benches = {bench["group"]: bench for bench in json.loads(saved.read_text())["benchmarks"]}
    assert set(benches) == {"encode", "decode", "decode, all heads"}
    assert benches["encode"]["extra_info"]["latent"] == [32, 32, 4]
    assert benches["encode"]["stats"]["median"] > 0
    assert benches["encode"]["extra_info"]["peak_bytes"] > 0

    second = run_benches(*chosen, "--benchmark-compare", folder=tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "(NOW)" in second.stdout
    assert "(0001_ben" in second.stdout


def test_smoke_takes_each_bench_once(tmp_path: Path) -> None:
    listed = run_benches("benches/", "--smoke", "--collect-only", "-q", folder=tmp_path)
    assert listed.returncode == 0, listed.stdout + listed.stderr
    collected = re.findall(r"^(benches/\S+)::(\w+)", listed.stdout, re.MULTILINE)
    there = [
        (path.relative_to(ROOT).as_posix(), name)
        for path in sorted((ROOT / "benches").glob("test_*.py"))
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    ]
    both_ways = ["test_beside", "test_beside_the_original"]  # once to encode, and once to decode
    assert sorted((file, name) for file, name in collected) == sorted(
        there + [(file, name) for file, name in there if name in both_ways]
    )


def test_smoke_is_not_timed_and_saves_nothing(tmp_path: Path) -> None:
    ended = run_benches("benches/test_loading.py", "--smoke", folder=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "5 passed" in ended.stdout
    assert "× peer" not in ended.stdout
    assert not list(tmp_path.glob("*/*.json"))


def test_the_gate_runs_each_bench() -> None:
    assert "pytest benches/ --smoke" in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--manifest", "no_such.toml"], "no_such.toml: no such file"),
        (["--checkpoint", "no_such.pt"], "no_such.pt: no such checkpoint"),
        (["--manifest", "a.toml", "--checkpoint", "a.pt"], "--manifest and --checkpoint: name one of them"),
        (["--manifest", "{narrow}"], "expected base_channels to be a multiple of 8"),
        (["--device", "cuda:99"], "machine.device = 'cuda:99' cannot be used"),
        (["--smoke", "--grid"], "--smoke and --grid: name one of them"),
        (["--unet-ms", "0"], "--unet-ms 0: expected milliseconds above 0"),
        (["--sampling-steps", "20,none"], "invalid _numbers value: '20,none'"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(arguments: list[str], message: str, tmp_path: Path) -> None:
    narrow = tmp_path / "narrow.toml"
    narrow.write_text(f'extends = "{FINAL}"\nencoder = {{ type = "conv", base_channels = 7 }}\n')
    ended = run_benches("benches/test_coding.py", *(a.format(narrow=narrow) for a in arguments), folder=tmp_path)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in ended.stderr
    assert "conftest.py" not in ended.stdout + ended.stderr  # no lines of code
    assert not list(tmp_path.glob("*/*.json"))
