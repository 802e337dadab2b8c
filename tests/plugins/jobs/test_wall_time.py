"""Times of jobs in imginav's notation and in those of schedulers."""

from __future__ import annotations

import re

import pytest

from imginav import Cluster
from imginav_clusters import LSF, Local, Slurm
from imginav_jobs.wall_time import JobTime


@pytest.mark.parametrize(
    ("cluster", "text", "seconds"),
    [
        (LSF, "24h", 86_400),
        (Local, "1d12h", 129_600),
        (LSF, "12:00", 43_200),
        (LSF, "100:30", 361_800),
        (Slurm, "12:00", 720),
        (Slurm, "12:00:00", 43_200),
        (Slurm, "1-12", 129_600),
        (Slurm, "1-12:30", 131_400),
        (Slurm, "1-12:00:05", 129_605),
    ],
)
def test_a_time_is_read_as_its_scheduler_reads_it(cluster: type[Cluster], text: str, seconds: int) -> None:
    assert cluster(wall_time=text).wall_seconds == seconds
    assert cluster(wall_time="999h", notice=text).notice_seconds == seconds
    assert re.fullmatch(JobTime().schema()["pattern"], text)


@pytest.mark.parametrize(
    ("cluster", "text", "own"),
    [
        (LSF, "12:00:00", r"or as this scheduler writes it \(hours:minutes\)"),
        (LSF, "1-12", "or as this scheduler writes it"),
        (LSF, "12:60", "or as this scheduler writes it"),
        (LSF, "0:00", "or as this scheduler writes it"),
        (
            Slurm,
            "1-24",
            r"or as this scheduler writes it \(minutes:seconds, hours:minutes:seconds, days-hours, days",
        ),
        (Slurm, "1:2-3", "or as this scheduler writes it"),
        (Local, "12:00", "which says its units"),
    ],
)
def test_what_no_notation_of_the_scheduler_is_names_those_it_has(cluster: type[Cluster], text: str, own: str) -> None:
    with pytest.raises(ValueError, match=f"expected wall_time such as '24h' or '1d12h', {own}.*, found '{text}'"):
        cluster(wall_time=text)
    with pytest.raises(ValueError, match=f"expected notice such as .* found '{text}'"):
        cluster(notice=text)


@pytest.mark.parametrize("text", ["12", "", "12:", ":30", "1:2:3:4:5", "12 h", "-12", "12.5h"])
def test_a_time_without_its_units_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time such as '11h30m', '90m' or '1d2h', found"):
        Slurm(wall_time=text)
    assert not re.fullmatch(JobTime().schema()["pattern"], text)


def test_the_notice_is_shorter_than_the_wall_time() -> None:
    with pytest.raises(ValueError, match="expected a notice shorter than wall_time = '0:05', found '5m'"):
        LSF(wall_time="0:05")
    assert LSF(wall_time="0:06").wall_seconds == 360
    assert LSF().wall_seconds is None


def test_a_schedulers_own_notation_is_explained() -> None:
    assert Slurm(wall_time="12:00", notice="90s").warnings() == [
        "cluster.wall_time = '12:00' is minutes:seconds for this scheduler, which is 12 min; write it with its units, "
        "such as 12h, if that is not what you mean"
    ]
    assert len(Slurm(wall_time="1-12:00:00", notice="5:00").warnings()) == 2
    assert Slurm(wall_time="12h").warnings() == []
