"""The autoencoder: its module, and how it is built."""
