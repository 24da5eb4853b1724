"""The gRPC channels of the gateway to the three services."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from frontispiece.generator.v1 import generator_pb2, generator_pb2_grpc
from frontispiece.posts.v1 import posts_pb2, posts_pb2_grpc, tasks_pb2, tasks_pb2_grpc
from frontispiece.storage.v1 import images_pb2, images_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.settings import GatewaySettings
from rpc import context
from rpc.channel import open_channel

if TYPE_CHECKING:
    from frontispiece.generator.v1.generator_pb2_grpc import GeneratorServiceAsyncStub
    from frontispiece.posts.v1.posts_pb2_grpc import PostServiceAsyncStub
    from frontispiece.posts.v1.tasks_pb2_grpc import TaskServiceAsyncStub
    from frontispiece.storage.v1.images_pb2_grpc import ImageServiceAsyncStub

TASKS = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"]
POSTS = posts_pb2.DESCRIPTOR.services_by_name["PostService"]
IMAGES = images_pb2.DESCRIPTOR.services_by_name["ImageService"]
GENERATOR = generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"]

# A page of 100 posts of 100,000 characters.
_POSTS_MESSAGE_BYTES = 64 * 1024 * 1024

# What storage sends ahead of a slow reader of an image, and what the gateway holds of it.
_IMAGE_WINDOW_BYTES = 32 * 1024

_HEALTH_SECONDS = 2.0
_HEALTH_VALID_SECONDS = 1.0

START_SECONDS = 60.0
"""A first start makes a database before posts can serve."""


@dataclass(frozen=True)
class HealthProbe:
    """Asks a service for its health."""

    service: str
    balanced: Any
    """Health stub of the channel that calls use. It reaches healthy backends only."""
    direct: Any
    """Health stub of a channel without health checks. It knows why a backend is not healthy."""

    async def reason(self) -> str:
        """Why the service is not ready, such as NOT_SERVING or UNAVAILABLE. Empty: it is ready."""
        reason = await self._ask(self.balanced)
        return (await self._ask(self.direct) or reason) if reason else ""

    async def _ask(self, stub: Any) -> str:
        request = health_pb2.HealthCheckRequest(service=self.service)
        try:
            response = await stub.Check(request, timeout=_HEALTH_SECONDS)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        if response.status == health_pb2.HealthCheckResponse.SERVING:
            return ""
        return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


@dataclass
class Clients:
    """Stubs of the services. Each call takes its deadline, request id and principal from rpc.context."""

    tasks: "TaskServiceAsyncStub"
    watches: "TaskServiceAsyncStub"
    """For WatchTask: a connection of its own, so that open event streams leave the other calls their streams."""
    posts: "PostServiceAsyncStub"
    images: "ImageServiceAsyncStub"
    uploads: "ImageServiceAsyncStub"
    """For StoreImage: a channel without retries, because gRPC would keep every upload in memory to repeat it."""
    generator: "GeneratorServiceAsyncStub"
    health: dict[str, HealthProbe]
    opened_at: float = field(default_factory=time.monotonic)
    _asked: asyncio.Task[dict[str, str]] | None = field(default=None, init=False)
    _valid_until: float = field(default=0.0, init=False)

    async def create_task(self, request: tasks_pb2.CreateTaskRequest) -> tasks_pb2.Task:
        """Create a task. While the system may still be starting, this waits for posts."""
        if time.monotonic() - self.opened_at < START_SECONDS:
            context.set_remaining_seconds(START_SECONDS)
            response = await self.tasks.CreateTask(request, timeout=START_SECONDS, wait_for_ready=True)
        else:
            response = await self.tasks.CreateTask(request)
        return response.task

    async def failing(self) -> dict[str, str]:
        """The services that are not ready, each with the reason. They are asked once a second at most."""
        if self._asked is None or (self._asked.done() and time.monotonic() >= self._valid_until):
            self._asked = asyncio.ensure_future(self._ask())
        return dict(await asyncio.shield(self._asked))

    async def _ask(self) -> dict[str, str]:
        reasons = await asyncio.gather(*(probe.reason() for probe in self.health.values()))
        self._valid_until = time.monotonic() + _HEALTH_VALID_SECONDS
        return {name: reason for name, reason in zip(self.health, reasons, strict=True) if reason}


@asynccontextmanager
async def open_clients(settings: GatewaySettings) -> AsyncIterator[Clients]:
    """Open the channels, and close them when the block ends. Does not wait for a connection."""
    async with AsyncExitStack() as stack:

        async def channel(target: str, services: list[Any], **options: Any) -> Any:
            opened = open_channel(target, services=services, timeout_seconds=settings.request_seconds, **options)
            return await stack.enter_async_context(opened)

        posts = await channel(settings.posts_target, [TASKS, POSTS], max_message_bytes=_POSTS_MESSAGE_BYTES)
        watches = await channel(settings.posts_target, [TASKS])
        storage = await channel(settings.storage_target, [IMAGES], window_bytes=_IMAGE_WINDOW_BYTES)
        uploads = await channel(settings.storage_target, [IMAGES], retries=False)
        generator = await channel(settings.generator_target, [GENERATOR])

        async def probe(target: str, service: Any, balanced: Any) -> HealthProbe:
            direct = await channel(target, [])
            return HealthProbe(
                service.full_name, health_pb2_grpc.HealthStub(balanced), health_pb2_grpc.HealthStub(direct)
            )

        yield Clients(
            tasks=tasks_pb2_grpc.TaskServiceStub(posts),
            watches=tasks_pb2_grpc.TaskServiceStub(watches),
            posts=posts_pb2_grpc.PostServiceStub(posts),
            images=images_pb2_grpc.ImageServiceStub(storage),
            uploads=images_pb2_grpc.ImageServiceStub(uploads),
            generator=generator_pb2_grpc.GeneratorServiceStub(generator),
            health={
                "posts": await probe(settings.posts_target, TASKS, posts),
                "storage": await probe(settings.storage_target, IMAGES, storage),
                "generator": await probe(settings.generator_target, GENERATOR, generator),
            },
        )
