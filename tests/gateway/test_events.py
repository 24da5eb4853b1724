"""Task events: none is lost or repeated, however often a connection breaks."""

import asyncio
import contextlib
import itertools
import json
import random
from typing import Any

import httpx2
import pytest
from frontispiece.posts.v1 import tasks_pb2
from google.protobuf.duration_pb2 import Duration

from rpc import errors
from rpc.server import running
from rpc.settings import ServerSettings
from tests.gateway.scripted import Scripted, event, scripted, task
from tests.gateway.streams import DONE, GENERATING, LIFE, PATH, events, frames, replay


class TestFormat:
    async def test_only_stored_events_have_an_id(self, front: Scripted) -> None:
        passing = [
            event(
                0, progress=tasks_pb2.TaskProgress(step=3, total_steps=12, eta=Duration(seconds=2), queue_position=1)
            ),
            event(0, preview=tasks_pb2.TaskPreview(index=1, content_type="image/png", data=b"\x89PNG")),
        ]
        replay(front, [LIFE[0], LIFE[1], *passing, *LIFE[2:]])
        seen = await events(front.client, PATH)
        assert [block["event"] for block in seen] == [
            "queued",
            "generating",
            "progress",
            "preview",
            "image",
            "awaiting_approval",
        ]
        assert [block.get("id") for block in seen] == ["1", "2", None, None, "3", "4"]
        data = [json.loads(block["data"]) for block in seen]
        assert all({"task_id", "sequence", "time", "terminal"} <= set(one) for one in data)
        assert [one["terminal"] for one in data] == [False] * 5 + [True]
        assert data[0]["state"] == "queued"
        assert (data[2]["step"], data[2]["total_steps"], data[2]["fraction"]) == (3, 12, 0.25)
        assert (data[2]["eta_seconds"], data[2]["queue_position"]) == (2.0, 1)
        assert data[3]["data"] == "iVBORw=="
        assert data[4]["image"]["image_source"] == "sdxl-local"

    async def test_a_silent_stream_sends_comments(self, front: Scripted) -> None:
        go_on = asyncio.Event()

        async def watch(request: Any) -> Any:
            yield LIFE[0]
            await go_on.wait()
            yield LIFE[3]

        replay(front)
        front.scripts.on("WatchTask", watch)
        comments = 0
        async for block in frames(front.client, PATH):
            comments += "" in block
            if comments == 3:
                go_on.set()
        assert comments >= 3
        assert len(front.scripts.sent("WatchTask")) == 1  # silence alone does not ask again

    async def test_headers_disable_caching_and_buffering(self, front: Scripted) -> None:
        replay(front)
        async with front.client.stream("GET", PATH) as response:
            assert response.headers["cache-control"] == "no-store, no-transform"
            assert response.headers["x-accel-buffering"] == "no"

    async def test_head_returns_at_once(self, front: Scripted) -> None:
        replay(front)
        response = await front.client.head(PATH)
        assert response.status_code == 200
        assert front.scripts.sent("WatchTask") == []


class TestResuming:
    async def test_a_client_resumes_after_its_last_event(self, editor: httpx2.AsyncClient) -> None:
        body = {"prompt": "a door", "num_inference_steps": 6, "candidate_count": 2}
        task_id = (await editor.post("/api/tasks", json=body)).json()["id"]
        path = f"/api/tasks/{task_id}/events"
        whole = [block for block in await events(editor, path) if "id" in block]
        assert [int(block["id"]) for block in whole] == list(range(1, len(whole) + 1))
        for cut in range(len(whole) + 1):
            for resume in ({"Last-Event-ID": str(cut)}, {}):
                address = path if resume else f"{path}?after={cut}"
                assert [b for b in await events(editor, address, **resume) if "id" in b] == whole[cut:]

    async def test_random_disconnects_lose_and_repeat_no_event(self, editor: httpx2.AsyncClient) -> None:
        dice = random.Random(7)
        body = {"prompt": "a door", "num_inference_steps": 12, "candidate_count": 2}
        task_id = (await editor.post("/api/tasks", json=body)).json()["id"]
        path = f"/api/tasks/{task_id}/events"
        seen: list[int] = []
        done = False
        while not done:
            patience = dice.randrange(1, 12)
            stream = frames(editor, path, **{"Last-Event-ID": str(seen[-1] if seen else 0)})
            async with contextlib.aclosing(stream):  # type: ignore[type-var]
                async for block in stream:
                    if "id" in block:
                        seen.append(int(block["id"]))
                    done = done or ("data" in block and json.loads(block["data"])["terminal"])
                    patience -= 1
                    if patience == 0:
                        break
        assert seen == list(range(1, len(seen) + 1))
        assert seen == [int(block["id"]) for block in await events(editor, path) if "id" in block]

    @pytest.mark.parametrize(
        "failure",
        [
            errors.Unavailable("draining"),
            errors.Internal("oops"),
            errors.Unknown("reset"),
            errors.Cancelled("stop"),
            None,
        ],
        ids=lambda failure: type(failure).__name__,
    )
    async def test_a_failed_call_is_resumed(self, front: Scripted, failure: Exception | None) -> None:
        replay(front)
        asked: list[int] = []

        async def watch(request: Any) -> Any:
            asked.append(request.after_sequence)
            for one in LIFE[request.after_sequence : request.after_sequence + 1]:
                yield one
            if request.after_sequence < 3 and failure is not None:
                raise failure

        front.scripts.on("WatchTask", watch)
        seen = await events(front.client, PATH)
        assert [block["id"] for block in seen] == ["1", "2", "3", "4"]
        assert sorted(set(asked)) == [0, 1, 2, 3]

    async def test_repeated_events_are_sent_once(self, front: Scripted) -> None:
        replay(front)

        async def watch(request: Any) -> Any:
            for one in [LIFE[0], LIFE[1], LIFE[0], LIFE[1], *LIFE[2:]]:
                yield one

        front.scripts.on("WatchTask", watch)
        assert [block["id"] for block in await events(front.client, PATH)] == ["1", "2", "3", "4"]

    async def test_a_killed_service_is_resumed_on_its_successor(self) -> None:
        """The connection itself breaks, and another server takes the port's place."""
        async with scripted(keepalive_seconds=0.2) as front:
            replay(front)
            first = asyncio.Event()

            async def watch(request: Any) -> Any:
                if request.after_sequence == 0:
                    yield LIFE[0]
                    first.set()
                    await asyncio.Event().wait()
                for one in LIFE[request.after_sequence :]:
                    yield one

            front.scripts.on("WatchTask", watch)
            reading = asyncio.create_task(events(front.client, PATH))
            await first.wait()
            await front.leaf.server.stop(None)
            async with running(front.scripts.services(), ServerSettings(listen=front.leaf.address)):
                seen = await asyncio.wait_for(reading, 30)
            assert [block["id"] for block in seen] == ["1", "2", "3", "4"]

    async def test_a_task_at_rest_without_new_events_is_204_which_ends_the_reconnecting_of_clients(
        self, front: Scripted
    ) -> None:
        resting = tasks_pb2.GetTaskResponse(task=task(DONE, last_sequence=4))
        front.scripts.on("GetTask", lambda _: resting)
        response = await front.client.get(PATH, headers={"Last-Event-ID": "4"})
        assert (response.status_code, response.content) == (204, b"")
        assert front.scripts.sent("WatchTask") == []

    async def test_a_watch_that_ends_silently_ends_the_stream_when_the_task_is_terminal(self, front: Scripted) -> None:
        states = itertools.chain([task(GENERATING, last_sequence=2)], itertools.repeat(task(DONE, last_sequence=2)))
        front.scripts.on("GetTask", lambda _: tasks_pb2.GetTaskResponse(task=next(states)))

        async def watch(request: Any) -> Any:
            return
            yield

        front.scripts.on("WatchTask", watch)
        assert await events(front.client, PATH, **{"Last-Event-ID": "2"}) == []
