"""The autoencoder: its module, its architecture, what it costs."""
