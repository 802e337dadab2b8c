"""Trains the UNet and the ControlNet of a pipeline folder from scratch on layouts with conditions, and draws samples.

It is written for Stable Diffusion and knows nothing of imginav: `python -m imginav_diffusers train_controlnet.py …`
gives it the autoencoder of the folder where it asks for AutoencoderKL.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer


class Layouts(Dataset):
    """Latents, conditioning images and tokens of a folder that `imginav pairs` wrote; latents are encoded once."""

    def __init__(self, folder, vae, tokenizer, device):
        self.folder = folder
        self.rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
        self.tokens = tokenizer([row["text"] for row in self.rows], padding="max_length", return_tensors="pt").input_ids
        self.latents = []
        for row in tqdm(self.rows, f"encoding {folder.name}"):
            image = self.image(row["image_file_name"]).mul(2).sub(1)
            with torch.no_grad():
                latents = vae.encode(image[None].to(device)).latent_dist.mode()[0]
            self.latents.append((latents - vae.config.shift_factor) * vae.config.scaling_factor)

    def image(self, name):
        """Return a picture (3, H, W) in [0, 1]."""
        return torch.from_numpy(np.array(Image.open(self.folder / name).convert("RGB"))).permute(2, 0, 1) / 255

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        condition = self.image(self.rows[index]["conditioning_image_file_name"])
        return self.latents[index].cpu(), condition, self.tokens[index]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", type=Path, help="a folder that imginav starter wrote")
    parser.add_argument("layouts", type=Path, help="a folder that imginav pairs wrote")
    parser.add_argument("--to", type=Path, required=True, help="the folder for the trained pipeline and its samples")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--sampling-steps", type=int, default=30)
    options = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    vae = AutoencoderKL.from_pretrained(options.pipeline, subfolder="vae").to(device)
    unet = UNet2DConditionModel.from_pretrained(options.pipeline, subfolder="unet").to(device)
    controlnet = ControlNetModel.from_pretrained(options.pipeline, subfolder="controlnet").to(device)
    tokenizer = CLIPTokenizer.from_pretrained(options.pipeline, subfolder="tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(options.pipeline, subfolder="text_encoder").to(device)
    scheduler = DDIMScheduler.from_pretrained(options.pipeline, subfolder="scheduler")

    for network in (unet, controlnet):
        network.to(memory_format=torch.channels_last)  # in which convolutions take half the time on a CPU
    trained = Layouts(options.layouts / "train", vae, tokenizer, device)
    train(trained, unet, controlnet, text_encoder, scheduler, options, device)

    pipeline = StableDiffusionControlNetPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        controlnet=controlnet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(options.to)
    draw(pipeline, options.layouts / "validation", options)


def train(layouts, unet, controlnet, text_encoder, scheduler, options, device):
    """Train both networks together, as neither has been trained before; they end with averaged weights."""
    parameters = [*unet.parameters(), *controlnet.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate)
    average = EMAModel(parameters, decay=0.999)
    loader = DataLoader(layouts, options.batch_size, shuffle=True)
    batches = (batch for _ in iter(int, 1) for batch in loader)  # as many epochs as it takes
    for _ in (bar := tqdm(range(options.steps), "training")):
        latents, conditions, tokens = (tensor.to(device) for tensor in next(batches))
        noise = torch.randn_like(latents)
        times = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),), device=device)
        noisy = scheduler.add_noise(latents, noise, times)
        with torch.no_grad():
            text = text_encoder(tokens).last_hidden_state
        down, middle = controlnet(noisy, times, text, controlnet_cond=conditions, return_dict=False)
        predicted = unet(
            noisy, times, text, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
        loss = F.mse_loss(predicted, scheduler.get_velocity(latents, noise, times))  # prediction_type v_prediction
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(parameters)
        bar.set_postfix(loss=f"{loss.item():.3f}")
    average.copy_to(parameters)


def draw(pipeline, folder, options):
    """Write samples.png: conditions in the first row, samples in the second, and the layouts in the third."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()][: options.samples]
    conditions = [Image.open(folder / row["conditioning_image_file_name"]) for row in rows]
    samples = pipeline(
        [row["text"] for row in rows],
        conditions,
        num_inference_steps=options.sampling_steps,
        guidance_scale=1.0,
        generator=torch.manual_seed(0),
    ).images
    layouts = [Image.open(folder / row["image_file_name"]) for row in rows]
    width, height = conditions[0].size
    sheet = Image.new("RGB", (width * len(rows), 3 * height))
    for top, pictures in enumerate((conditions, samples, layouts)):
        for left, picture in enumerate(pictures):
            sheet.paste(picture, (left * width, top * height))
    sheet.save(options.to / "samples.png")


if __name__ == "__main__":
    main()
