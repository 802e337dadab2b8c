"""The page of a run: what it says, that it is whole by itself, and that nothing strange breaks it."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs
import numpy as np
import pytest
import tomli
from PIL import Image

from imginav.manifest.resolved import ResolvedManifest
from imginav.runs.evaluation_result import (
    Channel,
    EvaluationResult,
    RankedLayout,
    Reconstruction,
    Size,
    load_evaluation,
)
from imginav.training.metric_definitions import DEFINITIONS
from imginav.training.trainer import Trainer
from imginav_reports import run_page
from imginav_reports.environment import current_environment
from imginav_tests import evaluations

Resolve = Callable[..., ResolvedManifest]

HOSTILE = "a <b>bold</b> & \"two\" 'one' $x_1$ $\\frac$ </script><script>alert(1)</script>"

VOID = ("meta", "img", "br", "input")

EVALUATION = evaluations.evaluation(
    epochs=3,
    stop_reason="early stopping",
    metrics={"val_mse": 0.0125, "val_psnr_db": 25.05, "val_mean_iou": 0.75, "val_loss": 0.02},
    encoder_parameters=1_000_000,
    decoder_parameters=234_567,
    data="16 layouts",
    evaluated="2026-11-25T22:37:54+00:00",
    reconstruction=Reconstruction(
        layouts={"room": 3, "scene": 1},
        by_type={"room": {"val_mse": 0.0111, "val_mean_iou": 0.8}, "scene": {"val_mse": math.nan}},
        by_class={"val_iou": {"wall": 0.5, "door": math.nan}},
        worst=(RankedLayout(name="worst.png", type="room", mse=1.0),),
        definitions={"val_mse": "mean squared error", "val_mean_iou": "mean overlap (Jaccard, 1912), of all; 0 to 1"},
        more_is_better=("val_mean_iou",),
        not_measured={"lpips": "no weights"},
    ),
    latent_statistics=evaluations.latent(),
    interpolation=evaluations.interpolation(),
    size=Size(
        encoder_bytes=4_000_000,
        decoder_bytes=900,
        encode_flops=1_500_000_000,
        decode_flops=2_000_000_000,
        encode_peak_bytes=3,
        decode_peak_bytes=4,
        training_bytes=5,
    ),
    latency=evaluations.latency(),
)

HISTORY = [
    {"epoch": n, "train_loss": 1 / n, "val_loss": 2 / n, "val_psnr_db": 20.0 + n, "learning_rate": 0.1}
    for n in (1, 2, 3)
]


@attrs.define
class Element:
    """An element of a page, with its text and what stands in it."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = attrs.field(factory=list)

    @property
    def text(self) -> str:
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return " ".join("".join(parts).split())

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Return the elements below with a tag and attributes, in their order."""
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return [
            e
            for e in self._below()
            if tag in ("", e.tag)
            and all(value in (e.attributes.get(key) or "").split() for key, value in wanted.items())
        ]

    def _below(self) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child._below()

    def rows(self) -> list[list[str]]:
        """Return the cells of a table."""
        return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in self.all("tr")]


class Reader(HTMLParser):
    """Makes a tree of a page; an end tag that closes nothing, or what is left open, is a fault."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def read(path: Path) -> Element:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert len(reader._open) == 1, "something is left open"
    return reader.root


def section(page: Element, name: str) -> list[Element]:
    """Return the elements from one heading to the next."""
    (main,) = page.all("main")
    elements = [child for child in main.children if isinstance(child, Element)]
    start = next(i for i, e in enumerate(elements) if e.attributes.get("id") == name)
    rest = elements[start + 1 :]
    end = next((i for i, e in enumerate(rest) if e.tag == "h2"), len(rest))
    return rest[:end]


def dead_links(page: Element) -> list[str]:
    """Return the links within a page that lead nowhere."""
    ids = {element.attributes["id"] for element in page.all() if "id" in element.attributes}
    links = [a.attributes["href"] or "" for a in page.all("a")]
    return [link for link in links if link.startswith("#") and link[1:] not in ids]


def tiles(page: Element) -> dict[str, str]:
    return {tile.all("span")[0].text: tile.all("b")[0].text for tile in page.all("div", class_="tile")}


def draw(path: Path, colour: int = 0, size: tuple[int, int] = (24, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with all pictures and a checkpoint."""
    folder = tmp_path / "run"
    for epoch in (1, 2, 3):
        draw(folder / "samples" / f"epoch_{epoch:03d}.png", colour=epoch)
    for name in ("worst", "best", "interpolation"):
        draw(folder / f"{name}.png")
    (folder / "tiny_checkpoint_best.pt").write_bytes(b"weights")
    (folder / "run.json").write_text("{}")
    EVALUATION.save(folder / "evaluation.json")
    return folder


def write(
    folder: Path, resolved: ResolvedManifest, evaluation: EvaluationResult = EVALUATION, history: Any = HISTORY
) -> Element:
    folder.mkdir(exist_ok=True)
    run_page.write(evaluation, folder, resolved, history)
    return read(folder / "report.html")


def test_a_page_says_first_what_matters_most(folder: Path, resolve: Resolve) -> None:
    page = write(folder, resolve())
    assert page.all("title")[0].text == "Phase 0 · tiny"
    assert page.all("h1")[0].text == "Phase 0"
    assert tiles(page) == {
        "best epoch": "2 of 3",
        "validation MSE": "0.012500",
        "PSNR": "25.05 dB",
        "mean IoU": "0.750",
        "latent H×W×C": "8×8×2",
        "scaling factor": "0.50000",
        "latency": "3 + 2 ms",
        "parameters": "1.23 M",
    }
    assert "mean IoU0.750room 0.8000" in [tile.text for tile in page.all("div", class_="tile")]
    facts = page.all("p", class_="facts")[0].text
    assert facts.startswith("tiny · at trial scale · 16 layouts; 12 train, 4 validate, split by scene")
    assert "ended: early stopping; evaluated 2026-11-25 22:37 UTC" in facts


def test_a_page_of_weights_that_are_not_the_best_says_which_are(folder: Path, resolve: Resolve) -> None:
    page = write(folder, resolve(), attrs.evolve(EVALUATION, best_epoch=1))
    assert tiles(page)["epoch"] == "2 of 3"
    assert "the best by val_loss is 1" in page.all("div", class_="first")[0].text
    assert [li.text for li in page.all("ul", class_="legend")[0].all("li")][2:] == [
        "epoch 2: the weights of this page",
        "epoch 1: the best, by val_loss",
    ]


def test_every_part_is_there_and_every_link_within_the_page_leads_somewhere(folder: Path, resolve: Resolve) -> None:
    page = write(folder, resolve())
    headings = [h.attributes["id"] for h in page.all("h2")]
    assert headings == [
        *("curves", "samples", "figures", "extremes", "interpolation"),
        *("latent", "size", "phase-2", "values", "files"),
    ]
    assert [a.attributes["href"] for a in page.all("nav")[0].all("a")] == [f"#{name}" for name in headings]
    assert dead_links(page) == []


def test_a_tile_leads_to_where_its_figure_is_defined_and_the_page_says_it_once(folder: Path, resolve: Resolve) -> None:
    page = write(folder, resolve())
    links = {a.text: a.attributes["href"] for tile in page.all("div", class_="tile") for a in tile.all("a")}
    assert links == {
        "validation MSE": "#figure-val_mse",
        "PSNR": "#figure-val_psnr_db",
        "mean IoU": "#figure-val_mean_iou",
        "latent H×W×C": "#latent",
        "scaling factor": "#latent",
        "latency": "#size",
        "parameters": "#size",
    }
    assert page.text.count("mean overlap (Jaccard, 1912)") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"val_loss": math.nan}, "interpolation": None, "reconstruction": Reconstruction()},
        {"latency": None, "size": None, "latent_statistics": None, "split_by": "", "data": "", "evaluated": ""},
        {"best_epoch": None, "weights_epoch": 1, "epochs": 1, "stop_reason": ""},
        {"metrics": {"val_mse": 0.0, "val_psnr_db": math.inf}},
        {"metrics": {"val_mse": math.nan, "val_psnr_db": math.nan}, "flat_background_mse": math.nan},
        {
            "latent_statistics": evaluations.latent(
                scaling_factor=math.inf, channels=(Channel(mean=math.nan, std=math.nan, dead=True),), noise=()
            )
        },
    ],
)
def test_a_page_with_parts_missing_is_whole_and_shows_no_nan_and_no_none(
    tmp_path: Path, resolve: Resolve, changes: dict[str, Any]
) -> None:
    bare = tmp_path / "bare"
    evaluation = attrs.evolve(EVALUATION, **changes)
    page = write(bare, resolve(), evaluation, [dict.fromkeys(HISTORY[0], math.nan) | {"epoch": 1}])
    assert page.all("nav")[0].all("a")
    assert dead_links(page) == []
    assert not page.all("svg")
    assert not page.all("h2", id="curves")
    words = page.all("main")[0].text.replace("none", "none ").split()
    assert not {"nan", "None", "inf", "undefined", "Undefined"} & set(words)
    assert not (bare / "curves.png").exists()


def test_a_page_asks_for_nothing_but_itself(folder: Path, resolve: Resolve) -> None:
    page = write(folder, resolve())
    for element in page.all():
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            if address := element.attributes.get(key):
                is_link = element.tag == "a" and key == "href" and (folder / unquote(address)).is_file()
                assert is_link or address.startswith(("data:image/", "#")), (element.tag, key, address[:60])
        assert element.tag not in ("link", "iframe", "object", "embed", "base")
    style = " ".join(e.text for e in page.all("style"))
    assert "@import" not in style
    assert "url(" not in style
    (policy,) = [e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes]
    assert (policy or "").startswith("default-src 'none'; img-src data:;")


def test_names_are_text_wherever_they_stand(folder: Path, resolve: Resolve) -> None:
    reconstruction = attrs.evolve(
        EVALUATION.reconstruction,
        layouts={HOSTILE: 1},
        by_type={HOSTILE: {"val_mse": 1.0}},
        by_class={HOSTILE: {HOSTILE: 0.5}},
        worst=(RankedLayout(name=HOSTILE, type=HOSTILE, mse=1.0),),
        definitions={"val_mse": HOSTILE},
        not_measured={HOSTILE: HOSTILE},
    )
    evaluation = attrs.evolve(
        EVALUATION, title=HOSTILE, stop_reason=HOSTILE, data=HOSTILE, notes=(HOSTILE,), reconstruction=reconstruction
    )
    resolved = resolve()
    resolved = attrs.evolve(resolved, origins={**resolved.origins, "data.type": HOSTILE})
    resolved.tables["data"]["type"] = HOSTILE
    history = [{**row, f"train_loss_{HOSTILE}": 0.5, f"val_loss_{HOSTILE}": 0.6} for row in HISTORY]
    page, plain = write(folder, resolved, evaluation, history), write(folder, resolve())
    text = " ".join(HOSTILE.split())
    assert page.all("h1")[0].text == text
    for tag in ("script", "style"):
        assert [e.text for e in page.all(tag) if e.text[:1] not in "*["] == [
            e.text for e in plain.all(tag) if e.text[:1] not in "*["
        ]
    (data,) = page.all("script", id="curves-data")
    titles = [plot["title"] for plot in json.loads("".join(str(part) for part in data.children))]
    assert f"loss term: {HOSTILE}" in titles
    assert len(page.all("b")) == len(plain.all("b"))  # tiles alone
    assert text in [cell for row in section(page, "values")[0].rows() for cell in row]
    assert f"loss term: {text}" in [caption.children[0] for caption in page.all("figcaption")]
    assert any(text in e.text for e in page.all("p", class_="note"))


def test_values_stand_with_their_origin_and_defaults_apart(folder: Path, resolve: Resolve) -> None:
    page = write(folder, resolve("train.epochs=7"))
    chosen, details = section(page, "values")
    assert ["train.epochs", "7", "--set"] in chosen.rows()
    (source,) = [row[2] for row in chosen.rows() if row[0] == "encoder.latent_channels"]
    assert source.endswith("tiny.toml")
    assert ["train.seed", "42", "default"] in details.rows() or ["train.seed", "0", "default"] in details.rows()
    assert not [row for row in chosen.rows() if row[2] in ("default", "installed")]


def test_files_have_the_sha256_that_they_have_and_a_link(folder: Path, resolve: Resolve, tmp_path: Path) -> None:
    (folder / ".half.part").write_bytes(b"not whole")
    (folder / "samples" / "more").mkdir()
    (folder / "samples" / "more" / "ü & <b>.txt").write_text("text")
    page = write(folder, resolve())
    rows = {row[0]: row[2] for row in section(page, "files")[1].rows()[1:]}
    there = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    assert set(rows) == set(there) - {"report.html", ".half.part"}
    assert "curves.png" in rows
    (files,) = page.all("table", class_="files")
    for link in files.all("a"):  # it may be opened by its name, however strange that is
        assert (folder / unquote(link.attributes["href"] or "")).read_bytes() == there[link.text].read_bytes()
    shared = tmp_path / "shared" / "tinies"
    from_shared = unquote(files.attributes["data-from-shared"] or "")
    assert (shared / from_shared).resolve() == folder.resolve()
    for name, digest in rows.items():
        if name == "run.json":
            assert digest == "changes after this page is written"
        else:
            assert digest == hashlib.sha256(there[name].read_bytes()).hexdigest()


def test_the_environment_is_folded_and_only_there_where_it_is_known(
    folder: Path, resolve: Resolve, make_trainer: Callable[..., Trainer]
) -> None:
    assert not write(folder, resolve()).all("h2", id="environment")
    found = current_environment(make_trainer().device, None)
    attrs.evolve(found, command="imginav run '<b>'").save(folder / "environment.json")
    page = write(folder, resolve())
    (details,) = section(page, "environment")
    assert details.tag == "details"
    assert ["command", "imginav run '<b>'"] in details.rows()
    assert "#environment" in [a.attributes["href"] for a in page.all("nav")[0].all("a")]


def test_the_architecture_is_toml_and_agrees_with_the_evaluation(folder: Path, resolve: Resolve) -> None:
    page = write(folder, resolve())
    (block,) = page.all("pre", id="phase-2-text")
    found = tomli.loads("".join(str(child) for child in block.children))["autoencoder"]
    evaluation = load_evaluation(folder / "evaluation.json")
    assert found["metrics"] == evaluation.metrics
    assert [found["latent"][key] for key in ("height", "width", "channels")] == list(evaluation.latent)
    assert evaluation.latent_statistics is not None
    assert found["latent"]["scaling_factor"] == evaluation.latent_statistics.scaling_factor
    assert found["latent"]["shift_factor"] == evaluation.latent_statistics.mean
    assert found["parameters"] == {"encoder": evaluation.encoder_parameters, "decoder": evaluation.decoder_parameters}
    assert found["image_size"] == 32
    assert found["checkpoint"] == str(folder / "tiny_checkpoint_best.pt")
    assert found["checkpoint_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert found["encoder"]["latent_channels"] == 2


def test_the_slider_begins_at_the_weights_and_goes_through_epochs_by_number(folder: Path, resolve: Resolve) -> None:
    for epoch in (999, 1000):
        draw(folder / "samples" / f"epoch_{epoch:03d}.png")
    draw(folder / "samples" / "epoch_copy.png")
    (folder / "samples" / "epoch_500.png").write_bytes(b"no picture")
    page = write(folder, resolve())
    shown = page.all("div", class_="sample")
    labels = [e.attributes["data-label"] for e in shown]
    assert labels == ["epoch 1", "epoch 2, the weights", "epoch 3", "epoch 999", "epoch 1000"]
    assert ["hidden" in e.attributes for e in shown] == [True, False, True, True, True]
    (slider,) = page.all("input", type="range")
    assert (slider.attributes["value"], slider.attributes["max"]) == ("1", "4")
    assert "1 more lie in samples/" in section(page, "samples")[0].text


def test_one_picture_of_samples_needs_no_slider(folder: Path, resolve: Resolve) -> None:
    shutil.rmtree(folder / "samples")
    draw(folder / "samples" / "epoch_002.png")
    page = write(folder, resolve())
    assert not page.all("input")
    assert "hidden" not in page.all("div", class_="sample")[0].attributes


def test_figures_have_a_direction_a_meaning_and_a_value_for_each_type(folder: Path, resolve: Resolve) -> None:
    page = write(folder, resolve())
    table = next(e for e in section(page, "figures") if e.all("table"))
    assert table.rows() == [
        ["figure", "all (4)", "room (3)", "scene (1)"],
        ["val_mse ↓mean squared error", "0.012500", "0.011100", "–"],
        ["val_mean_iou ↑mean overlap (Jaccard, 1912), of all; 0 to 1", "0.75000", "0.80000", "–"],
        [f"val_psnr_db {DEFINITIONS['val_psnr_db']}", "25.050", "–", "–"],
    ]
    by_class = next(e for e in section(page, "figures") if "wall" in e.text)
    assert by_class.rows() == [["class", "val_iou"], ["wall", "0.5000", ""], ["door", "–", ""]]
    assert [bar.attributes["style"] for bar in by_class.all("span", class_="bar")] == ["width: 2.5rem"]


def test_confusions_and_the_histogram_are_there_where_they_were_measured(folder: Path, resolve: Resolve) -> None:
    plain = write(folder, resolve())
    assert not plain.all("table", class_="confusion")
    assert not plain.all("h3", id="histogram")
    counted = attrs.evolve(EVALUATION.reconstruction, confusion={"palette": {HOSTILE: {HOSTILE: 3, "door": 1}}})
    (folder / "evaluation_layouts.csv").write_text("layout,type,val_psnr_db\na,room,20\nb,scene,30\n")
    page = write(folder, resolve(), attrs.evolve(EVALUATION, reconstruction=counted))
    text = " ".join(HOSTILE.split())
    (table,) = page.all("table", class_="confusion")
    assert table.rows() == [["true class", "count", text, "door"], [text, "4", "75.0 %", "25.0 %"]]
    assert "2 validation layouts have which PSNR (dB)" in page.all("main")[0].text
    assert len(page.all("svg")) == len(plain.all("svg")) + 1


def test_of_many_notes_the_first_are_shown_and_the_others_counted(folder: Path, resolve: Resolve) -> None:
    page = write(folder, resolve(), attrs.evolve(EVALUATION, notes=tuple(f"note {n}" for n in range(3000))))
    shown = [e.text for e in page.all("p", class_="note")]
    assert shown == [f"note {n}" for n in range(20)]
    assert "17 more notes, of 2,997: evaluation.json lists all" in page.all("main")[0].text
    few = write(folder, resolve(), attrs.evolve(EVALUATION, notes=("one", "two")))
    assert "more note" not in few.all("main")[0].text


def test_each_term_of_many_has_its_curves(folder: Path, resolve: Resolve) -> None:
    terms = [f"term{n}" for n in range(12)]
    history = [
        {"epoch": e, **{f"{part}_loss_{t}": e + 1.0 for t in terms for part in ("train", "val")}} for e in range(1, 51)
    ]
    page = write(folder, resolve(), attrs.evolve(EVALUATION, weights_epoch=3), history)
    captions = [figure.all("figcaption")[0].text for figure in page.all("div", class_="charts")[0].all("figure")]
    assert captions == [f"loss term: {term}4.000" for term in terms]
    assert len(page.all("svg")) == 12
    # Clip paths are looked up by name, so these must differ between drawings.
    clips = [e.attributes["id"] for e in page.all("clippath")]
    assert len(clips) == len(set(clips)) >= 12


@pytest.mark.slow
def test_a_page_stays_below_5_mb_with_200_large_and_noisy_pictures(folder: Path, resolve: Resolve) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (1040, 1560, 3), dtype=np.uint8)).save(folder / "worst.png")
    for name in ("best.png", "interpolation.png", *(f"samples/epoch_{n:03d}.png" for n in range(1, 201))):
        (folder / name).unlink(missing_ok=True)
        (folder / name).hardlink_to(folder / "worst.png")
    page = write(folder, resolve(), attrs.evolve(EVALUATION, weights_epoch=77))
    assert (folder / "report.html").stat().st_size < 5_000_000
    assert run_page.SAMPLE_BYTES + run_page.PICTURE_BYTES < 4_200_000  # with room for drawings, tables and names
    labels = [e.attributes["data-label"] for e in page.all("div", class_="sample")]
    assert (labels[0], labels[-1]) == ("epoch 1", "epoch 200")
    assert "epoch 77, the weights" in labels
    assert len(labels) == 24
    assert "176 more lie in samples/" in page.all("main")[0].text
    assert len(page.all("img")) == 24 + 3
