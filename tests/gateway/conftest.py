"""Clients of a running system, scripted gateways, and tasks to work with."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from PIL import Image
from playwright.async_api import Browser, async_playwright, expect

from tests.gateway.approvals import script_approvals
from tests.gateway.browsing import ARGUMENTS, MILLISECONDS, chromium
from tests.gateway.editor_page import script_editor
from tests.gateway.full import full
from tests.gateway.scripted import TASK_ID, Scripted, scripted, task
from tests.stack import Stack

__all__ = ["full"]


@pytest.fixture
async def editor(stack: Stack) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with the token."""
    async with httpx2.AsyncClient(base_url=stack.base_url, headers=stack.authorization, timeout=120) as client:
        yield client


@pytest.fixture
async def reader(stack: Stack) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without the token."""
    async with httpx2.AsyncClient(base_url=stack.base_url, timeout=60) as client:
        yield client


@pytest.fixture
async def front() -> AsyncIterator[Scripted]:
    """A gateway with scripted services behind it."""
    async with scripted(wait_seconds=20, keepalive_seconds=0.2) as made:
        yield made


@pytest.fixture
async def accepting(front: Scripted) -> Scripted:
    """A gateway whose posts service accepts every task and approval that the contract allows."""
    front.scripts.on("CreateTask", lambda request: tasks_pb2.CreateTaskResponse(task=task()))
    front.scripts.on("ApproveTask", lambda request: tasks_pb2.ApproveTaskResponse(task=task(), post=POST))
    return front


POST = posts_pb2.Post(id=TASK_ID, state=posts_pb2.POST_STATE_PUBLISHED)


@pytest.fixture
def editor_page(front: Scripted) -> Scripted:
    """A gateway whose scripted generator supports more than the default model does, with an empty database."""
    return script_editor(front)


@pytest.fixture
def waiting(editor_page: Scripted) -> Scripted:
    """The same with two tasks that await approval."""
    return script_approvals(editor_page)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph as a file."""
    path = tmp_path / "holiday.jpg"
    Image.linear_gradient("L").resize((640, 400)).convert("RGB").save(path)
    return path


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium."""
    path = chromium()
    expect.set_options(timeout=MILLISECONDS)
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        await started.close()


SMALL = {"prompt": "a door in a wall", "num_inference_steps": 2, "width": 256, "height": 256}


async def paint(editor: httpx2.AsyncClient, **parameters: Any) -> dict[str, Any]:
    """Generate a small image."""
    response = await editor.post("/api/media/generate-image", json={**SMALL, **parameters})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def publish(editor: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Create a post with an image of its own, published unless `publish` is false."""
    task = await paint(editor)
    body = {"title": f"A door {uuid.uuid4().hex[:8]}", "content": "It is shut.", "tags": ["wood"], **fields}
    response = await editor.post(f"/api/tasks/{task['task_id']}/approve", json=body)
    assert response.status_code == 200, response.text
    post: dict[str, Any] = response.json()["post"]
    return post


def assert_mismatch(document: dict[str, Any]) -> None:
    """Assert that a problem names the header that was used with two bodies."""
    assert document["detail"] == "Idempotency-Key was used before with another body"
    assert [error["field"] for error in document["errors"]] == ["Idempotency-Key"]


def assert_problem(response: httpx2.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Assert that a response is a complete problem document. Returns it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    document: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "code", "errors", "request_id"} <= set(document)
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["detail"]
    assert document["code"] == document["code"].upper()
    if code is not None:
        assert document["code"] == code
    return document


def wrong_fields(document: dict[str, Any]) -> set[str]:
    """The names of the wrong fields in a problem."""
    return {error["field"] for error in document["errors"]}
