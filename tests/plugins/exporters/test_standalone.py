"""The class of a model in a file of its own: it computes the same, where imginav is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imginav import TrainedAutoencoder
from imginav_diffusers import ImginavAutoencoder, model_of
from imginav_diffusers.standalone import standalone_source
from imginav_exporters import DiffusersExporter
from imginav_handoff.network_source import CannotTraceError
from imginav_tests.pipelines import small_pipeline

MakeTrained = Callable[..., TrainedAutoencoder]

WITH_IMGINAV = """
import sys
import torch
import diffusers
"""

WITHOUT_IMGINAV = """
import sys
for name in ("imginav", "imginav_diffusers", "imginav_handoff"):
    sys.modules[name] = None
import torch
import diffusers
"""


def elsewhere(code: str, cache: Path, *arguments: object, before: str = WITHOUT_IMGINAV) -> str:
    """Run code in a process that cannot import imginav; diffusers copies class files into `cache`."""
    done = subprocess.run(
        [sys.executable, "-c", before + code, *map(str, arguments)],
        env={**os.environ, "HF_MODULES_CACHE": str(cache)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "head", "variational"), [("residual", "palette", True), ("conv", "rgb", False)])
def test_automodel_loads_an_export_without_imginav(
    make_trained: MakeTrained, tmp_path: Path, kind: str, head: str, variational: bool
) -> None:
    trained = make_trained(kind=kind, head=head, variational=variational)
    (tmp_path / "all" / "vae").mkdir(parents=True)
    DiffusersExporter().write(trained, tmp_path / "all" / "vae")
    vae = model_of(trained)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.save(images, tmp_path / "images.pt")
    code = """
folder, images = sys.argv[1], torch.load(sys.argv[2])
vae = diffusers.AutoModel.from_pretrained(folder, subfolder="vae", trust_remote_code=True)
with torch.no_grad():
    latents = vae.encode(images).latent_dist.parameters
    torch.save((latents, vae.decode(latents[:, :4]).sample), sys.argv[3])
vae.train().requires_grad_(False)
latents = torch.randn(1, 4, 8, 8, requires_grad=True)
vae.decode(latents).sample.sum().backward()
assert latents.grad.abs().max() > 0
vae.save_pretrained(sys.argv[4])
"""
    elsewhere(
        code, tmp_path / "cache", tmp_path / "all", tmp_path / "images.pt", tmp_path / "found.pt", tmp_path / "again"
    )
    latents, decoded = torch.load(tmp_path / "found.pt")
    with torch.no_grad():
        torch.testing.assert_close(latents, vae.encode(images).latent_dist.parameters)
        assert torch.isclose(decoded, vae.decode(latents[:, :4]).sample, atol=1e-4).float().mean() > 0.999
        again = ImginavAutoencoder.from_pretrained(tmp_path / "again")  # what it has saved is whole
        torch.testing.assert_close(again.encode(images).latent_dist.parameters, latents)


@pytest.mark.slow
@pytest.mark.parametrize("before", [WITH_IMGINAV, WITHOUT_IMGINAV], ids=["installed", "not installed"])
def test_a_saved_pipeline_is_loaded_in_a_process_that_has_not_imported_imginav(
    make_trained: MakeTrained, tmp_path: Path, before: str
) -> None:
    pipeline = small_pipeline(model_of(make_trained()))
    pipeline.save_pretrained(tmp_path)
    options = "generator=torch.manual_seed(1), num_inference_steps=2, output_type='np'"
    images = pipeline(generator=torch.manual_seed(1), num_inference_steps=2, output_type="np").images
    code = f"""
pipeline = diffusers.DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
print(pipeline({options}).images.sum(dtype="float64"))
"""
    assert float(elsewhere(code, tmp_path / "cache", tmp_path, before=before).split()[-1]) == pytest.approx(
        images.sum(dtype="float64"), rel=1e-4
    )


class Undecided(nn.Module):
    """A network that looks at values to decide what to do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, given: Tensor) -> Tensor:
        found: Tensor = self.network(given)
        return found if found.mean() > 0 else -found


def test_networks_that_cannot_be_written_down_need_imginav(make_trained: MakeTrained) -> None:
    model = model_of(make_trained())
    model.autoencoder.encoder = Undecided(model.autoencoder.encoder)
    with pytest.raises(CannotTraceError, match="control flow"):
        standalone_source(model.autoencoder, {})
    source = model.class_source()
    assert "which must be installed" in source
    names: dict[str, object] = {}
    exec(source, names)  # noqa: S102  # as diffusers does
    assert names["ImginavAutoencoder"] is ImginavAutoencoder


def test_a_module_that_torch_describes_wrongly_is_not_written_down(make_trained: MakeTrained) -> None:
    class Other(nn.SiLU):
        __module__ = "torch.nn.modules.activation"  # so that it passes for one of torch's own

        def extra_repr(self) -> str:
            return "unknown=3"

    model = model_of(make_trained())
    model.autoencoder.decoder.last = nn.Sequential(model.autoencoder.decoder.last, Other())
    with pytest.raises(CannotTraceError, match="which cannot be built"):
        standalone_source(model.autoencoder, {})


def test_a_module_that_torch_describes_in_part_is_not_written_down(make_trained: MakeTrained) -> None:
    model = model_of(make_trained())
    activation = nn.SiLU()
    activation.slope = 2.0  # type: ignore[assignment]  # which its text does not have
    model.autoencoder.decoder.last = nn.Sequential(model.autoencoder.decoder.last, activation)
    with pytest.raises(CannotTraceError, match="which builds another one"):
        standalone_source(model.autoencoder, {})


def test_a_file_of_another_autoencoder_is_refused(make_trained: MakeTrained, tmp_path: Path) -> None:
    """As diffusers copies such files to one place, where another process may have put its own."""
    path = tmp_path / "imginav_diffusers.py"
    path.write_text(model_of(make_trained()).class_source())
    names: dict[str, Any] = {"__name__": "copied", "__file__": str(path)}
    exec(compile(path.read_text(), path, "exec"), names)  # noqa: S102  # as diffusers does
    other = model_of(make_trained(variational=True)).config
    with pytest.raises(ValueError, match=r"imginav_diffusers\.py is of another autoencoder than config\.json"):
        names["ImginavAutoencoder"].from_config(other)
