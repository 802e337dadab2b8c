"""What Python users load."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
import tomli
import torch
from PIL import Image
from torch import Tensor, nn

import imginav
from imginav import Pretrained, UserError
from imginav.pixels import to_bytes
from imginav.plugin.checkpoint import load_checkpoint
from imginav.runs.evaluation_result import load_evaluation
from imginav.training.trainer import Trainer
from imginav_handoff.images import as_images
from imginav_handoff.whole_evaluation import evaluation_of

MakeCheckpoint = Callable[..., Path]
MakeTrainer = Callable[..., Trainer]


def layouts_of(trainer: Trainer) -> Tensor:
    """Return all training layouts as images in [-1, 1]."""
    batches = trainer.data.whole_batches(trainer.data.split.train)
    return torch.cat([trainer.device.images(loaded.layouts) for loaded in batches])


@pytest.mark.parametrize("variational", ["false", "true"])
def test_latents_of_the_training_layouts_have_zero_mean_and_unit_standard_deviation(
    make_checkpoint: MakeCheckpoint, make_trainer: MakeTrainer, variational: str
) -> None:
    settings = (f"encoder.variational={variational}", "machine.precision=fp32")
    images = layouts_of(make_trainer(*settings))
    pretrained = imginav.load(make_checkpoint(*settings))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([pretrained.encode(images, generator) for _ in range(20)])
    assert float(drawn.mean()) == pytest.approx(0, abs=0.03)
    assert float(drawn.std()) == pytest.approx(1, abs=0.03)


def test_encode_scales_and_decode_undoes_it(make_checkpoint: MakeCheckpoint, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("machine.precision=fp32")
    images = layouts_of(trainer)[:3]
    path = make_checkpoint("machine.precision=fp32")
    statistics = load_evaluation(path.parent / "evaluation.json").latent_statistics
    assert statistics is not None
    pretrained = imginav.load(path)
    latents = pretrained.encode(images)
    assert latents.shape == (3, 2, 8, 8)
    raw = trainer.model.eval().encode(images)
    torch.testing.assert_close(latents, (raw - statistics.mean) / statistics.std, atol=1e-4, rtol=1e-4)
    decoded = pretrained.decode(latents)
    assert decoded.shape == images.shape
    torch.testing.assert_close(decoded, trainer.model.decode(raw)["rgb"], atol=1e-4, rtol=1e-4)


def test_a_draw_has_the_mean_and_the_variance_of_the_distribution(make_checkpoint: MakeCheckpoint) -> None:
    pretrained = imginav.load(make_checkpoint("encoder.variational=true"))
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    mean, log_variance = pretrained.distribution(image)
    assert log_variance is not None
    generator = torch.Generator().manual_seed(1)
    drawn = torch.cat([pretrained.encode(image, generator) for _ in range(400)])
    off = (drawn - mean) / torch.exp(0.5 * log_variance)
    assert float(off.mean()) == pytest.approx(0, abs=0.02)
    assert float(off.std()) == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(pretrained.encode(image), mean)


def test_a_draw_of_a_deterministic_one_is_its_latent(make_checkpoint: MakeCheckpoint) -> None:
    pretrained = imginav.load(make_checkpoint())
    image = torch.zeros(1, 3, 32, 32)
    assert pretrained.distribution(image)[1] is None
    torch.testing.assert_close(pretrained.encode(image, torch.Generator()), pretrained.encode(image))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_computes_in_any_dtype(make_checkpoint: MakeCheckpoint, dtype: torch.dtype) -> None:
    pretrained = imginav.load(make_checkpoint("encoder.variational=true"), dtype=dtype)
    images = torch.rand(2, 3, 32, 64) * 2 - 1  # whatever their own is
    decoded = pretrained.decode(pretrained.encode(images))
    assert (decoded.dtype, decoded.shape) == (dtype, images.shape)
    assert torch.isfinite(decoded).all()


def test_the_memory_format_that_is_fastest_is_not_seen_from_outside(
    make_checkpoint: MakeCheckpoint, make_trainer: MakeTrainer
) -> None:
    images = layouts_of(make_trainer())[:2]
    pretrained = imginav.load(make_checkpoint())
    kernels = [p for p in pretrained.parameters() if p.dim() == 4 and p.shape[2] > 1]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    latents = pretrained.encode(images)
    decoded = pretrained.decode(latents)
    assert latents.is_contiguous()
    assert decoded.is_contiguous()
    for parameter in pretrained.parameters():
        parameter.data = parameter.data.contiguous()
    torch.testing.assert_close(pretrained.encode(images), latents, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pretrained.decode(latents), decoded, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # the compiler's own way to it
def test_the_compiled_engine_gives_the_same(make_checkpoint: MakeCheckpoint, make_trainer: MakeTrainer) -> None:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("no C++ compiler here, which torch.compile needs on a CPU")
    images, path = layouts_of(make_trainer())[:2], make_checkpoint("encoder.variational=true")
    eager, compiled = imginav.load(path), imginav.load(path, engine="compiled")
    latents = eager.encode(images)
    torch.testing.assert_close(compiled.encode(images), latents, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(compiled.decode(latents), eager.decode(latents), rtol=1e-4, atol=1e-4)


def test_what_it_gives_can_be_trained_on_and_keeps_no_gradients(make_checkpoint: MakeCheckpoint) -> None:
    pretrained = imginav.load(make_checkpoint())
    latents = pretrained.encode(torch.zeros(1, 3, 32, 32, requires_grad=True))
    assert not latents.requires_grad
    layer = nn.Conv2d(2, 2, 1)
    layer(latents).sum().backward()  # raises for tensors of an inference mode
    assert layer.weight.grad is not None


def test_training_mode_changes_nothing_and_stays(make_checkpoint: MakeCheckpoint) -> None:
    head = "{ rgb = false, segmentation = false, palette = {} }"
    pretrained = imginav.load(make_checkpoint(f"decoder.heads={head}"))
    pretrained.encoder.register_forward_hook(lambda module, _, output: tuple(x + module.training for x in output))
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    latents = pretrained.encode(images)
    decoded = pretrained.decode(latents)
    pretrained.train()
    assert torch.equal(pretrained.encode(images), latents)
    assert torch.equal(pretrained.decode(latents), decoded)
    assert all(module.training for module in pretrained.modules())
    assert not torch.equal(pretrained.decoder(latents), decoded)  # mean colours, which have gradients


def test_the_modules_themselves_keep_gradients(make_checkpoint: MakeCheckpoint) -> None:
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    imginav.load(make_checkpoint())(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), r"floats in \[-1, 1\], found \(1, 3, 32, 32\) of torch.uint8"),
        (torch.zeros(1, 32, 32, 3), r"expected images \(N, 3, H, W\)"),
        (torch.zeros(3, 32, 32), r"expected images \(N, 3, H, W\)"),
        (torch.zeros(1, 3, 32, 30), "sides are multiples of 4"),
        (torch.full((1, 3, 32, 32), 255.0), r"found values from 255 to 255; of bytes, take x / 127\.5 - 1"),
        (torch.full((1, 3, 32, 32), math.nan), "found values from nan"),
    ],
)
def test_what_is_no_image_is_refused(make_checkpoint: MakeCheckpoint, images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        imginav.load(make_checkpoint()).encode(images)


@pytest.mark.parametrize("latents", [torch.zeros(1, 3, 8, 8), torch.zeros(2, 8, 8), torch.zeros(1, 2, 8, 8).long()])
def test_what_is_no_latent_is_refused(make_checkpoint: MakeCheckpoint, latents: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected latents \(N, 2, h, w\) of floats"):
        imginav.load(make_checkpoint()).decode(latents)


def test_without_an_evaluation_the_scaling_factor_is_not_guessed(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint(evaluated=False)
    with pytest.raises(UserError, match=f"measure it with: imginav evaluate {path}"):
        imginav.load(path)


def test_only_an_evaluation_of_these_weights_over_the_whole_split_counts(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    checkpoint = load_checkpoint(path)
    tables = tomli.loads(checkpoint.manifest)
    assert evaluation_of(path, checkpoint, tables) is not None
    assert evaluation_of(path, checkpoint, {**tables, "decoder": {"type": "conv", "heads": {}}}) is None
    other = attrs.evolve(checkpoint, model={name: tensor + 1 for name, tensor in checkpoint.model.items()})
    assert evaluation_of(path, other, tables) is None
    part = make_checkpoint("evaluation.latent_layouts=4", name="part")
    assert evaluation_of(part, load_checkpoint(part), tables) is None


def test_it_loads_without_its_layouts(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()  # of a data set that is registered in this process for the tests alone
    checkpoint = load_checkpoint(path)
    assert checkpoint.spec is not None
    assert checkpoint.spec.palette.names == ("red", "white")
    assert isinstance(imginav.load(path), Pretrained)


def test_a_checkpoint_of_an_earlier_version_opens_its_layouts_for_their_classes(
    make_checkpoint: MakeCheckpoint,
) -> None:
    layouts = ("data.type=procedural", "data.image_size=32", "data.count=8", "train.batch_size=2")
    pretrained = imginav.load(make_checkpoint(*layouts, spec=False))
    assert len(pretrained.latent.spec.palette) == 10
    path = make_checkpoint(spec=False, name="blocks")
    with pytest.raises(UserError, match=r"data: .*no dataset 'blocks' is installed.*; install the plugin"):
        imginav.load(path)


def test_an_encoder_that_is_not_installed_is_named(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    checkpoint = load_checkpoint(path)
    text = checkpoint.manifest.replace('[encoder]\ntype = "conv"', '[encoder]\ntype = "strange"')
    attrs.evolve(checkpoint, manifest=text).save(path)
    with pytest.raises(UserError, match=r"encoder: no encoder 'strange' is installed.*install the plugin"):
        imginav.load(path)


def test_weights_that_do_not_fit_are_refused(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    checkpoint = load_checkpoint(path)
    text = checkpoint.manifest.replace("base_channels = 16", "base_channels = 32")
    attrs.evolve(checkpoint, manifest=text).save(path)
    with pytest.raises(UserError, match="does not fit what it describes"):
        imginav.load(path)


def test_a_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no export of imginav: it has no export\.json"):
        imginav.load(tmp_path)


def test_a_run_is_loaded_by_its_folder_and_by_its_name(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_checkpoint(name="outputs/own")
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    expected = imginav.load(path).encode(images)
    monkeypatch.chdir(tmp_path)
    for name in ("own", "outputs/own", Path("outputs/own")):
        assert torch.equal(imginav.load(name).encode(images), expected)
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match="onw: is neither a file or folder here nor a run in outputs, did you"):
        imginav.load("onw")


def test_pictures_are_encoded_and_decoded_to_pictures(make_checkpoint: MakeCheckpoint) -> None:
    pretrained = imginav.load(make_checkpoint())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), dtype=np.uint8)
    images = as_images(torch.from_numpy(pixels))
    expected = pretrained.encode(images)
    for given in (pixels, list(pixels), [Image.fromarray(one) for one in pixels]):
        assert torch.equal(pretrained.encode(given), expected)
    assert torch.equal(pretrained.encode(Image.fromarray(pixels[0])), pretrained.encode(images[:1]))
    decoded = pretrained.decode(expected)
    shown = pretrained.decode(expected, as_pil=True)
    assert [(type(picture), picture.size) for picture in shown] == [(Image.Image, (64, 32))] * 2
    assert np.array_equal(np.stack([np.array(picture) for picture in shown]), to_bytes(decoded))


def test_other_sizes_are_encoded_where_padding_is_asked_for(make_checkpoint: MakeCheckpoint) -> None:
    pretrained = imginav.load(make_checkpoint())
    picture = Image.new("RGB", (41, 33), (228, 26, 28))
    with pytest.raises(ValueError, match="sides are multiples of 4"):
        pretrained.encode(picture)
    whole = Image.new("RGB", (44, 36), pretrained.latent.spec.palette.background_colour)
    whole.paste(picture)
    latents = pretrained.encode(picture, pad=True)
    assert torch.equal(latents, pretrained.encode(whole))
    decoded = pretrained.decode(latents, size=(33, 41))
    assert torch.equal(decoded, pretrained.decode(latents)[..., :33, :41])
    (shown,) = pretrained.decode(latents, size=(33, 41), as_pil=True)
    assert shown.size == picture.size


def test_unknown_names_of_the_package_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        imginav.lod  # type: ignore[attr-defined]  # noqa: B018  # that is what is tried
