"""SDXL in its real size with random normal weights: the arithmetic of the real one, without a download.

Zeros would draw less power and clock higher than any real model; these weights are scaled so that numbers stay finite.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

_GAIN = 0.7


def make_full_checkpoint(folder: Path, device: str) -> None:
    """Write the checkpoint in bfloat16 (7 GB) to `folder`."""
    torch.manual_seed(0)
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77)
    with torch.device(device):
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel(**_UNET),
            "vae": AutoencoderKL(**_VAE),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**_TEXT, hidden_act="quick_gelu", **_SMALL)),
            "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**_TEXT, hidden_act="gelu", **_LARGE)),
        }
    for part in parts.values():
        _randomise(part)
        part.to(torch.bfloat16)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
    )
    pipeline: Any = StableDiffusionXLPipeline(
        tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=scheduler, add_watermarker=False, **parts
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


@torch.no_grad()
def _randomise(module: Any) -> None:
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, _GAIN / parameter[0].numel() ** 0.5)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            parameter.fill_(1)


_UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": True,
}
_TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "bos_token_id": 512,
    "eos_token_id": 513,
    "pad_token_id": 513,
    "max_position_embeddings": 77,
}
_SMALL: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
_LARGE: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
}
