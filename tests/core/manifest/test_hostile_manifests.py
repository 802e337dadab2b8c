"""What is too deep, too large, too many or no file at all is refused at once, with one sentence."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from imginav import UserError
from imginav.manifest.config_layers import ConfigLayer, leaves, merge
from imginav.manifest.loading import load_phase
from imginav.manifest.reading import MOST_BYTES, MOST_VALUES, parse_toml
from imginav.manifest.resolved import ResolvedManifest, ResolvedPhase
from imginav.model.autoencoder import MOST_PARAMETERS, build_autoencoder
from imginav.plugin.registry import Registry
from imginav.seeds import Seeds
from imginav.study.phases import Options
from imginav_inspect.explanation import explain
from imginav_inspect.phase_check import check_phases

SECONDS = 5.0
"""Of processor time. Most are refused in milliseconds; what hangs does not end at all."""

Load = Callable[..., ResolvedPhase]
Resolve = Callable[..., ResolvedManifest]

PHASE = """
[phase]
id = "0"
experiment = "tiny"
group = "tinies"
[data]
type = "procedural"
[encoder]
type = "conv"
[decoder]
type = "conv"
heads.rgb = { type = "rgb" }
[losses]
mse = {}
[train]
epochs = 2
optimizer = { type = "adamw" }
"""


@contextmanager
def refused(match: str, characters: int = 2_000, seconds: float = SECONDS) -> Iterator[None]:
    """Expect a user error with such a text, short and soon."""
    start = time.process_time()
    with pytest.raises(UserError, match=match) as caught:
        yield
    assert time.process_time() - start < seconds
    assert len(str(caught.value)) < characters
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> Load:
    """Load the tiny phase with more text and settings, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def load(more: str = "", *settings: str, site: Path | None = None) -> ResolvedPhase:
        Path("phase.toml").write_text(f"{PHASE}\n{more}\n", encoding="utf-8")
        return load_phase(Path("phase.toml"), registry, settings=settings, site=site)

    return load


LEVELS = 100_000

DEEP = {
    "lists": "x = " + "[" * LEVELS,
    "lists that end": "x = " + "[" * LEVELS + "]" * LEVELS,
    "lists that the parser takes": "x = " + "[" * 300 + "]" * 300,
    "tables in a line": "x = " + "{a = " * LEVELS,
    "tables in a line that the parser takes": "x = " + "{a = " * 300 + "1" + "}" * 300,
    "a dotted key": ".".join(["a"] * LEVELS) + " = 1",
    "a dotted key that the parser takes": ".".join(["a"] * 900) + " = 1",
    "a dotted key in quotes": ".".join(['"a\\"b"'] * 900) + " = 1",
    "a dotted key in single quotes": " . ".join(["'a.\"b'"] * 900) + " = 1",
    "a heading": "[" + ".".join(["a"] * LEVELS) + "]",
    "a heading of lists of tables": "[[" + ".".join(["a"] * 900) + "]]",
    "dotted keys below each other": "[" + ".".join(["a"] * 20) + "]\n" + ".".join(["b"] * 20) + " = 1",
    "dotted keys in each other": "{a.b.c = ".join(["x = "] + [""] * 20) + "1" + "}" * 20,
}


@pytest.mark.parametrize("how", DEEP)
def test_what_is_nested_too_deeply_is_refused(load: Load, how: str) -> None:
    with refused("is nested too deeply for a manifest|is not valid TOML"):
        load(DEEP[how])


def test_many_long_keys_below_each_other_take_no_time(load: Load) -> None:
    # The parser alone takes minutes for these 0.9 MB.
    many = "[" + ".".join(["a"] * 900) + "]\n" + "\n".join(".".join(["c"] * 450 + [f"b{i}"]) + "=1" for i in range(990))
    with refused("is nested too deeply for a manifest: a key of more than 32 parts"):
        load(many)


@pytest.mark.parametrize("table", ["[trial]", "[sweep.experiments.A]", "[sweep.experiments]\nB = {}\n[sweep.grid]"])
def test_a_dotted_key_of_a_table_of_changes_is_refused_where_it_is_too_deep(load: Load, table: str) -> None:
    with refused("nested too deeply for a manifest|a key of 1,999 characters; 200 are the most"):
        load(f"{table}\n'{'.'.join(['a'] * 1000)}' = 1")
    with refused("nested too deeply for a manifest|expected a list"):
        load(f"{table}\n'{'.'.join(['a'] * 90)}' = 1")


@pytest.mark.parametrize(
    ("number", "match"),
    [
        ("9" * 5000, "holds a number of thousands of digits"),
        ("1_" * 200_000 + "1", "holds a number of thousands of digits"),
        ("0x" + "f" * 200_000, "a whole number of more than 64 bits"),
        (str(2**63), "a whole number of more than 64 bits"),
        (f"-{2**63}", r"expected a whole number, found -9223372036854775808 @ train.seed"),
        ("1e" + "9" * 5000, "expected a whole number, found inf @ train.seed"),
        ("1." + "9" * 200_000, "expected a whole number, found 2.0 @ train.seed"),
        ("nan", "expected a whole number, found nan @ train.seed"),
        ("1979-05-27T07:32:00Z", r"expected a whole number, found datetime.datetime\(1979, 5, 27"),
        ("07:32:00", r"expected a whole number, found datetime.time\(7, 32\) @ train.seed"),
        ("9999-99-99", "is not valid TOML"),
        ("[1, 'a', [2.5, {}]]", r"expected a whole number, found \[1, 'a', \[2.5, {}\]\] @ train.seed"),
    ],
)
def test_a_number_that_is_none_is_refused(load: Load, number: str, match: str) -> None:
    with refused(match):
        load(f"seed = {number}")
    if len(number) < 100 and "9999" not in number:
        with refused(match.replace("phase.toml", "--set")):
            load("", f"train.seed={number}")


def test_dotted_keys_within_tables_of_changes_are_counted_together(load: Load) -> None:
    # Neither the table nor the key is too deep by itself.
    with refused(r"phase.toml \[trial\]: .* is nested too deeply for a manifest"):
        load(f"[trial.{'.'.join(['a'] * 20)}]\n'{'.'.join(['b'] * 20)}' = 1")


def test_a_number_of_thousands_of_digits_is_refused_on_the_command_line(load: Load) -> None:
    with refused("--set 'train.seed=999.*holds a number of thousands of digits"):
        load("", "train.seed=" + "9" * 5000)


BIG = "# " + "x" * MOST_BYTES


def test_a_file_that_is_too_large_is_refused_wherever_it_stands(load: Load, registry: Registry) -> None:
    match = r"is larger than 1,048,576 bytes, which no manifest is; "
    with refused(f"phase.toml: {match}"):
        load(BIG * 10)
    Path("big.toml").write_text(BIG)
    Path("above.toml").write_text("extends = 'big.toml'")
    with refused(f"big.toml: {match}"):
        load_phase(Path("above.toml"), registry)
    with refused(f"big.toml: {match}"):
        load(site=Path("big.toml"))
    Path("outputs/earlier").mkdir(parents=True)
    Path("outputs/earlier/winner.toml").write_text(BIG)
    with refused(f"outputs/earlier/winner.toml: {match}.*restore the file"):
        load('[winners]\n"1.1" = ["losses"]')
    with refused(f"big.toml: {match}name a run folder"):
        explain(Path("big.toml"), registry)
    with refused("--set 'train.monitor=xxx.*: a text of 1,048,576 characters; 10,000 are the most"):
        load("", "train.monitor=" + "x" * MOST_BYTES)


def test_as_large_as_a_manifest_may_be_it_is_read(load: Load) -> None:
    assert load("#" * (MOST_BYTES - 10_000)).experiments


MANY = {
    "keys": "".join(f"k{i}=1\n" for i in range(90_000)),
    "values of a list": "monitor = [" + "1," * 400_000 + "]",
    "tables": "".join(f"[t{i}]\n" for i in range(90_000)),
    "lists of tables": "[[a]]\n" * 150_000,
    "losses": "[losses]\n" + "".join(f"l{i}={{}}\n" for i in range(50_000)),
    "losses of no kind": "[losses]\n" + "".join(f"l{i}={{}}\n" for i in range(900)),
    "filters": "[data.filters]\n" + "".join(f"l{i}=1\n" for i in range(90_000)),
    "spaces and an end that is wrong": " " * 900_000 + "=",
    "quotes": "x = '" + '"' * 900_000,
    "words": "x = " + "a" * 900_000,
    "words and dots": "# " + "a." * 15 + " " + "b " * 400_000 + "\n=",
}


@pytest.mark.parametrize("what", MANY)
def test_what_there_is_far_too_much_of_is_refused(load: Load, what: str) -> None:
    # The largest files take seconds to read, and longer beside other tests.
    with refused("phase.toml: ", characters=60_000, seconds=4 * SECONDS):
        load(MANY[what].replace("[losses]\n", "[callbacks]\n"))


def test_the_faults_that_are_shown_have_an_end(load: Load) -> None:
    with pytest.raises(UserError) as caught:
        load("[callbacks]\n" + "".join(f"c{i} = 3\n" for i in range(500)))
    assert len(caught.value.faults) == 101
    assert caught.value.faults[-1] == "… and more"
    with pytest.raises(UserError, match=r"980 more unknown keys; known are: phase, data") as caught:
        load("".join(f"[t{i}]\n" for i in range(1000)))
    assert len(caught.value.faults) == 21


def test_more_values_than_any_manifest_has_are_refused() -> None:
    with refused(f"x.toml: holds more than {MOST_VALUES:,} values"):
        parse_toml("x = [" + "1," * MOST_VALUES + "]", "x.toml")


SWEEP = "[sweep.experiments]\nA = {}\n[sweep]\n"


@pytest.mark.parametrize(
    ("sweep", "number"),
    [
        ("[sweep.grid]\n" + "".join(f"'train.a{i}' = {list(range(1000))}\n" for i in range(4)), "1,000,000,000,000"),
        ("[sweep.grid]\n'train.seed' = " + str(list(range(1001))), "1,001"),
        (f"[sweep]\nexperiments.A = {{}}\nseeds = {list(range(5000))}", "5,000"),
        (f"[sweep]\nexperiments.A = {{}}\ngrid.'train.x' = {list(range(40))}\nseeds = {list(range(40))}", "1,640"),
    ],
)
def test_a_sweep_of_more_experiments_than_anyone_runs_is_refused(load: Load, sweep: str, number: str) -> None:
    with refused(rf"phase.toml: \[sweep\] makes {number} experiments; .*: 1,000 are the most"):
        load(sweep)


def test_many_experiments_of_many_values_are_refused(load: Load) -> None:
    filters = "[data.filters]\n" + "".join(f"f{i} = 1\n" for i in range(900))
    with refused(r"phase.toml: its experiments have 8\d\d,\d00 values, more than 100,000; take fewer of them"):
        load(f"{filters}[sweep.grid]\n'train.seed' = {list(range(900))}")


def test_a_thousand_experiments_are_loaded(load: Load) -> None:
    start = time.process_time()
    phase = load(f"[sweep.grid]\n'train.seed' = {list(range(1000))}")
    assert len(phase.experiments) == 1000
    assert time.process_time() - start < 4 * SECONDS


def test_a_chain_of_thousands_of_files_is_refused(load: Load, registry: Registry) -> None:
    load()
    for number in range(2000):
        Path(f"{number}.toml").write_text(f"extends = '{number + 1}.toml'")
    with refused("31.toml: is the 32th of files that extend each other"):
        load_phase(Path("0.toml"), registry)


def socket_at(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)


NO_FILES: dict[str, Callable[[str], object]] = {
    "a pipe": os.mkfifo,
    "a device that never ends": lambda path: Path(path).symlink_to("/dev/zero"),
    "a device that is empty": lambda path: Path(path).symlink_to("/dev/null"),
    "a socket": socket_at,
    "a folder": os.mkdir,
    "a link to itself": lambda path: Path(path).symlink_to(path),
    "a link to nothing": lambda path: Path(path).symlink_to("nothing"),
}


@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_file_is_refused_and_not_waited_for(load: Load, registry: Registry, what: str) -> None:
    load()
    NO_FILES[what]("odd.toml")
    match = "odd.toml: (is no file but a device, a pipe or a socket|cannot be read: |no such file)"
    with refused(match):
        load_phase(Path("odd.toml"), registry)
    with refused(match):
        load(site=Path("odd.toml"))
    Path("above.toml").write_text("extends = 'odd.toml'")
    with refused(r"above.toml: extends = 'odd.toml': there is no file odd.toml|goes round in a circle"):
        load_phase(Path("above.toml"), registry)
    with refused(f"{match}|odd.toml/manifest.toml: no such file"):
        explain(Path("odd.toml"), registry)
    Path("outputs/earlier").mkdir(parents=True)
    NO_FILES[what]("outputs/earlier/winner.toml")
    if not what.startswith("a link"):  # which is as if it were not there
        with refused(r"winner.toml: (is no file but|cannot be read)"):
            load('[winners]\n"1.1" = ["losses"]')


@pytest.mark.parametrize("name", ["a\0b.toml", "\udcff.toml", "x" * 5000, "\u202e.toml", "e\u0301.toml", "🦊", "", "."])
def test_a_path_that_can_be_none_is_refused(load: Load, registry: Registry, name: str) -> None:
    load()
    with refused("no such file|can be no path|File name too long|Is a directory", characters=20_000):
        load_phase(Path(name), registry)
    with refused("no such file|can be no path|File name too long|Is a directory", characters=20_000):
        load("", site=Path(name))


def test_a_phase_in_a_file_of_an_odd_name_is_written_down_again(load: Load, registry: Registry) -> None:
    load()
    for name in ("\udcff.toml", "\u202e\x1b[2J.toml", "e\u0301.toml", "🦊.toml", "# [x].toml"):
        Path("phase.toml").rename(name)
        experiment = load_phase(Path(name), registry).experiments[0]
        Path("phase.toml").write_text(experiment.to_toml(), encoding="utf-8")
        assert load_phase(Path("phase.toml"), registry).manifest == experiment.manifest
        assert explain(Path("phase.toml"), registry).heading.isprintable()


NOT_NAMES = (
    "..",
    ".",
    "....",
    "../up",
    "a/b",
    "/abs",
    "a\\\\b",
    "C:x",
    "CON",
    "nul",
    "aux.txt",
    "Com1.log",
    "a.",
    "",
    " ",
    "a b",
    "a" * 101,
    "a" * 9_000,
    ".hidden",
    "-rf",
    "a\\u0000b",
    "a\\nb",
    "\\u202egpj",
    "a\\u200db",
    "é",
    "e\u0301",
    "🦊",
)


OF_A_KIND = {"losses": "mse", "callbacks": "progress", "decoder.heads": "rgb"}


@pytest.mark.parametrize("name", NOT_NAMES)
def test_a_name_that_is_not_one_on_every_system_is_refused(load: Load, registry: Registry, name: str) -> None:
    load()
    expected = "expected (a plain name of letters|a name that no system keeps|names of letters)"
    for key, right in (("experiment", "tiny"), ("group", "tinies")):
        Path("odd.toml").write_text(PHASE.replace(f'{key} = "{right}"', f'{key} = "{name}"'), encoding="utf-8")
        with refused(rf"{expected}.* @ phase.{key} \(odd.toml\)"):
            load_phase(Path("odd.toml"), registry)
    with refused(f"{expected}|a key of"):
        load(f'[sweep.experiments."{name}"]\n"train.seed" = 1')
    if any(c not in "abcdefghijklmnopqrstuvwxyzCON-" for c in name) or len(name) > 100 or not name:
        for table in OF_A_KIND:
            with refused(f"{expected}|a key of"):
                load("", f'{table}."{name}"={{ type = "{OF_A_KIND[table]}" }}')


@pytest.mark.parametrize("title", ["\\u001b[2J", "a\\nb", "\\u0000", "\\u202e", "\\u2028", "\\u0085"])
def test_a_title_that_moves_the_cursor_is_refused(load: Load, registry: Registry, title: str) -> None:
    for key in ("title", "id"):
        text = PHASE.replace('id = "0"', "").replace("[phase]", f'[phase]\n{key} = "{title}"')
        Path("phase.toml").write_text(text if key == "id" else text.replace("[phase]", '[phase]\nid = "0"'))
        with refused(rf"expected text in one line, without control characters, found .* @ phase.{key}"):
            load_phase(Path("phase.toml"), registry)


@pytest.mark.parametrize("title", ["e\u0301 é", "👩‍🔬 🦊", "\u200fעברית", "$x$ {{ 1 }} <b>", "C:\\x ../.."])
def test_a_title_may_have_any_letters(load: Load, title: str) -> None:
    phase = load("", f"phase.title={title}")
    assert phase.manifest.phase.title == title
    Path("phase.toml").write_text(phase.experiments[0].to_toml(), encoding="utf-8")


def test_names_that_differ_in_capitals_alone_are_one_folder_on_some_disks(load: Load, registry: Registry) -> None:
    with refused("two experiments would have the same run folder tiny_a"):
        load("[sweep.experiments]\na = { 'train.seed' = 1 }\nA = { 'train.seed' = 2 }")
    Path("phase.toml").write_text(PHASE.replace('"tinies"', '"TINY"'))
    with refused("expected experiment and group to differ, found 'TINY' for both"):
        load_phase(Path("phase.toml"), registry)


@pytest.mark.parametrize("name", ["../../up", "/abs", "\\u0000", "*", "[", "CON", "a" * 150, "🦊"])
def test_the_number_of_an_earlier_phase_finds_nothing_outside_the_output(load: Load, name: str) -> None:
    Path("up").mkdir()
    Path("up/winner.toml").write_text("not = 'read'")
    assert load(f'[winners]\n"{name}" = ["losses"]').without_winner


def test_a_hostile_lineage_is_refused(load: Load, registry: Registry) -> None:
    with refused(r"lineage.\.\./up\\x00[.\w]* is required"):
        load('[lineage."../up\\u0000"]\nphase = "1"')
    Path("phase.toml").write_text(f"lineage = 3\n{PHASE}")
    with refused("expected a table, found 3 @ lineage"):
        load_phase(Path("phase.toml"), registry)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ("data.image_size=1000000000", "expected a number from 16 to 4096"),
        ("data.crop=1000000000", "expected a number from 8 to 4096"),
        ("data.count=1000000000000", "expected a number from 2 to 1000000"),
        ("data={ crop = 64, crops = 1000000000 }", "expected a number from 1 to 1024"),
        ("data.whole_epochs=-1", "expected a number from 0 to 1000000"),
        ("data.whole_epochs=1000000000000", "expected a number from 0 to 1000000"),
        ("encoder={ type = 'residual', blocks = 1000000000 }", "expected a number from 0 to 32"),
        ("decoder={ type = 'residual', blocks = 1000000000 }", "expected a number from 0 to 32"),
        ("encoder.base_channels=1000000000", "expected a number from 1 to 4096"),
        ("encoder.latent_channels=1000000000", "expected a number from 1 to 4096"),
        ("decoder.base_channels=1000000000", "expected a number from 1 to 4096"),
        ("encoder.downsampling_steps=1000000000", "expected a number from 1 to 8"),
        ("train.epochs=1000000000000", "expected a number from 1 to 1000000"),
        ("train.batch_size=1000000000000", "expected a number from 1 to 65536"),
        ("callbacks.samples.count=1000000000", "expected a number from 1 to 1024"),
        ("callbacks.samples.columns=1000000000", "expected a number from 1 to 64"),
        ("callbacks.samples.tile=1000000000", "expected a number from 16 to 2048"),
        ("callbacks.samples={ count = 1000, tile = 2000 }", "to have at most 100,000,000 pixels, found 1000 of 2000"),
        ("machine.threads=1000000", "expected a number from 1 to 1024"),
        ("machine.workers=1000000", "expected workers from 0 to 256, or 'auto', found 1000000"),
        ("machine.accumulate=1000000", "expected a number from 1 to 65536"),
        ("train.optimizer={ type = 'muon', learning_rate = -1 }", "expected a number of at least 0, found -1.0"),
        ("train.optimizer={ type = 'muon', learning_rate = inf }", "found inf @ train.optimizer.learning_rate"),
        ("train.optimizer={ type = 'muon', adamw_learning_rate = nan }", "found nan @ train.optimizer.adamw_lear"),
        (
            "train.optimizer={ type = 'muon', momentum = 1 }",
            "expected a number between 0 and 1, both excluded, found 1",
        ),
        ("train.optimizer={ type = 'muon', weight_decay = -0.1 }", "expected a number of at least 0, found -0.1"),
        ("machine.cache=true", "expected a path in quotes or false, found True @ machine.cache"),
        ("machine.compile=1", "expected true or false or 'auto', found 1 @ machine.compile"),
    ],
)
def test_a_size_that_no_machine_has_is_refused(load: Load, said: str, match: str) -> None:
    with refused(match):
        load("", said)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ("encoder.base_channels=4096", r"the autoencoder would have [0-9,]+ parameters; 250,000,000 are the most"),
        ("encoder.downsampling_steps=8", r"the autoencoder would have [0-9,]+ parameters; 250,000,000 are the most"),
        (
            "encoder={ type = 'residual', blocks = 32, base_channels = 256 }",
            r"the autoencoder would have [0-9,]+ parameters; 250,000,000 are",
        ),
        ("data.image_size=4096", r"takes 8.6 GB for one layer's output of a single layout; 4.3 GB are the most"),
    ],
)
def test_sizes_that_no_machine_has_together_are_faults_of_a_check(
    load: Load, registry: Registry, said: str, match: str
) -> None:
    load()
    start = time.process_time()
    settings = (said, "data.count=4", "encoder.base_channels=128" if "channels" not in said else "train.seed=1")
    (checked,) = check_phases([Path("phase.toml")], registry, Options(settings=settings))
    assert time.process_time() - start < 2 * SECONDS
    (fault,) = checked.faults
    with refused(match):
        raise UserError(fault)


def test_more_crops_than_memory_holds_the_order_of_are_a_fault_of_a_check(load: Load, registry: Registry) -> None:
    load()
    settings = ("data.count=100000", "data.crop=64", "data.crops=1024", "data.image_size=64")
    (checked,) = check_phases([Path("phase.toml")], registry, Options(settings=settings))
    (fault,) = checked.faults
    with refused(r"data.crops = 1024 makes 81,920,000 crops of 80,000 training layouts, .*; 50,000,000 are the most"):
        raise UserError(fault)


def test_the_count_of_parameters_changes_no_weight(resolve: Resolve, registry: Registry) -> None:
    manifest = resolve().manifest
    spec = manifest.data.open().spec
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = build_autoencoder(manifest.encoder, manifest.decoder, spec, Seeds(1))
    assert torch.equal(torch.get_rng_state(), before)
    second = build_autoencoder(manifest.encoder, manifest.decoder, spec, Seeds(1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert all(parameter.device.type == "cpu" for parameter in first.parameters())
    assert sum(p.numel() for p in first.parameters()) < MOST_PARAMETERS


def test_a_setting_of_two_lines_is_text_and_hides_nothing(load: Load) -> None:
    with refused(r"expected a whole number, found '3\\ntrain.seed = 4' @ train.epochs \(--set\)"):
        load("", "train.epochs=3\ntrain.seed = 4")


@pytest.mark.parametrize("said", ["phase.title=\udcff", "\udcff=1", "output.shared='\udcff'"])
def test_a_setting_that_is_no_text_is_refused(load: Load, said: str) -> None:
    with refused("is not Unicode text; write it in UTF-8"):
        load("", said)


def test_a_dot_within_a_key_is_refused_before_it_leads_nowhere(load: Load) -> None:
    # Without dots a column may be called anything.
    layouts = ("data.type=layouts", "data.manifest=a.csv")
    assert load("", *layouts, "data.filters.'é $x'=1").manifest
    with refused(r"expected keys without dots in them; rename it @ data.filters.a.b \(--set\)"):
        load("", *layouts, "data.filters.'a.b'=1")


@pytest.mark.parametrize("path", ["pipe", "/dev/zero"])
def test_a_list_of_layouts_that_is_no_file_is_not_waited_for(load: Load, path: str) -> None:
    os.mkfifo("pipe")
    phase = load("", "data.type=layouts", f"data.manifest={path}")
    with refused(f"data.manifest = '{path}': is no file but a device, a pipe or a socket; name a file"):
        phase.manifest.data.open()


def test_an_empty_table_over_values_leaves_them_and_their_origins(load: Load) -> None:
    tables, origins = merge(
        [ConfigLayer("a", {"x": {"y": 1, "z": 2}}), ConfigLayer("b", {"x": {}}), ConfigLayer("c", {"x": {"z": 3}})]
    )
    assert tables == {"x": {"y": 1, "z": 3}}
    assert origins == {("x", "y"): "a", ("x", "z"): "c"}
    assert set(origins) == {keys for keys, _ in leaves(tables)}
