"""Autoencoders that imginav has trained, as models of the library diffusers."""

from imginav_diffusers.autoencoder import ImginavAutoencoder

__all__ = ["ImginavAutoencoder"]
