"""Listed layouts whose classes a file names, and images without any, from the manifest to the end of a run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tomli
from PIL import Image

from imginav import LayoutSource, UserError
from imginav.cli import main
from imginav.data.batches import rgb_of
from imginav.data.loader import fingerprint, split_as
from imginav.manifest.loading import load, load_phase
from imginav.manifest.tables import Train
from imginav.plugin.palette import UNMATCHED, Palette
from imginav.plugin.registry import installed
from imginav.runs.experiment import run_experiment
from imginav.study.selection import gather, select
from imginav_datasets import Layouts
from imginav_datasets.classes import PALETTE
from imginav_inspect.explanation import explain
from imginav_inspect.schema import manifest_schema
from imginav_optimizers import AdamW
from imginav_reports import phase_page
from imginav_tests.png import png

BASE = Path(__file__).parents[3] / "phases" / "base.toml"

OWN = Palette(
    names=("floor", "wall", "night stand"), colours=((10, 60, 20), (250, 250, 250), (0, 0, 200)), background="floor"
)

WriteLayouts = Callable[..., Path]


def text_of(palette: Palette) -> str:
    classes = "\n".join(
        f'"{name}" = {list(colour)}' for name, colour in zip(palette.names, palette.colours, strict=True)
    )
    return f'background = "{palette.background}"\n[classes]\n{classes}\n'


@pytest.fixture
def palette_file(tmp_path: Path) -> Path:
    path = tmp_path / "palette.toml"
    path.write_text(text_of(OWN))
    return path


def drawn(seed: int, palette: Palette = OWN) -> Image.Image:
    """Return blocks of all classes of a palette, 32 px."""
    blocks = np.random.default_rng(seed).integers(0, len(palette), (8, 8), dtype=np.uint8)
    return Image.fromarray(palette.colour(blocks.repeat(4, axis=0).repeat(4, axis=1)))


@pytest.fixture
def listed(write_layouts: WriteLayouts) -> Path:
    """Return a list of twelve layouts in the colours of `OWN`."""
    images = {f"{number}.png": drawn(number) for number in range(12)}
    rows = [{"layout_path": path, "type": "room" if seed % 3 else "scene"} for seed, path in enumerate(images)]
    return write_layouts(rows, images)


def opened(manifest: Path, **keys: Any) -> LayoutSource:
    return Layouts(manifest=manifest, **{"image_size": 32, **keys}).open()


def assert_same(one: LayoutSource, other: LayoutSource) -> None:
    assert len(one) == len(other)
    for index in range(len(other)):
        mine, its = one.read(index), other.read(index)
        assert np.array_equal(rgb_of(mine, one.spec.palette), rgb_of(its, other.spec.palette))
        assert set(mine) | {"rgb"} == set(its) | {"rgb"}
        for name in set(its) - {"rgb"}:
            assert np.array_equal(mine[name], its[name])


# A palette of one's own


def test_its_classes_are_found_by_their_colours(listed: Path, palette_file: Path) -> None:
    source = opened(listed, palette=palette_file, tolerance=0)
    assert source.spec.palette == OWN
    assert source.spec.targets == ("rgb", "segmentation", "label")
    expected = np.random.default_rng(4).integers(0, 3, (8, 8), dtype=np.uint8)
    sample = source.read(4)
    assert np.array_equal(sample["segmentation"][::4, ::4], expected)
    assert np.array_equal(OWN.colour(sample["segmentation"]), sample["rgb"])
    assert source.describe() == f"12 layouts from {listed}, with the 3 classes of {palette_file}"
    # The built-in ones are of no use here.
    assert (opened(listed).read(4)["segmentation"] == UNMATCHED).all()


def test_its_background_fills_what_is_empty(write_layouts: WriteLayouts, palette_file: Path) -> None:
    wide = Image.new("RGB", (64, 32), OWN.colours[1])
    seen_through = Image.new("RGBA", (32, 32), (*OWN.colours[1], 0))
    seen_through.paste((*OWN.colours[1], 255), (0, 8, 32, 24))
    grey = np.full((32, 32), 7, dtype=np.uint16)
    grey[8:24] = 250 * 257
    sixteen = Image.fromarray(grey)
    images: dict[str, Any] = {"wide.png": wide, "alpha.png": seen_through, "16 bits.png": png(sixteen, transparency=7)}
    manifest = write_layouts([{"layout_path": path} for path in images], images)
    for index in range(len(images)):
        segmentation = opened(manifest, palette=palette_file, tolerance=0).read(index)["segmentation"]
        assert (segmentation[8:24] == 1).all()
        assert (np.delete(segmentation, range(8, 24), axis=0) == 0).all()


def test_the_file_is_looked_for_in_the_working_folder(
    listed: Path, palette_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(palette_file.parent)
    assert opened(listed, palette=Path("palette.toml")).spec.palette == OWN


def test_a_wrong_file_is_refused_when_the_list_is_opened(listed: Path, palette_file: Path) -> None:
    palette_file.write_text(text_of(OWN).replace('"floor"', '"flor"', 1))
    with pytest.raises(UserError, match=r"palette.toml': expected one of .*found 'flor', did you mean 'floor'\?"):
        opened(listed, palette=palette_file)
    palette_file.unlink()
    with pytest.raises(UserError, match=r"data.palette = '.*palette.toml': no such file"):
        opened(listed, palette=palette_file)


def test_what_was_prepared_with_one_palette_is_found_again_with_it_alone(
    write_layouts: WriteLayouts, palette_file: Path, tmp_path: Path
) -> None:
    near = drawn(1)
    near.putpixel((3, 3), (12, 61, 22))
    images = {"exact.png": drawn(0), "near.png": near, "wide.png": drawn(2).resize((32, 16), Image.Resampling.NEAREST)}
    manifest = write_layouts([{"layout_path": path} for path in images], images)
    cache, said = tmp_path / "cache", list[str]()

    def prepared() -> LayoutSource:
        source = opened(manifest, palette=palette_file)
        source.prepare(cache, said.append)
        assert_same(source, opened(manifest, palette=palette_file))
        return source

    first = prepared()
    assert [number for number in range(3) if "rgb" in first.read(number)] == [1]
    assert len(said) == 1
    assert_same(prepared(), first)
    assert len(said) == 1
    # Another background is other pixels of what was padded; another order is other classes.
    palette_file.write_text(text_of(Palette(names=OWN.names, colours=OWN.colours, background="wall")))
    assert (prepared().read(2)["segmentation"][0] == 1).all()
    palette_file.write_text(text_of(Palette(names=OWN.names[::-1], colours=OWN.colours[::-1], background="floor")))
    assert (prepared().read(2)["segmentation"][0] == 2).all()
    assert len(said) == 3


# Images without classes


def test_images_without_classes_are_pixels_alone(listed: Path) -> None:
    source = opened(listed, palette=False)
    assert source.spec.targets == ("rgb", "label")
    assert source.spec.palette == PALETTE
    sample = source.read(3)
    assert set(sample) == {"rgb", "label"}
    assert np.array_equal(sample["rgb"], np.asarray(drawn(3)))
    assert source.describe() == f"12 layouts from {listed}, which have no classes"


def test_without_a_column_of_types_they_have_no_other_target(write_layouts: WriteLayouts) -> None:
    source = opened(write_layouts([{"layout_path": "a.png"}]), palette=False)
    assert source.spec.targets == ("rgb",)
    assert set(source.read(0)) == {"rgb"}


def test_they_are_prepared_as_pixels_whatever_the_tolerance(listed: Path, tmp_path: Path) -> None:
    said: list[str] = []
    for tolerance in (8, 0):
        source = opened(listed, palette=False, tolerance=tolerance)
        source.prepare(tmp_path / "cache", said.append)
        assert_same(source, opened(listed, palette=False))
    assert len(said) == 1
    assert said[0].startswith("prepares 12 layouts (3.8e-05 GB), once, in ")  # with 64 bytes for the entry of each
    (pixels,) = (tmp_path / "cache").glob("*/*.pixels")
    assert pixels.stat().st_size == 12 * 3 * 32 * 32
    for path in listed.parent.glob("*.png"):
        path.unlink()
    copy: LayoutSource = pickle.loads(pickle.dumps(source))  # noqa: S301  # as a loading process gets it
    assert np.array_equal(copy.read(5)["rgb"], np.asarray(drawn(5)))


# Fingerprints


def test_layouts_with_other_palettes_are_other_data(listed: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    train = Train(epochs=1, optimizer=AdamW())

    def print_of(palette: Any) -> Any:
        source = opened(listed, palette=palette)
        return fingerprint(source, 32, split_as(source, train))

    def print_with(**changed: Any) -> Any:
        fields = {"names": OWN.names, "colours": OWN.colours, "background": OWN.background, **changed}
        path.write_text(text_of(Palette(**fields)))
        return print_of(path)

    own = print_with()
    others = [
        print_of(None),
        print_of(False),
        print_with(names=("floor", "wall", "desk")),
        print_with(colours=(*OWN.colours[:2], (0, 0, 201))),
        print_with(background="wall"),
    ]
    fingerprints = [own, *others]
    assert [[one.layouts.same(other.layouts) for other in fingerprints] for one in fingerprints] == np.eye(
        6, dtype=bool
    ).tolist()
    # Neither where the file lies nor how it is written means anything.
    elsewhere = tmp_path / "two.toml"
    elsewhere.write_text("# our classes\n" + text_of(OWN))
    assert print_of(elsewhere).same(own)


def test_without_classes_the_tolerance_is_no_part_of_a_layout(listed: Path) -> None:
    one, other = (opened(listed, palette=False, tolerance=tolerance).identity(0) for tolerance in (8, 0))
    assert one == other
    assert opened(listed, tolerance=8).identity(0) != opened(listed, tolerance=0).identity(0)


# Manifests


WITHOUT = """
[decoder.heads]
palette = false
rgb = { type = "rgb" }
[losses]
segmentation = false
"""


@pytest.fixture
def phase(tmp_path: Path, listed: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a phase on the listed layouts that ends in seconds; its folder is the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(palette: str, more: str = "") -> Path:
        path = tmp_path / "phase.toml"
        path.write_text(f"""
extends = "{BASE}"
[phase]
id = "0"
experiment = "own"
group = "owns"
[data]
type = "layouts"
manifest = "{listed}"
{palette}
image_size = 32
[encoder]
latent_channels = 2
base_channels = 16
downsampling_steps = 2
[train]
epochs = 1
batch_size = 4
[callbacks]
samples = {{ tile = 32 }}
[evaluation]
latent_layouts = 4
sampled_layouts = 2
pairs = 1
{more}
""")
        return path

    return write


@pytest.mark.parametrize(
    ("written", "structured"), [("", None), ("palette = false", False), ('palette = "a/b.toml"', Path("a/b.toml"))]
)
def test_manifests_say_it_and_come_back_as_they_were(
    phase: Callable[..., Path], tmp_path: Path, written: str, structured: Any
) -> None:
    registry = installed()
    path = phase(written)
    resolved = load(path, registry)
    assert isinstance(resolved.manifest.data, Layouts)
    assert resolved.manifest.data.palette == structured
    if structured is False:
        assert resolved.manifest.data.palette is False
    again = tmp_path / "manifest.toml"
    again.write_text(resolved.to_toml())
    assert load(again, registry).manifest == resolved.manifest
    shown = [line for line in explain(again, registry).lines if line.startswith("data.palette")]
    assert shown == ([f"data.{written} · {path}"] if written else [])
    schema = jsonschema.Draft7Validator(manifest_schema(registry))
    assert not list(schema.iter_errors(tomli.loads(path.read_text())))


@pytest.mark.parametrize("value", ["true", "3", '""'])
def test_what_is_no_palette_is_refused(phase: Callable[..., Path], value: str) -> None:
    path = phase(f"palette = {value}")
    with pytest.raises(UserError, match=r"expected a path in quotes or false, found .* @ data.palette"):
        load(path, installed())
    schema = jsonschema.Draft7Validator(manifest_schema(installed()))
    assert list(schema.iter_errors(tomli.loads(path.read_text())))


# Runs


def evaluation_in(folder: Path) -> dict[str, Any]:
    evaluation: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return evaluation


def columns_of(path: Path) -> int:
    with Image.open(path) as image:
        return image.width // 160


@pytest.mark.integration
def test_images_without_classes_are_run_to_the_last_page(
    phase: Callable[..., Path], listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = phase("palette = false", WITHOUT)
    assert main(["check", str(path)]) == 0
    assert main(["run", str(path)]) == 0
    assert "12 layouts from" in capsys.readouterr().out
    folder = Path("outputs/own")
    evaluation = evaluation_in(folder)
    assert "val_mse" in evaluation["metrics"]
    assert "val_unmatched_share" not in evaluation["metrics"]
    assert not any("iou" in name for name in evaluation["metrics"])
    assert (
        "the data set does not say which class a pixel is of" in evaluation["reconstruction"]["not_measured"].values()
    )
    page = (folder / "report.html").read_text()
    assert "Worst and best reconstructions" in page
    assert "nearest classes" not in page
    assert columns_of(folder / "worst.png") == 3
    (checkpoint,) = folder.glob("*best.pt")
    assert main(["evaluate", str(checkpoint), "--data", str(listed), "--to", "again"]) == 0
    assert "val_unmatched_share" not in evaluation_in(Path("again"))["metrics"]


@pytest.mark.integration
def test_a_palette_of_ones_own_is_run_to_the_last_page(
    phase: Callable[..., Path], listed: Path, palette_file: Path
) -> None:
    assert main(["run", str(phase(f'palette = "{palette_file.name}"'))]) == 0
    folder = Path("outputs/own")
    evaluation = evaluation_in(folder)
    assert evaluation["metrics"]["val_unmatched_share"] == 0
    assert list(evaluation["reconstruction"]["by_class"]["val_iou"]) == list(OWN.names)
    assert "nearest classes" in (folder / "report.html").read_text()
    assert columns_of(folder / "worst.png") == 4
    (checkpoint,) = folder.glob("*best.pt")
    assert main(["evaluate", str(checkpoint), "--data", str(listed), "--to", "again"]) == 0
    assert list(evaluation_in(Path("again"))["reconstruction"]["by_class"]["val_iou"]) == list(OWN.names)


SWEEP = """
[sweep]
selector = { type = "best", metric = "val_mse" }
[sweep.experiments.without]
"data.palette" = false
"decoder.heads.palette" = false
"decoder.heads.rgb" = { type = "rgb" }
"losses.segmentation" = false
[sweep.experiments.own]
"data.palette" = "palette.toml"
"""


@pytest.mark.integration
@pytest.mark.usefixtures("palette_file")
def test_runs_with_other_classes_stand_side_by_side_though_they_cannot_be_compared(
    phase: Callable[..., Path],
) -> None:
    swept = load_phase(phase("", SWEEP), installed())
    for resolved in swept.experiments:
        run_experiment(resolved, timed=False)
    phase_page.write(swept, gather(swept), None)
    with Image.open(swept.shared / "comparison_layouts.png") as image:
        assert image.width // 256 == 3  # the layouts, and what each of both makes of them
    with pytest.raises(UserError, match="were trained on different layouts or splits, and cannot be compared"):
        select(swept, gather(swept))


@pytest.mark.parametrize("command", ["run", "check"])
def test_no_head_paints_classes_that_the_images_have_not_got(
    phase: Callable[..., Path], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command, str(phase("palette = false"))]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "the autoencoder cannot be built: the head palette paints in the colours of classes" in said
    assert "decoder.heads.palette = false" in said
    # The remedy is one.
    path = phase("palette = false", WITHOUT.replace("[losses]\nsegmentation = false", ""))
    assert main([command, str(path)]) == 2
    assert "losses.segmentation reads the output 'segmentation', which does not exist" in capsys.readouterr().err
