"""GeneratorService: converts messages to values and back."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
from frontispiece.generator.v1 import generator_pb2 as pb
from frontispiece.generator.v1 import generator_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from services.generator.generate import Generator
from services.generator.models import Event, FloatRange, Image, IntegerRange, ModelInfo, Preview, Progress, Queued

CHUNK_BYTES = 256 * 1024

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["GeneratorService"].full_name

Context = grpc.aio.ServicerContext[Any, Any]


class GeneratorServicer(generator_pb2_grpc.GeneratorServiceServicer):
    """frontispiece.generator.v1.GeneratorService."""

    def __init__(self, generator: Generator) -> None:
        """Serve `generator`."""
        self._generator = generator

    async def GetCapabilities(  # the contract's name
        self, request: pb.GetCapabilitiesRequest, context: Context
    ) -> pb.GetCapabilitiesResponse:
        """The models, the ranges of their parameters, and the load."""
        runner = self._generator.runner
        return pb.GetCapabilitiesResponse(
            models=[_encode_model(model) for model in runner.engine.models],
            device=runner.engine.device,
            stock_available=self._generator.stock.available,
            **vars(runner.load()),
        )

    async def ValidateParameters(  # the contract's name
        self, request: pb.ValidateParametersRequest, context: Context
    ) -> pb.ValidateParametersResponse:
        """Check parameters with the rules that Generate applies."""
        await self._generator.validate(request.parameters)
        return pb.ValidateParametersResponse()

    async def Generate(  # the contract's name
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Generate one image. The work ends when the call ends."""
        stream = self._generator.generate(
            request.parameters, preview_interval=request.preview_interval, initial_image=request.initial_image
        )
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                for response in _ENCODERS[type(event)](event):
                    yield response


def _encode_queued(event: Queued) -> Iterator[pb.GenerateResponse]:
    yield pb.GenerateResponse(queued=pb.Queued(position=event.position))


def _encode_progress(event: Progress) -> Iterator[pb.GenerateResponse]:
    progress = pb.Progress(step=event.step, total_steps=event.total_steps)
    if event.eta_seconds is not None:
        progress.eta.CopyFrom(_duration(event.eta_seconds))
    yield pb.GenerateResponse(progress=progress)


def _encode_preview(event: Preview) -> Iterator[pb.GenerateResponse]:
    yield pb.GenerateResponse(preview=pb.Preview(**vars(event)))


def _encode_image(image: Image) -> Iterator[pb.GenerateResponse]:
    yield pb.GenerateResponse(image=pb.ImageMetadata(file=image.file, generation=image.generation))
    view = memoryview(image.data)
    for start in range(0, len(view), CHUNK_BYTES):
        yield pb.GenerateResponse(chunk=bytes(view[start : start + CHUNK_BYTES]))


_ENCODERS: dict[type[Event], Callable[[Any], Iterator[pb.GenerateResponse]]] = {
    Queued: _encode_queued,
    Progress: _encode_progress,
    Preview: _encode_preview,
    Image: _encode_image,
}


def _encode_model(model: ModelInfo) -> pb.Model:
    """Field by field of the message, which ModelInfo has under the same names."""
    values = {name: getattr(model, name) for name in pb.Model.DESCRIPTOR.fields_by_name}
    return pb.Model(**{name: _encode_range(value) for name, value in values.items()})


def _encode_range(value: Any) -> Any:
    if isinstance(value, IntegerRange):
        return pb.IntegerRange(**vars(value))
    return pb.FloatRange(**vars(value)) if isinstance(value, FloatRange) else value


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
