"""Autoencoders that imginav has trained, as models of the library diffusers."""

from diffusers.models.modeling_utils import (
    ModelMixin,
)  # which diffusers looks for in the module that a saved pipeline names

from imginav_diffusers.autoencoder import ImginavAutoencoder
from imginav_diffusers.trained import model_of

__all__ = ["ImginavAutoencoder", "ModelMixin", "model_of"]
