"""Formats by their names, and latents that an exporter writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import frozen

from imginav import Exporter, LatentDataset, UserError
from imginav.plugin import write_text
from imginav.plugin.registry import Registry, installed
from imginav_handoff.export_folder import check_digests
from imginav_handoff.formats import exporter_named, latents_exporter
from imginav_handoff.latent_cache import EmbedRequest, embed
from imginav_handoff.latent_set import load_latent_set_record, verify_latent_set
from imginav_tests.tiny import Blocks


@frozen(kw_only=True)
class SumExporter(Exporter):
    """The sum of each latent."""

    def write(self, trained: Any, folder: Path) -> None:
        raise NotImplementedError

    def open(self, folder: Path, latent: Any) -> Any:
        raise NotImplementedError

    def check_latents(self, flips: str) -> None:
        if flips == "both":
            raise UserError("--flips both: leave it out")

    def write_latents(self, latents: Any, source: Path, folder: Path) -> None:
        sums = [f"{row.name} {float(latents[n]['latents'].sum()):.4f}" for n, row in enumerate(latents.rows)]
        write_text(folder / "sums.txt", "\n".join([source.name, *sums]))


@frozen(kw_only=True)
class BareExporter(Exporter):
    """An exporter without latents."""

    def write(self, trained: Any, folder: Path) -> None:
        raise NotImplementedError

    def open(self, folder: Path, latent: Any) -> Any:
        raise NotImplementedError


@pytest.fixture(scope="module")
def with_sums() -> Registry:
    registry = installed()
    registry.add("dataset", "blocks", Blocks)
    registry.add("exporter", "sum", SumExporter)
    registry.add("exporter", "bare", BareExporter)
    return registry


def test_a_format_is_an_installed_exporter(with_sums: Registry) -> None:
    assert type(exporter_named("sum", with_sums)) is SumExporter
    with pytest.raises(UserError, match=r"--format summ: no exporter 'summ' is installed, did you mean 'sum'"):
        exporter_named("summ", with_sums)


def test_only_exporters_that_write_latents_embed(with_sums: Registry, tmp_path: Path) -> None:
    assert type(latents_exporter("sum", "horizontal", with_sums)) is SumExporter
    with pytest.raises(UserError, match=r"--format bare: writes no latents; take one of .*safetensors, sum$"):
        latents_exporter("bare", "none", with_sums)
    with pytest.raises(UserError, match="--flips both: leave it out"):
        latents_exporter("sum", "both", with_sums)
    with pytest.raises(UserError, match="BareExporter writes no latents; take another --format"):
        BareExporter().write_latents(LatentDataset, tmp_path, tmp_path)  # type: ignore[arg-type]  # looks at nothing


def test_what_an_exporter_writes_lies_beside_the_shards_and_is_verified(
    make_checkpoint: Callable[..., Path], with_sums: Registry, tmp_path: Path
) -> None:
    folder = tmp_path / "latents"
    request = EmbedRequest(checkpoint=make_checkpoint("machine.precision=fp32"), to=folder, shard=5, format="sum")
    embed(request, with_sums, log=lambda _: None)
    source, *sums = (folder / "sums.txt").read_text().splitlines()
    latents = LatentDataset(folder)
    assert source == request.checkpoint.name
    assert [line.rsplit(" ", 1)[0] for line in sums] == [row.name for row in latents.rows]
    assert float(sums[3].split()[-1]) == pytest.approx(float(torch.sum(latents[3]["latents"])), abs=1e-3)
    assert check_digests(folder) == 8  # four shards, the index, two records, and it
    assert load_latent_set_record(folder).format == "sum"
    (folder / "sums.txt").write_text("")
    with pytest.raises(UserError, match=r"sums\.txt is not what was written"):
        verify_latent_set(folder)


def test_a_set_from_before_there_were_formats_is_read(
    make_checkpoint: Callable[..., Path], registry: Registry, tmp_path: Path
) -> None:
    request = EmbedRequest(checkpoint=make_checkpoint("machine.precision=fp32"), to=tmp_path / "latents")
    embed(request, registry, log=lambda _: None)
    path = tmp_path / "latents" / "latent_set.json"
    path.write_text(path.read_text().replace('  "format": "safetensors",\n', ""))
    assert "format" not in path.read_text()
    said: list[str] = []
    embed(request, registry, log=said.append)
    assert "is finished already" in said[-1]
