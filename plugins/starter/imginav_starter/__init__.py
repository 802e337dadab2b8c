"""What a trainer of diffusers needs beside the autoencoder: networks to begin with, and layouts with conditions."""
