"""The page of a phase: its runs side by side, the best of each figure, the way to each run's page."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from PIL import Image

from imginav.manifest.resolved import ResolvedPhase
from imginav.manifest.winners import Winner
from imginav.runs.evaluation_result import ProbeMetric, load_evaluation
from imginav.runs.experiment import run_folder
from imginav.study.phases import ConcludedPhase
from imginav.study.selection import data_fingerprints, gather, select
from imginav_reports import phase_concluded, phase_page
from imginav_tests.csv_tables import read_table

Load = Callable[..., ResolvedPhase]
Finish = Callable[..., None]

SWEEP = """
[sweep]
selector = { type = "best" }
[sweep.experiments]
L1 = { "encoder.latent_channels" = 4 }
L2 = { "encoder.latent_channels" = 8 }
L10 = { "encoder.latent_channels" = 16 }
"""


@pytest.fixture
def finished(load_text: Load, finish: Finish) -> Callable[..., ResolvedPhase]:
    """Return the phase with three runs, finished as some figures say."""

    def finished(text: str = SWEEP, *settings: str, **figures: float) -> ResolvedPhase:
        phase = load_text(text, *settings)
        finish(phase, data_fingerprints(phase), **figures)
        phase.shared.mkdir(parents=True, exist_ok=True)
        return phase

    return finished


def change(phase: ResolvedPhase, label: str, **changes: object) -> None:
    """Change what an evaluation says; metrics are added to those that it has."""
    (resolved,) = [e for e in phase.experiments if phase.label(e) == label]
    path = run_folder(resolved).evaluation
    evaluation = load_evaluation(path)
    metrics = changes.pop("metrics", {})
    attrs.evolve(evaluation, metrics={**evaluation.metrics, **metrics}, **changes).save(path)  # type: ignore[dict-item]


def write(phase: ResolvedPhase, winner: Winner | None = None) -> str:
    phase_page.write(phase, gather(phase), winner)
    return (phase.shared / "report.html").read_text(encoding="utf-8")


def headings(page: str) -> list[str]:
    return [html.unescape(re.sub("<[^>]+>", "", h)).split("\N{NO-BREAK SPACE}")[0] for h in _cells(page, "th", "thead")]


def row(page: str, name: str) -> list[str]:
    """Return the cells of a run; the best of a column has a dot before it."""
    (found,) = [r for r in re.findall("<tr.*?</tr>", page, re.DOTALL) if re.search(rf'<th data-key="{name}">', r)]
    cells = re.findall(r"<t([dh])([^>]*)>(.*?)</t\1>", found, re.DOTALL)
    return [("●" if "best" in attributes else "") + re.sub("<[^>]+>", "", text) for _, attributes, text in cells]


def _cells(page: str, tag: str, part: str) -> list[str]:
    (found,) = re.findall(f'id="experiments">.*?<{part}>(.*?)</{part}>', page, re.DOTALL)
    return re.findall(f"<{tag}[^>]*>(.*?)</{tag}>", found, re.DOTALL)


def test_the_runs_stand_side_by_side_with_the_best_of_each_figure_marked(
    finished: Callable[..., ResolvedPhase],
) -> None:
    phase = finished(L1=0.3, L2=0.1, L10=0.2)
    change(phase, "L1", metrics={"val_wall_recall": 0.9}, encoder_parameters=5)
    page = write(phase, select(phase, gather(phase)))
    assert headings(page) == [
        *("experiment", "latent_channels", "MSE", "wall recall", "latent", "dimensions"),
        *("parameters", "encode (ms)", "decode (ms)", "epoch", "time"),
    ]
    assert row(page, "L1")[:7] == ["L1", "4", "0.3000", "0.9000", "8×8×4", "●256", "●15"]
    assert row(page, "L2")[:7] == ["L2 ★", "8", "●0.1000", "–", "8×8×8", "512", "20"]
    assert row(page, "L10")[7:10] == ["3.00", "2.00", "2 of 2"]
    assert '<tr class="won">\n<th data-key="L2">' in page
    assert "Times are of single layouts on cpu, fp32." in page


def test_figures_of_drawn_plans_have_columns_where_some_run_has_them(finished: Callable[..., ResolvedPhase]) -> None:
    phase = finished(L1=0.3, L2=0.1, L10=0.2)
    for label, iou in (("L1", float("nan")), ("L2", 0.7), ("L10", 0.5)):
        change(phase, label, metrics={"val_mean_iou": iou, "val_palette_accuracy": 0.99, "val_psnr_db": 30.0})
    page = write(phase)
    at = headings(page).index("mean IoU")
    assert headings(page)[at - 1 : at + 2] == ["PSNR (dB)", "mean IoU", "palette accuracy"]
    assert [row(page, name)[at] for name in ("L1", "L2", "L10")] == ["–", "●0.7000", "0.5000"]
    assert [row(page, name)[at + 1] for name in ("L1", "L2", "L10")] == ["0.9900"] * 3  # who is best where all are
    assert "nan" not in page  # it would be sorted as if it were text
    assert "No winner is declared yet" in page


def test_a_run_that_has_not_finished_says_how_far_it_is(finished: Callable[..., ResolvedPhase]) -> None:
    phase = finished(L2=0.1)
    page = write(phase)
    assert row(page, "L1")[-2:] == ["not started", ""]
    assert row(page, "L1")[2:5] == ["", "", ""]
    assert row(page, "L2")[2] == "0.1000"


def test_names_lead_to_the_pages_of_the_runs_also_when_the_folder_is_moved(
    finished: Callable[..., ResolvedPhase], tmp_path: Path
) -> None:
    phase = finished(L1=0.3, L2=0.1)
    (phase.shared / "p1_tiny_L1_report.html").write_text("")
    page = write(phase)
    (link,) = re.findall(r'<a href="([^"]+)">L1</a>', page)
    assert page.count("<a ") == 1  # where there is no page, there is no link
    assert (phase.shared.rename(tmp_path / "elsewhere") / link).is_file()


def test_what_probes_have_drawn_is_shown_for_each_run(finished: Callable[..., ResolvedPhase]) -> None:
    phase = finished(L1=0.3, L2=0.1, L10=0.2)
    fdd = ProbeMetric(values=(1.0, 1.2), definition="a distance", more_is_better=False)
    for label, probes in (("L1", {"probe_fdd": fdd}), ("L2", {"probe_fdd": fdd}), ("L10", {})):
        change(phase, label, probes=probes)
        (resolved,) = [e for e in phase.experiments if phase.label(e) == label]
        for name in ("flow/nearest", "flow/samples", "other/drawn"):
            path = run_folder(resolved).root / "probes" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30 if path.stem == "samples" else 20, 8)).save(path)
    page = write(phase)
    shown = re.findall(r'alt="samples, ([^"]+)" width="(\d+)"', page)
    assert shown == [("L1, flow", "30"), ("L1, other", "20"), ("L2, flow", "30"), ("L2, other", "20")]
    assert "What diffusion makes of each" in page


def test_without_probes_the_page_does_not_speak_of_diffusion(finished: Callable[..., ResolvedPhase]) -> None:
    assert "What diffusion makes of each" not in write(finished(L1=0.3, L2=0.1))


def test_what_names_say_is_text(finished: Callable[..., ResolvedPhase]) -> None:
    hostile = '<b>x</b> & "q" $y_1$ <script>alert(1)</script>'
    phase = finished(SWEEP, f"phase.title='''{hostile}'''", L1=0.3, L2=0.1, L10=0.2)
    winner = attrs.evolve(select(phase, gather(phase)), because=hostile, chosen_by="person")  # type: ignore[misc,type-var]
    page = write(phase, winner)
    assert "<script>alert" not in page
    assert "<b>x" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "A person decided so; the rule says L2." in page


def test_the_page_asks_for_nothing_but_itself_and_is_small(finished: Callable[..., ResolvedPhase]) -> None:
    phase = finished(L1=0.3, L2=0.1, L10=0.2)
    page = write(phase, select(phase, gather(phase)))
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(a.startswith(("data:image/", "#")) for a in addresses)
    assert "Content-Security-Policy" in page
    assert page.count("<svg") == 1  # of the quality; no run has left any metrics of its epochs
    assert len(page) < 200_000


def test_curves_of_the_runs_leave_out_what_is_not_finite(finished: Callable[..., ResolvedPhase]) -> None:
    phase = finished(L1=0.3, L2=0.1, L10=0.2)
    of_each = ("1,0.5\n2,nan\n3,0.3\n", "1,\n2,nan\n", "1,0.1\n2,0.01\n")
    for resolved, rows in zip(phase.experiments, of_each, strict=True):
        run_folder(resolved).metrics.write_text(f"epoch,val_mse\n{rows}")
    page = write(phase, select(phase, gather(phase)))
    legends = re.findall(r'<ul class="legend">(.*?)</ul>', page)
    assert [re.sub("<[^>]+>", "", item) for item in re.findall("<li>(.*?)</li>", legends[0])] == ["L1", "L10"]
    assert page.count("<svg") == 2
    for name in ("comparison_curves.png", "comparison_quality.png"):
        with Image.open(phase.shared / name) as picture:
            assert picture.width > 600


def test_the_table_for_own_tools_has_the_costs_too(finished: Callable[..., ResolvedPhase]) -> None:
    phase = finished(L1=0.3, L2=0.1)
    write(phase)
    rows = {row["experiment"]: row for row in read_table(phase.shared / "comparison.csv")}
    assert (rows["L1"]["encode_ms"], rows["L1"]["decode_ms"]) == ("3.0", "2.0")
    assert (rows["L10"]["state"], rows["L10"]["val_mse"]) == ("not started", "")


def test_a_phase_of_one_experiment_has_a_page_without_a_best(
    finished: Callable[..., ResolvedPhase],
) -> None:
    phase = finished("", p1_tiny=0.1)
    page = write(phase)
    assert row(page, "p1_tiny")[1] == "0.1000"
    assert 'class="number best"' not in page
    assert not (phase.shared / "comparison_quality.png").exists()


def test_the_page_is_written_anew_where_something_has_changed_or_it_is_gone(
    finished: Callable[..., ResolvedPhase], capsys: pytest.CaptureFixture[str]
) -> None:
    phase = finished(L1=0.2, L2=0.1)
    page = phase.shared / "report.html"
    for changed, before, rewritten in ((True, "older", True), (False, "older", False), (False, None, True)):
        page.unlink(missing_ok=True)
        if before is not None:
            page.write_text(before)
        phase_concluded(ConcludedPhase(phase=phase, experiments=gather(phase), winner=None, changed=changed))
        assert (page.read_text(encoding="utf-8") != before) is rewritten
        assert f"look at {page}" in capsys.readouterr().out
