"""Nothing that a file of a stranger holds is executed, and nothing is written outside the folders of the output."""

from __future__ import annotations

import ast
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imginav import UserError, cli
from imginav.manifest.resolved import ResolvedManifest
from imginav.manifest.tables import Phase
from imginav.plugin.checkpoint import load_checkpoint
from imginav.plugin.validators import ENTRY_NAME, FILE_NAME
from imginav.runs.experiment import run_experiment
from imginav.runs.run_folder import RunFolder
from imginav_losses import Perceptual
from imginav_reports.run_page import page
from imginav_tests.pickled_code import Code

ROOT = Path(__file__).parents[3]

SOURCES = sorted(path for folder in ("core", "plugins") for path in (ROOT / folder).rglob("*.py"))

CODE_FROM_TEXT = {"eval", "exec", "compile", "__import__"}

CODE_FROM_FILES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "yaml",
    "runpy",
}

ALLOWED_IMPORTS = {
    ("checkpoint.py", "pickle"),  # the class of an error that torch raises; nothing of it is called
    ("records.py", "importlib.metadata"),  # the version of this program
    ("discovery.py", "importlib.metadata"),  # the entry points of installed plugins, which a manifest cannot add to
    ("__init__.py", "importlib"),  # what imginav and imginav.plugin import late, by names that stand there
    ("file_plugins.py", "importlib.abc"),  # the source files that a user names as plugins, and no others
    ("file_plugins.py", "importlib.machinery"),  # as above
    ("file_plugins.py", "importlib.util"),  # as above
    ("terminal.py", "importlib.util"),  # whether ipywidgets is installed; it is not imported
    ("cli.py", "importlib.metadata"),  # the version, for --version
    ("environment.py", "importlib.metadata"),  # the versions of what was installed, for people
    ("commands.py", "importlib.metadata"),  # the version of imginav, which provides the core's own commands
    ("plugin_package.py", "importlib.metadata"),  # the version that a new plugin needs
    ("plugin_package.py", "importlib.util"),  # whether a module of this name is installed; it is not imported
    ("working_folder.py", "importlib"),  # resources: a file of the package
    ("lpips.py", "importlib.util"),  # the place of a package that comes with files of weights
    ("original.py", "pickle"),  # as for checkpoint.py
    ("__main__.py", "runpy"),  # runs the script that its user names on the command line
    ("original_adapter.py", "runpy"),  # as above, in the file that a user starts the original project's scripts by
}

ALLOWED_CALLS = {("__main__.py", "runpy.run_path"), ("original_adapter.py", "runpy.run_path")}
"""For the reasons above."""

Resolve = Callable[..., ResolvedManifest]


def name_of(node: ast.expr) -> str:
    """Return the dotted name that an expression is, or nothing."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls() -> Iterator[tuple[Path, str, ast.Call]]:
    """Return every call in the source with the name of what is called."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, name_of(node.func), node


def test_every_file_of_weights_is_loaded_as_weights_only() -> None:
    loads = [(path, name, call) for path, name, call in calls() if name.endswith("torch.load")]
    assert {path.name for path, _, _ in loads} >= {"checkpoint.py", "lpips.py", "vgg16.py"}
    for path, _, call in loads:
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert said.get("weights_only") == "True", path


def test_nothing_unpickles_or_makes_code_of_text() -> None:
    called = {(path.name, name) for path, name, _ in calls()}
    found = {c for c in called if c[1] in CODE_FROM_TEXT or c[1].partition(".")[0] in CODE_FROM_FILES}
    assert found == ALLOWED_CALLS
    # numpy and pandas unpickle, too; torch.hub and jit run what they load.
    wrong = {"np.load", "numpy.load", "pd.read_pickle", "torch.hub.load", "torch.jit.load", "torch.package"}
    assert [c for c in called if c[1] in wrong] == []


def test_what_could_unpickle_or_import_is_imported_only_where_a_reason_is_stated() -> None:
    imported = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported |= {(path.name, n) for n in names if n.partition(".")[0] in {*CODE_FROM_FILES, "importlib"}}
    assert imported <= ALLOWED_IMPORTS


def malicious(path: Path, how: str) -> Path:
    """Write a file that would execute something, in one of the ways that torch knows; return what it would make."""
    marker = path.with_name("executed")
    if how == "in a new archive":
        torch.save({"format": 2, "features.0.weight": Code(marker)}, path)
    elif how == "in an old file of torch":
        torch.save(Code(marker), path, _use_new_zipfile_serialization=False)
    elif how == "as a plain pickle":
        path.write_bytes(pickle.dumps(Code(marker), protocol=2))
    elif how == "in a class of torch's own":
        torch.save(torch.nn.Sequential(torch.nn.Linear(1, 1)), path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Code(marker), protocol=2))
            archive.writestr("archive/version", "3")
    return marker


WAYS = (
    "in a new archive",
    "in an old file of torch",
    "as a plain pickle",
    "in an archive made by hand",
    "in a class of torch's own",
)


@pytest.mark.parametrize("how", WAYS)
def test_code_in_a_checkpoint_is_refused_and_not_executed(how: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    marker = malicious(path, how)
    with pytest.raises(UserError, match=r"evil.pt: cannot be read as a checkpoint"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("how", WAYS)
def test_code_in_a_checkpoint_that_is_explained_is_refused_and_not_executed(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pt"
    marker = malicious(path, how)
    assert cli.main(["explain", str(path)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"imginav: {path}: cannot be read as a checkpoint")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not marker.exists()


@pytest.mark.parametrize("how", WAYS)
def test_code_in_the_weights_of_a_loss_is_refused_and_not_executed(how: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    marker = malicious(path, how)
    with pytest.raises(UserError, match=r"the perceptual loss cannot read .*evil.pth .*; download VGG16's weights"):
        Perceptual(weights=path).build()
    assert not marker.exists()


def test_the_malicious_files_would_do_what_they_say(tmp_path: Path) -> None:
    for number, how in enumerate(WAYS[:4]):
        folder = tmp_path / str(number)
        folder.mkdir()
        marker = malicious(folder / "evil.pt", how)
        if how == "as a plain pickle":
            pickle.loads((folder / "evil.pt").read_bytes())  # noqa: S301  # to see that it would
        else:
            torch.load(folder / "evil.pt", weights_only=False)
        assert marker.is_dir(), how


def test_a_manifest_names_no_code(resolve: Resolve) -> None:
    for name in ("os.system", "imginav_losses.MSE", "imginav_losses:MSE", "__import__", "../mse", "mse()"):
        with pytest.raises(UserError, match=r"no loss .* is installed"):
            resolve(f"losses.x={{ type = '{name}' }}")


PLAIN = st.from_regex(FILE_NAME, fullmatch=True)


def all_paths(folder: RunFolder) -> list[Path]:
    """Return every path that a run folder gives, and the copies in the shared one."""
    own = [getattr(folder, name) for name, made in vars(RunFolder).items() if isinstance(made, property)]
    own += [folder.numbered_checkpoint(7), folder.samples(7)]
    return [path for path in own if isinstance(path, Path)]


@given(PLAIN, PLAIN)
def test_every_file_of_an_accepted_name_lies_in_the_output(experiment: str, group: str) -> None:
    try:
        phase = Phase(id="1", experiment=experiment, group=group)
    except ValueError:
        assert experiment.casefold() == group.casefold()
        return
    folder = RunFolder(Path("/out/own") / phase.experiment, Path("/out/shared") / phase.group, phase.experiment)
    paths = all_paths(folder)
    assert len(paths) >= 8
    for path in paths:
        assert path.resolve().is_relative_to(Path("/out/own") / experiment)
        assert folder.shared_copy(path).resolve().is_relative_to(Path("/out/shared") / group)
        assert len(path.name.encode()) < 200  # disks take 255 bytes, and a file is written beside its place


@given(st.text(max_size=12) | st.text("./\\:CONnul aux\0é", max_size=8))
def test_a_name_that_is_not_plain_is_refused(name: str) -> None:
    odd = not all(c.isascii() and (c.isalnum() or c in "._-") for c in name)
    first_part = name.partition(".")[0].upper()
    devices = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}
    wrong = odd or not name or name[0] in "._-" or name.endswith(".") or first_part in devices
    assert (FILE_NAME.fullmatch(name) is None) == wrong


HOSTILE = "</title><script>alert('1')</script>{{ 7 * 7 }}\"><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    """Gathers the tags of a page, and its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def test_a_hostile_title_is_shown_as_it_is_written(resolve: Resolve, tmp_path: Path) -> None:
    resolved = resolve(f"phase.title='''{HOSTILE}'''", "train.epochs=1", "data.count=8")
    assert resolved.manifest.phase.title == HOSTILE
    run_experiment(resolved, log=lambda _: None, timed=False)
    text = (tmp_path / "experiments" / "tiny" / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    own = re.findall(r"<script.*?</script>", text, re.DOTALL)
    # The template's: data of the curves, the library that draws them, the script that uses it, that of the page.
    assert tags.tags.count("script") == len(own) == 4
    assert not [script for script in own if "alert" in script]
    assert "onerror" not in tags.attributes
    assert "&lt;/title&gt;&lt;script&gt;" in text
    assert "{{ 7 * 7 }}" in text


@pytest.mark.parametrize("template", ["report.html.j2", "phase.html.j2"])
def test_no_template_turns_the_escaping_off(template: str) -> None:
    text = (ROOT / "plugins" / "reports" / "imginav_reports" / "templates" / template).read_text(encoding="utf-8")
    assert "safe" not in text
    assert "autoescape" not in text
    assert callable(page)


@given(st.from_regex(ENTRY_NAME, fullmatch=True))
def test_a_loss_a_head_or_a_callback_has_a_name_that_a_column_can_have(name: str) -> None:
    assert not set(name) & set(",;\"'\n\r\t .=/\\<>&$")


@pytest.mark.parametrize("name", ["a.b", "a,b", "", " ", "a\nb", "$x$", "<b>", "../up", "é", "a" * 101])
@pytest.mark.parametrize("table", ["losses", "callbacks", "decoder.heads"])
def test_other_names_of_losses_heads_and_callbacks_are_refused(resolve: Resolve, table: str, name: str) -> None:
    kinds: dict[str, Any] = {"losses": "mse", "callbacks": "progress", "decoder.heads": "rgb"}
    key = '"' + name.replace("\n", "\\n") + '"'
    with pytest.raises(UserError, match=r"expected names of letters, digits, '_' and '-', found|expected key=value"):
        resolve(f'{table}.{key}={{ type = "{kinds[table]}" }}')
