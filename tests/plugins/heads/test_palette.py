"""The head that draws in the palette's colours."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from imginav import DataSpec, UserError
from imginav.model.autoencoder import build_autoencoder, parameter_count
from imginav.pixels import to_bytes
from imginav.plugin.palette import UNMATCHED, Palette
from imginav.seeds import Seeds
from imginav.training.trainer import Trainer
from imginav_decoders import ConvDecoder
from imginav_encoders import ConvEncoder
from imginav_heads import PaletteHead, RgbHead
from imginav_heads.pixels import PaletteHeadModule
from imginav_losses import MSE, CrossEntropy
from imginav_tests.layers import conv


@pytest.fixture
def head(spec: DataSpec) -> PaletteHeadModule:
    """A head for features of 2 × 2 pixels."""
    torch.manual_seed(0)
    head = PaletteHead().build(8, spec, 2)
    assert isinstance(head, PaletteHeadModule)
    return head


def features(batch: int = 2) -> Tensor:
    return 3 * torch.randn(batch, 8, 6, 5, generator=torch.Generator().manual_seed(1))


def test_it_gives_an_image_and_logits_whatever_its_name() -> None:
    assert PaletteHead().outputs("anything") == ("rgb", "segmentation")


def test_images_without_classes_are_not_for_it(spec: DataSpec) -> None:
    bare = attrs.evolve(spec, targets=("rgb", "label"))
    encoder = ConvEncoder(latent_channels=2, base_channels=16, downsampling_steps=1)
    refused = (
        r"cannot be built: the head palette .* have none; take it out with decoder.heads.palette = false, and name"
    )
    with pytest.raises(UserError, match=refused):
        build_autoencoder(encoder, ConvDecoder(heads={"palette": PaletteHead()}), bare, Seeds(0))
    build_autoencoder(encoder, ConvDecoder(heads={"rgb": RgbHead()}), bare, Seeds(0))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_both_outputs_have_the_images_size(spec: DataSpec, patch: int) -> None:
    outputs = PaletteHead().build(8, spec, patch)(torch.randn(2, 8, 6, 5))
    assert outputs["rgb"].shape == (2, 3, 6 * patch, 5 * patch)
    assert outputs["segmentation"].shape == (2, len(spec.palette), 6 * patch, 5 * patch)


def test_what_is_decoded_has_the_palettes_colours_and_no_others(head: PaletteHeadModule, spec: DataSpec) -> None:
    outputs = head.eval()(features())
    found = {tuple(colour) for colour in to_bytes(outputs["rgb"]).reshape(-1, 3).tolist()}
    assert found <= set(spec.palette.colours)
    assert len(found) > 3


def test_the_colour_is_that_of_the_largest_logit(head: PaletteHeadModule, spec: DataSpec) -> None:
    outputs = head.eval()(features())
    classes = outputs["segmentation"].argmax(dim=1).to(torch.uint8).numpy()
    assert (to_bytes(outputs["rgb"]) == spec.palette.colour(classes)).all()


def test_while_it_trains_the_image_is_the_mean_of_the_colours(head: PaletteHeadModule, spec: DataSpec) -> None:
    outputs = head.train()(features())
    shares = outputs["segmentation"].softmax(dim=1)
    colours = torch.tensor(spec.palette.colours) / 127.5 - 1
    expected = sum(shares[:, k, None] * colours[k, None, :, None, None] for k in range(len(spec.palette)))
    torch.testing.assert_close(outputs["rgb"], expected)


@torch.no_grad()
def test_the_mean_can_be_what_is_decoded_and_is_nearer_to_what_may_be(spec: DataSpec) -> None:
    torch.manual_seed(0)
    heads = [PaletteHead(colours=colours).build(8, spec, 2).eval() for colours in ("mean", "likeliest")]
    heads[1].load_state_dict(heads[0].state_dict())
    mean, likeliest = (head(features()) for head in heads)
    torch.testing.assert_close(mean["rgb"], heads[0].train()(features())["rgb"])
    assert torch.equal(mean["segmentation"], likeliest["segmentation"])
    # Where a pixel is of each class as often as the logits say, the mean has the least squared error.
    shares = mean["segmentation"].softmax(dim=1)
    colours = torch.tensor(spec.palette.colours) / 127.5 - 1

    def expected_error(image: Tensor) -> float:
        return sum(
            float((shares[:, k] * (image - c[:, None, None]).square().mean(dim=1)).mean())
            for k, c in enumerate(colours)
        )

    assert expected_error(mean["rgb"]) < 0.9 * expected_error(likeliest["rgb"])


def test_sure_logits_make_both_images_equal(head: PaletteHeadModule) -> None:
    sure = {mode: head.train(mode)(1e4 * features())["rgb"] for mode in (True, False)}
    torch.testing.assert_close(sure[True], sure[False], atol=1e-3, rtol=0)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_either_loss_alone_teaches_it(spec: DataSpec, loss: str) -> None:
    torch.manual_seed(0)
    head = PaletteHead().build(32, spec, 2)
    segmentation = torch.randint(0, 10, (1, 12, 10), generator=torch.Generator().manual_seed(2))
    colours = torch.tensor(spec.palette.colours) / 127.5 - 1
    batch = {"rgb": colours[segmentation].permute(0, 3, 1, 2), "segmentation": segmentation}
    term = MSE() if loss == "mse" else CrossEntropy(output="segmentation", target="segmentation")
    inputs = torch.nn.Parameter(torch.randn(1, 32, 6, 5))
    optimizer = torch.optim.Adam([*head.parameters(), inputs], lr=0.05)
    first = None
    for _ in range(60):
        value = term(head.train()(inputs), batch)
        first = first or value.item()
        optimizer.zero_grad()
        value.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
        optimizer.step()
    assert value.item() < 0.2 * first
    wrong = (head.eval()(inputs)["rgb"] - batch["rgb"]).abs().amax(dim=1).gt(1e-3).float().mean()
    # A mean of two colours can be near a third one, which the colours alone cannot tell from it.
    assert wrong < (0.5 if loss == "mse" else 0.1)


def test_pixels_of_no_class_teach_the_logits_nothing(head: PaletteHeadModule) -> None:
    term = CrossEntropy(output="segmentation", target="segmentation")
    target = torch.full((2, 12, 10), UNMATCHED)
    target[:, :6] = 3
    logits = head.train()(features())["segmentation"]
    (gradient,) = torch.autograd.grad(term({"segmentation": logits}, {"segmentation": target}), logits)
    assert gradient[:, :, :6].abs().min() > 0
    assert gradient[:, :, 6:].abs().max() == 0


def test_half_precision_makes_no_other_colours(head: PaletteHeadModule, spec: DataSpec) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        exact = head.eval()(features())["rgb"]
        mean = head.train()(features())["rgb"].float()
    assert {tuple(colour) for colour in to_bytes(exact).reshape(-1, 3).tolist()} <= set(spec.palette.colours)
    # It serves losses alone, where the rounding of half precision is small.
    torch.testing.assert_close(mean, head.train()(features())["rgb"], atol=0.1, rtol=0)


def test_its_colours_are_the_data_sets_and_no_weight(spec: DataSpec) -> None:
    palette = Palette(names=("ink", "paper"), colours=((0, 0, 255), (255, 255, 255)), background="paper")
    heads = {"palette": PaletteHead()}
    encoder = ConvEncoder(latent_channels=2, base_channels=16, downsampling_steps=1)
    model = build_autoencoder(encoder, ConvDecoder(heads=heads), attrs.evolve(spec, palette=palette), Seeds(0))
    image = model.eval()(torch.zeros(1, 3, 8, 8))["rgb"]
    assert {tuple(colour) for colour in to_bytes(image).reshape(-1, 3).tolist()} <= set(palette.colours)
    assert not [name for name in model.state_dict() if "colours" in name]


def test_the_mean_colour_lies_within_the_range_of_pixels(head: PaletteHeadModule) -> None:
    image = head.train()(features())["rgb"]
    assert image.min() >= -1
    assert image.max() <= 1
    assert F.mse_loss(image, image.round()) > 1e-4


def test_colours_that_no_loss_reads_are_not_mixed_in_training(head: PaletteHeadModule) -> None:
    head.train_for(("segmentation", "latent"), ())
    assert head(features()).keys() == {"segmentation"}
    assert head.eval()(features()).keys() == {"rgb", "segmentation"}
    head.train().train_for(("rgb",), ())
    assert head(features()).keys() == {"rgb", "segmentation"}


@pytest.mark.parametrize(("losses", "trained"), [({}, False), ({"losses.mse": "{}"}, True)])
def test_a_trainer_tells_it_what_losses_read(
    losses: dict[str, str], trained: bool, make_trainer: Callable[..., Trainer]
) -> None:
    settings = {"losses.mse": "false", "decoder.heads.rgb": "false", "decoder.heads.segmentation": "false"}
    settings |= {"decoder.heads.palette": "{}", **losses}
    trainer = make_trainer(*(f"{key}={value}" for key, value in settings.items()))
    outputs = trainer.model.train()(torch.zeros(1, 3, 32, 32))
    assert ("rgb" in outputs) is trained
    assert trainer.validate()["val_mse"] > 0


def test_logits_stay_in_patches_in_training_where_every_loss_takes_them(head: PaletteHeadModule) -> None:
    in_place = head(features())["segmentation"]
    head.train_for(("segmentation",), ("segmentation",))
    patches = head(features())["segmentation"]
    assert patches.shape == (2, in_place.shape[1], 4, 6, 5)
    assert torch.equal(F.pixel_shuffle(patches.flatten(1, 2), 2), in_place)
    assert torch.equal(head.eval()(features())["segmentation"], in_place)
    # The mean of the colours needs every logit in its place.
    head.train().train_for(("rgb", "segmentation"), ("segmentation",))
    assert torch.equal(head(features())["segmentation"], in_place)


def test_logits_of_single_pixels_are_no_patches(spec: DataSpec) -> None:
    head = PaletteHead().build(8, spec, 1)
    assert isinstance(head, PaletteHeadModule)
    head.train_for(("segmentation",), ("segmentation",))
    assert head(features())["segmentation"].dim() == 4


def test_patches_change_no_training(make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [
        "machine.precision=fp32",
        "encoder.type=residual",
        "decoder.type=residual",
        "losses.mse=false",
        "decoder.heads.rgb=false",
        "decoder.heads.segmentation=false",
        "decoder.heads.palette={}",
    ]
    rows = []
    for taken in (True, False):
        monkeypatch.setattr(CrossEntropy, "takes_patches", taken)
        trainer = make_trainer(*settings)
        assert trainer.objective.in_patches == (("segmentation",) if taken else ())
        trainer.fit()
        rows.append([row["train_loss"] for row in trainer.history])
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)


def test_a_hidden_layer_stands_before_the_logits(spec: DataSpec) -> None:
    head = PaletteHead(hidden=24).build(8, spec, 2)
    assert isinstance(head, PaletteHeadModule)
    assert parameter_count(head) == conv(8, 24, 1) + conv(24, 4 * len(spec.palette), 1)
    assert head(features())["segmentation"].shape == (2, len(spec.palette), 12, 10)
    head.train_for(("segmentation",), ("segmentation",))
    assert head(features())["segmentation"].shape == (2, len(spec.palette), 4, 6, 5)
