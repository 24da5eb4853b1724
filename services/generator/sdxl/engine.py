"""Stable Diffusion XL: the engine that paints."""

import contextlib
import gc
import logging
import os
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.generator.engine import CheckpointError, DeviceLost, InvalidImage, OutOfMemory, Sample
from services.generator.models import ImageRequest, InitialPixels, Lora, ModelInfo
from services.generator.sdxl.batch_autotune import choose_batch_size
from services.generator.sdxl.denoise import Batch, Unet, UnetInputs, signature, text_length, unet_rows
from services.generator.sdxl.device_sync import DeviceSync
from services.generator.sdxl.inpaint import keep_pixels
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.loading.registry import LibraryOptions, LoadedModel, ModelRegistry
from services.generator.sdxl.options import SdxlOptions
from services.generator.sdxl.prepare import PromptPair, encode_prompts, prepare_sample
from services.generator.sdxl.sample import SdxlSample
from services.generator.sdxl.vae_decode import stack_latents

log = logging.getLogger(__name__)


class SdxlEngine:
    """Paints with one or more SDXL checkpoints. All methods but the properties belong to the engine thread."""

    def __init__(self, sources: Sequence[ModelSource], options: SdxlOptions) -> None:
        """The first source is the default model. Nothing is read or loaded yet. Raises CheckpointError."""
        self._options = options
        self._device = _choose_device(options.device)
        self._dtype = _choose_dtype(options.dtype, self._device)
        self.registry = ModelRegistry(
            sources,
            LibraryOptions(
                models_dir=options.models_dir,
                device=self._device,
                dtype=self._dtype,
                vae=options.vae,
                refiner=options.refiner,
                preview_decoder=options.preview_decoder,
                loras_dir=options.loras_dir,
                memory_budget_bytes=int(options.memory_budget_gib * 2**30),
                prompt_cache=options.prompt_cache,
                unet=options.unet(self._device),
            ),
            options.quantizer(self._device, self._dtype),
        )
        self._alive: weakref.WeakSet[SdxlSample] = weakref.WeakSet()
        self._pace = DeviceSync()
        self._short_of_memory = False

    @property
    def models(self) -> Sequence[ModelInfo]:
        """The models, known after the warm-up."""
        return self.registry.models

    @property
    def device(self) -> str:
        """ "cpu" or "cuda"."""
        return self._device

    def warm_up(self) -> int:
        """Find all models, load the default one, paint with it once, and measure how many images should share a step.

        Raises CheckpointError.
        """
        torch.set_num_threads(self._options.threads or max(1, (os.cpu_count() or 1) - 1))
        if self._device == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        self.registry.find()
        self._paint_once()
        self._warm_unet()
        return self._options.max_batch or choose_batch_size(self, self.trial_request)

    def in_memory(self) -> frozenset[str]:
        """Names of the models that are loaded."""
        return frozenset(self.registry.loaded_names())

    def batch_key(self, request: ImageRequest) -> Hashable:
        """Same model and LoRAs, same size; with the refiner or without."""
        return (request.model, request.loras, request.height, request.width)

    def ensure_loaded(
        self, waiting: Sequence[ImageRequest], painting: Sequence[ImageRequest], when_ready: Callable[[], None]
    ) -> Sequence[bool]:
        """Requests whose model is in memory may start; the others' models are loaded, one after the other."""
        in_use = frozenset(name for request in painting for name in request.models)
        return self.registry.ensure_loaded([request.models for request in waiting], in_use, when_ready)

    @torch.no_grad()
    def prepare(self, requests: Sequence[ImageRequest]) -> Sequence[Sample]:
        """Encode the prompts together, then the picture of each that begins from one, and draw its noise."""
        in_tiles = self._short_of_memory and len(requests) == 1
        refined = [request for request in requests if request.refiner]
        refiner: LoadedModel | None = None
        refiner_texts: dict[ImageRequest, PromptPair] = {}
        with _translated():
            model = self._model(requests[0].model, requests[0].loras)
            if refined:
                refiner = self._model(refined[0].refiner)
                refiner_texts = dict(zip(refined, encode_prompts(refiner, refined, ()), strict=True))
            samples = [
                prepare_sample(request, model, texts, refiner, refiner_texts.get(request), in_tiles=in_tiles)
                for request, texts in zip(requests, encode_prompts(model, requests, requests[0].loras), strict=True)
            ]
        self._alive.update(samples)
        self._short_of_memory = False
        return samples

    @torch.no_grad()
    def step(self, samples: Sequence[Sample]) -> None:
        """One denoising step of samples of one batch key. On CUDA it is launched, and done when `wait` returns."""
        mine = [_own(sample) for sample in samples]
        with _translated():
            stage, latents = mine[0].stage, mine[0].latents  # by the next step another model may have taken over
            model = self._model_of(mine[0])
            unet = _in_halves(model.unet) if self._short_of_memory and len(mine) == 1 else model.unet
            shape = (*latents.shape, unet_rows(mine), text_length(mine))
            _batch(model, mine).step(mine, unet)
            if self._device == "cuda":
                event = torch.cuda.Event(blocking=True)
                event.record()
                self._pace.launched(event, (stage.model, *shape))
        self._short_of_memory = False

    def remaining_seconds(self) -> float:
        """How long `wait` would wait, at least."""
        with _translated():
            return self._pace.remaining_seconds()

    def wait(self) -> None:
        """Until the device is done with the steps; of short ones, one may still be running."""
        with _translated():
            self._pace.wait()

    def decode(self, samples: Sequence[Sample]) -> Sequence[NDArray[np.uint8] | InvalidImage]:
        """The images of finished samples of one batch key."""
        mine = [_own(sample) for sample in samples]
        with _translated():
            decoder = self._model_of(mine[0]).decoder
            in_tiles = self._short_of_memory and len(mine) == 1
            images = decoder.decode(stack_latents([sample.latents for sample in mine]), in_tiles=in_tiles)
        self._short_of_memory = False
        return [_finish(image, sample.request.initial_image) for image, sample in zip(images, mine, strict=True)]

    def preview(self, sample: Sample) -> NDArray[np.uint8]:
        """What the model believes the image to be, in small."""
        mine = _own(sample)
        with _translated():
            return self._model_of(mine).decoder.preview(mine.clean)

    def recover(self) -> None:
        """Give the allocator's cache back; one image that is tried next, alone, is computed piece by piece."""
        self._short_of_memory = True
        gc.collect()
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def trial_request(self, seed: int) -> ImageRequest:
        """A request for the default model with all its defaults, for warming up and measuring."""
        info = self.models[0]
        return ImageRequest(
            model=info.id,
            prompt="a lighthouse at dusk",
            negative_prompt="",
            width=info.width.default,
            height=info.height.default,
            num_inference_steps=max(4, info.num_inference_steps.default),
            guidance_scale=info.guidance_scale.default,
            seed=seed,
            scheduler=info.schedulers[0],
        )

    def _model(self, name: str, loras: tuple[Lora, ...] = ()) -> LoadedModel:
        in_use = frozenset(name for sample in self._alive for name in sample.request.models)
        return self.registry.get(name, loras, in_use)

    def _model_of(self, sample: SdxlSample) -> LoadedModel:
        return self._model(sample.stage.model, sample.stage.loras)

    def _paint_once(self) -> None:
        samples = self.prepare([self.trial_request(0)])
        self._encode_once()
        self.step(samples)
        self.preview(samples[0])
        (image,) = self.decode(samples)
        if isinstance(image, InvalidImage):
            raise CheckpointError(f"{self.models[0].id} paints no picture: {image}")

    @torch.no_grad()
    def _encode_once(self) -> None:
        """So that a VAE that cannot encode is found now, and the first picture to begin from is not a slow one."""
        request = self.trial_request(0)
        pixels = np.zeros((request.height, request.width, 3), np.uint8)
        with _translated():
            latents = self._model(request.model).encoder.encode(pixels, torch.Generator())
        if not torch.isfinite(latents).all():
            raise CheckpointError(f"{request.model} encodes no picture: its numbers are not finite")

    def _warm_unet(self) -> None:
        request = self.trial_request(0)
        model = self._model(request.model)
        shape = model.latent_shape(request.height, request.width)
        unguided = replace(request, guidance_scale=0.0)
        samples = [_own(sample) for sample in self.prepare([unguided])]

        def inputs(rows: int) -> UnetInputs:
            return Batch(samples, rows, model.pipeline).unet_inputs()

        with _translated():
            model.unet.warm_up(shape[1], shape[2], inputs)


def _batch(model: LoadedModel, samples: Sequence[SdxlSample]) -> Batch:
    """The samples packed: as they are if they are, else anew."""
    packed = samples[0].batch
    if isinstance(packed, Batch) and packed.signature == signature(samples):
        return packed
    _, height, width = samples[0].latents.shape
    rung = model.unet.rung(unet_rows(samples), height, width, text_length(samples))
    return Batch(samples, rung, model.pipeline)


def _in_halves(unet: Unet) -> Unet:
    """The UNet on the first half of the rows, then on the second: half the memory, a little more time."""

    def halves(x: Any, timestep: Any, tokens: Any, pooled: Any, time_ids: Any, guidance: Any) -> Any:
        middle = (len(x) + 1) // 2
        parts = [
            unet(
                x[some],
                timestep[some],
                tokens[some],
                pooled[some],
                time_ids[some],
                None if guidance is None else guidance[some],
            ).clone()
            for some in (slice(None, middle), slice(middle, None))
            if len(x[some])
        ]
        return torch.cat(parts)

    return halves


def _finish(image: NDArray[np.uint8] | InvalidImage, initial: InitialPixels | None) -> NDArray[np.uint8] | InvalidImage:
    """The image with the pixels of the picture that were to be kept."""
    if initial is None or initial.opacity is None or isinstance(image, InvalidImage):
        return image
    return keep_pixels(image, initial.pixels, initial.opacity)


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
