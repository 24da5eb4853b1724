"""The engine for Stable Diffusion XL."""

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
from services.generator.sdxl.loaded_model import Assembler, LoadedModel
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.loading.registry import ModelRegistry
from services.generator.sdxl.options import SdxlOptions
from services.generator.sdxl.prepare import prepare_sample
from services.generator.sdxl.prompts import PromptPair
from services.generator.sdxl.sample import SdxlSample
from services.generator.sdxl.vae_decode import stack_latents

log = logging.getLogger(__name__)


class SdxlEngine:
    """Generates images with one or more SDXL checkpoints. See `Engine` for the threads."""

    def __init__(
        self,
        sources: Sequence[ModelSource],
        options: SdxlOptions,
        *,
        fp8_on_cpu: bool = False,
        warm_chunks: tuple[int, ...] | None = None,
    ) -> None:
        """The first source is the default model. Nothing is read or loaded yet. Raises CheckpointError.

        `fp8_on_cpu` and `warm_chunks` (see UnetRunner) are for tests and benchmarks.
        """
        self._device = _choose_device(options.device)
        self._options = options.for_device(self._device)
        dtype = _choose_dtype(options.dtype, self._device)
        quantize = None
        if options.fp8 != "off":
            from services.generator.sdxl.fp8.quantizer import make_quantizer

            quantize = make_quantizer(self._options, device=self._device, dtype=dtype, on_cpu=fp8_on_cpu)
        self._assembler = Assembler(self._options, self._device, dtype, quantize=quantize, warm_chunks=warm_chunks)
        self.registry: ModelRegistry[LoadedModel] = ModelRegistry(
            sources, self._options, self._assembler, self._empty_cache
        )
        self._alive: weakref.WeakSet[SdxlSample] = weakref.WeakSet()
        self._sync = DeviceSync()
        self._short_of_memory = False

    @property
    def models(self) -> Sequence[ModelInfo]:
        """The models; known after the warm-up."""
        return self.registry.models

    @property
    def device(self) -> str:
        """ "cpu" or "cuda"."""
        return self._device

    def warm_up(self) -> int:
        """Find all models, load the default one, generate with it once, and choose the batch size.

        Raises CheckpointError.
        """
        torch.set_num_threads(self._options.threads or max(1, (os.cpu_count() or 1) - 1))
        if self._device == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        self.registry.find()
        self._assembler.load_preview_decoder(self.registry.default)
        self._generate_once()
        self._warm_unet()
        return self._options.max_batch or choose_batch_size(self, self.trial_request)

    def inspect(self, request: ImageRequest) -> Sequence[tuple[str, str]]:
        """Prompts that a model in memory cannot encode."""
        models = (self.registry.peek(name) for name in request.models)
        found = (problem for model in models if model is not None for problem in model.prompts.problems(request))
        return list(dict(found).items())

    def in_memory(self) -> frozenset[str]:
        """Names of the models that are loaded."""
        return frozenset(self.registry.loaded_names())

    def batch_key(self, request: ImageRequest) -> Hashable:
        """Same model, LoRAs and size. Requests with and without the refiner may share a batch."""
        return (request.model, request.loras, request.height, request.width)

    def ensure_loaded(
        self, waiting: Sequence[ImageRequest], admitted: Sequence[ImageRequest], when_ready: Callable[[], None]
    ) -> Sequence[bool]:
        """Requests whose models are in memory may start. Missing models are loaded one after the other."""
        in_use = frozenset(name for request in admitted for name in request.models)
        return self.registry.ensure_loaded([request.models for request in waiting], in_use, when_ready)

    @torch.no_grad()
    def prepare(self, requests: Sequence[ImageRequest]) -> Sequence[Sample]:
        """Encode the prompts together, then the initial image of each request, and draw its noise."""
        in_tiles = self._short_of_memory and len(requests) == 1
        refined = [request for request in requests if request.refiner]
        refiner: LoadedModel | None = None
        refiner_prompts: dict[ImageRequest, PromptPair] = {}
        with _translated():
            model = self._model(requests[0].model, requests[0].loras)
            prompts = model.prompts.encode_requests(requests, requests[0].loras)
            if refined:
                refiner = self._model(refined[0].refiner)
                refiner_prompts = dict(zip(refined, refiner.prompts.encode_requests(refined, ()), strict=True))
            samples = [
                prepare_sample(request, model, pair, refiner, refiner_prompts.get(request), in_tiles=in_tiles)
                for request, pair in zip(requests, prompts, strict=True)
            ]
        self._alive.update(samples)
        self._short_of_memory = False
        return samples

    @torch.no_grad()
    def step(self, samples: Sequence[Sample]) -> None:
        """One denoising step. On CUDA it is only launched; it is done when `wait` returns."""
        mine = [_own(sample) for sample in samples]
        with _translated():
            stage, latents = mine[0].stage, mine[0].latents  # the refiner may take over with the next step
            model = self._model_of(mine[0])
            unet = _in_halves(model.unet) if self._short_of_memory and len(mine) == 1 else model.unet
            shape = (*latents.shape, unet_rows(mine), text_length(mine))
            _batch(model, mine).step(mine, unet)
            if self._device == "cuda":
                event = torch.cuda.Event(blocking=True)
                event.record()
                self._sync.launched(event, (stage.model, *shape))
        self._short_of_memory = False

    def remaining_seconds(self) -> float:
        """Lower bound of the time that `wait` would take."""
        with _translated():
            return self._sync.remaining_seconds()

    def wait(self) -> None:
        """Wait until the device has done the steps; a short one may still be running."""
        with _translated():
            self._sync.wait()

    def decode(self, samples: Sequence[Sample]) -> Sequence[NDArray[np.uint8] | InvalidImage]:
        """The finished images."""
        mine = [_own(sample) for sample in samples]
        with _translated():
            decoder = self._model_of(mine[0]).decoder
            in_tiles = self._short_of_memory and len(mine) == 1
            images = decoder.decode(stack_latents([sample.latents for sample in mine]), in_tiles=in_tiles)
        self._short_of_memory = False
        return [_finish(image, sample.request.initial_image) for image, sample in zip(images, mine, strict=True)]

    def preview(self, sample: Sample) -> NDArray[np.uint8]:
        """A small image of the prediction of the last step."""
        mine = _own(sample)
        with _translated():
            return self._model_of(mine).decoder.preview(mine.clean)

    def recover(self) -> None:
        """Free the cache of the allocator. The next call, if it is for one image, computes it piece by piece."""
        self._short_of_memory = True
        gc.collect()
        self._empty_cache()

    def trial_request(self, seed: int) -> ImageRequest:
        """A request for the default model with its defaults, to warm up and to measure."""
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

    def _empty_cache(self) -> None:
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _model(self, name: str, loras: tuple[Lora, ...] = ()) -> LoadedModel:
        in_use = frozenset(name for sample in self._alive for name in sample.request.models)
        model = self.registry.get(name, in_use)
        model.loras.apply(loras)
        return model

    def _model_of(self, sample: SdxlSample) -> LoadedModel:
        return self._model(sample.stage.model, sample.stage.loras)

    def _generate_once(self) -> None:
        samples = self.prepare([self.trial_request(0)])
        self._encode_once()
        self.step(samples)
        self.preview(samples[0])
        (image,) = self.decode(samples)
        if isinstance(image, InvalidImage):
            raise CheckpointError(f"{self.models[0].id} generates no image: {image}")

    @torch.no_grad()
    def _encode_once(self) -> None:
        """Find a VAE that cannot encode now, and warm the encoder for the first initial image."""
        request = self.trial_request(0)
        pixels = np.zeros((request.height, request.width, 3), np.uint8)
        with _translated():
            latents = self._model(request.model).encoder.encode(pixels, torch.Generator())
        if not torch.isfinite(latents).all():
            raise CheckpointError(f"{request.model} encodes no image: its values are not finite")

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
    """The samples packed for the UNet; packed again only if they changed."""
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
    """The image with the kept pixels of the initial image."""
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
    """Raise errors of PyTorch as those of the engine interface."""
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
