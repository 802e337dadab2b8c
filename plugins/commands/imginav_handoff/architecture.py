"""What an autoencoder is built from, without its weights: the tables of its parts, and what its layouts are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from attrs import frozen

from imginav.errors import UserError
from imginav.manifest.structuring import Structurer, StructuringError
from imginav.model.autoencoder import Autoencoder, build_autoencoder
from imginav.plugin.checkpoint import spec_of, spec_table
from imginav.plugin.components import Dataset, Decoder, Encoder
from imginav.plugin.data_spec import DataSpec
from imginav.plugin.registry import Registry
from imginav.seeds import Seeds


@frozen(kw_only=True)
class Architecture:
    """Encoder and decoder as tables, each with the `type` of a component, and the spec that its heads are sized by."""

    encoder: dict[str, Any]
    decoder: dict[str, Any]
    spec: DataSpec

    @classmethod
    def of(cls, table: Mapping[str, Any], where: str) -> Architecture:
        """Return what `table` made a table of; raises UserError, which begins with `where`, for anything else."""
        try:
            return cls(encoder=dict(table["encoder"]), decoder=dict(table["decoder"]), spec=spec_of(table["layouts"]))
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{where}: does not describe an autoencoder ({type(error).__name__}: {error}); export it again"
            ) from None

    def table(self) -> dict[str, Any]:
        """Return it as tables, lists and values, for files."""
        return {"encoder": self.encoder, "decoder": self.decoder, "layouts": spec_table(self.spec)}

    def encoder_in(self, registry: Registry, where: str) -> Encoder:
        """Return the encoder's component; raises UserError where it is not installed, or was other than it is now."""
        return cast(Encoder, _structured(self.encoder, Encoder, registry, f"{where}: encoder"))

    def build(self, registry: Registry, where: str) -> Autoencoder:
        """Return an autoencoder without its weights; raises UserError, which begins with `where`, where none can be."""
        encoder = self.encoder_in(registry, where)
        decoder = _structured(self.decoder, Decoder, registry, f"{where}: decoder")
        try:
            return build_autoencoder(encoder, decoder, self.spec, Seeds(0))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def dataset_in(tables: Mapping[str, Any], registry: Registry, where: str) -> Dataset:
    """Return the data set that a manifest names; raises UserError, which begins with `where`, as for an encoder."""
    return cast(Dataset, _structured(tables["data"], Dataset, registry, f"{where}: data"))


def _structured(table: Mapping[str, Any], kind: type[Any], registry: Registry, where: str) -> Any:
    try:
        return Structurer(registry).structure(table, kind)
    except StructuringError as error:
        raise UserError(f"{where}: {error}; install the plugin, in the version, that it was trained with") from None
