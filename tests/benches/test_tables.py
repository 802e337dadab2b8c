from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from imginav_benches.planning import Diffusion
from imginav_benches.tables import coded_of, write_tables

DIFFUSION = Diffusion((20,), 40)


def bench(group: str, median: float = 1.0, **info: Any) -> SimpleNamespace:
    return SimpleNamespace(
        group=group,
        name="test_something[8 of width 32]",
        stats=SimpleNamespace(median=median, mean=median),
        extra_info=info,
    )


def coding(group: str, subject: str, ratio: float, base_seconds: list[float], **changed: Any) -> SimpleNamespace:
    case = {"batch": 1, "size": 512, "precision": "fp32", "channels_last": True, "compiled": False}
    return bench(
        group,
        **{"median": 9.0, "subject": subject, "latent": (32, 32, 16), "ratio_to_peer": ratio, **case, **changed},
        peer_seconds=base_seconds,
        p95_seconds=9.5,
        first_pass_seconds=34.0,
        peak_bytes=67_000_000 if group == "encode" else 50_000_000,
    )


@pytest.fixture
def measured() -> list[SimpleNamespace]:
    return [
        coding("encode", "1.5", 1.0, [0.1, 0.2, 0.1]),
        coding("encode", "1.5", 0.5, [0.1], precision="bf16"),
        coding("encode", "1.5", 8.0, [0.4], batch=4),
        coding("encode", "L4", 3.0, [0.1, 0.1]),
        coding("encode", "R9", 2.0, [0.1]),
        coding("decode", "1.5", 1.1, [0.05]),
        coding("decode", "L4", 4.0, [0.05]),
        coding("decode, all heads", "1.5", 1.3, [0.05]),
    ]


def lines_of(benches: list[SimpleNamespace]) -> list[str]:
    lines: list[str] = []
    write_tables(benches, DIFFUSION, lines.append)
    return lines


def test_times_for_planning_are_ratios_times_the_median_of_all_base_passes(measured: list[SimpleNamespace]) -> None:
    first, second = coded_of(measured)  # of R9 no decoding was measured
    assert (first.name, second.name) == ("1.5", "L4")
    assert (first.encode_ms, first.decode_ms) == pytest.approx((100, 55))  # the first condition, not bf16
    assert (second.encode_ms, second.decode_ms) == pytest.approx((300, 200))
    assert first.peak_bytes == 67_000_000


def test_conditions_are_shown_per_image(measured: list[SimpleNamespace]) -> None:
    measured.append(coding("encode", "1.5", 7.6, [0.1], compiled=True, channels_last=False))
    rows = [line.split() for line in lines_of(measured)]
    assert ["1.5", "encode", "4", "512", "fp32", "NHWC", "eager", "9000", "9500", "0.4444", "67", "MB", "2.00"] in rows
    assert any(row[5:10] == ["NCHW", "compiled", "in", "34", "s"] and row[-1] == "7.60" for row in rows)


def test_planning_adds_encoding_steps_and_decoding(measured: list[SimpleNamespace]) -> None:
    (row,) = [line.split() for line in lines_of(measured) if "L4" in line and "32×32×16" in line]
    assert row == ["L4", "32×32×16", "16,384", "300", "200", "20", "40", "1.3", "23.1%", "15.4%", "0.769", "67", "MB"]


def test_peers_take_so_many_times_as_long() -> None:
    peer = bench(
        "peers", 0.1, peer="AutoencoderKL", operation="encode", size=256, peer_parameters=83_650_000,
        peer_latent=(32, 32, 4), ratio_to_peer=0.02, ratios=[0.01, 0.04], peer_seconds=[4.0, 6.0],
    )  # fmt: skip
    rows = [line.split() for line in lines_of([peer])]
    assert ["AutoencoderKL", "encode", "256", "83.65", "32×32×4", "100", "5000", "50", "25", "to", "100"] in rows


@pytest.mark.parametrize(
    ("info", "rate"),
    [
        ({"images": 64}, "128 images/s"),
        ({"rows": 1_000_000}, "2,000,000 rows/s"),
        ({"bytes": 38_000_000}, "38 MB"),
        ({}, ""),
    ],
)
def test_rates(info: dict[str, int], rate: str) -> None:
    ratios = {"peer": "Pillow", "ratio_to_peer": 1.5, "ratios": [1.25, 2.0]}
    (row,) = [line for line in lines_of([bench("loading images", 0.5, **info, **ratios)]) if "Pillow" in line]
    assert row.split() == f"loading images something[8 of width 32] Pillow 500 {rate} 1.500 1.250 to 2.000".split()


def test_without_benches_there_is_no_table() -> None:
    assert lines_of([]) == []
