"""What the documents say is true."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import tomli

from imginav import cli
from imginav.manifest import loading, tables
from imginav.manifest.site import keys_not_allowed_in_site
from imginav.plugin.commands import CommandSpecs
from imginav.plugin.hookspecs import RunSpecs
from imginav.plugin.registry import PluginSpecs, Registration, Registry, installed
from imginav.study import phases

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for path in DOCUMENTS:
        fenced = re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        found += [(str(path.relative_to(ROOT)), block) for block in fenced]
    return found


def test_python_blocks_run_one_after_the_other() -> None:
    names: dict[str, object] = {"__name__": "documents"}
    for path, block in blocks("python"):
        # Two need an export, in integration/test_phase2.py; one is installed in test_plugin_docs.py; the last trains,
        # in plugins/api/test_page_of_docs.py.
        if path not in ("docs/handoff.md", "docs/phase2.md", "docs/plugins.md", "docs/python.md"):
            exec(compile(block, path, "exec"), names)  # noqa: S102  # the project's own documents
    registry = Registry()
    registry.add("metric", "darkest", names["Darkest"])  # type: ignore[arg-type]  # refused where it is no component
    assert [(r.kind, r.name) for r in registry] == [("metric", "darkest")]


@pytest.mark.parametrize(("path", "block"), blocks("toml"))
def test_toml_blocks_fit(path: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = tomli.loads(block)
    if "project" in tables:
        assert tables["project"]["entry-points"].keys() & {"imginav", "imginav.commands"}
        return
    if not keys_not_allowed_in_site(tables):
        Path("imginav.toml").write_text(block)
        phase = loading.load_phase(ROOT / "phases" / "1_5.toml", installed())
        assert "imginav.toml" in phase.experiments[0].origins.values() or set(tables) == {"cluster"}
        assert bool(phase.profiles) == ("cluster" in tables)
        return
    # A part of a phase stands upon the rest of one.
    shutil.copy(ROOT / "phases" / "base.toml", "base.toml")
    rest = "" if "extends" in tables else 'extends = "base.toml"\nphase = { id = "0", experiment = "a", group = "b" }\n'
    Path("phase.toml").write_text(rest + block)
    phase = loading.load_phase(Path("phase.toml"), installed())
    assert phase.varied or phase.winners or "train" in tables


def test_every_fault_names_a_test_that_there_is() -> None:
    rows = re.findall(r"^\|.*\| `(\S+)::(\S+)` \|$", (ROOT / "docs" / "reliability.md").read_text(), re.MULTILINE)
    assert len(rows) >= 30
    for file, name in rows:
        assert re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), f"{file}::{name}"


def commands(program: str) -> list[str]:
    lines = [line for _, block in blocks("sh") for line in block.splitlines() if line.startswith(f"{program} ")]
    return sorted(set(lines))


@pytest.mark.parametrize("command", commands("imginav"))
def test_commands_are_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs themselves are tested elsewhere; here, that each documented line is one that imginav takes."""
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(command, comments=True)[1:]
    if arguments in (["--version"], ["--help"]):
        with pytest.raises(SystemExit, match="0"):
            cli.main(arguments)
        return
    options = cli._parser(cli._commands()).parse_args(arguments)
    if "phase" in options:
        phase = loading.load_phase(options.phase, installed(), settings=options.settings, scale=options.scale)
        assert phase.id.replace(".", "_") == options.phase.stem
        assert phases.chosen(phase, getattr(options, "only", ()))
    elif options.command.name == "study":
        assert len(phases.phases_in_order(options.folder)) == 5
    assert callable(options.command.run)


def test_options_of_the_benches_are_documented_and_there() -> None:
    """That they measure is tested elsewhere."""
    command = [sys.executable, "-m", "pytest", "benches/", "--help"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    _, _, own = listed.partition("what imginav's benches measure:")
    documented = (ROOT / "docs" / "performance.md").read_text()
    assert set(re.findall(r"^  (--[a-z-]+)", own.partition("\n\n")[0], re.MULTILINE)) <= set(
        re.findall(r"--[a-z-]+", documented)
    )
    lines = commands("pytest")
    assert lines
    for line in lines:
        assert set(re.findall(r"--[a-z-]+", line)) <= set(re.findall(r"--[a-z-]+", listed)), line
        assert all((ROOT / path).exists() for path in re.findall(r"\S+\.toml|benches/", line)), line


@pytest.mark.parametrize("specs", [PluginSpecs, CommandSpecs, RunSpecs])
def test_every_hook_and_its_arguments_are_documented(specs: type) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    hooks = {name: spec for name, spec in vars(specs).items() if not name.startswith("_")}
    assert hooks
    for name, spec in hooks.items():
        arguments = ", ".join(f"`{p}`" for p in inspect.signature(spec).parameters if p != "self")
        assert f"| `{name}` | {arguments} |" in text


@pytest.mark.parametrize(
    "registration", list(installed()), ids=lambda r: f"{r.kind}-{r.name}" if isinstance(r, Registration) else ""
)
def test_every_component_and_its_keys_are_documented(registration: Registration) -> None:
    pages = ("cluster.md", "evaluation.md", "handoff.md", "manifest.md", "probe.md", "study.md")
    text = "".join((ROOT / "docs" / name).read_text() for name in pages)
    assert f"`{registration.name}`" in text
    assert [f.name for f in attrs.fields(registration.component) if f.init and f"`{f.name}`" not in text] == []


@pytest.mark.parametrize("table", [tables.Phase, tables.Train, tables.Machine, tables.Output])
def test_every_key_of_the_core_is_documented(table: type) -> None:
    text = (ROOT / "docs" / "manifest.md").read_text()
    assert [f.name for f in attrs.fields(table) if f"| `{f.name}` |" not in text] == []


@pytest.mark.parametrize("table", [tables.Sweep, tables.Plan])
def test_every_key_of_a_study_is_documented(table: type) -> None:
    text = (ROOT / "docs" / "study.md").read_text()
    assert [f.name for f in attrs.fields(table) if f"`{f.name}`" not in text and f"[{f.name}]" not in text] == []


def test_every_command_is_documented() -> None:
    text = "".join(path.read_text() for path in DOCUMENTS)
    (commands,) = [a for a in cli._parser(cli._commands())._actions if isinstance(a, argparse._SubParsersAction)]
    assert [name for name in commands.choices if f"imginav {name}" not in text] == []


def holds_code(path: Path) -> bool:
    """Whether there is more in a file than a docstring."""
    tree = ast.parse(path.read_text())
    return len(tree.body) > (0 if ast.get_docstring(tree) is None else 1)


def files_described(folder: str) -> list[str]:
    """Return the files of a folder that the architecture page describes, in its order."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    return re.findall(rf"^\| `({folder}/\S+\.py)` \| .+ \|$", text, re.MULTILINE)


def test_the_reading_order_names_every_file_of_the_core() -> None:
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "core" / "imginav").rglob("*.py") if holds_code(path)]
    assert sorted(files_described("core/imginav")) == sorted(files)


def test_each_file_of_the_reading_order_imports_only_files_further_down() -> None:
    layers = runpy.run_path(str(ROOT / "docs" / "layers.py"))
    described = [layers["module_name"](ROOT / file) for file in files_described("core/imginav")]
    for place, module in enumerate(described):
        assert not layers["imports_of"](module) & set(described[:place]), module


def test_the_page_describes_every_file_of_each_plugin_that_it_lists() -> None:
    described = files_described("plugins")
    packages = {(ROOT / file).parent for file in described}
    assert len(packages) == 11
    files = [str(path.relative_to(ROOT)) for package in packages for path in package.glob("*.py") if holds_code(path)]
    assert sorted(described) == sorted(files)


def test_the_tables_of_imports_are_what_the_script_prints() -> None:
    """Numbers of files and lines may be older than the source: `python docs/layers.py --write` renews them."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    script = [sys.executable, "docs/layers.py"]
    printed = subprocess.run(script, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    shown = page.partition("<!-- begin: python docs/layers.py --write -->\n")[2].partition("<!-- end -->")[0]
    without_numbers = [re.sub(r"\| [\d,]+ (?=\|)", "| ", text.strip()) for text in (shown, printed)]
    assert "`training/`" in printed
    assert without_numbers[0] == without_numbers[1]


def test_each_function_on_the_way_to_the_gradients_calls_the_next() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    way = re.findall(r"^\| (\d*) ?\| `(\w+)` \| `(core/\S+\.py)` \|$", page, re.MULTILINE)
    assert [number for number, _, _ in way] == ["", *(str(call) for call in range(1, len(way)))]
    assert (way[0][1], way[-1][1]) == ("main", "backward")
    called = [function for _, function, _ in way[1:]]
    for (_, function, file), callee in zip(way, [*called, "backward"], strict=True):
        tree = ast.parse((ROOT / file).read_text())
        (body,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == function]
        calls = [n.func for n in ast.walk(body) if isinstance(n, ast.Call)]
        names = {
            f.attr if isinstance(f, ast.Attribute) else f.id for f in calls if isinstance(f, ast.Name | ast.Attribute)
        }
        assert callee in names, f"{file}: {function} does not call {callee}"


def test_the_list_of_plugins_in_the_readme_is_what_is_printed() -> None:
    listed = subprocess.run([sys.executable, "-m", "imginav", "plugins"], capture_output=True, text=True, check=True)
    printed = {" ".join(line.split()) for line in listed.stdout.splitlines()[1:]}
    readme = (ROOT / "README.md").read_text()
    shown = {" ".join(line.split()) for line in readme.splitlines() if "  imginav 0." in line}
    assert printed == shown


def test_no_table_is_broken_in_two() -> None:
    for path in DOCUMENTS:
        lines = ["", *path.read_text().splitlines(), ""]
        first_rows = [n for n, line in enumerate(lines) if line.startswith("| ") and not lines[n - 1].startswith("|")]
        assert [lines[n] for n in first_rows if not lines[n + 1].startswith("|-")] == [], path.name


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_script_in_the_documents_is_what_submit_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "phases", "phases")
    text = (ROOT / "docs" / "cluster.md").read_text()
    site = next(block for path, block in blocks("toml") if path == "docs/cluster.md")
    Path("imginav.toml").write_text(site.partition("\n[cluster.profiles")[0])
    assert cli.main(["submit", "phases/1_5.toml", "--dry-run"]) == 0
    assert f"```text\n{capsys.readouterr().out}```" in text
