"""LoRAs from a folder. The weights of the affected layers are replaced between two steps.

The weights are written into the same tensors, which takes milliseconds and keeps compiled code and CUDA graphs valid.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import SafetensorError

from services.generator.engine import CheckpointError
from services.generator.models import Lora

Tensor = torch.Tensor

_SETS_KEPT = 4
# The names of the factors of a layer in the known file formats.
_DOWN = re.compile(r"(\.lora_A|\.lora\.down|\.lora_linear_layer\.down|\.lora_down|_lora\.down|\.down)\.weight$")


def list_names(folder: Path | None) -> tuple[str, ...]:
    """The names of the LoRAs: the .safetensors files of the folder, without the suffix."""
    return tuple(sorted(file.stem for file in folder.glob("*.safetensors"))) if folder is not None else ()


@dataclass(frozen=True)
class _Difference:
    """The change of the weight of one layer, as two low-rank factors and a scale."""

    down: Tensor
    up: Tensor
    scale: float

    def of(self, weight: Tensor) -> Tensor:
        up, down = self.up.to(weight.device, torch.float32), self.down.to(weight.device, torch.float32)
        return (up.flatten(1) @ down.flatten(1)).view(weight.shape) * self.scale


class LoraSwitch:
    """The layers of one pipeline, and the LoRAs that are in them."""

    def __init__(self, pipeline: Any, folder: Path | None) -> None:
        """Read a LoRA from `folder` when it is first used."""
        self._pipeline = pipeline
        self._folder = folder
        self._files: dict[str, dict[str, _Difference]] = {}
        self._originals: dict[str, Tensor] = {}
        self._sets: OrderedDict[tuple[Lora, ...], dict[str, Tensor]] = OrderedDict()
        self._current: tuple[Lora, ...] = ()

    def apply(self, loras: tuple[Lora, ...]) -> None:
        """Replace the current LoRAs by these. Raises CheckpointError for a file that does not fit the model."""
        if loras == self._current:
            return
        wanted = self._weights(loras)
        for layer in self._weights(self._current).keys() - wanted.keys():
            self._weight(layer).copy_(self._originals[layer])
        for layer, weight in wanted.items():
            self._weight(layer).copy_(weight)
        self._current = loras

    def _weights(self, loras: tuple[Lora, ...]) -> Mapping[str, Tensor]:
        if not loras:
            return {}
        if loras not in self._sets:
            self._sets[loras] = self._fuse(loras)
            while len(self._sets) > _SETS_KEPT:
                oldest = next(known for known in self._sets if known not in (self._current, loras))
                del self._sets[oldest]
        self._sets.move_to_end(loras)
        return self._sets[loras]

    def _fuse(self, loras: tuple[Lora, ...]) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        for lora in loras:
            for layer, difference in self._file(lora.name).items():
                if layer not in self._originals:
                    self._originals[layer] = self._weight(layer).detach().clone()
                original = self._originals[layer]
                if layer not in sums:
                    sums[layer] = original.float()
                sums[layer] = sums[layer] + lora.weight * difference.of(original)
        return {layer: total.to(self._originals[layer].dtype) for layer, total in sums.items()}

    def _file(self, name: str) -> dict[str, _Difference]:
        if name not in self._files:
            assert self._folder is not None
            path = self._folder / f"{name}.safetensors"
            try:
                state, alphas = StableDiffusionXLPipeline.lora_state_dict(
                    str(path), unet_config=self._pipeline.unet.config, use_safetensors=True, local_files_only=True
                )
            except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
                raise CheckpointError(f"{path}: {error}") from error
            differences = dict(_pair(state, alphas or {}))
            unknown = [layer for layer in differences if self._find(layer) is None]
            if unknown or not differences:
                raise CheckpointError(f"{path} does not fit the model: {unknown[:3] or 'it is empty'}")
            self._files[name] = {self._find(layer) or layer: some for layer, some in differences.items()}
        return self._files[name]

    def _find(self, layer: str) -> str | None:
        """The name of the layer in this pipeline; None if there is no such layer."""
        for name in (layer, layer.replace(".text_model.", "."), layer.replace("encoder.", "encoder.text_model.", 1)):
            try:
                weight = self._weight(name)
            except AttributeError:
                continue
            return name if isinstance(weight, Tensor) else None
        return None

    def _weight(self, layer: str) -> Tensor:
        part, _, path = layer.partition(".")
        weight: Tensor = getattr(self._pipeline, part).get_submodule(path).weight
        return weight


def _pair(state: Mapping[str, Tensor], alphas: Mapping[str, float]) -> Iterator[tuple[str, _Difference]]:
    for key, down in state.items():
        found = _DOWN.search(key)
        if found is None:
            continue
        layer = key[: found.start()]
        up_key = layer + found.group(0).replace("lora_A", "lora_B").replace("down", "up")
        rank = down.shape[0]
        alpha = next((alphas[name] for name in (f"{key}.alpha", f"{layer}.alpha") if name in alphas), rank)
        yield _canonical(layer), _Difference(down, state[up_key], float(alpha) / rank)


def _canonical(layer: str) -> str:
    """Old files name the attention processor instead of its layers, and layers of text encoders as in the UNet."""
    if layer.startswith("text_encoder"):
        return re.sub(r"\.self_attn\.to_(q|k|v|out)$", r".self_attn.\1_proj", layer)
    layer = re.sub(r"\.processor\.(to_[qkv])$", r".\1", layer)
    return re.sub(r"\.processor\.to_out$", ".to_out.0", layer)
