"""Scripted leaves: a generator and a storage that implement the contracts and fail on demand, as real ones cannot."""

import asyncio
import hashlib
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from frontispiece.generator.v1 import generator_pb2, generator_pb2_grpc
from frontispiece.storage.v1 import images_pb2, images_pb2_grpc
from frontispiece.types.v1 import generation_pb2, image_pb2

from rpc import errors
from rpc.server import Service, running
from rpc.settings import ServerSettings

GENERATOR = "frontispiece.generator.v1.GeneratorService"
STORAGE = "frontispiece.storage.v1.ImageService"


def png(seed: int, width: int = 64, height: int = 64) -> bytes:
    """A valid image in one colour that depends on the seed."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" + bytes([seed % 256, seed // 256 % 256, 128]) * width
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")


@dataclass
class ScriptedGenerator(generator_pb2_grpc.GeneratorServiceServicer):
    """Generates images of one colour. `script` holds what the next calls do instead."""

    slot_count: int = 2
    steps: int = 4
    step_seconds: float = 0.0
    script: list[Any] = field(default_factory=list)
    requests: list[generator_pb2.GenerateRequest] = field(default_factory=list)
    gate: asyncio.Event | None = None
    at_gate: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    in_progress: int = 0
    most_in_progress: int = 0
    preview: bytes = b""
    capabilities_error: errors.RpcError | None = None
    capability_calls: int = 0
    validation: Any = None
    validated: list[generation_pb2.GenerationParameters] = field(default_factory=list)

    async def ValidateParameters(self, request: Any, context: Any) -> generator_pb2.ValidateParametersResponse:
        """`validation`: None for OK, an error, or an asyncio.Event to wait for."""
        self.validated.append(request.parameters)
        if isinstance(self.validation, asyncio.Event):
            await self.validation.wait()
        elif self.validation:
            raise self.validation
        return generator_pb2.ValidateParametersResponse()

    async def GetCapabilities(self, request: Any, context: Any) -> generator_pb2.GetCapabilitiesResponse:
        self.capability_calls += 1
        if self.capabilities_error:
            raise self.capabilities_error
        return generator_pb2.GetCapabilitiesResponse(
            slot_count=self.slot_count, models=[self.model("scripted"), self.model("plain", initial_images=False)]
        )

    def model(self, name: str, *, initial_images: bool = True) -> generator_pb2.Model:
        side = generator_pb2.IntegerRange(min=256, max=1536, step=8, default=1024)
        return generator_pb2.Model(
            id=name,
            previews=bool(self.preview),
            initial_images=initial_images,
            width=side,
            height=side,
            max_pixels=1_600_000,
        )

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[generator_pb2.GenerateResponse]:
        self.requests.append(request)
        self.in_progress += 1
        self.most_in_progress = max(self.most_in_progress, self.in_progress)
        try:
            async for response in self._answer(request):
                yield response
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.in_progress -= 1

    async def _answer(self, request: Any) -> AsyncIterator[generator_pb2.GenerateResponse]:
        fault = self.script.pop(0) if self.script else None
        if isinstance(fault, errors.RpcError):
            raise fault
        yield generator_pb2.GenerateResponse(queued=generator_pb2.Queued(position=0))
        for step in range(1, self.steps + 1):
            await asyncio.sleep(self.step_seconds)
            yield generator_pb2.GenerateResponse(progress=generator_pb2.Progress(step=step, total_steps=self.steps))
            if self.preview and request.preview_interval:
                yield generator_pb2.GenerateResponse(
                    preview=generator_pb2.Preview(content_type="image/jpeg", data=self.preview, width=8, height=8)
                )
            if step == self.steps // 2:
                await self._break_off(fault)
        metadata, data = self.image(request)
        if callable(fault):
            metadata, data = fault(metadata, data)
        if metadata is not None:
            yield generator_pb2.GenerateResponse(image=metadata)
        for start in range(0, len(data), 1000):
            yield generator_pb2.GenerateResponse(chunk=data[start : start + 1000])

    async def _break_off(self, fault: Any) -> None:
        """After some work: hang, fail, or wait for the test."""
        if fault == "hang":
            await asyncio.Event().wait()
        if isinstance(fault, tuple):
            raise fault[0]
        if self.gate:
            self.at_gate.set()
            await self.gate.wait()

    def image(self, request: Any) -> tuple[generator_pb2.ImageMetadata, bytes]:
        parameters = request.parameters
        data = png(parameters.seed)
        file = image_pb2.ImageFile(
            content_type="image/png",
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            width=64,
            height=64,
        )
        used = generation_pb2.GenerationParameters(prompt=parameters.prompt, source=parameters.source)
        generation = generation_pb2.Generation(parameters=used)
        if parameters.source == generation_pb2.IMAGE_SOURCE_STOCK:
            generation.attribution.provider = "pexels"
            generation.attribution.author = "A. Name"
            generation.attribution.source_url = "https://www.pexels.com/photo/1/"
            return generator_pb2.ImageMetadata(file=file, generation=generation), data
        used = generation.parameters
        used.CopyFrom(parameters)
        used.model, used.scheduler = "scripted", "euler"
        used.num_inference_steps, used.guidance_scale, generation.batch_size = self.steps, 5.0, 1
        if parameters.HasField("initial_image"):
            mask = parameters.initial_image.mask
            generation.initial_image_sha256 = hashlib.sha256(request.initial_image).hexdigest()
            generation.mask_sha256 = hashlib.sha256(mask).hexdigest() if mask else ""
            used.initial_image.ClearField("mask")
            used.initial_image.mask_feather = parameters.initial_image.mask_feather
        return generator_pb2.ImageMetadata(file=file, generation=generation), data


@dataclass
class ScriptedStorage(images_pb2_grpc.ImageServiceServicer):
    """Keeps images in memory. `store_errors` are raised by the next calls of StoreImage."""

    backend: Any = images_pb2.IMAGE_BACKEND_LOCAL
    store_errors: list[errors.RpcError] = field(default_factory=list)
    images: dict[str, images_pb2.Image] = field(default_factory=dict)
    bytes_of: dict[str, bytes] = field(default_factory=dict)
    read_errors: list[errors.RpcError] = field(default_factory=list)
    headers: list[images_pb2.StoreImageHeader] = field(default_factory=list)
    largest_chunk: int = 0
    status_calls: int = 0
    status_error: errors.RpcError | None = None
    keep_error: errors.RpcError | None = None
    kept: asyncio.Event = field(default_factory=asyncio.Event)
    before_answer: Callable[[images_pb2.Image], Any] | None = None

    async def StoreImage(self, requests: AsyncIterator[Any], context: Any) -> images_pb2.StoreImageResponse:
        data = b""
        header = None
        async for request in requests:
            if request.WhichOneof("part") == "header":
                header = request.header
            else:
                self.largest_chunk = max(self.largest_chunk, len(request.chunk))
                data += request.chunk
        assert header is not None
        self.headers.append(header)
        if self.store_errors:
            raise self.store_errors.pop(0)
        sha256 = hashlib.sha256(data).hexdigest()
        assert (sha256, len(data)) == (header.sha256, header.size_bytes)
        key = f"generated/{header.request_time.seconds}-{header.request_id}-{sha256[:8]}.png"
        image = self.make(key, width=64, height=64, size_bytes=len(data), sha256=sha256)
        image.state = images_pb2.IMAGE_STATE_DRAFT
        if self.before_answer:
            self.before_answer(image)
        self.images[key] = image
        self.bytes_of[key] = data
        return images_pb2.StoreImageResponse(image=image)

    async def GetStatus(self, request: Any, context: Any) -> images_pb2.GetStatusResponse:
        self.status_calls += 1
        if self.status_error:
            raise self.status_error
        return images_pb2.GetStatusResponse(backend=self.backend, healthy=True)

    async def GetImage(self, request: Any, context: Any) -> AsyncIterator[images_pb2.GetImageResponse]:
        if ".." in request.key:
            raise errors.InvalidArgument.field("key", "is not a key")
        if self.read_errors:
            raise self.read_errors.pop(0)
        if request.key not in self.images:
            raise errors.NotFound("no such image")
        yield images_pb2.GetImageResponse(header=images_pb2.GetImageHeader(image=self.images[request.key]))
        data = b"" if request.header_only else self.bytes_of.get(request.key, b"")
        for start in range(0, len(data), 1000):
            yield images_pb2.GetImageResponse(chunk=data[start : start + 1000])

    def put(self, key: str, data: bytes, width: int, height: int, **changes: Any) -> str:
        """Add an image without StoreImage; its key."""
        self.bytes_of[key] = data
        about = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changes}
        self.images[key] = self.make(key, width=width, height=height, **about)
        return key

    def make(self, key: str, **file: Any) -> images_pb2.Image:
        """The description of an image."""
        stored = image_pb2.StoredImage(
            key=key,
            url=f"http://media.test/{key}",
            file=image_pb2.ImageFile(content_type="image/png", **file),
            thumbhash="AAAA",
        )
        return images_pb2.Image(image=stored, backend=self.backend)

    async def SetImageState(self, request: Any, context: Any) -> images_pb2.SetImageStateResponse:
        if self.keep_error:
            error, self.keep_error = self.keep_error, None
            raise error
        if request.key not in self.images:
            raise errors.NotFound("no such image")
        self.images[request.key].state = request.state
        self.kept.set()
        return images_pb2.SetImageStateResponse(image=self.images[request.key])


def serving(servicer: Any, name: str, listen: str = "127.0.0.1:0") -> Any:
    """A real server for a scripted leaf; `async with` gives what rpc.server.running gives."""
    add = (
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server
        if name == GENERATOR
        else images_pb2_grpc.add_ImageServiceServicer_to_server
    )

    def add_to(server: grpc.aio.Server) -> None:
        add(servicer, server)

    return running([Service(name, add_to)], ServerSettings(listen=listen))
