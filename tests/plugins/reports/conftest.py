"""What the tests of reports share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imginav.runs.evaluation_result import EvaluationResult
from imginav_reports.saved_runs import SavedRun, read_run
from imginav_tests import evaluations
from imginav_tests.records import run_record

Resolve = Callable[..., Any]
SaveRun = Callable[..., SavedRun]


@pytest.fixture
def save_run(tmp_path: Path, resolve: Resolve) -> SaveRun:
    """Leave the files of a run of the tiny phase in the experiments' folder, and read them back."""

    def save(
        name: str, *settings: str, mse: float = 0.1, date: str = "", record: Any = None, **changes: Any
    ) -> SavedRun:
        folder = tmp_path / "experiments" / name
        folder.mkdir(parents=True)
        (folder / "manifest.toml").write_text(resolve(f"phase.experiment={name!r}", *settings).to_toml())
        (record or run_record(experiment=name)).save(folder / "run.json")
        found: dict[str, Any] = {"experiment": name, "evaluated": date, "metrics": {"val_mse": mse}, **changes}
        evaluation: EvaluationResult = evaluations.evaluation(**found)
        evaluation.save(folder / "evaluation.json")
        return read_run(folder)

    return save
