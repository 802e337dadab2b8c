"""Encoder and decoder as one module."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from attrs import frozen
from torch import Tensor, nn

from imginav import DataSpec, Head, UserError
from imginav.plugin.heads import Heads
from imginav.training.trainer import Trainer
from imginav_decoders.conv import ConvDecoder
from imginav_encoders.conv import ConvEncoder

MakeTrainer = Callable[..., Trainer]


@frozen(kw_only=True)
class Halves(Head):
    """Two outputs of one convolution, and beside them, how it was built."""

    def outputs(self, name: str) -> tuple[str, ...]:
        return (f"{name}_first", f"{name}_second")

    def build(self, in_channels: int, spec: DataSpec, patch: int) -> nn.Module:
        return HalvesModule(in_channels, patch)


class HalvesModule(nn.Module):
    def __init__(self, in_channels: int, patch: int) -> None:
        super().__init__()
        self.built = in_channels, patch
        self.both = nn.Conv2d(in_channels, 2, 1)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        first, second = self.both(features).chunk(2, dim=1)
        return {"two_first": first, "two_second": second}


@frozen(kw_only=True)
class Single(Head):
    def build(self, in_channels: int, spec: DataSpec, patch: int) -> nn.Module:
        return nn.Conv2d(in_channels, 3, 1)


def test_a_variational_latent_is_the_mean_without_noise_and_drawn_with_it(make_trainer: MakeTrainer) -> None:
    model = make_trainer("encoder.variational=true").model
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    outputs = model(images)
    assert torch.equal(outputs["latent"], outputs["mean"])
    assert torch.equal(model.encode(images), outputs["mean"])
    expected = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    drawn = model(images, lambda mean: expected)
    torch.testing.assert_close(drawn["latent"], outputs["mean"] + expected * torch.exp(outputs["log_variance"] / 2))
    assert set(outputs) == set(model.output_names) == {"rgb", "segmentation", "latent", "mean", "log_variance"}


def test_a_deterministic_latent_needs_no_noise(make_trainer: MakeTrainer) -> None:
    model = make_trainer().model
    images = torch.rand(1, 3, 32, 32)
    outputs = model(images, torch.randn_like)
    assert set(outputs) == set(model.output_names) == {"rgb", "segmentation", "latent"}
    torch.testing.assert_close(model.decode(model.encode(images))["rgb"], outputs["rgb"])


def test_the_variance_stays_finite(make_trainer: MakeTrainer) -> None:
    model = make_trainer("encoder.variational=true").model
    with torch.no_grad():
        model.encoder.get_parameter("to_latent.1.bias").fill_(1e6)
    outputs = model(torch.zeros(1, 3, 32, 32), torch.randn_like)
    assert outputs["log_variance"].max() == 20
    assert all(output.isfinite().all() for output in outputs.values())


def test_sizes_that_cannot_be_halved_so_often_are_refused_at_the_start(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"data.image_size = 30 cannot be halved 2 times .*multiple of 4, such as 28"):
        make_trainer("data.image_size=30")
    with pytest.raises(UserError, match=r"data.crop = 18 cannot be halved 2 times"):
        make_trainer("data.crop=18")


def test_names_of_heads_cannot_be_those_of_latents(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"decoder.heads.latent: the name 'latent' is the encoder's"):
        make_trainer("decoder.heads.latent={type='rgb'}")


def test_a_decoder_without_heads_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"decoder.heads is empty; name at least one"):
        make_trainer("decoder.heads.rgb=false", "decoder.heads.segmentation=false")


def test_a_width_that_does_not_fit_is_refused_before_training(make_trainer: MakeTrainer) -> None:
    with pytest.raises(
        UserError, match=r"cannot be built: the conv decoder needs base_channels to be a multiple of 16"
    ):
        make_trainer("encoder.base_channels=24")


# Heads


def test_heads_give_the_outputs_of_all_of_them_by_name_in_their_order(spec: DataSpec) -> None:
    heads = Heads({"one": Single(), "two": Halves()}, 4, spec, patch=2)
    features = torch.randn(2, 4, 3, 5)
    outputs = heads(features)
    assert list(outputs) == ["one", "two_first", "two_second"]
    assert torch.equal(outputs["one"], heads["one"](features))
    assert torch.equal(torch.cat([outputs["two_first"], outputs["two_second"]], 1), heads["two"].both(features))  # type: ignore[operator]  # a layer
    assert heads["two"].built == (4, 2)
    assert Heads({"two": Halves()}, 4, spec)["two"].built == (4, 1)


def test_the_weights_of_a_head_are_found_under_its_name_not_its_outputs(spec: DataSpec) -> None:
    heads = Heads({"two": Halves(), "one": Single()}, 4, spec)
    assert list(heads.state_dict()) == ["two.both.weight", "two.both.bias", "one.weight", "one.bias"]


@pytest.mark.parametrize("decoder", ["conv", "residual"])
def test_the_weights_of_heads_stand_below_the_decoders_in_a_checkpoint(make_trainer: MakeTrainer, decoder: str) -> None:
    palette = ("decoder.heads.rgb=false", "decoder.heads.segmentation=false", "decoder.heads.paint.type=palette")
    model = make_trainer(f"decoder.type={decoder}", *palette).model
    assert model.output_names == ("rgb", "segmentation", "latent")
    names = {name for name in model.state_dict() if ".heads." in name}
    assert names
    assert all(name.startswith("decoder.heads.paint.logits.") for name in names)


@pytest.mark.parametrize("name", ["forward", "keys", "train"])
def test_a_head_of_a_name_that_torch_needs_is_refused(spec: DataSpec, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^decoder\.heads\.{name}: torch cannot keep a module by this name"):
        Heads({"one": Single(), name: Single()}, 4, spec)


def test_two_heads_of_one_output_are_refused_by_both_names(make_trainer: MakeTrainer) -> None:
    refused = (
        r"decoder\.heads\.p and decoder\.heads\.rgb both give the output 'rgb'; take one of them out, such as with "
        r"decoder\.heads\.p = false"
    )
    with pytest.raises(UserError, match=refused):
        make_trainer("decoder.heads.p.type=palette")


class Pools(nn.Module):
    """A network of one convolution, whose output has another size than it should."""

    def __init__(self, channels_in: int, channels_out: int, factor: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, 1)
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        return self.convolution(nn.functional.interpolate(images, scale_factor=self.factor))


def test_an_encoder_of_another_shape_is_named_and_no_loss_is_blamed(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConvEncoder, "build", lambda self: Pools(3, 2, 1 / 8))
    with pytest.raises(UserError) as caught:
        make_trainer()
    assert str(caught.value) == (
        "the encoder (Pools) gives (1, 2, 4, 4) for images (1, 3, 32, 32), where its latent_channels, "
        "downsampling_steps and variational say (1, 2, 8, 8); mend the encoder, or these values"
    )
    monkeypatch.setattr(ConvEncoder, "build", lambda self: Pools(3, 2, 1 / 4))
    with pytest.raises(UserError, match=r"gives \(1, 2, 8, 8\) for .* say \(1, 4, 8, 8\); mend the encoder"):
        make_trainer("encoder.variational=true")


def test_a_decoder_of_another_shape_is_named(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Half(Pools):
        def forward(self, latents: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            image = super().forward(latents)
            return {"rgb": image, "segmentation": image[:, :2]}

    monkeypatch.setattr(ConvDecoder, "build", lambda self, encoder, spec: Half(2, 3, 2))
    with pytest.raises(UserError) as caught:
        make_trainer("decoder.heads.segmentation=false", "losses.segmentation=false")
    assert str(caught.value) == (
        "the decoder (Half) gives rgb (1, 3, 16, 16) for latents (1, 2, 8, 8) of images (1, 3, 32, 32); mend the "
        "decoder, so that both have the same height and width"
    )


def test_a_look_at_the_shapes_changes_nothing(make_trainer: MakeTrainer) -> None:
    before = torch.random.get_rng_state()
    trainer = make_trainer()
    assert torch.equal(before, torch.random.get_rng_state())
    assert trainer.model.training
