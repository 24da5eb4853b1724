"""The checkpoint for tests and load tests: a complete SDXL pipeline with random weights.

Its images are noise. It is an ordinary diffusers folder: `StableDiffusionXLPipeline.from_pretrained` loads it.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SEED = 20_240_229

_DESCRIPTION = "A tiny SDXL with random weights, for load tests: its images are noise."
_TIME_EMBEDDING = 32
_TEXT_WIDTHS = (32, 64)


def make_checkpoint(folder: Path, *, size: int = 256, channels: tuple[int, int] = (32, 64), seed: int = SEED) -> None:
    """Write the checkpoint to `folder`, unless it exists. The same seed and sizes give the same weights.

    `size` is the default width and height in pixels, `channels` those of the UNet's two levels (multiples of 32).
    """
    if (folder / "model_index.json").is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        build_pipeline(size=size, channels=channels, seed=seed).save_pretrained(unfinished, safe_serialization=True)
        about = {
            "description": _DESCRIPTION,
            "example_prompts": ["a lighthouse at dusk"],
            "defaults": {"width": size, "height": size, "num_inference_steps": 20, "guidance_scale": 5.0},
            "limits": {"min_width": 64, "max_width": 1024, "min_height": 64, "max_height": 1024},
        }
        (unfinished / "frontispiece.json").write_text(json.dumps(about, indent=2) + "\n")
        unfinished.rename(folder)  # atomic: an interrupted start leaves no incomplete folder
    except OSError:
        if not (folder / "model_index.json").is_file():  # otherwise another process was first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def build_pipeline(
    *, size: int, channels: tuple[int, int], seed: int = SEED, guidance_embedding: int | None = None
) -> Any:
    """The pipeline, in float32 on the CPU. The global random state is not changed.

    `guidance_embedding` is the width of the embedded guidance scale, for a UNet distilled to use it, such as LCM.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer, vocabulary_size = _tokenizer()
        text_encoder = CLIPTextModel(_text_config(vocabulary_size, width=_TEXT_WIDTHS[0], activation="quick_gelu"))
        text_encoder_2 = CLIPTextModelWithProjection(
            _text_config(vocabulary_size, width=_TEXT_WIDTHS[1], activation="gelu")
        )
        return StableDiffusionXLPipeline(
            vae=_vae(size),
            text_encoder=text_encoder,
            text_encoder_2=text_encoder_2,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=_unet(size, channels, guidance_embedding),
            scheduler=_scheduler(),
            add_watermarker=False,
        )


def build_refiner(*, size: int, channels: tuple[int, int], seed: int = SEED + 1) -> Any:
    """A refiner for that pipeline: only the second text encoder, and a score in place of the target size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer, vocabulary_size = _tokenizer()
        width = _TEXT_WIDTHS[1]
        return StableDiffusionXLImg2ImgPipeline(
            vae=_vae(size),
            text_encoder=None,
            text_encoder_2=CLIPTextModelWithProjection(_text_config(vocabulary_size, width=width, activation="gelu")),
            tokenizer=None,
            tokenizer_2=tokenizer,
            unet=_unet(size, channels, None, text_width=width, numbers=5),
            scheduler=_scheduler(),
            requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False,
            add_watermarker=False,
        )


def _scheduler() -> Any:
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
    )


def _tokenizer() -> tuple[Any, int]:
    """A CLIP tokenizer with one token for each byte and no merges: it needs no file."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77), len(tokens)


def _text_config(vocabulary_size: int, *, width: int, activation: str) -> Any:
    return CLIPTextConfig(
        vocab_size=vocabulary_size,
        bos_token_id=vocabulary_size - 2,
        eos_token_id=vocabulary_size - 1,
        pad_token_id=vocabulary_size - 1,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act=activation,
    )


def _unet(
    size: int,
    channels: tuple[int, int],
    guidance_embedding: int | None,
    text_width: int = sum(_TEXT_WIDTHS),
    numbers: int = 6,
) -> Any:
    return UNet2DConditionModel(
        sample_size=size // 8,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        cross_attention_dim=text_width,
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME_EMBEDDING,
        # The pooled text, and usually six numbers: original size, crop corner, target size.
        projection_class_embeddings_input_dim=_TEXT_WIDTHS[1] + numbers * _TIME_EMBEDDING,
        time_cond_proj_dim=guidance_embedding,
    )


def _vae(size: int) -> Any:
    return AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=16,
        sample_size=size,
        scaling_factor=0.13025,
    )
