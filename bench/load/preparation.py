"""The data of a load test: stored images, posts, tasks, and one recorded response of each call."""

import base64
import hashlib
import json
import os
import struct
import uuid
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from frontispiece.posts.v1 import posts_pb2, posts_pb2_grpc, tasks_pb2, tasks_pb2_grpc
from frontispiece.storage.v1 import images_pb2, images_pb2_grpc
from frontispiece.types.v1.generation_pb2 import GenerationParameters, ImageSource

from bench.load import configs
from bench.load.contracts import method, requests

CHUNK = 256 * 1024
REQUEST_TIME = 1_790_000_000
POSTS = 40
TIMEOUT_SECONDS = 30.0


def noise(width: int, height: int) -> bytes:
    """A PNG of random pixels: about 3 × width × height bytes, for noise does not compress."""
    rows = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def upload(image: bytes, request_id: str) -> list[dict[str, Any]]:
    """The messages of a StoreImage call for `image`, as JSON."""
    header = {
        "request_id": request_id,
        "request_time": "2026-09-21T13:33:20Z",
        "task_id": str(uuid.uuid4()),
        "size_bytes": len(image),
        "sha256": hashlib.sha256(image).hexdigest(),
        "origin": "IMAGE_ORIGIN_GENERATOR",
    }
    chunks = [base64.b64encode(image[start : start + CHUNK]).decode() for start in range(0, len(image), CHUNK)]
    return [{"header": header}, *({"chunk": chunk} for chunk in chunks)]


async def prepare(hosts: dict[str, str] | Any) -> dict[str, Any]:
    """Create posts, tasks and images. Returns the values that configs name. Raises grpc.aio.AioRpcError."""
    async with (
        grpc.aio.insecure_channel(hosts["posts"]) as posts_channel,
        grpc.aio.insecure_channel(hosts["storage"]) as storage_channel,
    ):
        # 1182 × 1182 × 3 bytes: 4 MiB.
        image = noise(1182, 1182)
        key = await _store(images_pb2_grpc.ImageServiceStub(storage_channel), image)
        slug = await _posts(posts_pb2_grpc.PostServiceStub(posts_channel), key)
        tasks: Any = tasks_pb2_grpc.TaskServiceStub(posts_channel)
        task, ended = await _task(tasks), await _task(tasks)
        await tasks.CancelTask(tasks_pb2.CancelTaskRequest(task_id=ended), timeout=TIMEOUT_SECONDS)
    return {
        "post_slug": slug,
        "task_id": task,
        "ended_task_id": ended,
        "image_key": key,
        "upload": upload(image, "{{newUUID}}"),
    }


async def _store(storage: Any, image: bytes) -> str:
    async def parts() -> AsyncIterator[images_pb2.StoreImageRequest]:
        for part in requests("frontispiece.storage.v1.ImageService/StoreImage", upload(image, str(uuid.uuid4()))):
            assert isinstance(part, images_pb2.StoreImageRequest)
            yield part

    stored = await storage.StoreImage(parts(), timeout=TIMEOUT_SECONDS)
    return str(stored.image.image.key)


async def _posts(posts: Any, key: str) -> str:
    author = (await posts.ListAuthors(posts_pb2.ListAuthorsRequest(), timeout=TIMEOUT_SECONDS)).authors[0]
    category = (await posts.ListCategories(posts_pb2.ListCategoriesRequest(), timeout=TIMEOUT_SECONDS)).categories[0]
    slug = ""
    for number in range(POSTS):
        request = posts_pb2.CreatePostRequest(
            title=f"Load test {number}",
            content="It stands where the land ends. " * 60,
            author_id=author.id,
            category_id=category.id,
            tags=["sea", "light"],
            featured_image_key=key,
            publish=True,
        )
        slug = (await posts.CreatePost(request, timeout=TIMEOUT_SECONDS)).post.slug
    return slug


async def _task(tasks: Any) -> str:
    parameters = GenerationParameters(prompt="a lighthouse at dusk", source=ImageSource.IMAGE_SOURCE_GENERATED)
    request = tasks_pb2.CreateTaskRequest(request_id=str(uuid.uuid4()), parameters=parameters)
    return str((await tasks.CreateTask(request, timeout=TIMEOUT_SECONDS)).task.id)


async def record(calls: Sequence[str], hosts: Any, values: dict[str, Any], path: Path) -> None:
    """Make each call once and write its responses to `path`, for the no-op server."""
    recorded: dict[str, list[str]] = {}
    for call in calls:
        phase = configs.phases(call, configs.KNEE, values)[0]
        rpc = method(phase.rpc)
        messages = requests(phase.rpc, phase.config["data"])
        async with grpc.aio.insecure_channel(hosts[configs.service(call)]) as channel:
            codec: dict[str, Any] = {
                "request_serializer": rpc.request.SerializeToString,
                "response_deserializer": rpc.response.FromString,
            }
            if rpc.client_streaming:
                responses = [await channel.stream_unary(rpc.path, **codec)(iter(messages), timeout=TIMEOUT_SECONDS)]
            elif rpc.server_streaming:
                stream: Any = channel.unary_stream(rpc.path, **codec)(messages[0], timeout=TIMEOUT_SECONDS)
                responses = [response async for response in stream]
            else:
                responses = [await channel.unary_unary(rpc.path, **codec)(messages[0], timeout=TIMEOUT_SECONDS)]
        recorded[phase.rpc] = [base64.b64encode(response.SerializeToString()).decode() for response in responses]
    path.write_text(json.dumps(recorded))
