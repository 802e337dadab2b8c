from __future__ import annotations

import pytest

from imginav_benches.planning import Coded, Diffusion, plans


def test_shares_of_an_images_time() -> None:
    coded = Coded("a", (32, 32, 16), encode_ms=100, decode_ms=300, peak_bytes=1)
    few, many = plans([coded], Diffusion(sampling_steps=(10, 40), unet_ms=60))
    assert (few.image_ms, many.image_ms) == (1000, 2800)
    assert (few.encode_share, few.decode_share) == pytest.approx((0.1, 0.3))
    assert few.images_per_second == pytest.approx(1.0)
    assert [plan.steps for plan in (few, many)] == [10, 40]


@pytest.mark.parametrize(("latent", "step_ms"), [((32, 32, 16), 40), ((64, 64, 4), 160), ((16, 16, 16), 10)])
def test_a_step_takes_as_many_times_as_there_are_cells(latent: tuple[int, int, int], step_ms: float) -> None:
    assert Diffusion((50,), unet_ms=40).step_ms(latent) == step_ms
