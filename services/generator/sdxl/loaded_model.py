"""A model in memory, assembled from its pipeline: text encoders, VAE, UNet, LoRAs and schedulers."""

from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol

import torch

from services.generator.models import ModelInfo
from services.generator.sdxl.loading import checkpoints, model_info
from services.generator.sdxl.loading.model_info import Entry
from services.generator.sdxl.lora import LoraSwitch
from services.generator.sdxl.options import SdxlOptions
from services.generator.sdxl.previews import TinyDecoder
from services.generator.sdxl.prompts import PromptEncoder
from services.generator.sdxl.schedulers import SchedulerCache
from services.generator.sdxl.unet import UnetRunner
from services.generator.sdxl.vae_decode import VaeDecoder
from services.generator.sdxl.vae_encode import VaeEncoder


@dataclass(eq=False)
class LoadedModel:
    """A model in memory, with everything that computes with it."""

    info: ModelInfo
    pipeline: Any
    device: str
    schedules: SchedulerCache
    prompts: PromptEncoder
    encoder: VaeEncoder
    decoder: VaeDecoder
    unet: UnetRunner
    loras: LoraSwitch
    size_bytes: int = 0

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of an image of `height` × `width` pixels."""
        scale = self.pipeline.vae_scale_factor
        return self.pipeline.unet.config.in_channels, height // scale, width // scale


class Quantize(Protocol):
    """Makes the UNet of a model faster and less exact, in place."""

    def __call__(self, model: LoadedModel, info: ModelInfo, *, is_refiner: bool) -> float:
        """The relative error that it causes in the UNet prediction. Raises CheckpointError if that is too large."""


class Assembler:
    """Loads a checkpoint and assembles the model from it. Thread-safe, except `load_preview_decoder`."""

    def __init__(
        self,
        options: SdxlOptions,
        device: str,
        dtype: torch.dtype,
        *,
        quantize: Quantize | None = None,
        warm_chunks: tuple[int, ...] | None = None,
    ) -> None:
        """`options` are those for `device`. `quantize` is applied to each model; `warm_chunks`: see UnetRunner."""
        self._options = options
        self._device = device
        self._dtype = dtype
        self._quantize = quantize
        self._warm_chunks = {} if warm_chunks is None else {"warm_chunks": warm_chunks}
        self._tiny: TinyDecoder | None = None

    def load_preview_decoder(self, default: Entry) -> None:
        """Load GENERATOR_PREVIEW_DECODER. Raises CheckpointError if it does not fit the default model."""
        if self._options.preview_decoder is not None:
            self._tiny = TinyDecoder(self._options.preview_decoder, self._device, self._dtype)
            self._tiny.check_fits(default.info.id, model_info.latent_channels(default))

    def __call__(self, entry: Entry, default: Entry, *, in_background: bool = False) -> LoadedModel:
        """The model of `entry`, where `default` is the default model. Raises CheckpointError.

        `in_background`: other threads compute meanwhile.
        """
        vae = checkpoints.find_vae(self._options.vae, self._options.models_dir) if entry is default else None
        pipeline = checkpoints.load(entry.checkpoint, self._dtype, vae, in_background=in_background)
        pipeline.to(self._device)
        unet = UnetRunner(pipeline, self._options, **self._warm_chunks)
        if self._options.channels_last:
            pipeline.vae.to(memory_format=torch.channels_last)
        model = LoadedModel(
            info=entry.info,
            pipeline=pipeline,
            device=self._device,
            schedules=SchedulerCache({**pipeline.scheduler.config, **entry.scheduler_config}),
            prompts=PromptEncoder(pipeline, self._device, self._options.prompt_cache),
            encoder=VaeEncoder(pipeline.vae),
            decoder=VaeDecoder(pipeline.vae, self._tiny if model_info.share_latents(entry, default) else None),
            unet=unet,
            loras=LoraSwitch(pipeline, self._options.loras_dir),
        )
        if self._quantize is not None:
            difference = self._quantize(model, entry.info, is_refiner=entry.checkpoint.is_refiner)
            model.info = replace(entry.info, fp8_difference=difference)
        model.size_bytes = _size_bytes(pipeline)
        return model


def _size_bytes(pipeline: Any) -> int:
    modules = (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2)
    tensors = (chain(module.parameters(), module.buffers()) for module in modules if module is not None)
    return sum(tensor.numel() * tensor.element_size() for tensor in chain.from_iterable(tensors))
