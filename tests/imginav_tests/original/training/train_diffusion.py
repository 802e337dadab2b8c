"""A script that trains a diffusion model by a configuration, for a few steps."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import yaml
from models.datasets import ManifestDataset
from models.diffusion import DiffusionModel

config = yaml.safe_load(Path(sys.argv[1]).read_text())
latents = ManifestDataset(**config.pop("dataset"))
model = DiffusionModel(**config)
batch = torch.stack([latents[index]["latent"] for index in range(len(latents))])
optimizer = torch.optim.AdamW(model.unet.parameters(), lr=1e-2)
for _ in range(5):
    noise = torch.randn_like(batch)
    loss = (model(batch, noise) - noise).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
model.save_checkpoint(sys.argv[2])
print(f"trained on {len(batch)} latents with standard deviation {float(batch.std()):.3f}")
