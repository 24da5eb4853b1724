"""A task's events: nothing missed, nothing repeated, however often the line breaks."""

import asyncio
import contextlib
import itertools
import json
import random
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from frontispiece.posts.v1 import tasks_pb2
from google.protobuf.duration_pb2 import Duration

from rpc import errors
from rpc.server import running
from rpc.settings import ServerSettings
from tests.gateway.conftest import assert_problem, wrong_fields
from tests.gateway.scripted import EDITOR, TASK_ID, Scripted, event, scripted, task, task_image

PATH = f"/api/tasks/{TASK_ID}/events"
QUEUED, GENERATING = tasks_pb2.TASK_STATE_QUEUED, tasks_pb2.TASK_STATE_GENERATING
DONE = tasks_pb2.TASK_STATE_AWAITING_APPROVAL
LIFE = [
    event(1, QUEUED),
    event(2, GENERATING),
    event(3, image=task_image(index=0)),
    event(4, DONE, terminal=True),
]


async def frames(client: httpx2.AsyncClient, path: str, **headers: str) -> AsyncIterator[dict[str, str]]:
    """The blocks of an event stream; comments have the key ""."""
    async with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        block: dict[str, str] = {}
        async for line in response.aiter_lines():
            if line:
                name, _, value = line.partition(":")
                block[name] = value.removeprefix(" ")
            elif block:
                yield block
                block = {}


async def events(client: httpx2.AsyncClient, path: str, **headers: str) -> list[dict[str, str]]:
    return [block async for block in frames(client, path, **headers) if "data" in block]


def replay(front: Scripted, life: list[Any] = LIFE) -> None:
    """Posts that answers what is stored after the sequence asked for."""

    async def watch(request: Any) -> Any:
        for one in life:
            if one.event.sequence == 0 or one.event.sequence > request.after_sequence:
                yield one

    front.scripts.on("GetTask", lambda _: tasks_pb2.GetTaskResponse(task=task(last_sequence=len(life))))
    front.scripts.on("WatchTask", watch)


class TestFormat:
    async def test_stored_events_have_an_id_and_others_have_none(self, front: Scripted) -> None:
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

    async def test_silence_is_broken_by_comments(self, front: Scripted) -> None:
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

    async def test_proxies_are_told_not_to_keep_it(self, front: Scripted) -> None:
        replay(front)
        async with front.client.stream("GET", PATH) as response:
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["x-accel-buffering"] == "no"

    async def test_head_does_not_wait(self, front: Scripted) -> None:
        replay(front)
        response = await front.client.head(PATH)
        assert response.status_code == 200
        assert front.scripts.sent("WatchTask") == []


class TestResuming:
    async def test_a_client_goes_on_where_it_stopped(self, editor: httpx2.AsyncClient) -> None:
        body = {"prompt": "a door", "num_inference_steps": 6, "candidate_count": 2}
        task_id = (await editor.post("/api/tasks", json=body)).json()["id"]
        path = f"/api/tasks/{task_id}/events"
        whole = [block for block in await events(editor, path) if "id" in block]
        assert [int(block["id"]) for block in whole] == list(range(1, len(whole) + 1))
        for cut in range(len(whole) + 1):
            for resume in ({"Last-Event-ID": str(cut)}, {}):
                address = path if resume else f"{path}?after={cut}"
                assert [b for b in await events(editor, address, **resume) if "id" in b] == whole[cut:]

    async def test_cut_at_random_while_it_happens(self, editor: httpx2.AsyncClient) -> None:
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
    async def test_a_service_that_breaks_off_is_not_noticed(self, front: Scripted, failure: Exception | None) -> None:
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

    async def test_what_comes_twice_is_sent_once(self, front: Scripted) -> None:
        replay(front)

        async def watch(request: Any) -> Any:
            for one in [LIFE[0], LIFE[1], LIFE[0], LIFE[1], *LIFE[2:]]:
                yield one

        front.scripts.on("WatchTask", watch)
        assert [block["id"] for block in await events(front.client, PATH)] == ["1", "2", "3", "4"]

    async def test_a_service_that_was_killed_is_not_noticed(self) -> None:
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

    async def test_a_task_at_rest_has_nothing_more_to_say(self, front: Scripted) -> None:
        resting = tasks_pb2.GetTaskResponse(task=task(DONE, last_sequence=4))
        front.scripts.on("GetTask", lambda _: resting)
        assert await events(front.client, PATH, **{"Last-Event-ID": "4"}) == []
        assert front.scripts.sent("WatchTask") == []

    async def test_a_watch_that_ends_without_a_word_ends_when_the_task_rests(self, front: Scripted) -> None:
        states = itertools.chain([task(GENERATING, last_sequence=2)], itertools.repeat(task(DONE, last_sequence=2)))
        front.scripts.on("GetTask", lambda _: tasks_pb2.GetTaskResponse(task=next(states)))

        async def watch(request: Any) -> Any:
            return
            yield

        front.scripts.on("WatchTask", watch)
        assert await events(front.client, PATH, **{"Last-Event-ID": "2"}) == []


class TestRefusal:
    async def test_an_unknown_task(self, editor: httpx2.AsyncClient) -> None:
        for task_id in ("00000000-0000-4000-8000-000000000000", "nonsense", "%2e%2e"):
            assert_problem(await editor.get(f"/api/tasks/{task_id}/events"), 404)

    @pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 25, "٣"])
    async def test_what_is_no_sequence(self, front: Scripted, value: str) -> None:
        replay(front)
        response = await front.client.get(PATH, params={"after": value})
        assert wrong_fields(assert_problem(response, 422)) == {"after"}
        response = await front.client.get(PATH, headers={"last-event-id": value.encode()})
        assert_problem(response, 422)

    async def test_a_failure_that_will_not_mend_ends_the_stream(self, front: Scripted) -> None:
        replay(front)

        async def watch(request: Any) -> Any:
            yield LIFE[0]
            raise errors.NotFound("deleted meanwhile")

        front.scripts.on("WatchTask", watch)
        with pytest.raises(httpx2.RemoteProtocolError):
            await events(front.client, PATH)

    async def test_too_many_at_once(self) -> None:
        async with scripted(max_event_streams=2) as front:
            forever(front)
            async with front.client.stream("GET", PATH), front.client.stream("GET", PATH):
                response = await front.client.get(PATH)
                assert_problem(response, 429, "TOO_MANY_STREAMS")
                assert response.headers["retry-after"]
            await until(lambda: front.context.open_event_streams == 0)
            async with front.client.stream("GET", PATH) as stream:
                assert stream.status_code == 200


def forever(front: Scripted) -> asyncio.Event:
    """A task at which nothing happens; the event is set when its watch ends."""
    ended = asyncio.Event()

    async def watch(request: Any) -> Any:
        try:
            yield LIFE[0]
            await asyncio.Event().wait()
        finally:
            ended.set()

    replay(front)
    front.scripts.on("WatchTask", watch)
    return ended


async def until(condition: Any, seconds: float = 20) -> None:
    """Wait until something that has no event of its own is so."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never became so"
        await asyncio.sleep(0.02)


class TestLeaving:
    async def test_a_client_that_goes_frees_the_watch(self, front: Scripted) -> None:
        ended = forever(front)
        async with front.client.stream("GET", PATH) as response:
            assert response.status_code == 200
            await until(lambda: front.scripts.sent("WatchTask"))
            assert front.context.open_event_streams == 1
        await asyncio.wait_for(ended.wait(), 10)
        await until(lambda: front.context.open_event_streams == 0)

    async def test_a_client_that_reads_nothing_is_dropped(self) -> None:
        async with scripted(stalled_seconds=1) as front:
            blob = tasks_pb2.TaskPreview(index=0, content_type="image/png", data=b"x" * 512 * 1024)
            ended = asyncio.Event()

            async def watch(request: Any) -> Any:
                try:
                    while True:
                        yield event(0, preview=blob)
                finally:
                    ended.set()

            replay(front)
            front.scripts.on("WatchTask", watch)
            host, port = front.base_url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as deaf:
                authorization = EDITOR["authorization"]
                deaf.sendall(f"GET {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\n\r\n".encode())
                await until(lambda: front.context.open_event_streams == 1)
                await asyncio.wait_for(ended.wait(), 60)
                await until(lambda: front.context.open_event_streams == 0)

    async def test_stopping_ends_open_streams_at_once(self) -> None:
        async with scripted() as front:
            ended = forever(front)

            async def read_to_the_end() -> int:
                return len(await events(front.client, PATH))

            reading = [asyncio.create_task(read_to_the_end()) for _ in range(5)]
            await until(lambda: front.context.open_event_streams == 5)
            began = time.monotonic()
            front.http.stop()
            await asyncio.wait_for(front.serving, 5)
            assert await asyncio.gather(*reading) == [1] * 5  # each whole and orderly: no broken connection
            assert time.monotonic() - began < 5
            await asyncio.wait_for(ended.wait(), 10)
