"""The gateway's channels to the three services."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from frontispiece.generator.v1 import generator_pb2_grpc
from frontispiece.posts.v1 import posts_pb2_grpc, tasks_pb2_grpc
from frontispiece.storage.v1 import images_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.settings import GatewaySettings
from rpc.channel import open_channel

if TYPE_CHECKING:
    from frontispiece.generator.v1.generator_pb2_grpc import GeneratorServiceAsyncStub
    from frontispiece.posts.v1.posts_pb2_grpc import PostServiceAsyncStub
    from frontispiece.posts.v1.tasks_pb2_grpc import TaskServiceAsyncStub
    from frontispiece.storage.v1.images_pb2_grpc import ImageServiceAsyncStub

TASKS = "frontispiece.posts.v1.TaskService"
POSTS = "frontispiece.posts.v1.PostService"
IMAGES = "frontispiece.storage.v1.ImageService"
GENERATOR = "frontispiece.generator.v1.GeneratorService"

# What may run twice without harm. Not here: updating, deleting, and creating without a request id; their first try may
# have had its effect although its answer was lost.
_RETRYABLE_POSTS = [
    (TASKS, "CreateTask"),  # the gateway always sends a request_id
    (TASKS, "GetTask"),
    (TASKS, "ListTasks"),
    (TASKS, "WatchTask"),
    (TASKS, "CancelTask"),
    (TASKS, "RetryTask"),  # with a request_id, as those below
    (TASKS, "ApproveTask"),
    (TASKS, "RejectTask"),
    (POSTS, "CreatePost"),
    (POSTS, "GetPost"),
    (POSTS, "ListPosts"),
    (POSTS, "PublishPost"),
    (POSTS, "UnpublishPost"),
    (POSTS, "ListAuthors"),
    (POSTS, "ListCategories"),
    (POSTS, "ListTags"),
]
_RETRYABLE_STORAGE = [(IMAGES, "GetImage")]
_RETRYABLE_GENERATOR = [(GENERATOR, "GetCapabilities")]

# A page of 100 posts of 100,000 characters.
_POSTS_MESSAGE_BYTES = 64 * 1024 * 1024

_HEALTH_SECONDS = 2.0


@dataclass(frozen=True)
class Clients:
    """Stubs of the services; each call takes deadline, request id and principal from rpc.context."""

    tasks: "TaskServiceAsyncStub"
    posts: "PostServiceAsyncStub"
    images: "ImageServiceAsyncStub"
    generator: "GeneratorServiceAsyncStub"
    health: dict[str, tuple[str, Any]]

    async def failing(self) -> dict[str, str]:
        """The services that do not want calls, each with the reason; empty when all is well."""
        answers = await asyncio.gather(*(_health(stub, service) for service, stub in self.health.values()))
        return {name: answer for name, answer in zip(self.health, answers, strict=True) if answer}


async def _health(stub: Any, service: str) -> str:
    try:
        response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=_HEALTH_SECONDS)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    if response.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


@asynccontextmanager
async def open_clients(settings: GatewaySettings) -> AsyncIterator[Clients]:
    """Channels for as long as the block lasts. It does not wait for a connection: services may start later."""
    async with AsyncExitStack() as stack:
        timeout = settings.request_seconds
        posts = await stack.enter_async_context(
            open_channel(
                settings.posts_target,
                retryable=_RETRYABLE_POSTS,
                health_service=TASKS,
                timeout_seconds=timeout,
                max_message_bytes=_POSTS_MESSAGE_BYTES,
            )
        )
        storage = await stack.enter_async_context(
            open_channel(
                settings.storage_target,
                retryable=_RETRYABLE_STORAGE,
                health_service=IMAGES,
                timeout_seconds=timeout,
            )
        )
        generator = await stack.enter_async_context(
            open_channel(
                settings.generator_target,
                retryable=_RETRYABLE_GENERATOR,
                health_service=GENERATOR,
                timeout_seconds=timeout,
            )
        )
        yield Clients(
            tasks=tasks_pb2_grpc.TaskServiceStub(posts),
            posts=posts_pb2_grpc.PostServiceStub(posts),
            images=images_pb2_grpc.ImageServiceStub(storage),
            generator=generator_pb2_grpc.GeneratorServiceStub(generator),
            health={
                "posts": (TASKS, health_pb2_grpc.HealthStub(posts)),
                "storage": (IMAGES, health_pb2_grpc.HealthStub(storage)),
                "generator": (GENERATOR, health_pb2_grpc.HealthStub(generator)),
            },
        )
