"""The plugin kind `exporter`: a format in which a trained autoencoder is handed on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from attrs import frozen

from imginav.errors import UserError
from imginav.plugin.components import Component

if TYPE_CHECKING:
    from torch import nn

    from imginav.model.autoencoder import Autoencoder
    from imginav_handoff.architecture import Architecture
    from imginav_handoff.latent_space import LatentSpace


@frozen(kw_only=True)
class TrainedAutoencoder:
    """What an exporter writes: an autoencoder with its weights, and all that is needed to build and to use it again."""

    autoencoder: Autoencoder  # in fp32 on the CPU, ready to encode and decode
    architecture: Architecture  # what it was built from
    latent: LatentSpace  # how its latents are scaled
    encoder: nn.Module  # images (N, 3, H, W) in [-1, 1] to a tuple of scaled latents (N, C, h, w), their mean, and of
    # a variational encoder their log-variance
    decoder: nn.Module  # scaled latents (N, C, h, w) to images (N, 3, H, W) in [-1, 1]
    destination: Path | None = None  # the folder's final place, for files that name others by an absolute path


class EmbeddedLayout(Protocol):
    """One latent of a set: which layout it is of."""

    @property
    def layout(self) -> int:
        """Its index in the set of layouts."""

    @property
    def flip(self) -> int:
        """0 for the layout as it is; bit 0 is upside down and bit 1 mirrored."""

    @property
    def name(self) -> str:
        """What people call it: its path, or its number."""

    @property
    def type(self) -> str:
        """Such as room or scene; empty where it is not known."""

    @property
    def split(self) -> str:
        """`train` or `validation`; empty where the layouts were not split."""

    @property
    def sha256(self) -> str:
        """The digest of the RGB bytes (H, W, 3) that were encoded."""


class EmbeddedLatents(Protocol):
    """A whole set of latents, as `imginav.LatentDataset` reads it."""

    latent: LatentSpace  # how they are scaled

    @property
    def rows(self) -> Sequence[EmbeddedLayout]:
        """Which layout each latent is of."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `latents` (C, h, w), scaled, in fp32; of a variational encoder drawn by torch's global generator."""


@frozen(kw_only=True)
class Exporter(Component):
    """A format in which a trained autoencoder is handed on: files that other programs load."""

    kind: ClassVar[str] = "exporter"

    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16")  # in which what it opens can compute
    any_device: ClassVar[bool] = True  # whether what it opens computes on a GPU as well
    library: ClassVar[str] = "imginav"  # which loads the files; what the card names as `library_name`
    scaling_note: ClassVar[str] = "imginav.load scales by itself: its latents are those of diffusion."  # of `given`

    def check(self) -> None:
        """Raise UserError where what it needs is not installed; asked before anything is computed."""

    @abstractmethod
    def write(self, trained: TrainedAutoencoder, folder: Path) -> None:
        """Write the files of this format into a folder; raises UserError where a network does not fit the format.

        `latent.json`, `export.json`, `evaluation.json`, the manifest, the golden triple, the card and the digests are
        not its business: they are the same for all formats.
        """

    @abstractmethod
    def open(self, folder: Path, latent: LatentSpace) -> tuple[nn.Module, nn.Module]:
        """Return encoder and decoder, as `TrainedAutoencoder` has them, from such a folder and nothing else.

        Raises UserError where they cannot be loaded.
        """

    def latent_of(self, folder: Path) -> LatentSpace | None:
        """Return the latent space of an autoencoder of this format that another program has saved again.

        Nothing of what `imginav export` writes beside the files is there. None where the folder holds no such
        autoencoder, and where it does not say how its latents are scaled, which is so by default.
        """
        return None

    def given(self, latent: LatentSpace) -> LatentSpace:
        """Return the latent space of what the files encode to, for whoever loads them by `how_to_load`.

        Its factors are those that are left to apply; `latent.json`, `2_0_handoff.toml` and the card state them. By
        default none is, since `imginav.load` scales by itself.
        """
        return latent.left_with()

    def how_to_load(self, folder: str) -> str:
        """Return how a Python program loads such a folder, as the code of the card that lies in it."""
        return (
            "import imginav\n\n"
            f'autoencoder = imginav.load("{folder}")\n'
            "latents = autoencoder.encode(images)  # (N, 3, H, W) in [-1, 1] to scaled latents\n"
            "images = autoencoder.decode(latents)\n"
        )

    def first_use(self, folder: str) -> str:
        """Return a whole program that uses such a folder, which `export` prints at its end.

        It takes one picture, `layout.png`, to its scaled latents and back. By default `imginav.load` does.
        """
        return (
            "import imginav\n"
            "from PIL import Image\n\n"
            f'autoencoder = imginav.load("{folder}")\n'
            'latents = autoencoder.encode(Image.open("layout.png"), pad=True)  # (1, C, h, w), scaled for diffusion\n'
            "(picture,) = autoencoder.decode(latents, as_pil=True)\n"
            'picture.save("decoded.png")\n'
        )

    def check_latents(self, flips: str) -> None:
        """Raise UserError where latents cannot be written with these `--flips`; asked before anything is encoded."""

    def write_latents(self, latents: EmbeddedLatents, source: Path, folder: Path) -> None:
        """Write a whole set of latents in this format into `folder`, beside its shards; `source` is what encoded them.

        Called by `imginav embed` when all shards are whole, and again after it was interrupted here: files that are
        there already may stay if they are right. Each must be whole or absent (`imginav.plugin.write_bytes`), and the
        same for the same latents. The digests, which `imginav verify` checks, are written afterwards.
        """
        raise UserError(f"{type(self).__name__} writes no latents; take another --format")
