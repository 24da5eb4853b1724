"""The real servers on free ports: posts without a worker, storage on a disk, a generator, and the gateway."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
from frontispiece.posts.v1 import posts_pb2, posts_pb2_grpc, tasks_pb2, tasks_pb2_grpc
from frontispiece.storage.v1 import images_pb2, images_pb2_grpc
from frontispiece.types.v1 import generation_pb2
from google.protobuf.descriptor import MethodDescriptor
from pydantic import SecretStr

from gateway.app import create_app
from gateway.clients import open_clients
from gateway.serving.listener import listen
from gateway.serving.server import server
from gateway.settings import GatewaySettings
from rpc.channel import open_channel
from rpc.limits import limits
from rpc.server import running
from rpc.validation import check
from services.generator.__main__ import service as generator_service
from services.generator.generate import Generator
from services.generator.models import FloatRange, IntegerRange, ModelInfo
from services.generator.scheduling.runner import EngineRunner
from services.generator.settings import GeneratorSettings
from services.generator.stock.pexels import PexelsOptions, open_stock
from services.posts import app as posts_app
from services.posts.database.migrate import migrate
from services.posts.settings import PostsSettings
from services.storage.__main__ import assembled
from services.storage.settings import StorageSettings
from tests.generator.fake import MODEL, FakeEngine
from tests.protos.limit_cases import Case
from tests.protos.samples import png

TOKEN = "token-of-the-test-of-verdicts"
ANY_PORT = "127.0.0.1:0"
SECONDS = 60.0


@dataclass(frozen=True)
class Servers:
    """The running servers, and the ids of what is stored."""

    channels: dict[str, Any]
    """For each service, by its full name, a channel to it."""
    client: httpx2.AsyncClient
    media: Path
    """The folder of storage."""
    stored: dict[str, str]
    """For each name of a field that refers to something, the value of something that exists."""

    def call(self, method: MethodDescriptor, cls: Any) -> Any:
        """The call of a method, whose responses are of class `cls`."""
        requests = "stream" if method.client_streaming else "unary"
        responses = "stream" if method.server_streaming else "unary"
        channel = self.channels[method.containing_service.full_name]
        return getattr(channel, f"{requests}_{responses}")(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=cls.FromString,
        )


def models(cases: Sequence[Case]) -> list[ModelInfo]:
    """Models that accept all that the contract accepts, with every name in `cases`: then only the contract refuses."""
    accepted = []
    for case in cases:
        if case.is_accepted and "parameters" in case.request.DESCRIPTOR.fields_by_name:
            parameters = generation_pb2.GenerationParameters()
            parameters.CopyFrom(case.request.parameters)
            check(parameters)  # normalises it
            accepted.append(parameters)
    first = replace(
        MODEL,
        schedulers=("euler", *sorted({one.scheduler for one in accepted} - {""})),
        loras=tuple(sorted({lora.name for one in accepted for lora in one.loras})),
        width=_range("width"),
        height=_range("height"),
        max_pixels=_range("width").max * _range("height").max,
        num_inference_steps=_range("num_inference_steps"),
        guidance_scale=FloatRange(0, limits(generation_pb2.GenerationParameters, "guidance_scale").max, 0.5, 5),
        refiner="refiner",
    )
    return [first, *(replace(first, id=name) for name in sorted({one.model for one in accepted} - {""}))]


def _range(name: str) -> IntegerRange:
    found = limits(generation_pb2.GenerationParameters, name)
    return IntegerRange(int(found.min), int(found.max), found.multiple_of or 1, int(found.min))


@contextlib.asynccontextmanager
async def started(database_url: str, folder: Path, cases: Sequence[Case]) -> AsyncIterator[Servers]:
    """All servers, with a task, a post and an image."""
    await migrate(database_url)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stored_in = StorageSettings(listen=ANY_PORT, local_root=folder / "media", use_s3="false")
        storage, _ = await enter(assembled(stored_in))
        storage_target = (await enter(running([storage], stored_in))).address

        engine = FakeEngine()
        engine.models = models(cases)
        runner = EngineRunner(lambda: engine, queue_capacity=10_000)
        stock = await enter(open_stock(PexelsOptions(pexels_api_key=SecretStr(""))))
        await enter(runner)
        await runner.ready()
        generator = generator_service(Generator(runner, stock))
        generator_target = (await enter(running([generator], GeneratorSettings(listen=ANY_PORT)))).address

        settings = PostsSettings(
            listen=ANY_PORT,
            database_url=SecretStr(database_url),
            generator_targets=(generator_target,),
            storage_target=storage_target,
        )
        posts = await enter(posts_app.running(settings))
        posts_target = (await enter(running(posts.services, settings))).address
        stack.callback(posts.events.close)

        channels = {}
        for service in (storage, generator, *posts.services):
            targets = {storage.name: storage_target, generator.name: generator_target}
            channel = open_channel(targets.get(service.name, posts_target), retries=False, health_check=False)
            channels[service.name] = await enter(channel)
        client = await enter(_gateway(posts_target, storage_target, generator_target))
        stored = await _stored(channels)
        yield Servers(channels, client, folder / "media", stored)


@contextlib.asynccontextmanager
async def _gateway(posts: str, storage: str, generator: str) -> AsyncIterator[httpx2.AsyncClient]:
    targets = {"posts_target": posts, "storage_target": storage, "generator_target": generator}
    chosen = GatewaySettings(port=0, request_seconds=SECONDS, **targets)
    with listen(chosen) as listener:
        async with open_clients(chosen) as clients:
            http = server(create_app(chosen, clients, TOKEN), chosen)
            serving = asyncio.create_task(http.serve(sockets=[listener]))
            headers = {"authorization": f"Bearer {TOKEN}"}
            base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=SECONDS) as client:
                yield client
            http.stop()
            await serving


async def _stored(channels: dict[str, Any]) -> dict[str, str]:
    def stub(file: Any, name: str, kind: Any) -> Any:
        return kind(channels[file.DESCRIPTOR.services_by_name[name].full_name])

    images = stub(images_pb2, "ImageService", images_pb2_grpc.ImageServiceStub)
    posts = stub(posts_pb2, "PostService", posts_pb2_grpc.PostServiceStub)
    tasks = stub(tasks_pb2, "TaskService", tasks_pb2_grpc.TaskServiceStub)
    data = png(100)
    header = images_pb2.StoreImageHeader(request_id="first", size_bytes=len(data))

    async def upload() -> AsyncIterator[Any]:
        yield images_pb2.StoreImageRequest(header=header)
        yield images_pb2.StoreImageRequest(chunk=data)

    key = (await images.StoreImage(upload(), timeout=SECONDS)).image.image.key
    author = (await posts.CreateAuthor(posts_pb2.CreateAuthorRequest(name="Ada"), timeout=SECONDS)).author
    category = (await posts.CreateCategory(posts_pb2.CreateCategoryRequest(name="Essays"), timeout=SECONDS)).category
    references = {"author_id": author.id, "category_id": category.id, "featured_image_key": key}
    request = posts_pb2.CreatePostRequest(title="A door", **references)
    post = (await posts.CreatePost(request, timeout=SECONDS)).post
    parameters = generation_pb2.GenerationParameters(prompt="a door")
    task = (await tasks.CreateTask(tasks_pb2.CreateTaskRequest(parameters=parameters), timeout=SECONDS)).task
    return {**references, "key": key, "id": post.id, "task_id": task.id}
