"""Layers of tables: files that extend others, settings, merging."""

from __future__ import annotations

from pathlib import Path

import pytest

from imginav import UserError
from imginav.manifest.config_layers import ConfigLayer, expand, merge, read_chain, setting


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)


def test_a_file_stands_upon_those_that_it_extends(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    write(tmp_path / "common", ground="a = 1\nb = 1\nc = 1\n", floor='extends = "ground.toml"\nb = 2\nc = 2\n')
    write(tmp_path, phase='extends = "common/floor.toml"\nc = 3\n')
    chain = read_chain(tmp_path / "phase.toml")
    tables, origins = merge(chain)
    assert tables == {"a": 1, "b": 2, "c": 3}
    assert {key[0]: Path(origin).name for key, origin in origins.items()} == {
        "a": "ground.toml",
        "b": "floor.toml",
        "c": "phase.toml",
    }


def test_a_circle_names_every_file_on_the_way(tmp_path: Path) -> None:
    write(tmp_path, a='extends = "b.toml"', b='extends = "c.toml"', c='extends = "./a.toml"')
    way = " → ".join(str(tmp_path / f"{name}.toml") for name in "abca")
    with pytest.raises(UserError) as caught:
        read_chain(tmp_path / "a.toml")
    assert str(caught.value) == (
        f"{tmp_path}/c.toml: extends = './a.toml' goes round in a circle ({way}); take one of them out"
    )


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ('"gone.toml"', "extends = 'gone.toml': there is no file {folder}/gone.toml; name it from {folder}/a.toml's"),
        ("3", "extends = 3: expected the path of a TOML file"),
        ('""', "extends = '': expected the path of a TOML file"),
        ('"."', "extends = '.': there is no file"),
    ],
)
def test_a_missing_base_is_named(tmp_path: Path, base: str, message: str) -> None:
    write(tmp_path, a=f"extends = {base}")
    with pytest.raises(UserError) as caught:
        read_chain(tmp_path / "a.toml")
    assert message.format(folder=tmp_path) in str(caught.value)


def test_a_table_can_take_the_place_of_false_and_false_that_of_a_table() -> None:
    on, off = ConfigLayer("on", {"losses": {"kld": {"weight": 1}}}), ConfigLayer("off", {"losses": {"kld": False}})
    assert merge([on, off]) == ({"losses": {"kld": False}}, {("losses", "kld"): "off"})
    assert merge([off, on]) == ({"losses": {"kld": {"weight": 1}}}, {("losses", "kld", "weight"): "on"})


@pytest.mark.parametrize("wrong", [True, False, 3, "none"])
def test_a_later_table_does_not_hide_that_an_earlier_value_ought_to_be_one(wrong: object) -> None:
    below = ConfigLayer("installed", {"evaluation": {"metrics": {"pixels": {"type": "pixels"}}}})
    layers = [below, ConfigLayer("file", {"evaluation": wrong}), ConfigLayer("trial", {"evaluation": {"pairs": 2}})]
    assert merge(layers) == ({"evaluation": wrong}, {("evaluation",): "file"})


def test_what_a_phase_says_about_its_experiments_can_be_taken_out_and_put_in_again() -> None:
    out, anew = ConfigLayer("out", {"sweep": False}), ConfigLayer("anew", {"sweep": {"seeds": [1]}})
    assert merge([out, anew])[0] == {"sweep": {"seeds": [1]}}


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("train.epochs=20", {"train": {"epochs": 20}}),
        ("train.epochs = 20", {"train": {"epochs": 20}}),
        ("losses.kld={weight=1e-4}", {"losses": {"kld": {"weight": 1e-4}}}),
        ("data.type=layouts", {"data": {"type": "layouts"}}),
        ('winners."1.1"=false', {"winners": {"1.1": False}}),
        ("a=b=c", {"a": "b=c"}),
        ("a=", {"a": ""}),
    ],
)
def test_a_setting_is_a_dotted_key_with_a_value_in_toml_or_text(text: str, tables: dict[str, object]) -> None:
    assert setting(text).tables == tables


def test_a_setting_with_a_colon_puts_a_table_in_the_place_of_another() -> None:
    below = ConfigLayer("file", {"losses": {"mse": {"weight": 2.0}, "kld": {}}, "train": {"epochs": 3}})
    assert merge([below, setting("losses={l1={}}")])[0]["losses"] == {"mse": {"weight": 2.0}, "kld": {}, "l1": {}}
    merged, origins = merge([below, setting("losses:={mse={}}")])
    assert merged == {"losses": {"mse": {}}, "train": {"epochs": 3}}
    assert origins == {("losses", "mse"): "--set", ("train", "epochs"): "file"}
    assert merge([below, setting("losses.mse:={}")])[0]["losses"] == {"mse": {}, "kld": {}}
    with pytest.raises(UserError, match=r"--set train.epochs:=3: := puts a table .*; write train.epochs=3 for a value"):
        setting("train.epochs:=3")


@pytest.mark.parametrize("text", ["train.epochs", "=3", "train..epochs=3", "a b=3", ".=1", "a\nb=1"])
def test_a_setting_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"expected key=value, such as train.epochs=20"):
        setting(text)


def test_dotted_keys_become_tables() -> None:
    flat = {"a.b": 1, "a.c": {"d.e": 2}, "f": {}}
    assert expand(flat, "here") == {"a": {"b": 1, "c": {"d": {"e": 2}}}, "f": {}}


@pytest.mark.parametrize("flat", [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}])
def test_a_key_that_is_a_value_and_a_table_is_refused(flat: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"here: sets a both as a value and as a table"):
        expand(flat, "here")
