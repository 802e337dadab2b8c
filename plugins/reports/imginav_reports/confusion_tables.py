"""Confusion matrices of an evaluation as tables of shares for its page."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from imginav.runs.evaluation_result import EvaluationResult

MOST_CLASSES = 24
"""Upper bound on the classes of a table, the most frequent; more of them no page has room for."""

STRONGEST = 0.55
"""Opacity of the colour behind a share of 1, over which text stays readable in light and in dark."""


@frozen(kw_only=True)
class Share:
    """What part of a true class was taken for a class."""

    text: str  # as a percentage; empty for none
    opacity: str  # of the colour behind it
    right: bool  # whether it is the class itself


@frozen(kw_only=True)
class ConfusionTable:
    """A confusion matrix: for each true class, the shares of its pixels (or layouts) that were taken for each class."""

    metrics: str  # that count so, by name
    classes: list[str]
    rows: list[tuple[str, int, list[Share]]]  # true class, its count, a share for each of `classes`
    classes_left_out: int


def confusion_tables(evaluation: EvaluationResult) -> list[ConfusionTable]:
    """Return a table for each confusion matrix; metrics that have counted the same share one."""
    alike: list[tuple[list[str], Mapping[str, Mapping[str, int]]]] = []
    for name, counts in evaluation.reconstruction.confusion.items():
        for names, known in alike:
            if known == counts:
                names.append(name)
                break
        else:
            alike.append(([name], counts))
    return [_table(", ".join(names), counts) for names, counts in alike if counts]


def _table(metrics: str, counts: Mapping[str, Mapping[str, int]]) -> ConfusionTable:
    seen = {true: sum(taken.values()) for true, taken in counts.items()}
    order = list(dict.fromkeys([*counts, *(name for taken in counts.values() for name in taken)]))
    shown = set(sorted(order, key=lambda name: -seen.get(name, 0))[:MOST_CLASSES])
    classes = [name for name in order if name in shown]
    return ConfusionTable(
        metrics=metrics,
        classes=classes,
        rows=[
            (true, seen[true], [_share(counts[true].get(name, 0) / seen[true], name == true) for name in classes])
            for true in classes
            if seen.get(true)
        ],
        classes_left_out=len(order) - len(classes),
    )


def _share(share: float, right: bool) -> Share:
    text = "" if not share else "< 0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")
    return Share(text=text, opacity=f"{STRONGEST * share:.2f}", right=right)
