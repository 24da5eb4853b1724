"""The parts of the house model, of the classes that `StableDiffusionXLPipeline` loads, in two sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderDC, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from models.house.latents import CELL_PX, CHANNELS
from models.house.scenes import ALONE, FULL, IMAGE_PX, Repertoire
from models.house.tokenizer import TOKENS

TEXT_WIDTH = 128
_TIME_IDS = 6
_TIME_WIDTH = 32


@dataclass(frozen=True)
class Preset:
    """What is learned, how wide the UNet is at 16, 8, 4 and 2 cells, and four trainings.

    Of each training: its steps, images a step and highest learning rate; the UNet's is Muon's.
    """

    repertoire: Repertoire
    unet_channels: tuple[int, int, int, int]
    text_steps: int
    text_batch: int
    text_rate: float
    unet_steps: int
    unet_batch: int
    unet_rate: float
    vae_steps: int
    vae_batch: int
    vae_rate: float
    prose_steps: int
    prose_batch: int
    prose_rate: float


PRESETS = {
    "cpu": Preset(ALONE, (64, 96, 144, 192), 700, 128, 1e-3, 2_400, 32, 0.02, 3_000, 4, 2.5e-4, 1_500, 32, 5e-4),
    "gpu": Preset(FULL, (64, 96, 144, 192), 2_000, 512, 1e-3, 20_000, 256, 0.02, 10_000, 32, 4e-4, 4_000, 128, 5e-4),
}


def unet(preset: Preset) -> Any:
    """The denoiser: latents of 16×16 down to 2×2, where every cell knows its corner; attends to the words at 4×4."""
    return UNet2DConditionModel(
        sample_size=IMAGE_PX // CELL_PX,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=preset.unet_channels,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=2 * TEXT_WIDTH,
        attention_head_dim=tuple(max(1, width // 48) for width in preset.unet_channels),
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME_WIDTH,
        projection_class_embeddings_input_dim=TEXT_WIDTH + _TIME_IDS * _TIME_WIDTH,
        use_linear_projection=True,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
    )


def text_encoders(tokenizer: Any) -> tuple[Any, Any]:
    """Two small CLIP text encoders; SDXL reads the last layer but one of each and the second's pooled sentence."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=3 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoders = CLIPTextModel(config), CLIPTextModelWithProjection(config)
    for encoder in encoders:
        _tell_words_apart(encoder, tokenizer.bos_token_id)
    return encoders


@torch.no_grad()
def _tell_words_apart(encoder: Any, marks_from: int) -> None:
    """Start with words far apart and the marks of start and end near zero, so that a sentence begins as its words."""
    module = encoder.text_model if hasattr(encoder, "text_model") else encoder
    words, places = module.embeddings.token_embedding.weight, module.embeddings.position_embedding.weight
    words.normal_(std=1.0)
    places.normal_(std=0.1)
    words[marks_from:] *= 0.02


def vae() -> Any:
    """Sixteen pixels to a latent cell, unfolded by shuffling pixels; the encoder never learns, see `latents.write`."""
    autoencoder: Any = AutoencoderDC(
        in_channels=3,
        latent_channels=CHANNELS,
        encoder_block_out_channels=(4, 4, 4, 16, 64),
        encoder_layers_per_block=(1, 1, 1, 1, 1),
        encoder_qkv_multiscales=((),) * 5,
        encoder_out_shortcut=False,
        decoder_block_out_channels=(16, 32, 64, 128, 128),
        decoder_layers_per_block=(0, 1, 1, 1, 2),
        decoder_qkv_multiscales=((),) * 5,
        decoder_in_shortcut=False,
        scaling_factor=1.0,
    )
    # What StableDiffusionXLPipeline asks of the config of its usual AutoencoderKL.
    autoencoder.register_to_config(block_out_channels=(16, 32, 64, 128, 128), force_upcast=False)
    return autoencoder


def scheduler() -> Any:
    """Velocity prediction that starts from pure noise, without which plain backgrounds drift towards grey."""
    return EulerDiscreteScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
