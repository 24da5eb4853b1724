"""A gateway with scripted services behind it: they return and fail as a test says.

Tests of failures need them, because a real service fails only now and then.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2
from frontispiece.generator.v1 import generator_pb2, generator_pb2_grpc
from frontispiece.posts.v1 import posts_pb2_grpc, tasks_pb2, tasks_pb2_grpc
from frontispiece.storage.v1 import images_pb2_grpc
from frontispiece.types.v1 import generation_pb2, image_pb2

from gateway.app import create_app
from gateway.clients import GENERATOR, IMAGES, POSTS, TASKS, open_clients
from gateway.context import AppContext
from gateway.serving.listener import listen
from gateway.serving.server import GatewayServer, server
from gateway.settings import GatewaySettings
from rpc import errors
from rpc.server import RunningServer, Service, running
from rpc.settings import ServerSettings

TOKEN = "scripted-token-of-the-tests"
EDITOR = {"authorization": f"Bearer {TOKEN}"}
TASK_ID = "11111111-2222-4333-8444-555555555555"

Script = Callable[..., Any]


@dataclass
class Scripts:
    """What the services do: a function of the request for each method. A method without one is UNIMPLEMENTED."""

    methods: dict[str, Script] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)

    def on(self, method: str, script: Script) -> None:
        self.methods[method] = script

    def sent(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    def _unary(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: Any) -> Any:
            self.calls.append((method, request))
            if method not in self.methods:
                raise errors.Unimplemented(f"{method} has no script")
            response = self.methods[method](request)
            return await response if asyncio.iscoroutine(response) else response

        return call

    def _stream(self, method: str) -> Callable[..., AsyncIterator[Any]]:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            self.calls.append((method, request))
            if method not in self.methods:
                raise errors.Unimplemented(f"{method} has no script")
            async with contextlib.aclosing(self.methods[method](request)) as responses:
                async for response in responses:
                    yield response

        return call

    def servicer(self, base: type, streams: tuple[str, ...] = ()) -> Any:
        """A servicer whose methods are the scripts."""
        names = [name for name in vars(base) if not name.startswith("_")]
        methods = {name: self._stream(name) if name in streams else self._unary(name) for name in names}
        made = type("Scripted", (base,), {name: staticmethod(method) for name, method in methods.items()})
        return made()

    def services(self) -> list[Service]:
        tasks = self.servicer(tasks_pb2_grpc.TaskServiceServicer, ("WatchTask",))
        posts = self.servicer(posts_pb2_grpc.PostServiceServicer, ("WatchChanges",))
        images = self.servicer(images_pb2_grpc.ImageServiceServicer, ("GetImage",))
        generator = self.servicer(generator_pb2_grpc.GeneratorServiceServicer, ("Generate",))
        return [
            Service(TASKS.full_name, partial(tasks_pb2_grpc.add_TaskServiceServicer_to_server, tasks)),
            Service(POSTS.full_name, partial(posts_pb2_grpc.add_PostServiceServicer_to_server, posts)),
            Service(IMAGES.full_name, partial(images_pb2_grpc.add_ImageServiceServicer_to_server, images)),
            Service(GENERATOR.full_name, partial(generator_pb2_grpc.add_GeneratorServiceServicer_to_server, generator)),
        ]


@dataclass
class Scripted:
    """A running gateway, its client, and the scripts of the services behind it."""

    base_url: str
    client: httpx2.AsyncClient
    context: AppContext
    http: GatewayServer
    scripts: Scripts
    leaf: RunningServer
    serving: asyncio.Task[None]

    @contextlib.asynccontextmanager
    async def rebuilt(self, **settings: Any) -> AsyncIterator["Scripted"]:
        """Another gateway with the same scripts, and with these settings."""
        async with scripted(**settings) as other:
            other.scripts.methods.update(self.scripts.methods)
            yield other


@contextlib.asynccontextmanager
async def scripted(**settings: Any) -> AsyncIterator[Scripted]:
    """A gateway on a free port, with these settings."""
    scripts = Scripts()
    async with running(scripts.services(), ServerSettings()) as leaf:
        targets = dict.fromkeys(("posts_target", "storage_target", "generator_target"), leaf.address)
        chosen = GatewaySettings(**{"port": 0, **targets, **settings})
        with listen(chosen) as listener:
            async with open_clients(chosen) as clients:
                app = create_app(chosen, clients, TOKEN)
                http = server(app, chosen)
                serving = asyncio.create_task(http.serve(sockets=[listener]))
                base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                async with httpx2.AsyncClient(base_url=base_url, headers=EDITOR, timeout=30) as client:
                    yield Scripted(base_url, client, app.state.context, http, scripts, leaf, serving)
                http.stop()
                await serving


def task(state: int = tasks_pb2.TASK_STATE_QUEUED, last_sequence: int = 1, **fields: Any) -> tasks_pb2.Task:
    """A task as the posts service returns it."""
    parameters = generation_pb2.GenerationParameters(
        prompt="a door", source=generation_pb2.IMAGE_SOURCE_GENERATED, seed=1
    )
    made = tasks_pb2.Task(id=TASK_ID, parameters=parameters, last_sequence=last_sequence, created_by="admin", **fields)
    made.state = state  # type: ignore[assignment]  # an int is what protobuf keeps
    return made


def event(sequence: int, state: int | None = None, *, terminal: bool = False, **kind: Any) -> Any:
    """An event as the posts service sends it."""
    if state is not None:
        kind["state_change"] = tasks_pb2.TaskStateChange(state=state, actor="test")  # type: ignore[arg-type]
    made = tasks_pb2.TaskEvent(task_id=TASK_ID, sequence=sequence, terminal=terminal, **kind)
    return tasks_pb2.WatchTaskResponse(event=made)


def stored_image(**fields: Any) -> image_pb2.StoredImage:
    """An image as storage describes it."""
    file = image_pb2.ImageFile(content_type="image/png", size_bytes=8, sha256="ab", width=8, height=8)
    values = {"key": "generated/1-x.png", "url": "http://x/media/generated/1-x.png", "file": file, **fields}
    return image_pb2.StoredImage(**values)


def task_image(**fields: Any) -> tasks_pb2.TaskImage:
    """A generated image of a task."""
    generation = generation_pb2.Generation(parameters=generation_pb2.GenerationParameters(prompt="a door", seed=1))
    return tasks_pb2.TaskImage(image=stored_image(), image_source="sdxl-local", generation=generation, **fields)


def capabilities() -> generator_pb2.GetCapabilitiesResponse:
    """The capabilities of a generator without models."""
    return generator_pb2.GetCapabilitiesResponse(slot_count=1, free_slot_count=1, device="cpu")
