"""The generator, as plain calls: messages stop here."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import grpc
from frontispiece.generator.v1 import generator_pb2, generator_pb2_grpc

from rpc import errors
from rpc.channel import open_channel
from services.posts.models import Parameters

CALL_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class IntegerRange:
    """min, min + step, …, max."""

    min: int
    max: int
    step: int
    default: int


@dataclass(frozen=True)
class Model:
    """What a task needs to know of a model before it is sent: whether it begins from pictures, and its sizes."""

    id: str
    initial_images: bool
    width: IntegerRange
    height: IntegerRange
    max_pixels: int


@dataclass(frozen=True)
class Capabilities:
    """How many requests a generator works on at once, whether some model sends previews, and the models."""

    slot_count: int
    previews: bool
    models: tuple[Model, ...]

    def model(self, name: str) -> Model | None:
        """The model of that name, "" for the default; None for one that the generator does not name."""
        return next((model for model in self.models if name in ("", model.id)), None)


@dataclass(frozen=True)
class Waiting:
    """The request waits in the generator behind `position` others."""

    position: int


@dataclass(frozen=True)
class Step:
    """A denoising step is done."""

    step: int
    total_steps: int
    eta_seconds: float | None


@dataclass(frozen=True)
class Sketch:
    """A rough picture."""

    content_type: str
    data: bytes


@dataclass(frozen=True)
class Painted:
    """What the generator says about the image whose bytes follow; not checked yet."""

    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int
    is_stock: bool
    seed: int
    model: str
    model_revision: str
    scheduler: str
    num_inference_steps: int
    guidance_scale: float
    batch_size: int
    credit_provider: str
    credit_author: str
    credit_url: str
    initial_sha256: str
    mask_sha256: str
    mask_feather: int


GeneratorEvent = Waiting | Step | Sketch | Painted | bytes


class GeneratorClient:
    """One generator. Every method raises the RpcError that the call ended with."""

    def __init__(self, target: str) -> None:
        """Connect to `target` when first needed."""
        self.target = target
        # No retries: another attempt is the queue's business. No health check: GetCapabilities is asked first anyway.
        self._channel = open_channel(target)
        self._stub: Any = generator_pb2_grpc.GeneratorServiceStub(self._channel)

    async def close(self) -> None:
        """Close the connection; calls in progress are cancelled."""
        await self._channel.close()

    async def capabilities(self) -> Capabilities:
        """Ask how much it can do."""
        try:
            answer = await self._stub.GetCapabilities(
                generator_pb2.GetCapabilitiesRequest(), timeout=CALL_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error
        return Capabilities(
            slot_count=max(1, min(answer.slot_count, 1024)),
            previews=any(model.previews for model in answer.models),
            models=tuple(map(_model, answer.models)),
        )

    async def generate(
        self,
        request_id: str,
        wanted: Parameters,
        seed: int,
        preview_interval: int,
        timeout_seconds: float,
        source: tuple[bytes, bytes] | None = None,
    ) -> AsyncGenerator[GeneratorEvent, None]:
        """Make one image: what happens meanwhile, then Painted, then its bytes. Leaving the loop cancels the call.

        `source`: the picture that wanted.initial_image names, and its mask (b"" for none).
        """
        made = generator_pb2.IMAGE_SOURCE_GENERATED if wanted.use_generation else generator_pb2.IMAGE_SOURCE_STOCK
        request = generator_pb2.GenerateRequest(
            request_id=request_id,
            prompt=wanted.prompt,
            negative_prompt=wanted.negative_prompt,
            width=wanted.width,
            height=wanted.height,
            num_inference_steps=wanted.num_inference_steps,
            guidance_scale=wanted.guidance_scale,
            seed=seed,
            scheduler=wanted.scheduler,
            model=wanted.model,
            source=made,
            preview_interval=preview_interval,
            loras=[generator_pb2.Lora(name=lora.name, weight=lora.weight) for lora in wanted.loras],
            guidance_end=wanted.guidance_end,
            denoising_end=wanted.denoising_end,
        )
        if source and wanted.initial_image:
            initial = wanted.initial_image
            request.initial_image.CopyFrom(
                generator_pb2.InitialImage(
                    data=source[0], strength=initial.strength, mask=source[1], mask_feather=initial.mask_feather
                )
            )
        call = self._stub.Generate(request, timeout=timeout_seconds)
        try:
            async for response in call:
                if event := _generator_event(response):
                    yield event
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error
        finally:
            call.cancel()


def _model(model: generator_pb2.Model) -> Model:
    def allowed(message: generator_pb2.IntegerRange) -> IntegerRange:
        return IntegerRange(message.min, message.max, max(1, message.step), message.default)

    return Model(model.id, model.initial_images, allowed(model.width), allowed(model.height), model.max_pixels)


def _generator_event(response: generator_pb2.GenerateResponse) -> GeneratorEvent | None:
    kind = response.WhichOneof("event")
    if kind == "chunk":
        return response.chunk
    if kind == "progress":
        eta = response.progress.eta.ToNanoseconds() / 1e9 if response.progress.HasField("eta") else None
        return Step(response.progress.step, response.progress.total_steps, eta)
    if kind == "queued":
        return Waiting(response.queued.position)
    if kind == "preview":
        return Sketch(response.preview.content_type, response.preview.data)
    if kind == "image":
        return _painted(response.image)
    return None  # a kind of a newer generator


def _painted(image: generator_pb2.ImageMetadata) -> Painted:
    return Painted(
        content_type=image.content_type,
        size_bytes=image.size_bytes,
        sha256=image.sha256,
        width=image.width,
        height=image.height,
        is_stock=image.source == generator_pb2.IMAGE_SOURCE_STOCK,
        seed=image.seed,
        model=image.model,
        model_revision=image.model_revision,
        scheduler=image.scheduler,
        num_inference_steps=image.num_inference_steps,
        guidance_scale=image.guidance_scale,
        batch_size=image.batch_size,
        credit_provider=image.attribution.provider,
        credit_author=image.attribution.author,
        credit_url=image.attribution.source_url,
        initial_sha256=image.initial_image.sha256,
        mask_sha256=image.initial_image.mask_sha256,
        mask_feather=image.initial_image.mask_feather,
    )
