"""Cross-entropy of pixels and of whole layouts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from imginav import UserError
from imginav.plugin.palette import UNMATCHED
from imginav_losses import CrossEntropy

PIXELS = CrossEntropy(output="segmentation", target="segmentation")
LABELS = CrossEntropy(output="classification", target="label")


def pixels(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return PIXELS({"segmentation": logits}, {"segmentation": target})


def test_it_is_the_mean_of_minus_the_logarithm_of_the_softmax() -> None:
    logits = torch.tensor([[1.0, 3.0], [0.0, 0.0]]).view(1, 2, 1, 2)  # the second pixel: 3 and 0
    target = torch.tensor([[[0, 1]]])
    first = -math.log(math.e / (math.e + 1))
    second = -math.log(1 / (math.exp(3) + 1))
    assert pixels(logits, target).item() == pytest.approx((first + second) / 2)


def test_a_sure_and_right_answer_costs_next_to_nothing() -> None:
    target = torch.randint(0, 10, (2, 4, 4))
    logits = 20.0 * F.one_hot(target, 10).permute(0, 3, 1, 2)
    assert pixels(logits, target).item() < 1e-6


def test_pixels_of_no_class_are_left_out_of_sum_and_count() -> None:
    logits, target = torch.randn(2, 10, 4, 4), torch.randint(0, 10, (2, 4, 4))
    target[:, 1:3] = UNMATCHED
    kept = target != UNMATCHED
    expected = F.cross_entropy(logits.permute(0, 2, 3, 1)[kept], target[kept])
    torch.testing.assert_close(pixels(logits, target), expected)


def test_a_batch_in_which_nothing_matches_costs_nothing_and_pulls_nowhere() -> None:
    logits = torch.randn(2, 10, 4, 4, requires_grad=True)
    loss = pixels(logits, torch.full((2, 4, 4), UNMATCHED))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_labels_are_compared_as_well_and_unknown_ones_left_out() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, -5.0]])
    loss = LABELS({"classification": logits}, {"label": torch.tensor([0, 0, UNMATCHED])})
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("ignored", [0.0, 0.5, 1.0])
def test_half_precision_gives_the_same_up_to_rounding(ignored: float) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 10, 16, 16), torch.randint(0, 10, (2, 16, 16))
    target[torch.rand(target.shape) < ignored] = UNMATCHED
    coarse = logits.bfloat16().requires_grad_()
    loss = pixels(coarse, target)
    loss.backward()
    torch.testing.assert_close(loss.float(), pixels(logits, target), rtol=1e-2, atol=0)
    assert coarse.grad is not None
    assert coarse.grad.isfinite().all()


def test_output_and_target_have_to_be_named() -> None:
    with pytest.raises(TypeError, match="missing 2 required keyword-only arguments: 'output' and 'target'"):
        CrossEntropy()  # type: ignore[call-arg]  # what is tried


@pytest.mark.parametrize(
    ("output", "target", "shapes"),
    [
        ("classification", "segmentation", r"\(2, 2\), target 'segmentation' has \(2, 4, 4\)"),
        ("segmentation", "label", r"\(2, 10, 4, 4\), target 'label' has \(2,\)"),
        ("segmentation", "rgb", r"\(2, 10, 4, 4\), target 'rgb' has \(2, 3, 4, 4\)"),
    ],
)
def test_a_target_that_does_not_fit_the_output_is_refused(output: str, target: str, shapes: str) -> None:
    outputs = {"classification": torch.zeros(2, 2), "segmentation": torch.zeros(2, 10, 4, 4)}
    batch = {
        "rgb": torch.zeros(2, 3, 4, 4),
        "segmentation": torch.zeros(2, 4, 4, dtype=torch.long),
        "label": torch.zeros(2, dtype=torch.long),
    }
    message = rf"CrossEntropy loss: output '{output}' has shape {shapes}; compare logits \(N, K, …\) with .* \(N, …\)"
    with pytest.raises(UserError, match=message):
        CrossEntropy(output=output, target=target)(outputs, batch)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_logits_in_patches_cost_what_they_cost_in_their_place(memory_format: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5 * 9, 4, 3, generator=generator).to(memory_format=memory_format).requires_grad_()
    target = torch.randint(0, 5, (2, 12, 9), generator=generator)
    target[0, :5, :4] = UNMATCHED
    (expected,) = torch.autograd.grad(in_place := pixels(F.pixel_shuffle(features, 3), target), features)
    (gradient,) = torch.autograd.grad(in_patches := pixels(features.unflatten(1, (5, 9)), target), features)
    torch.testing.assert_close(in_patches, in_place)
    torch.testing.assert_close(gradient, expected)


def test_patches_that_are_not_of_the_layouts_size_are_refused() -> None:
    with pytest.raises(UserError, match=r"has shape \(2, 5, 9, 4, 3\), target 'segmentation' has \(2, 12, 12\)"):
        pixels(torch.randn(2, 5, 9, 4, 3), torch.zeros(2, 12, 12, dtype=torch.long))
