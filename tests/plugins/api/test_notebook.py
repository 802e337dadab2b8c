"""The notebook in examples, run as Jupyter runs it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[3] / "examples" / "notebook.ipynb"


@pytest.mark.slow
@pytest.mark.integration
def test_the_notebook_runs_and_shows_pictures(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # it is kept without them
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {
        cell.source: [output.get("data", {}) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert (tmp_path / "outputs" / "notebook" / "report.html").is_file()
    (training,) = (outputs for source, outputs in shown.items() if "imginav.train(" in source)
    assert any("application/vnd.jupyter.widget-view+json" in data for data in training)  # the progress bar
    assert shown["run"][-1]["text/html"].count("data:image/png;base64,") == 2
    assert shown["run.metrics"][-1]["text/html"].startswith("<table><thead><tr><th>epoch</th>")
    assert "srcdoc=" in shown["run.report"][-1]["text/html"]
    (decoded,) = (outputs for source, outputs in shown.items() if "decoded.resize" in source)
    assert "image/png" in decoded[-1]
