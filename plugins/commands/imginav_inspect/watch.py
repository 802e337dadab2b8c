"""`imginav watch`: what runs are doing, read from their files alone, so that it works where they do not run."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imginav.errors import UserError, in_one_line
from imginav.formatting import format_duration
from imginav.manifest.config_layers import value_at
from imginav.manifest.reading import read_toml
from imginav.runs.records import RunRecord, load_record
from imginav.runs.run_folder import MANIFEST, RECORD
from imginav_reports.metrics_file import read_metrics

BARS = "▁▂▃▄▅▆▇█"
TREND_CHARACTERS = 20
BAR_CHARACTERS = 8

EPOCHS_SHOWN = 8
"""Of a single run, as rows."""

EPOCHS_MEASURED = 5
"""The last ones, whose median time is that of those to come."""

ORDER = ("running", "failed", "cut off", "interrupted", "unreadable", "finished")
"""In which runs are listed: those first that somebody has to look at."""

COLOURS = {"running": "green", "finished": "blue", "failed": "red", "cut off": "red", "unreadable": "red"}

MEDIUM = 90
"""Characters of a terminal from which on more is shown of a single run."""

GAP = 2
"""Characters between two columns."""

SHORTEST_NAME = 14
"""Characters that are left to a run's name, and the gap behind it, before columns are left out."""

PIPED = 200
"""Characters of a line where there is no terminal."""

LINES_BESIDE_ROWS = 8
"""Of a table of runs: its headings, and what stands above and below."""

Row = Mapping[str, float]


@frozen(kw_only=True)
class Watched:
    """A run as its files show it."""

    name: str
    state: str  # that of its record, or unreadable
    record: RunRecord | None = None
    rows: tuple[Row, ...] = ()  # the metrics of its epochs
    monitor: str = "val_loss"
    mode: str = "min"
    fault: str = ""  # why it cannot be read

    @property
    def best(self) -> Row | None:
        """The row of the best epoch by the monitored metric; none where no epoch had a finite value."""
        known = [row for row in self.rows if math.isfinite(row.get(self.monitor, math.nan))]
        sign = 1 if self.mode == "min" else -1
        return min(known, key=lambda row: sign * row[self.monitor], default=None)

    @property
    def seconds_left(self) -> float | None:
        """How long it still takes, if all epochs are trained; none where that is not known, or it does not run."""
        record = self.record
        times = [row["seconds"] for row in self.rows[-EPOCHS_MEASURED:] if math.isfinite(row.get("seconds", math.nan))]
        if record is None or self.state != "running" or not times:
            return None
        share = record.batch / record.batches if record.batches else 0.0
        return max(0.0, statistics.median(times) * (record.epochs - record.epoch - share))

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        record, best = self.record, self.best
        return {
            "run": self.name,
            "state": self.state,
            "epoch": record.epoch if record else None,
            "epochs": record.epochs if record else None,
            "batch": record.batch if record else None,
            "batches": record.batches if record else None,
            "seconds": record.seconds if record else None,
            "seconds_left": self.seconds_left,
            "monitor": self.monitor,
            "best": {"epoch": best.get("epoch"), "value": best[self.monitor]} if best else None,
            "last": self.rows[-1] if self.rows else None,
            "host": record.host if record else None,
            "error": self.fault or (record.error if record else ""),
        }

    @property
    def terms(self) -> list[str]:
        """The names of the losses, the sum of them first, as both parts of the metrics have them."""
        columns = dict.fromkeys(name for row in self.rows for name in row)
        names = [name.removeprefix("val_") for name in columns if name.startswith("val_loss")]
        return [name for name in names if not name.endswith("_weighted")]


def watch(place: Path, *, every: float, once: bool) -> None:
    """Show the runs that lie in a place, again and again while somebody looks, or once where nobody can.

    A single run is watched to its end, a folder of runs until Ctrl-C. Raises UserError where no run lies there.
    """
    single = _run_folder(place)
    console = Console(highlight=False, markup=False)
    if once or not console.is_terminal:
        width = console.width if console.is_terminal else PIPED
        Console(width=width, highlight=False, markup=False).print(view(runs_in(place), width, height=None))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            runs = runs_in(place)
            live.update(view(runs, console.width, console.height), refresh=True)
            if single and runs[0].state not in ("running", "unreadable"):
                return
            time.sleep(every)


def _run_folder(place: Path) -> Path | None:
    """Return the folder of a single run, where the place is one or a file of one."""
    folder = place if place.is_dir() else place.parent
    return folder if (folder / RECORD).is_file() and place.exists() else None


def runs_in(place: Path) -> list[Watched]:
    """Return the runs that lie in a place; raises UserError where there are none."""
    single = _run_folder(place)
    folders = (
        [single]
        if single
        else sorted(path.parent for depth in ("*", "*/*") for path in place.glob(f"{depth}/{RECORD}"))
    )
    # Earlier runs are kept as name.1, name.2, …
    folders = [folder for folder in folders if single or not folder.suffix[1:].isdecimal() or not _is_kept(folder)]
    if not folders:
        raise UserError(
            f"{place}: holds no run (no {RECORD}); name a run folder or one that holds some, or start a run first"
        )
    runs = [read_run(folder) for folder in folders]
    return sorted(runs, key=lambda run: (ORDER.index(run.state), run.name))


def _is_kept(folder: Path) -> bool:
    return folder.with_suffix("").exists()


def read_run(folder: Path) -> Watched:
    """Return what the files of a run folder say; whatever is wrong with them is its fault, and nobody else's."""
    try:
        record = load_record(folder / RECORD)
        if record is None:
            raise UserError(f"{folder / RECORD} is gone")
        monitor, mode = _monitor(folder / MANIFEST)
        rows = tuple(read_metrics(folder / f"{record.experiment}_metrics.csv"))
    except UserError as error:
        return Watched(name=in_one_line(folder.name), state="unreadable", fault=in_one_line(str(error)))
    name = in_one_line(record.experiment)
    return Watched(name=name, state=record.state, record=record, rows=rows, monitor=monitor, mode=mode)


def _monitor(path: Path) -> tuple[str, str]:
    train = value_at(read_toml(path), ("train",)) if path.is_file() else None
    known = train if isinstance(train, dict) else {}
    return str(known.get("monitor", "val_loss")), str(known.get("monitor_mode", "min"))


def view(runs: Sequence[Watched], width: int, height: int | None) -> RenderableType:
    """Return what is shown of some runs on a terminal of so many characters and lines; no height: all of them."""
    most = len(runs) if height is None else max(3, height - LINES_BESIDE_ROWS)
    parts: list[RenderableType] = [_table(runs[:most], width)]
    if len(runs) > most:
        parts.append(Text(f"… and {len(runs) - most} more"))
    parts += [Text(f"{run.name}: {said}", style="red") for run in runs[:most] if (said := _trouble(run))]
    if len(runs) == 1 and runs[0].rows:
        parts += [_terms(runs[0], width), _epochs(runs[0], width)]
    return Group(*parts)


def _trouble(run: Watched) -> str:
    if run.record is not None and run.state == "cut off":
        return f"its process on {in_one_line(run.record.host)} is gone; give its command again, and it goes on"
    return run.fault or (in_one_line(run.record.error) if run.record and run.state == "failed" else "")


def _table(runs: Sequence[Watched], width: int) -> Table:
    """Return a row for each run: the columns that matter most, as many as fit, and names cut off if they must be."""
    monitors = {run.monitor for run in runs}
    monitor = in_one_line(monitors.pop()) if len(monitors) == 1 else "monitored"
    headings = ["state", "epoch", monitor, "left", "best", "trend", "train loss", "img/s", "on"]
    cells = [_cells(run) for run in runs]
    widths = [max(map(len, column)) + GAP for column in zip(headings, *cells, strict=True)]
    fitting = [number for number in range(len(headings)) if sum(widths[: number + 1]) + SHORTEST_NAME <= width]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    longest = max(SHORTEST_NAME, width - sum(widths[number] for number in fitting))
    table.add_column("run", overflow="ellipsis", no_wrap=True, max_width=longest - GAP)
    for number in fitting:
        table.add_column(headings[number], no_wrap=True)
    for run, row in zip(runs, cells, strict=True):
        texts = [Text(row[number], style=_style(run) if number == 0 else "") for number in fitting]
        table.add_row(Text(run.name), *texts)
    return table


def _style(run: Watched) -> str:
    return COLOURS.get(run.state, "yellow")


def _cells(run: Watched) -> list[str]:
    """Return what is said of a run, what matters most first."""
    last: Row = run.rows[-1] if run.rows else {}
    left = run.seconds_left
    speed = last.get("images_per_second", math.nan)
    return [
        run.state,
        progress(run),
        figure(last.get(run.monitor)),
        f"≤ {format_duration(left)}" if left is not None else "",
        best_so_far(run),
        trend([row.get(run.monitor, math.nan) for row in run.rows]),
        figure(last.get("train_loss")),
        f"{speed:.0f}" if math.isfinite(speed) else "",
        in_one_line(run.record.host) if run.record else "",
    ]


def best_so_far(run: Watched) -> str:
    """Return the best value of the monitored metric, and its epoch."""
    best = run.best
    return f"{figure(best[run.monitor])} @ {best.get('epoch', math.nan):.0f}" if best else ""


def progress(run: Watched) -> str:
    """Return how far a run has come: a bar, and `12/50` with the share of the epoch that runs."""
    record = run.record
    if record is None:
        return ""
    share = record.batch / record.batches if record.batches and run.state == "running" else 0.0
    text = f"{record.epoch}/{record.epochs}" + (f" +{share:.0%}" if share else "")
    done = round(BAR_CHARACTERS * min(1.0, (record.epoch + share) / max(1, record.epochs)))
    return f"{'━' * done}{'╌' * (BAR_CHARACTERS - done)} {text}"


def _terms(run: Watched, width: int) -> Table:
    """Return each loss with its last values, and how it went."""
    table = Table(box=None, pad_edge=False, header_style="bold", title="\nlosses, unweighted", title_justify="left")
    for heading in ("loss", "train", "validation", *(("train trend", "validation trend") if width >= MEDIUM else ())):
        table.add_column(heading, no_wrap=True)
    for term in run.terms:
        parts = [[row.get(f"{part}_{term}", math.nan) for row in run.rows] for part in ("train", "val")]
        cells = [in_one_line(term), *(figure(values[-1]) for values in parts)]
        table.add_row(*map(Text, [*cells, *(map(trend, parts) if width >= MEDIUM else ())]))
    return table


def _epochs(run: Watched, width: int) -> Table:
    columns = ["epoch", "train_loss", "val_loss", "val_mse", "val_psnr_db", "images_per_second", "seconds"]
    known = [name for name in columns if any(name in row for row in run.rows)][: 5 if width < MEDIUM else None]
    best = run.best
    table = Table(box=None, pad_edge=False, header_style="bold", title="\nlast epochs", title_justify="left")
    for name in known:
        table.add_column(name, no_wrap=True, justify="right")
    for row in run.rows[-EPOCHS_SHOWN:]:
        table.add_row(*(Text(figure(row.get(name))) for name in known), style="bold" if row is best else "")
    return table


def figure(value: float | None) -> str:
    """Return a figure with digits enough to see it change."""
    return "" if value is None or math.isnan(value) else f"{value:.5g}"


def trend(values: Sequence[float], width: int = TREND_CHARACTERS) -> str:
    """Return values over time as a line of bars, on a logarithmic scale where all are above zero.

    Values that are not finite are gaps; of more values than characters, each bar is a mean.
    """
    if len(values) > width:
        edges = [round(place * len(values) / width) for place in range(width + 1)]
        values = [_mean(values[start:end]) for start, end in itertools.pairwise(edges)]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    scale = math.log if min(finite) > 0 else float
    low, high = scale(min(finite)), scale(max(finite))
    steps = len(BARS) - 1

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return " "
        return BARS[round(steps * (scale(value) - low) / (high - low)) if high > low else 0]

    return "".join(map(bar, values))


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
