"""A trained autoencoder as a model of diffusers: alone, in training loops, and in a pipeline."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, DDPMScheduler, LDMPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import SingleFileComponentError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import imginav
from imginav import TrainedAutoencoder, UserError
from imginav.plugin.checkpoint import sha256_of
from imginav_datasets import Procedural
from imginav_diffusers import ImginavAutoencoder, model_of
from imginav_exporters import DiffusersExporter
from imginav_handoff.pretrained import UnverifiedWarning
from imginav_handoff.single_images import open_coding
from imginav_tests.pipelines import small_pipeline, small_unet

MakeTrained = Callable[..., TrainedAutoencoder]

KINDS = [("residual", "palette"), ("conv", "rgb")]
CONFIG, WEIGHTS, CLASS = "config.json", "diffusion_pytorch_model.safetensors", "imginav_diffusers.py"


@pytest.fixture
def layouts() -> Tensor:
    """Eight drawn layouts of 32 px, as images in [-1, 1]."""
    source = Procedural(image_size=32, count=8).open()
    drawn = np.stack([source.read(index)["rgb"] for index in range(8)])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1


def exported(trained: TrainedAutoencoder, folder: Path) -> ImginavAutoencoder:
    DiffusersExporter().write(trained, folder)
    vae: ImginavAutoencoder = ImginavAutoencoder.from_pretrained(folder)
    return vae


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize(("kind", "head"), KINDS)
def test_what_is_loaded_computes_what_was_written(
    make_trained: MakeTrained, layouts: Tensor, tmp_path: Path, variational: bool, kind: str, head: str
) -> None:
    trained = make_trained(variational=variational, kind=kind, head=head)
    vae = exported(trained, tmp_path)
    with torch.no_grad():
        mean, log_variance = trained.autoencoder.posterior(layouts)
        images = trained.autoencoder.decode(mean)["rgb"]
        mean = mean - trained.latent.shift_factor  # which the model takes off and puts back by itself
        latents = vae.encode(layouts).latent_dist
        assert torch.equal(latents.mode(), mean)
        # Off by the last digit, another class of a palette may be the likeliest.
        assert torch.isclose(vae.decode(mean).sample, images, atol=1e-4).float().mean() > 0.999
        assert torch.equal(vae(layouts).sample, vae.decode(mean).sample)
        drawn = vae(layouts, sample_posterior=True, generator=torch.Generator().manual_seed(5)).sample
        assert torch.equal(drawn, vae.decode(latents.sample(torch.Generator().manual_seed(5))).sample)
    if log_variance is None:
        assert torch.equal(latents.sample(), mean)
    else:
        torch.testing.assert_close(latents.std, torch.exp(0.5 * log_variance))
        assert not torch.equal(latents.sample(), mean)
    assert not any(module.training for module in vae.modules())


def test_outputs_are_tuples_for_who_asks_for_them(make_trained: MakeTrained, layouts: Tensor) -> None:
    vae = model_of(make_trained(variational=True))
    with torch.no_grad():
        (latents,) = vae.encode(layouts, return_dict=False)
        (images,) = vae.decode(latents.mode(), return_dict=False)
        (rebuilt,) = vae(layouts, return_dict=False)
    assert torch.equal(images, rebuilt)


def test_what_is_written_is_what_diffusers_would_save(make_trained: MakeTrained, tmp_path: Path) -> None:
    vae = exported(make_trained(), tmp_path / "written")
    model_of(make_trained()).save_pretrained(tmp_path / "saved")
    files = {path.name: path.read_bytes() for path in (tmp_path / "written").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    assert sorted(files) == [CONFIG, WEIGHTS, CLASS]
    vae.save_pretrained(tmp_path / "saved again")
    assert (tmp_path / "saved again" / WEIGHTS).read_bytes() == files[WEIGHTS]


@pytest.mark.parametrize("variational", [False, True])
def test_what_diffusers_has_saved_again_is_loaded_with_a_warning(
    make_trained: MakeTrained, layouts: Tensor, tmp_path: Path, variational: bool
) -> None:
    trained = make_trained(variational=variational)
    exported(trained, tmp_path / "written").save_pretrained(tmp_path / "pipeline" / "vae")
    with pytest.warns(UnverifiedWarning, match=r"vae has no export\.json, .* whether the scaling factor fits them"):
        loaded = imginav.load(tmp_path / "pipeline" / "vae")
    said: list[str] = []
    open_coding(tmp_path / "pipeline" / "vae", tmp_path, "cpu", said.append)
    assert [line[:6] for line in said] == ["note: "]
    with torch.no_grad():
        mean, *log_variance = trained.encoder(layouts)
        found = loaded.distribution(layouts)
        torch.testing.assert_close(found[0], mean)
        if variational:
            torch.testing.assert_close(found[1], log_variance[0])
        assert torch.isclose(loaded.decode(mean), trained.decoder(mean), atol=1e-4).float().mean() > 0.99
    assert loaded.latent.weights_sha256 == sha256_of(trained.autoencoder.state_dict())
    assert attrs.evolve(loaded.latent, means=(), stds=(), layouts=0, weights_sha256="") == attrs.evolve(
        trained.latent, means=(), stds=(), layouts=0, weights_sha256=""
    )


@pytest.mark.parametrize("config", [None, "{", "[]", '{"_class_name": "AutoencoderKL"}'])
def test_other_models_are_no_exports(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / CONFIG).write_text(config)
    with pytest.raises(UserError, match=r"is no export of imginav: it has no export\.json"):
        imginav.load(tmp_path)


def test_others_may_read_what_is_written(make_trained: MakeTrained, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    exported(make_trained(), tmp_path / "written")
    modes = {path.stat().st_mode for path in [tmp_path / "file", *(tmp_path / "written").iterdir()]}
    assert len(modes) == 1


def test_the_config_has_what_trainers_and_pipelines_read(make_trained: MakeTrained, tmp_path: Path) -> None:
    trained = make_trained(variational=True)
    config = exported(trained, tmp_path).config
    # Pipelines that shift and those that do not get the same.
    assert (config.scaling_factor, config.shift_factor, config.latent_offset) == (1.7, 0.0, 0.2)
    assert (config.in_channels, config.latent_channels, config.out_channels) == (3, 4, 3)
    assert config.sample_size == 32
    assert config.force_upcast is False
    assert config.architecture == trained.architecture.table()
    # The line that pipelines of Stable Diffusion have.
    assert 2 ** (len(config.block_out_channels) - 1) == trained.latent.downsampling_factor == 4
    assert json.loads((tmp_path / CONFIG).read_text())["_class_name"] == "ImginavAutoencoder"


def test_latents_are_not_scaled_twice_where_pipelines_would_scale_by_channel(make_trained: MakeTrained) -> None:
    vae = model_of(make_trained())
    scaled = latents = torch.randn(1, 4, 8, 8)
    # As StableDiffusionXLPipeline has it.
    if vae.config.latents_mean is not None and vae.config.latents_std is not None:
        mean, std = (torch.tensor(vae.config[key]).view(1, 4, 1, 1) for key in ("latents_mean", "latents_std"))
        scaled = latents * std / vae.config.scaling_factor + mean
    else:
        scaled = latents / vae.config.scaling_factor
    torch.testing.assert_close(scaled, latents / 1.7)


def test_what_is_opened_takes_scaled_latents(make_trained: MakeTrained, layouts: Tensor, tmp_path: Path) -> None:
    trained = make_trained(variational=True)
    exporter = DiffusersExporter()
    exporter.write(trained, tmp_path)
    encoder, decoder = exporter.open(tmp_path, trained.latent)
    with torch.no_grad():
        expected = trained.encoder(layouts)
        for opened, written in zip(encoder(layouts), expected, strict=True):
            torch.testing.assert_close(opened, written)
        same = torch.isclose(decoder(expected[0]), trained.decoder(expected[0]), atol=1e-4).float().mean()
        assert same > 0.999


def test_a_config_with_another_scaling_factor_is_opened_as_it_is(
    make_trained: MakeTrained, layouts: Tensor, tmp_path: Path
) -> None:
    trained = make_trained()
    exporter = DiffusersExporter()
    exporter.write(trained, tmp_path)
    path = tmp_path / CONFIG
    path.write_text(path.read_text().replace('"scaling_factor": 1.7', '"scaling_factor": 3.4'))
    encoder, _ = exporter.open(tmp_path, trained.latent)  # so that verify sees what a trainer would
    with torch.no_grad():
        torch.testing.assert_close(encoder(layouts)[0], 2 * trained.encoder(layouts)[0])


@pytest.mark.parametrize("variational", [False, True])
def test_the_card_says_how_to_load_it(
    make_trained: MakeTrained, layouts: Tensor, tmp_path: Path, variational: bool
) -> None:
    trained = make_trained(variational=variational)
    DiffusersExporter().write(trained, tmp_path)
    names = {"images": layouts}
    torch.manual_seed(3)
    with torch.no_grad():
        exec(DiffusersExporter().how_to_load(str(tmp_path)), names)  # noqa: S102  # it is what a reader would do
        mean, *log_variance = trained.encoder(layouts)
        if not variational:
            torch.testing.assert_close(names["scaled"], mean)
        else:
            noise = (names["scaled"] - mean) / torch.exp(0.5 * log_variance[0])
            assert noise.mean().abs() < 0.1
            assert noise.std() == pytest.approx(1, abs=0.1)
        # The likeliest class of a few pixels hangs on the last digit of a latent that was scaled and unscaled.
        same = torch.isclose(names["images"], trained.decoder(names["scaled"])).float().mean()
        assert same > 0.99


def test_the_lines_that_export_prints_train_a_unet(make_trained: MakeTrained, tmp_path: Path) -> None:
    DiffusersExporter().write(make_trained(), tmp_path)
    names: dict[str, Tensor | torch.nn.Module] = {}
    exec(DiffusersExporter().first_use(str(tmp_path)), names)  # noqa: S102  # it is what a reader would type
    loss, unet = names["loss"], names["unet"]
    assert isinstance(loss, Tensor)
    assert isinstance(unet, torch.nn.Module)
    loss.backward()
    assert all(weight.grad is not None for weight in unet.parameters())


def test_slicing_takes_one_image_at_a_time(make_trained: MakeTrained, layouts: Tensor) -> None:
    vae = model_of(make_trained(head="rgb", variational=True))
    sizes: list[int] = []
    for module in (vae.autoencoder.encoder, vae.autoencoder.decoder):
        module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    with torch.no_grad():
        whole = vae(layouts).sample
        vae.enable_slicing()
        sliced = vae(layouts).sample
        vae.disable_slicing()
        vae(layouts)
    assert sizes == [8, 8, *16 * [1], 8, 8]
    torch.testing.assert_close(sliced, whole)


def test_tiles_give_what_the_whole_image_gives(make_trained: MakeTrained) -> None:
    vae = model_of(make_trained(variational=True))
    vae.tile_sample_min_size = 16
    images = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sizes: list[int] = []
    vae.encoder.register_forward_pre_hook(lambda _, given: sizes.append(max(given[0].shape[2:])))
    with torch.no_grad():
        whole, decoded = vae.encode(images).latent_dist.parameters, vae(images).sample
        vae.enable_tiling()
        sizes.clear()
        torch.testing.assert_close(vae.encode(images).latent_dist.parameters, whole)
        assert len(sizes) == 4 * 3
        assert max(sizes) < 64
        assert torch.isclose(vae(images).sample, decoded, atol=1e-4).float().mean() > 0.999
        sizes.clear()
        vae.disable_tiling()
        vae.encode(images)
    assert sizes == [64]


def test_tiling_is_refused_where_layers_look_at_the_whole_image(make_trained: MakeTrained) -> None:
    vae = model_of(make_trained(kind="conv", head="rgb"))
    with pytest.raises(NotImplementedError, match=r"whole images only: its networks look at the whole image"):
        vae.enable_tiling()
    assert not vae.use_tiling
    vae.disable_tiling()


def test_it_has_what_programs_ask_an_autoencoder_for(make_trained: MakeTrained) -> None:
    trained = make_trained()
    vae = model_of(trained)
    assert vae.spatial_compression_ratio == trained.latent.downsampling_factor
    assert vae.encoder is vae.autoencoder.encoder
    assert vae.decoder is vae.autoencoder.decoder
    assert (vae.use_slicing, vae.use_tiling) == (False, False)
    assert sum(p.numel() for p in (*vae.encoder.parameters(), *vae.decoder.parameters())) == vae.num_parameters()


def test_gradient_checkpointing_changes_memory_and_not_gradients(make_trained: MakeTrained, layouts: Tensor) -> None:
    vae = model_of(make_trained(variational=True)).train()

    def gradients() -> list[Tensor]:
        vae.zero_grad()
        F.mse_loss(vae(layouts).sample, layouts).backward()
        return [p.grad.clone() for p in vae.parameters() if p.grad is not None]

    plain = gradients()
    vae.enable_gradient_checkpointing()
    calls: list[int] = []
    vae.encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    for one, other in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(one, other)
    assert len(calls) == 2  # once more on the way back
    vae.disable_gradient_checkpointing()
    gradients()
    assert len(calls) == 3


@pytest.mark.parametrize("memory", [{}, {"low_cpu_mem_usage": False}], ids=["default", "no accelerate"])
@pytest.mark.parametrize(
    "other", ["AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "AsymmetricAutoencoderKL", "VQModel"]
)
def test_other_classes_do_not_load_it_with_random_weights(
    make_trained: MakeTrained, tmp_path: Path, other: str, memory: dict[str, bool]
) -> None:
    exported(make_trained(), tmp_path)
    with pytest.raises(ValueError, match=r"(?i)load it with imginav_diffusers\.ImginavAutoencoder, or run the script"):
        getattr(diffusers, other).from_pretrained(tmp_path, **memory)


def test_its_weights_are_not_taken_for_those_of_another_class(make_trained: MakeTrained, tmp_path: Path) -> None:
    exported(make_trained(), tmp_path)
    load: Callable[..., object] = diffusers.AutoencoderKL.from_single_file
    with pytest.raises(ValueError, match=r"^imginav: the folder holds an ImginavAutoencoder"):
        load(str(tmp_path / WEIGHTS), config=str(tmp_path))
    diffusers.AutoencoderKL().save_config(
        tmp_path / "kl"
    )  # without a config, diffusers fetches one of Stable Diffusion
    with pytest.raises(SingleFileComponentError, match="Weights for this component appear to be missing"):
        load(str(tmp_path / WEIGHTS), config=str(tmp_path / "kl"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("kind", "head"), KINDS)
@pytest.mark.parametrize("variational", [False, True])
def test_it_computes_in_half_precision(
    make_trained: MakeTrained,
    layouts: Tensor,
    tmp_path: Path,
    dtype: torch.dtype,
    kind: str,
    head: str,
    variational: bool,
) -> None:
    trained = make_trained(kind=kind, head=head, variational=variational)
    exported(trained, tmp_path)
    loaded = ImginavAutoencoder.from_pretrained(tmp_path, torch_dtype=dtype)
    cast = ImginavAutoencoder.from_pretrained(tmp_path).to(dtype)
    with torch.no_grad():
        mean = trained.autoencoder.encode(layouts)
        images = trained.autoencoder.decode(mean)["rgb"]
        mean = mean - trained.latent.shift_factor
        for vae in (loaded, cast):
            assert {tensor.dtype for tensor in vae.state_dict().values()} == {dtype}
            latents = vae.encode(layouts.to(dtype)).latent_dist
            assert latents.sample().dtype == latents.std.dtype == vae.dtype == dtype
            torch.testing.assert_close(latents.mode().float(), mean, rtol=0.05, atol=0.05)
            decoded = vae.decode(mean.to(dtype)).sample
            assert decoded.dtype == dtype
            # Near a tie, another class of a palette is the likeliest.
            assert torch.isclose(decoded.float(), images, rtol=0.05, atol=0.05).float().mean() > 0.9


def test_it_gives_what_it_is_given_under_autocast(make_trained: MakeTrained, layouts: Tensor) -> None:
    vae = model_of(make_trained(head="rgb"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(layouts).latent_dist.mode()
        assert latents.dtype == vae.decode(latents).sample.dtype == torch.float32


def test_it_trains_in_training_mode(make_trained: MakeTrained, layouts: Tensor) -> None:
    vae = model_of(make_trained(variational=True)).train()
    images = layouts.clone().requires_grad_()
    F.mse_loss(vae(images, sample_posterior=True).sample, layouts).backward()
    for tensor in (images, *vae.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0


@pytest.mark.parametrize("how", ["no_grad", "inference_mode", "frozen"])
def test_without_gradients_training_mode_changes_nothing_and_stays(
    make_trained: MakeTrained, layouts: Tensor, how: str
) -> None:
    vae = model_of(make_trained(head="palette"))
    vae.autoencoder.encoder.register_forward_hook(lambda module, _, output: output + module.training)
    with torch.no_grad():
        expected = vae(layouts).sample
        latents = vae.encode(layouts).latent_dist.mode()
    vae.train().requires_grad_(how != "frozen")
    for mode in (False, True):
        vae.autoencoder.encoder.train(mode)
        modes = [module.training for module in vae.modules()]
        with {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}.get(how, torch.enable_grad)():
            assert torch.equal(vae(layouts).sample, expected)
            assert torch.equal(vae.encode(layouts).latent_dist.mode(), latents)
            assert torch.equal(vae.decode(latents).sample, expected)
        assert [module.training for module in vae.modules()] == modes


def test_in_training_mode_decoded_images_of_a_palette_have_gradients(make_trained: MakeTrained) -> None:
    vae = model_of(make_trained(head="palette")).train()
    latents = torch.randn(1, 4, 8, 8)
    assert vae.decode(latents).sample.requires_grad  # for the weights
    latents.requires_grad_()
    vae.requires_grad_(False).decode(latents).sample.mean().backward()
    assert latents.grad is not None
    assert latents.grad.abs().max() > 0


def test_gradients_pass_a_frozen_model(make_trained: MakeTrained, layouts: Tensor) -> None:
    vae = model_of(make_trained(head="rgb")).requires_grad_(False)
    latents = vae.encode(layouts).latent_dist.mode().requires_grad_()
    vae.decode(latents).sample.mean().backward()
    assert latents.grad is not None
    assert latents.grad.abs().max() > 0


def test_colours_of_the_likeliest_classes_have_no_gradient(make_trained: MakeTrained) -> None:
    vae = model_of(make_trained(head="palette"))
    assert not vae.decode(torch.randn(1, 4, 8, 8, requires_grad=True)).sample.requires_grad


def test_colours_survive_a_model_that_is_built_without_memory(
    make_trained: MakeTrained, layouts: Tensor, tmp_path: Path
) -> None:
    """As `from_pretrained` does it where accelerate is installed: built on nothing, then filled from the file."""
    vae = exported(make_trained(head="palette"), tmp_path)
    with torch.device("meta"):
        empty = ImginavAutoencoder.from_config(ImginavAutoencoder.load_config(tmp_path))
    empty.load_state_dict(load_file(tmp_path / WEIGHTS), assign=True)
    with torch.no_grad():
        assert torch.equal(empty.eval()(layouts).sample, vae(layouts).sample)


def test_tables_that_modules_share_are_written(
    make_trained: MakeTrained, layouts: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imginav_heads.pixels import PaletteHeadModule

    init = PaletteHeadModule.__init__

    def sharing(self: PaletteHeadModule, logits: nn.Module, colours: Tensor, *, always_mean: bool) -> None:
        init(self, logits, colours, always_mean=always_mean)
        self.logits.register_buffer("same_colours", colours, persistent=False)
        self.logits.register_buffer("turned_colours", colours.t(), persistent=False)

    monkeypatch.setattr(PaletteHeadModule, "__init__", sharing)
    trained = make_trained()
    vae = exported(trained, tmp_path)
    with torch.no_grad():
        assert torch.equal(vae(layouts).sample, trained.autoencoder(layouts)["rgb"])


def test_without_diffusers_it_says_what_to_install(
    make_trained: MakeTrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = make_trained()
    for name in ("imginav_diffusers", "imginav_diffusers.autoencoder"):
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "diffusers"]:
        monkeypatch.setitem(sys.modules, name, None)
    remedy = r"the format diffusers needs the library diffusers \(.+\); install it: pip install .*-e '\.\[diffusers\]'$"
    with pytest.raises(UserError, match=remedy):
        DiffusersExporter().check()
    with pytest.raises(UserError, match=remedy):
        DiffusersExporter().write(trained, tmp_path)
    with pytest.raises(UserError, match=remedy):
        DiffusersExporter().open(tmp_path, trained.latent)
    assert not list(tmp_path.iterdir())


def test_diffusers_is_not_imported_before_it_is_needed() -> None:
    code = "import sys; from imginav_exporters import DiffusersExporter; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("no weights", r"cannot be loaded \(.*no file named diffusion_pytorch_model.*\); export it again"),
        ("no config", r"cannot be loaded \(.*no file named config\.json.*\); export it again"),
        ("no architecture", r"cannot be loaded \(.*'architecture'.*\); export it again"),
        ("half the weights", r"cannot be loaded \(.+\); export it again"),
        ("other shapes", r"cannot be loaded \(.*size.*\); export it again"),
        ("a weight less", r"does not fit what it describes \(weights autoencoder\.\S+\); a plugin may have changed"),
        ("a weight more", r"does not fit what it describes \(weights another\); a plugin may have changed"),
        ("another plugin", r"config\.json: encoder: no encoder 'other' is installed.*install the plugin"),
    ],
)
def test_a_folder_that_cannot_be_opened_is_an_error(
    make_trained: MakeTrained, tmp_path: Path, damage: str, sentence: str
) -> None:
    trained = make_trained()
    DiffusersExporter().write(trained, tmp_path)
    config, weights = json.loads((tmp_path / CONFIG).read_text()), load_file(tmp_path / WEIGHTS)
    last = sorted(weights)[-1]
    match damage:
        case "no weights":
            (tmp_path / WEIGHTS).unlink()
        case "no config":
            (tmp_path / CONFIG).unlink()
        case "no architecture":
            del config["architecture"]
            (tmp_path / CONFIG).write_text(json.dumps(config))
        case "half the weights":
            content = (tmp_path / WEIGHTS).read_bytes()
            (tmp_path / WEIGHTS).write_bytes(content[: len(content) // 2])
        case "other shapes":
            save_file(weights | {last: torch.zeros(1)}, tmp_path / WEIGHTS)
        case "a weight less":
            save_file({name: tensor for name, tensor in weights.items() if name != last}, tmp_path / WEIGHTS)
        case "a weight more":
            save_file(weights | {"another": torch.zeros(1)}, tmp_path / WEIGHTS)
        case "another plugin":
            config["architecture"]["encoder"]["type"] = "other"
            (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match=sentence) as caught:
        DiffusersExporter().open(tmp_path, trained.latent)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_diffusion_model_trains_on_its_latents(make_trained: MakeTrained, layouts: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = exported(make_trained(variational=True), tmp_path).requires_grad_(False)
    unet = small_unet()
    scheduler = DDPMScheduler()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        latents = vae.encode(layouts).latent_dist.sample()
        latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        loss = F.mse_loss(unet(noisy, timesteps).sample, noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_a_controlnet_trains_beside_it(make_trained: MakeTrained, layouts: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = exported(make_trained(), tmp_path).requires_grad_(False)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=16,
    ).requires_grad_(False)
    # It halves the conditioning image once for each but the first of these: to the 8 × 8 cells of a latent.
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32)).train()
    frozen = [(tensor, tensor.clone()) for model in (vae, unet) for tensor in model.state_dict().values()]
    scheduler = DDPMScheduler()
    optimizer = torch.optim.AdamW(controlnet.parameters(), lr=1e-3)
    # Its convolutions that begin as zeros let no gradient through to what lies before them; two stand in a row.
    for _ in range(3):
        latents = vae.encode(layouts).latent_dist.sample()
        latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        prompts = torch.randn(len(latents), 3, 16)
        down, middle = controlnet(
            noisy, timesteps, encoder_hidden_states=prompts, controlnet_cond=layouts / 2 + 0.5, return_dict=False
        )
        predicted = unet(
            noisy,
            timesteps,
            encoder_hidden_states=prompts,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        optimizer.zero_grad()
        F.mse_loss(predicted, noise).backward()
        optimizer.step()
    for parameter in controlnet.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
    assert all(torch.equal(tensor, as_it_was) for tensor, as_it_was in frozen)


def test_a_pipeline_decodes_with_it_and_loads_it_back(make_trained: MakeTrained, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = exported(make_trained(), tmp_path / "vae")
    pipeline = small_pipeline(vae)
    images = pipeline(generator=torch.manual_seed(1), num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 32, 32, 3)
    assert len(np.unique(images.reshape(-1, 3), axis=0)) > 1
    pipeline.save_pretrained(tmp_path / "pipeline")
    loaded = LDMPipeline.from_pretrained(tmp_path / "pipeline", trust_remote_code=True)
    assert type(loaded.vqvae).__name__ == "ImginavAutoencoder"
    again = loaded(generator=torch.manual_seed(1), num_inference_steps=2, output_type="np").images
    assert np.array_equal(again, images)
