"""A diffusers SDXL pipeline as the single file that Stability AI's own code (sgm) reads: its key names, its shapes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensor = torch.Tensor

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def save(pipeline: Any, file: Path) -> None:
    """Write UNet, VAE and both text encoders to one file."""
    tensors = {
        **{f"model.diffusion_model.{key}": value for key, value in _unet(pipeline.unet)},
        **{f"first_stage_model.{key}": value for key, value in _vae(pipeline.vae)},
        **{f"conditioner.embedders.0.transformer.{key}": value for key, value in _clip(pipeline.text_encoder)},
        **{f"conditioner.embedders.1.model.{key}": value for key, value in _open_clip(pipeline.text_encoder_2)},
    }
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, file)


def _unet(unet: Any) -> Iterator[tuple[str, Tensor]]:
    layers = unet.config.layers_per_block
    for key, value in unet.state_dict().items():
        name, _, kind = key.rpartition(".")
        if name in _UNET_ENDS:
            yield f"{_UNET_ENDS[name]}.{kind}", value
            continue
        side, _, rest = key.partition(".")
        if side == "mid_block":
            part, number, inner = rest.split(".", 2)
            place = f"middle_block.{1 if part == 'attentions' else 2 * int(number)}"
        else:
            block, part, number, inner = rest.split(".", 3)
            is_down = side == "down_blocks"
            last = part in ("downsamplers", "upsamplers")
            index = is_down + int(block) * (layers + 1) + (layers if last else int(number))
            has_attention = hasattr(getattr(unet, side)[int(block)], "attentions")
            within = {"resnets": 0, "attentions": 1, "downsamplers": 0, "upsamplers": 2 if has_attention else 1}[part]
            place = f"{'input_blocks' if is_down else 'output_blocks'}.{index}.{within}"
        if part == "resnets":
            layer, kind = inner.rsplit(".", 1)
            inner = f"{_RESNET[layer]}.{kind}"
        if part == "downsamplers":
            inner = inner.replace("conv", "op")
        yield f"{place}.{inner}", value


def _vae(vae: Any) -> Iterator[tuple[str, Tensor]]:
    highest = len(vae.config.block_out_channels) - 1
    for key, value in vae.state_dict().items():
        name = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda found: f"up.{highest - int(found[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{highest - int(found[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
        if "mid_block.attentions.0." in name:
            before, inner = name.split("mid_block.attentions.0.")
            layer, kind = inner.rsplit(".", 1)
            name = f"{before}mid.attn_1.{_VAE_ATTENTION[layer]}.{kind}"
            if value.ndim == 2:
                value = value[:, :, None, None]  # sgm's are convolutions
        yield name, value


def _clip(encoder: Any) -> Iterator[tuple[str, Tensor]]:
    for key, value in encoder.state_dict().items():
        yield f"text_model.{key.removeprefix('text_model.')}", value
    yield "text_model.embeddings.position_ids", torch.arange(77)[None]


def _open_clip(encoder: Any) -> Iterator[tuple[str, Tensor]]:
    state = {key.removeprefix("text_model."): value for key, value in encoder.state_dict().items()}
    yield "positional_embedding", state["embeddings.position_embedding.weight"]
    yield "token_embedding.weight", state["embeddings.token_embedding.weight"]
    yield "ln_final.weight", state["final_layer_norm.weight"]
    yield "ln_final.bias", state["final_layer_norm.bias"]
    yield "text_projection", state["text_projection.weight"].T
    yield "logit_scale", torch.tensor(4.6)
    for number in range(encoder.config.num_hidden_layers):
        ours, theirs = f"encoder.layers.{number}", f"transformer.resblocks.{number}"
        for kind in ("weight", "bias"):
            parts = [state[f"{ours}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            yield f"{theirs}.attn.in_proj_{kind}", torch.cat(parts)
            for layer, name in _OPEN_CLIP_LAYER.items():
                yield f"{theirs}.{name}.{kind}", state[f"{ours}.{layer}.{kind}"]
