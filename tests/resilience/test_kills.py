"""kill -9 of every process while tasks run: every acknowledged task ends, and nothing happens twice."""

import asyncio
import hashlib
import signal
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.stack import Stack, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TASKS = 10
VICTIMS = ("generator", "worker", "posts", "postgres", "storage", "gateway")
TERMINAL_STATES = {"awaiting_approval", "approved", "rejected", "cancelled", "failed"}


class Editor:
    """A client that repeats each call, with the same key, until it gets a response."""

    def __init__(self, stack: Stack) -> None:
        self._client = httpx2.AsyncClient(base_url=stack.base_url, headers=stack.authorization, timeout=30)

    async def __aenter__(self) -> "Editor":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def request(self, method: str, path: str, **keywords: Any) -> httpx2.Response:
        async with asyncio.timeout(240):
            while True:
                try:
                    response = await self._client.request(method, path, **keywords)
                except httpx2.TransportError:
                    await asyncio.sleep(0.2)
                    continue
                if response.status_code not in (429, 502, 503, 504):
                    return response
                await asyncio.sleep(0.2)

    async def create(self, number: int) -> str:
        response = await self.request(
            "POST",
            "/api/tasks",
            json={"prompt": f"picture {number}", "use_generation": True, "num_inference_steps": 20, "seed": number},
            headers={"Idempotency-Key": f"kill-{number}-{uuid.uuid4()}"},
        )
        assert response.status_code in (200, 201, 202), response.text
        task_id: str = response.json()["id"]
        return task_id

    async def finished(self, task_id: str) -> dict[str, Any]:
        """The task in its terminal state."""
        async with asyncio.timeout(400):  # generous: it may share the machine
            while True:
                task: dict[str, Any] = (await self.request("GET", f"/api/tasks/{task_id}")).json()
                if task["state"] in TERMINAL_STATES:
                    return task
                await asyncio.sleep(0.2)


async def _query(stack: Stack, statement: str) -> list[asyncpg.Record]:
    folder = stack.data / "postgres"
    port = int((folder / "data" / "postmaster.pid").read_text().split("\n")[3])
    connection = await asyncpg.connect(
        host="127.0.0.1",
        port=port,
        user="frontispiece",
        password=(folder / "password").read_text(),
        database="frontispiece",
    )
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def test_every_acknowledged_task_ends_once(tmp_path: Path) -> None:
    with running(tmp_path / "var") as stack:
        async with Editor(stack) as editor:

            async def kill_one_after_another() -> None:
                for victim in VICTIMS:
                    await asyncio.sleep(1.5)
                    stack.kill(victim)

            killing = asyncio.create_task(kill_one_after_another())
            acknowledged = await asyncio.gather(*(editor.create(number) for number in range(TASKS)))
            await killing
            tasks = await asyncio.gather(*(editor.finished(task_id) for task_id in acknowledged))
            assert {task["state"] for task in tasks} == {"awaiting_approval"}, tasks
            for task in tasks:
                image = task["images"][0]
                response = await editor.request("GET", image["url"], follow_redirects=True)
                assert response.status_code == 200
                assert hashlib.sha256(response.content).hexdigest() == image["sha256"]
            for task in tasks:
                response = await editor.request("POST", f"/api/tasks/{task['id']}/approve", json={"title": "Kept"})
                assert response.is_success, response.text

        counts = await _query(
            stack,
            """SELECT (SELECT count(*) FROM content_tasks) AS tasks, (SELECT count(*) FROM posts) AS posts,
                      (SELECT count(DISTINCT task_id) FROM posts) AS posted_tasks,
                      (SELECT count(*) FROM task_images) AS images,
                      (SELECT sum(attempt_count) FROM content_tasks) AS attempts""",
        )
        print("after the kills:", dict(counts[0]))
        row = counts[0]
        assert (row["tasks"], row["posts"], row["posted_tasks"], row["images"]) == (TASKS, TASKS, TASKS, TASKS)
        incomplete = await _query(
            stack,
            """SELECT id FROM posts WHERE featured_image_url IS NULL OR author_id IS NULL OR category_id IS NULL
               OR created_by IS NULL OR updated_by IS NULL""",
        )
        assert incomplete == []


async def test_next_start_has_everything_after_an_orderly_stop(tmp_path: Path) -> None:
    unfinished: list[str] = []
    titles: list[str] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with running(tmp_path / "var") as stack:
            async with Editor(stack) as editor:
                await _check_kept(editor, unfinished, titles)
                finished = await editor.finished(await editor.create(1))
                titles.insert(0, f"Kept at {number.name}")
                path = f"/api/tasks/{finished['id']}/approve"
                assert (await editor.request("POST", path, json={"title": titles[0]})).is_success
                unfinished = [await editor.create(number_of_task) for number_of_task in range(2, 6)]
            names = ("generator", "storage", "posts", "worker", "gateway")
            pids = [stack.process_id(name) for name in names] + [stack.postgres_process_id()]
            assert stack.stop(number) == 0
            assert stack.stop_seconds < 10
            assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    with running(tmp_path / "var") as stack:
        async with Editor(stack) as editor:
            await _check_kept(editor, unfinished, titles)


async def _check_kept(editor: Editor, unfinished: list[str], titles: list[str]) -> None:
    """The tasks that a stop interrupted are finished, and all posts are there with their images."""
    for task_id in unfinished:
        assert (await editor.finished(task_id))["state"] == "awaiting_approval"
    listed = (await editor.request("GET", "/api/posts")).json()["posts"]
    assert [post["title"] for post in listed] == titles
    for post in listed:
        assert (await editor.request("GET", httpx2.URL(post["featured_image_url"]).path)).status_code == 200
