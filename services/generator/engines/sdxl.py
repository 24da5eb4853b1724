"""Stable Diffusion XL: the engine that paints."""

import contextlib
import logging
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.generator.engines import catalogue, checkpoints, samplers, schedulers
from services.generator.engines.base import CheckpointError, DeviceLost, InvalidImage, OutOfMemory, Sample
from services.generator.engines.checkpoints import Checkpoint, Source
from services.generator.engines.loop import Batch, signature, unet_rows
from services.generator.engines.prompts import PromptEncoder
from services.generator.engines.sample import SdxlSample
from services.generator.engines.vae import Decoder, stack_latents
from services.generator.models import ImageRequest, ModelInfo

log = logging.getLogger(__name__)

_MAX_MEASURED_BATCH = 8
_WORTHWHILE_GAIN = 1.05


@dataclass(frozen=True)
class SdxlOptions:
    """How to compute; see the settings of the same names."""

    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    max_batch: int = 0
    prompt_cache: int = 256


@dataclass
class _Loaded:
    """A model in memory."""

    pipeline: Any
    prompts: PromptEncoder
    decoder: Decoder


class SdxlEngine:
    """Paints with one or more SDXL checkpoints. All methods but the properties belong to the engine thread."""

    def __init__(self, sources: Sequence[Source], models_dir: Path, options: SdxlOptions) -> None:
        """The first source is the default model. Nothing is read or loaded yet."""
        self._sources = sources
        self._models_dir = models_dir
        self._options = options
        self._device = _choose_device(options.device)
        self._dtype = _choose_dtype(options.dtype, self._device)
        self._loaded: dict[str, _Loaded] = {}
        self._models: list[ModelInfo] = []
        self._batches: dict[Hashable, Batch] = {}

    @property
    def models(self) -> Sequence[ModelInfo]:
        """The models, known after the warm-up."""
        return self._models

    @property
    def device(self) -> str:
        """ "cpu" or "cuda"."""
        return self._device

    def warm_up(self) -> int:
        """Load the models, paint one image with the default one, and measure how many images should share a step.

        Raises CheckpointError.
        """
        if self._options.threads:
            torch.set_num_threads(self._options.threads)
        for source in self._sources:
            self._load(checkpoints.find(source, self._models_dir))
        self._paint_once()
        return self._options.max_batch or self._measure_batch()

    def lane(self, request: ImageRequest) -> Hashable:
        """Same model, same size."""
        return (request.model, request.height, request.width)

    @torch.no_grad()
    def open(self, requests: Sequence[ImageRequest]) -> Sequence[Sample]:
        """Encode the prompts together and draw the noise of each."""
        loaded = self._loaded[requests[0].model]
        with _translated():
            positives = loaded.prompts.encode([request.prompt for request in requests])
            negatives = loaded.prompts.encode_negative([request.negative_prompt for request in requests], positives)
            return [
                self._open(loaded, request, positive, negative if request.guidance_scale > 1 else None)
                for request, positive, negative in zip(requests, positives, negatives, strict=True)
            ]

    @torch.no_grad()
    def step(self, samples: Sequence[Sample]) -> None:
        """One denoising step of samples of one lane."""
        mine = [_own(sample) for sample in samples]
        request = mine[0].request
        with _translated():
            batch = self._batch(mine)
            unet = self._loaded[request.model].pipeline.unet

            def run(x: Any, timestep: Any, tokens: Any, pooled: Any, time_ids: Any) -> Any:
                added = {"text_embeds": pooled, "time_ids": time_ids}
                return unet(x, timestep, tokens, added_cond_kwargs=added, return_dict=False)[0]

            batch.step(mine, run)

    def decode(self, samples: Sequence[Sample]) -> Sequence[NDArray[np.uint8] | InvalidImage]:
        """The images of finished samples of one lane."""
        mine = [_own(sample) for sample in samples]
        with _translated():
            return self._loaded[mine[0].request.model].decoder.decode(stack_latents([s.latents for s in mine]))

    def preview(self, sample: Sample) -> NDArray[np.uint8]:
        """What the model believes the image to be, one pixel for eight."""
        mine = _own(sample)
        with _translated():
            return self._loaded[mine.request.model].decoder.preview(mine.clean)

    def recover(self) -> None:
        """Drop packed batches and the allocator's cache."""
        self._batches.clear()
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _load(self, checkpoint: Checkpoint) -> None:
        begin = time.monotonic()
        pipeline = checkpoints.load(checkpoint, self._dtype).to(self._device)
        info = catalogue.describe(checkpoint, pipeline)
        self._loaded[info.id] = _Loaded(
            pipeline, PromptEncoder(pipeline, self._options.prompt_cache), Decoder(pipeline.vae)
        )
        self._models.append(info)
        seconds = round(time.monotonic() - begin, 1)
        log.info("model loaded", extra={"model": info.id, "revision": info.revision, "seconds": seconds})

    def _open(self, loaded: _Loaded, request: ImageRequest, positive: Any, negative: Any) -> SdxlSample:
        scheduler = schedulers.make_scheduler(request.scheduler, loaded.pipeline.scheduler.config)
        scheduler.set_timesteps(request.num_inference_steps)
        scheduler.set_begin_index(0) if hasattr(scheduler, "set_begin_index") else None
        table = samplers.tabulate(scheduler)
        generator = torch.Generator().manual_seed(request.seed)
        channels = loaded.pipeline.unet.config.in_channels
        scale = loaded.pipeline.vae_scale_factor
        shape = (1, channels, request.height // scale, request.width // scale)
        # Always drawn on the CPU: the same seed gives the same noise on every device.
        noise = torch.randn(shape, generator=generator) * float(scheduler.init_noise_sigma)
        latents = noise[0].to(self._device)
        return SdxlSample(
            request=request,
            positive=positive,
            negative=negative,
            generator=generator,
            scheduler=scheduler,
            timesteps=[float(timestep) for timestep in scheduler.timesteps],
            table=table,
            latents=latents,
            clean=torch.zeros_like(latents),
        )

    def _batch(self, samples: Sequence[SdxlSample]) -> Batch:
        lane = self.lane(samples[0].request)
        batch = self._batches.get(lane)
        if batch is None or batch.signature != signature(samples):
            request = samples[0].request
            batch = Batch(samples, unet_rows(samples), (request.height, request.width), self._dtype)
            self._batches = {lane: batch}
        return batch

    def _paint_once(self) -> None:
        request = self._trial_request(0)
        samples = self.open([request])
        self.step(samples)
        self.decode(samples)
        self.preview(samples[0])
        self._batches.clear()

    def _measure_batch(self) -> int:
        """The batch beyond which images a second hardly grow, for the default model at its default size."""
        best, best_rate = 1, 0.0
        size = 1
        while size <= _MAX_MEASURED_BATCH:
            samples = self.open([self._trial_request(seed) for seed in range(size)])
            self.step(samples)
            begin = time.perf_counter()
            self.step(samples)
            rate = size / (time.perf_counter() - begin)
            if rate > best_rate * _WORTHWHILE_GAIN:
                best, best_rate = size, rate
            size *= 2
        self._batches.clear()
        return best

    def _trial_request(self, seed: int) -> ImageRequest:
        model = self._models[0]
        return ImageRequest(
            model=model.id,
            prompt="a lighthouse at dusk",
            negative_prompt="",
            width=model.width.default,
            height=model.height.default,
            num_inference_steps=max(4, model.num_inference_steps.default),
            guidance_scale=model.guidance_scale.default,
            seed=seed,
            scheduler=model.schedulers[0],
        )


def _own(sample: Sample) -> SdxlSample:
    assert isinstance(sample, SdxlSample)
    return sample


def _choose_device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("GENERATOR_DEVICE is cuda, but PyTorch finds no CUDA device")
    return wanted


def _choose_dtype(wanted: str, device: str) -> torch.dtype:
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return names.get(wanted, torch.bfloat16 if device == "cuda" else torch.float32)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Say in our words what went wrong inside PyTorch."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from None
    except RuntimeError as error:
        text = str(error)
        if "not enough memory" in text or "can't allocate memory" in text:
            raise OutOfMemory(text) from None
        if "CUDA error" in text or "CUBLAS_STATUS" in text or "CUDNN_STATUS" in text:
            raise DeviceLost(text) from error
        raise
