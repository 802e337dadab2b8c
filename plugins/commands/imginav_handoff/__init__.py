"""The hand-off of a trained autoencoder: export, verify, embed, encode, decode, reconstruct, load."""
