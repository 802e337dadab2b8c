"""Pipelines of diffusers with random weights, made for the latents of one autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from attrs import field, frozen
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel, FlowMatchEulerDiscreteScheduler

from imginav_diffusers import ImginavAutoencoder
from imginav_diffusers.conditioning import conditioning_channels
from imginav_handoff.latent_space import LatentSpace
from imginav_starter.sizes import Size

CONTROLNET, ADAPTER = "controlnet", "t2i_adapter"

DIT_LABELS = 1000
"""Class labels of a DiT: its pipeline of diffusers takes number 1,000 for no label."""


@frozen
class Networks:
    """A pipeline with random weights, and what is trained beside it."""

    pipeline: Any  # of diffusers
    beside: dict[str, Any] = field(factory=dict)  # models by the names of their folders


Build = Callable[[ImginavAutoencoder, LatentSpace, Size], Networks]


def stable_diffusion(vae: ImginavAutoencoder, latent: LatentSpace, size: Size) -> Networks:
    """Return a UNet that sees captions by cross-attention, as Stable Diffusion 1 and 2 have it."""
    from diffusers import ControlNetModel, StableDiffusionPipeline

    from imginav_starter.text import clip_encoder, clip_tokenizer

    unet = _unet(latent, size, size.text)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=clip_encoder(size),
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=_diffusion(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return Networks(pipeline, {CONTROLNET: _controlnet(ControlNetModel, unet, latent, size)})


def stable_diffusion_xl(vae: ImginavAutoencoder, latent: LatentSpace, size: Size) -> Networks:
    """Return a UNet with two text encoders, which is told sizes and crops as well, as Stable Diffusion XL has it."""
    from diffusers import ControlNetModel, StableDiffusionXLPipeline, T2IAdapter

    from imginav_starter.text import clip_encoder, clip_tokenizer

    times = size.text // 4  # values for each of the six numbers: sizes before and after, and the crop's place
    unet = _unet(
        latent,
        size,
        2 * size.text,
        addition_embed_type="text_time",
        addition_time_embed_dim=times,
        projection_class_embeddings_input_dim=size.text + 6 * times,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=clip_encoder(size),
        text_encoder_2=clip_encoder(size, projected=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet,
        scheduler=_diffusion(),
        add_watermarker=False,
    )
    adapter = T2IAdapter(
        in_channels=3,
        channels=_adapter_channels(unet.config.block_out_channels),
        downscale_factor=2 * latent.downsampling_factor,  # as it is first added behind the first level
        adapter_type="full_adapter_xl",
    )
    return Networks(pipeline, {CONTROLNET: _controlnet(ControlNetModel, unet, latent, size), ADAPTER: adapter})


def stable_diffusion_3(vae: ImginavAutoencoder, latent: LatentSpace, size: Size) -> Networks:
    """Return a transformer with three text encoders that learns a flow, as Stable Diffusion 3 has it."""
    from diffusers import SD3ControlNetModel, SD3Transformer2DModel, StableDiffusion3Pipeline

    from imginav_starter.text import clip_encoder, clip_tokenizer, t5_encoder, t5_tokenizer

    transformer = SD3Transformer2DModel(
        sample_size=latent.side,
        patch_size=_patch(latent),
        in_channels=latent.channels,
        out_channels=latent.channels,
        num_layers=size.depth,
        attention_head_dim=size.width // size.transformer_heads,
        num_attention_heads=size.transformer_heads,
        joint_attention_dim=2 * size.text,
        caption_projection_dim=size.width,
        pooled_projection_dim=2 * size.text,
        pos_embed_max_size=latent.side,
    )
    pipeline = StableDiffusion3Pipeline(
        vae=vae,
        text_encoder=clip_encoder(size, projected=True),
        text_encoder_2=clip_encoder(size, projected=True),
        text_encoder_3=t5_encoder(2 * size.text, size),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    # With fewer blocks, as the last one of the transformer has no counterpart in a ControlNet; of a copy, as it writes
    # its own settings into the config that it is given.
    controlnet = SD3ControlNetModel.from_transformer(
        deepcopy(transformer), num_layers=max(1, size.depth // 2), num_extra_conditioning_channels=0
    )
    return Networks(pipeline, {CONTROLNET: controlnet})


def flux(vae: ImginavAutoencoder, latent: LatentSpace, size: Size) -> Networks:
    """Return a transformer with a CLIP and a T5 text encoder that learns a flow, as Flux has it."""
    from diffusers import FluxControlNetModel, FluxPipeline, FluxTransformer2DModel

    from imginav_starter.text import clip_encoder, clip_tokenizer, t5_encoder, t5_tokenizer

    head = size.width // size.transformer_heads
    time = head // 8 * 2  # of a head's values, those that rotate with the number of a picture
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * latent.channels,  # its pipeline takes 2 × 2 cells as one
        num_layers=size.depth // 2,
        num_single_layers=size.depth,
        attention_head_dim=head,
        num_attention_heads=size.transformer_heads,
        joint_attention_dim=size.text,
        pooled_projection_dim=size.text,
        guidance_embeds=False,
        axes_dims_rope=(time, (head - time) // 2, (head - time) // 2),
    )
    pipeline = FluxPipeline(
        vae=vae,
        text_encoder=clip_encoder(size),
        text_encoder_2=t5_encoder(size.text, size),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    controlnet = FluxControlNetModel.from_transformer(
        transformer,
        num_layers=max(1, size.depth // 4),
        num_single_layers=max(1, size.depth // 4),
        attention_head_dim=head,
        num_attention_heads=size.transformer_heads,
    )
    return Networks(pipeline, {CONTROLNET: controlnet})


def dit(vae: ImginavAutoencoder, latent: LatentSpace, size: Size) -> Networks:
    """Return a transformer that is told the type of a layout by its number, without any text, as DiT has it."""
    transformer = DiTTransformer2DModel(
        sample_size=latent.side,
        patch_size=_patch(latent),
        in_channels=latent.channels,
        out_channels=latent.channels,
        num_layers=size.depth,
        attention_head_dim=size.width // size.transformer_heads,
        num_attention_heads=size.transformer_heads,
        num_embeds_ada_norm=DIT_LABELS,
    )
    labels = dict(enumerate(latent.spec.labels))
    pipeline = DiTPipeline(vae=vae, transformer=transformer, scheduler=_diffusion(), id2label=labels)
    return Networks(pipeline)


PIPELINES: dict[str, Build] = {
    "stable-diffusion": stable_diffusion,
    "stable-diffusion-xl": stable_diffusion_xl,
    "stable-diffusion-3": stable_diffusion_3,
    "flux": flux,
    "dit": dit,
}
"""Those that `imginav starter --pipeline` takes."""


def _unet(latent: LatentSpace, size: Size, text: int, **others: Any) -> Any:
    from diffusers import UNet2DConditionModel

    channels = size.levels(latent.side)
    with_attention = len(channels) - 1  # all levels but the first, whose cells are many
    return UNet2DConditionModel(
        sample_size=latent.side,
        in_channels=latent.channels,
        out_channels=latent.channels,
        block_out_channels=channels,
        layers_per_block=size.layers,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * with_attention),
        up_block_types=(*["CrossAttnUpBlock2D"] * with_attention, "UpBlock2D"),
        cross_attention_dim=text,
        attention_head_dim=size.heads,
        **others,
    )


def _controlnet(model: Any, unet: Any, latent: LatentSpace, size: Size) -> Any:
    channels = tuple(count // size.condition for count in conditioning_channels(latent.downsampling_factor))
    return model.from_unet(unet, conditioning_channels=3, conditioning_embedding_out_channels=channels)


def _adapter_channels(levels: tuple[int, ...]) -> tuple[int, ...]:
    """Return the channels of the four features that a T2I adapter adds to the levels of a UNet and to its middle."""
    return (*levels, *[levels[-1]] * 4)[:4]


def _diffusion() -> DDIMScheduler:
    """Return the noise schedule of Stable Diffusion, ending in pure noise.

    With what is left of the picture in its last step, a model learns the mean colour from it and misses it in samples;
    so the last step has none, and the model predicts v (Lin et al. 2023, arXiv:2305.08891).
    """
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,  # as pipelines of Stable Diffusion ask for
    )


def _patch(latent: LatentSpace) -> int:
    """Return the side in cells of a transformer's tokens, such that a layout has a few hundred of them."""
    return 2 if latent.side >= 32 and latent.side % 2 == 0 else 1
