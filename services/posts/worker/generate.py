"""One image from the generator to storage: the stream is watched and checked, and kept in memory until it is stored."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass

from frontispiece.generator.v1.generator_pb2 import GenerateRequest, GenerateResponse, ImageMetadata
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.generation_pb2 import IMAGE_SOURCE_STOCK, Attribution, GenerationParameters

from rpc import errors
from rpc.limits import limits
from rpc.validation import check
from services.posts.clients.generator import GeneratorClient
from services.posts.clients.storage import StorageClient
from services.posts.content.images import stored
from services.posts.worker.failures import AttemptFailed

_MAX_IMAGE_BYTES = int(limits(images_pb2.StoreImageHeader, "size_bytes").max)
_SEEDS = int(limits(GenerationParameters, "seed").max) + 1

_SIGNATURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/webp": b"RIFF"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_CREDIT = 200


@dataclass(frozen=True)
class Timeouts:
    """How long, in seconds, a generator may report nothing while it works, while the request waits, and take in all."""

    step: float
    queue: float
    attempt: float


@dataclass(frozen=True)
class GeneratedImage:
    """A generated image whose bytes are as the generator described them."""

    metadata: ImageMetadata
    chunks: tuple[bytes, ...]


@dataclass(frozen=True)
class GenerateInput:
    """What all candidates of an attempt have in common."""

    parameters: GenerationParameters
    initial_image: bytes = b""

    def request(self, task_id: str, index: int, preview_interval: int) -> GenerateRequest:
        """The request for candidate `index`."""
        request = GenerateRequest(
            request_id=f"{task_id}-{index}",
            parameters=self.parameters,
            preview_interval=preview_interval,
            initial_image=self.initial_image,
        )
        request.parameters.seed = (request.parameters.seed + index) % _SEEDS
        return request


async def generate(
    generator: GeneratorClient,
    request: GenerateRequest,
    timeouts: Timeouts,
    report: Callable[[GenerateResponse], None],
) -> GeneratedImage:
    """Generate one image. `report` gets the responses that carry progress.

    Raises AttemptFailed if the generator reports nothing for too long or sends something other than the image that it
    describes, and the RpcError with which the call ended.
    """
    metadata: ImageMetadata | None = None
    chunks: list[bytes] = []
    received = 0
    responses = _watched(generator.generate(request, timeouts.attempt), timeouts)
    async with contextlib.aclosing(responses):
        async for response in responses:
            if response.WhichOneof("event") == "image":
                if metadata is not None:
                    raise _invalid("described two images")
                metadata = response.image
                _check_metadata(metadata, request)
            elif response.WhichOneof("event") == "chunk":
                received += len(response.chunk)
                if metadata is None or received > metadata.file.size_bytes:
                    raise _invalid("sent more bytes than it described")
                chunks.append(response.chunk)
            else:
                report(response)
    if metadata is None:
        raise _invalid("sent no image")
    _check_bytes(metadata, chunks)
    return GeneratedImage(metadata, tuple(chunks))


async def store(storage: StorageClient, task: t.Task, index: int, image: GeneratedImage) -> t.TaskImage:
    """Store an image. Raises AttemptFailed if storage finds another image, and the RpcError of the call."""
    file = image.metadata.file
    found = await storage.store(f"{task.id}-{index}", task.create_time, task.id, file.sha256, image.chunks)
    if found.image.file != file:
        raise _invalid("described another image than storage found")
    if not found.image.key:
        raise AttemptFailed("STORAGE_ANSWER_INVALID", "storage sent no key", will_retry=True)
    generation = image.metadata.generation
    is_in_s3 = found.backend == images_pb2.IMAGE_BACKEND_S3
    source = "pexels" if _is_stock(generation.parameters) else "sdxl-s3" if is_in_s3 else "sdxl-local"
    return t.TaskImage(index=index, image=stored(found), image_source=source, generation=generation)


async def _watched(
    responses: AsyncIterator[GenerateResponse], timeouts: Timeouts
) -> AsyncGenerator[GenerateResponse, None]:
    """`responses` for as long as they arrive in time. Heartbeats alone would keep the task at a GPU that hangs."""
    limit = timeouts.step
    async with contextlib.aclosing(responses):  # type: ignore[type-var]  # an async generator
        while True:
            try:
                async with asyncio.timeout(limit):
                    response = await anext(responses)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise AttemptFailed(
                    "GENERATOR_STALLED", f"the generator reported nothing for {limit:g} s", will_retry=True
                ) from None
            limit = timeouts.queue if response.WhichOneof("event") == "queued" else timeouts.step
            yield response


def _check_metadata(metadata: ImageMetadata, request: GenerateRequest) -> None:
    """Raise AttemptFailed if `metadata` cannot describe the requested image. Shortens and cleans its text."""
    requested, file, generation = request.parameters, metadata.file, metadata.generation
    used = generation.parameters
    initial = requested.initial_image
    try:
        check(metadata)
    except errors.InvalidArgument as error:
        raise _invalid(f"sent impossible parameters: {error.message}") from error
    problems = {
        "sent an unknown content type": file.content_type not in _SIGNATURES,
        "sent an image that is too large": not 1 <= file.size_bytes <= _MAX_IMAGE_BYTES,
        "sent an image without pixels": not (file.width and file.height),
        "sent an image from another source": _is_stock(used) is not _is_stock(requested),
        "used another seed": not _is_stock(requested) and used.seed != requested.seed,
        "started from another image": generation.initial_image_sha256 != _sha256(request.initial_image)
        or generation.mask_sha256 != _sha256(initial.mask),
        "used another mask_feather": initial.HasField("mask_feather")
        and used.initial_image.mask_feather != initial.mask_feather,
    }
    for problem, is_so in problems.items():
        if is_so:
            raise _invalid(problem)
    if generation.HasField("attribution"):
        _clean(generation.attribution)


def _check_bytes(metadata: ImageMetadata, chunks: list[bytes]) -> None:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    if sum(len(chunk) for chunk in chunks) != metadata.file.size_bytes:
        raise _invalid("sent fewer bytes than it described")
    if digest.hexdigest() != metadata.file.sha256:
        raise _invalid("sent bytes with another SHA-256 than it described")
    if not b"".join(chunks[:1]).startswith(_SIGNATURES[metadata.file.content_type]):
        raise _invalid("sent bytes of another content type than it described")


def _is_stock(parameters: GenerationParameters) -> bool:
    return parameters.source == IMAGE_SOURCE_STOCK


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if data else ""


def _clean(attribution: Attribution) -> None:
    """Remove control characters and links that are not http, because pages show this text of a foreign service."""
    for name in ("provider", "author", "description"):
        setattr(attribution, name, _CONTROL.sub("", getattr(attribution, name))[:_MAX_CREDIT].strip())
    for name in ("author_url", "source_url"):
        if not getattr(attribution, name).startswith(("https://", "http://")):
            attribution.ClearField(name)


def _invalid(problem: str) -> AttemptFailed:
    return AttemptFailed("GENERATOR_ANSWER_INVALID", f"the generator {problem}", will_retry=True)
