"""Metrics against values computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from imginav.pixels import psnr_db, to_bytes
from imginav.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


def test_psnr_is_that_of_a_span_of_two() -> None:
    assert psnr_db(4.0) == 0
    assert psnr_db(0.004) == pytest.approx(30)
    assert psnr_db(0.0) == math.inf


def test_the_validation_mse_is_the_mean_over_all_elements_of_all_layouts(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("train.batch_size=3", "machine.precision=fp32")
    errors = []
    trainer.model.eval()
    for index in trainer.data.split.validation:
        pixels = torch.from_numpy(trainer.data.source.read(index)["rgb"]).float()
        image = (pixels / 127.5 - 1).permute(2, 0, 1)[None]
        with torch.no_grad():
            errors.append((trainer.model(image)["rgb"] - image).square().mean().item())
    assert len(errors) % 3 == 1  # the last batch is smaller, and must not weigh more
    assert trainer.validate()["val_mse"] == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_validation_changes_neither_weights_nor_random_numbers(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("encoder.variational=true")
    weights = [p.clone() for p in trainer.model.parameters()]
    rng = torch.get_rng_state()
    assert trainer.validate() == trainer.validate()
    assert torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(weights, trainer.model.parameters(), strict=True))


def test_unmatched_pixels_are_counted(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer()
    read = trainer.data.source.read

    def with_a_strange_row(index: int) -> object:
        sample = read(index)
        sample["segmentation"][0] = 255
        return sample

    monkeypatch.setattr(trainer.data.source, "read", with_a_strange_row)
    assert trainer.validate()["val_unmatched_share"] == pytest.approx(1 / 32)


def test_bytes_become_floats_and_the_same_bytes_again(make_trainer: MakeTrainer) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).repeat(1, 1, 1, 3)
    images = make_trainer().device.batch({"rgb": pixels})["rgb"]
    assert (images.min().item(), images.max().item()) == (-1, 1)
    assert torch.equal(torch.from_numpy(to_bytes(images)), pixels)
    assert to_bytes(torch.tensor([[[[-1.7]], [[0.0]], [[1.7]]]])).tolist() == [[[[0, 128, 255]]]]
