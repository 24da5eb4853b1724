"""One image from the generator into storage: the answer is watched, checked and kept in memory until it is stored."""

import asyncio
import contextlib
import hashlib
import math
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from services.posts.clients.generator import GeneratorClient, GeneratorEvent, Painted, Sketch, Step, Waiting
from services.posts.clients.storage import StorageClient, StoredImage
from services.posts.models import Parameters, Task, TaskImage
from services.posts.validation import MAX_SEED
from services.posts.worker.failures import AttemptFailed
from services.posts.worker.initial_image import Source

MAX_IMAGE_BYTES = 32 * 1024 * 1024
MAX_IMAGE_SIDE = 8192
MAX_IMAGE_PIXELS = 33_000_000

_SIGNATURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/webp": b"RIFF"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Patience:
    """How long, in seconds, a generator may be silent while it works and while the request waits, and take in all."""

    step: float
    queue: float
    attempt: float


@dataclass(frozen=True)
class Picture:
    """A painted image whose bytes are what the generator said they are."""

    about: Painted
    chunks: tuple[bytes, ...]


@dataclass(frozen=True)
class Order:
    """What is asked of the generator: the task's parameters as they are now, and the picture they begin from."""

    parameters: Parameters
    source: Source | None = None


async def paint(
    generator: GeneratorClient,
    task: Task,
    index: int,
    preview_interval: int,
    patience: Patience,
    report: Callable[[Waiting | Step | Sketch], None],
    order: Order,
) -> Picture:
    """Let the generator make candidate `index` to `order`; `report` hears what happens.

    Raises AttemptFailed when the generator is silent for too long or answers something that is not the image it
    describes, and the RpcError that the call ended with.
    """
    wanted, source = order.parameters, order.source
    seed = (wanted.seed or 0) + index
    begin = (source.data, source.mask) if source else None
    events = generator.generate(f"{task.id}-{index}", wanted, seed, preview_interval, patience.attempt, begin)
    about: Painted | None = None
    chunks: list[bytes] = []
    received = 0
    async with contextlib.aclosing(_watched(events, patience)) as watched:
        async for event in watched:
            if isinstance(event, Painted):
                about = _checked(event, order, seed, about)
            elif isinstance(event, bytes):
                received += len(event)
                if about is None or received > about.size_bytes:
                    raise _invalid("sent more bytes than it said")
                chunks.append(event)
            else:
                report(event)
    if about is None:
        raise _invalid("sent no image")
    _check_bytes(about, chunks)
    return Picture(about, tuple(chunks))


async def store(storage: StorageClient, task: Task, index: int, picture: Picture) -> TaskImage:
    """Store a picture once. Raises AttemptFailed when storage holds something else, and the RpcError of the call."""
    about = picture.about
    stored = await storage.store(f"{task.id}-{index}", task.create_time, str(task.id), about.sha256, picture.chunks)
    told = (about.sha256, about.size_bytes, about.content_type, about.width, about.height)
    if told != (stored.sha256, stored.size_bytes, stored.content_type, stored.width, stored.height):
        raise _invalid("described another image than storage found")
    if not stored.key or not stored.url:
        raise AttemptFailed("STORAGE_ANSWER_INVALID", "storage named neither key nor URL", will_retry=True)
    return _task_image(task, index, about, stored)


async def _watched(
    events: AsyncGenerator[GeneratorEvent, None], patience: Patience
) -> AsyncGenerator[GeneratorEvent, None]:
    """`events` for as long as they keep coming. A heartbeat alone must not keep a hung GPU's task."""
    limit = patience.step
    async with contextlib.aclosing(events):
        while True:
            try:
                async with asyncio.timeout(limit):
                    event = await anext(events)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise AttemptFailed(
                    "GENERATOR_STALLED", f"the generator showed no sign of work for {limit:g} s", will_retry=True
                ) from None
            limit = patience.queue if isinstance(event, Waiting) else patience.step
            yield event


def _checked(about: Painted, order: Order, seed: int, earlier: Painted | None) -> Painted:
    """`about` if it may describe the image that was asked for."""
    wanted = order.parameters
    initial = wanted.initial_image
    mask_sha256 = initial.mask_sha256 if initial else ""
    mask_feather = (initial.mask_feather if initial else None) or 0
    problems = {
        "described two images": earlier is not None,
        "sent an unknown content type": about.content_type not in _SIGNATURES,
        "sent an image that is too large": not 1 <= about.size_bytes <= MAX_IMAGE_BYTES,
        "sent no SHA-256": not _SHA256.fullmatch(about.sha256),
        "sent impossible dimensions": not (
            1 <= about.width <= MAX_IMAGE_SIDE
            and 1 <= about.height <= MAX_IMAGE_SIDE
            and about.width * about.height <= MAX_IMAGE_PIXELS
        ),
        "sent an image from another source": about.is_stock is wanted.use_generation,
        "used another seed": wanted.use_generation and about.seed != seed,
        "began from another picture": (about.initial_sha256, about.mask_sha256)
        != (order.source.sha256 if order.source else "", mask_sha256),
        # A generator of before knows hard borders only, and says nothing of them.
        "made another border": about.mask_feather != mask_feather,
        "sent impossible parameters": not (
            math.isfinite(about.guidance_scale)
            and about.seed <= MAX_SEED
            and about.num_inference_steps < 2**31
            and about.batch_size < 2**31
        ),
    }
    for problem, is_so in problems.items():
        if is_so:
            raise _invalid(problem)
    return about


def _check_bytes(about: Painted, chunks: list[bytes]) -> None:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    if sum(len(chunk) for chunk in chunks) != about.size_bytes:
        raise _invalid("sent fewer bytes than it said")
    if digest.hexdigest() != about.sha256:
        raise _invalid("sent bytes with another SHA-256 than it said")
    if not b"".join(chunks[:1]).startswith(_SIGNATURES[about.content_type]):
        raise _invalid("sent bytes of another content type than it said")


def _invalid(problem: str) -> AttemptFailed:
    return AttemptFailed("GENERATOR_ANSWER_INVALID", f"the generator {problem}", will_retry=True)


def _task_image(task: Task, index: int, about: Painted, stored: StoredImage) -> TaskImage:
    credit = ""
    if about.is_stock:
        image_source = "pexels"
        provider = _clean(about.credit_provider, 50).title() or "Pexels"
        author = _clean(about.credit_author, 200)
        credit = f"Photo by {author} on {provider}" if author else f"Photo from {provider}"
    else:
        image_source = "sdxl-s3" if stored.is_in_s3 else "sdxl-local"
    is_link = about.credit_url.startswith(("https://", "http://"))
    return TaskImage(
        index=index,
        key=stored.key,
        url=stored.url,
        image_source=image_source,
        width=stored.width,
        height=stored.height,
        content_type=stored.content_type,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        thumbhash=stored.thumbhash,
        seed=about.seed,
        model=_clean(about.model, 200),
        model_revision=_clean(about.model_revision, 200),
        scheduler=_clean(about.scheduler, 64),
        num_inference_steps=about.num_inference_steps,
        guidance_scale=about.guidance_scale,
        batch_size=about.batch_size,
        credit=credit,
        credit_url=_clean(about.credit_url, 2000) if about.is_stock and is_link else "",
    )


def _clean(text: str, most: int) -> str:
    return _CONTROL.sub("", text)[:most].strip()
