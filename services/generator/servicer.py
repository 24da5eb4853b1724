"""The generator on the wire: messages to models and back, nothing else."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import grpc
from frontispiece.generator.v1 import generator_pb2 as pb
from frontispiece.generator.v1 import generator_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from rpc.errors import InvalidArgument
from services.generator import validation
from services.generator.images.initial_image import InitialImageReader
from services.generator.models import (
    Draft,
    Event,
    FloatRange,
    Image,
    ImageSource,
    InitialImage,
    IntegerRange,
    Lora,
    ModelInfo,
    Preview,
    Progress,
    Queued,
)
from services.generator.scheduling.runner import EngineRunner
from services.generator.stock.pexels import StockPhotos

CHUNK_BYTES = 256 * 1024

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["GeneratorService"].full_name

Context = grpc.aio.ServicerContext[Any, Any]


class GeneratorServicer(generator_pb2_grpc.GeneratorServiceServicer):
    """frontispiece.generator.v1.GeneratorService."""

    def __init__(self, runner: EngineRunner, stock: StockPhotos) -> None:
        """Paint with `runner`, fetch photos with `stock`."""
        self._runner = runner
        self._stock = stock
        self._pictures = InitialImageReader()

    async def GetCapabilities(  # the contract's name
        self, request: pb.GetCapabilitiesRequest, context: Context
    ) -> pb.GetCapabilitiesResponse:
        """What this generator can do, and how busy it is."""
        engine, load = self._runner.engine, self._runner.load()
        return pb.GetCapabilitiesResponse(
            models=[_encode_model(model) for model in engine.models],
            slot_count=load.slot_count,
            free_slot_count=load.free_slot_count,
            queue_length=load.queue_length,
            queue_capacity=load.queue_capacity,
            device=engine.device,
            stock_available=self._stock.available,
        )

    async def Generate(  # the contract's name
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateResponse]:
        """One image, as a stream of events. The end of the call, however it comes, ends the work."""
        draft = _decode_draft(request)
        resolved = validation.resolve(draft, self._runner.engine.models)
        if request.source == pb.IMAGE_SOURCE_STOCK:
            for response in _encode_image(await self._stock.fetch(resolved.prompt, resolved.width, resolved.height)):
                yield response
            return
        if request.source not in (pb.IMAGE_SOURCE_UNSPECIFIED, pb.IMAGE_SOURCE_GENERATED):
            raise InvalidArgument.field("source", "is not known")
        with self._pictures.hold(draft.initial_image):
            if draft.initial_image is not None:
                self._runner.check_room()  # before the picture is read: that is the dear part
                picture = await self._pictures.read(draft.initial_image, resolved.width, resolved.height)
                resolved = replace(resolved, initial_image=picture)
            del draft  # with the encoded picture, which nobody needs any more
            async with contextlib.aclosing(self._runner.paint(resolved)) as events:
                async for event in events:
                    for response in _encode_event(event):
                        yield response


def _decode_draft(request: pb.GenerateRequest) -> Draft:
    def given(name: str, value: Any) -> Any:
        return value if request.HasField(name) else None

    return Draft(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=given("width", request.width),
        height=given("height", request.height),
        num_inference_steps=given("num_inference_steps", request.num_inference_steps),
        guidance_scale=given("guidance_scale", request.guidance_scale),
        seed=given("seed", request.seed),
        scheduler=request.scheduler,
        model=request.model,
        preview_interval=request.preview_interval,
        loras=tuple(Lora(lora.name, lora.weight if lora.HasField("weight") else 1.0) for lora in request.loras),
        guidance_end=given("guidance_end", request.guidance_end),
        denoising_end=given("denoising_end", request.denoising_end),
        initial_image=_decode_initial_image(request.initial_image) if request.HasField("initial_image") else None,
        stock=request.source == pb.IMAGE_SOURCE_STOCK,
    )


def _decode_initial_image(initial: pb.InitialImage) -> InitialImage:
    return InitialImage(
        data=initial.data,
        strength=initial.strength if initial.HasField("strength") else None,
        mask=initial.mask,
        mask_feather=initial.mask_feather if initial.HasField("mask_feather") else None,
    )


def _encode_event(event: Event) -> list[pb.GenerateResponse]:
    return _ENCODERS[type(event)](event)


def _encode_queued(event: Queued) -> list[pb.GenerateResponse]:
    return [pb.GenerateResponse(queued=pb.Queued(position=event.position))]


def _encode_progress(event: Progress) -> list[pb.GenerateResponse]:
    progress = pb.Progress(step=event.step, total_steps=event.total_steps)
    if event.eta_seconds is not None:
        progress.eta.CopyFrom(_duration(event.eta_seconds))
    return [pb.GenerateResponse(progress=progress)]


def _encode_preview(event: Preview) -> list[pb.GenerateResponse]:
    preview = pb.Preview(content_type=event.content_type, data=event.data, width=event.width, height=event.height)
    return [pb.GenerateResponse(preview=preview)]


def _encode_image(image: Image) -> list[pb.GenerateResponse]:
    metadata = pb.ImageMetadata(
        content_type=image.content_type,
        size_bytes=len(image.data),
        sha256=hashlib.sha256(image.data).hexdigest(),
        width=image.width,
        height=image.height,
        source=pb.IMAGE_SOURCE_STOCK if image.source is ImageSource.STOCK else pb.IMAGE_SOURCE_GENERATED,
    )
    if (painting := image.painting) is not None:
        metadata.seed = painting.seed
        metadata.model = painting.model
        metadata.model_revision = painting.model_revision
        metadata.scheduler = painting.scheduler
        metadata.num_inference_steps = painting.num_inference_steps
        metadata.guidance_scale = painting.guidance_scale
        metadata.batch_size = painting.batch_size
        metadata.loras.extend(pb.Lora(name=lora.name, weight=lora.weight) for lora in painting.loras)
        metadata.guidance_end = painting.guidance_end
        metadata.refiner, metadata.refiner_revision = painting.refiner, painting.refiner_revision
        if painting.denoising_end is not None:
            metadata.denoising_end = painting.denoising_end
        if (used := painting.initial_image) is not None:
            metadata.initial_image.CopyFrom(
                pb.UsedInitialImage(
                    sha256=used.sha256,
                    strength=used.strength,
                    mask_sha256=used.mask_sha256,
                    mask_feather=used.mask_feather,
                )
            )
    if (credit := image.attribution) is not None:
        metadata.attribution.CopyFrom(
            pb.Attribution(
                provider=credit.provider,
                author=credit.author,
                author_url=credit.author_url,
                source_url=credit.source_url,
                description=credit.description,
            )
        )
    view = memoryview(image.data)
    chunks = (bytes(view[start : start + CHUNK_BYTES]) for start in range(0, len(view), CHUNK_BYTES))
    return [pb.GenerateResponse(image=metadata), *(pb.GenerateResponse(chunk=chunk) for chunk in chunks)]


_ENCODERS: dict[type, Callable[[Any], list[pb.GenerateResponse]]] = {
    Queued: _encode_queued,
    Progress: _encode_progress,
    Preview: _encode_preview,
    Image: _encode_image,
}


def _encode_model(model: ModelInfo) -> pb.Model:
    return pb.Model(
        id=model.id,
        revision=model.revision,
        description=model.description,
        example_prompts=model.example_prompts,
        schedulers=model.schedulers,
        max_prompt_length=model.max_prompt_length,
        width=_encode_integers(model.width),
        height=_encode_integers(model.height),
        max_pixels=model.max_pixels,
        num_inference_steps=_encode_integers(model.num_inference_steps),
        guidance_scale=_encode_floats(model.guidance_scale),
        previews=model.previews,
        loras=model.loras,
        refiner=model.refiner,
        initial_images=model.initial_images,
        fp8_difference=model.fp8_difference,
    )


def _encode_integers(limits: IntegerRange) -> pb.IntegerRange:
    return pb.IntegerRange(min=limits.min, max=limits.max, step=limits.step, default=limits.default)


def _encode_floats(limits: FloatRange) -> pb.FloatRange:
    return pb.FloatRange(min=limits.min, max=limits.max, step=limits.step, default=limits.default)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
