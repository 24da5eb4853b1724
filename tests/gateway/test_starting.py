"""The first seconds: a task that is created before posts serves waits for it; and what probes of the gateway ask."""

import asyncio

import pytest
from frontispiece.posts.v1 import tasks_pb2

from gateway import clients
from gateway.health import responds
from local.ports import free_port
from rpc.server import running
from rpc.settings import ServerSettings
from tests.gateway.scripted import scripted, task


async def test_a_task_waits_for_posts_that_start() -> None:
    port = free_port()
    async with scripted(posts_target=f"127.0.0.1:{port}") as gateway:
        gateway.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=task()))
        created = asyncio.create_task(gateway.client.post("/api/tasks", json={"prompt": "a door"}))
        while (await gateway.client.get("/readyz")).json()["failing"].get("posts") is None:
            pass
        assert not created.done()
        async with running(gateway.scripts.services(), ServerSettings(listen=f"127.0.0.1:{port}")):
            assert (await created).status_code == 201


async def test_later_a_task_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "START_SECONDS", 0.0)
    async with scripted(posts_target=f"127.0.0.1:{free_port()}") as gateway:
        response = await gateway.client.post("/api/tasks", json={"prompt": "a door"})
    assert response.status_code == 503


async def test_the_probe_asks_the_gateway_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    async with scripted(posts_target=f"127.0.0.1:{free_port()}") as gateway:
        assert await asyncio.to_thread(responds, f"{gateway.base_url}/healthz")
        assert not await asyncio.to_thread(responds, f"{gateway.base_url}/readyz")
    assert "503" in capsys.readouterr().err
