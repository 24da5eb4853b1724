"""Event streams: refusals, limits, disconnects and shutdown."""

import asyncio
import socket
import time
from typing import Any

import httpx2
import pytest
from frontispiece.posts.v1 import tasks_pb2

from rpc import errors
from tests.gateway.conftest import assert_problem, wrong_fields
from tests.gateway.scripted import EDITOR, Scripted, event, scripted
from tests.gateway.streams import LIFE, PATH, events, forever, frames, replay, until


class TestRefusal:
    async def test_an_unknown_task_is_404(self, editor: httpx2.AsyncClient) -> None:
        for task_id in ("00000000-0000-4000-8000-000000000000", "nonsense", "%2e%2e"):
            assert_problem(await editor.get(f"/api/tasks/{task_id}/events"), 404)

    @pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 25, "٣"])
    async def test_an_invalid_sequence_is_422(self, front: Scripted, value: str) -> None:
        replay(front)
        response = await front.client.get(PATH, params={"after": value})
        assert wrong_fields(assert_problem(response, 422)) == {"after"}
        response = await front.client.get(PATH, headers={"last-event-id": value.encode()})
        assert_problem(response, 422)

    async def test_a_permanent_failure_ends_the_stream(self, front: Scripted) -> None:
        replay(front)

        async def watch(request: Any) -> Any:
            yield LIFE[0]
            raise errors.NotFound("deleted meanwhile")

        front.scripts.on("WatchTask", watch)
        with pytest.raises(httpx2.RemoteProtocolError):
            await events(front.client, PATH)

    async def test_streams_above_the_limit_are_429(self) -> None:
        async with scripted(max_event_streams=2) as front:
            forever(front)
            async with front.client.stream("GET", PATH), front.client.stream("GET", PATH):
                response = await front.client.get(PATH)
                assert_problem(response, 429, "TOO_MANY_STREAMS")
                assert response.headers["retry-after"]
            await until(lambda: front.context.open_event_streams == 0)
            async with front.client.stream("GET", PATH) as stream:
                assert stream.status_code == 200


class TestLeaving:
    async def test_a_disconnect_ends_the_watch(self, front: Scripted) -> None:
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

    async def test_shutdown_ends_open_streams_cleanly(self) -> None:
        async with scripted() as front:
            ended = forever(front)

            got: list[dict[str, str]] = []

            async def read_to_the_end() -> int:
                number = 0
                async for frame in frames(front.client, PATH):
                    if "data" in frame:
                        got.append(frame)
                        number += 1
                return number

            reading = [asyncio.create_task(read_to_the_end()) for _ in range(5)]
            await until(lambda: len(got) == 5)
            began = time.monotonic()
            front.http.stop()
            await asyncio.wait_for(front.serving, 5)
            assert await asyncio.gather(*reading) == [1] * 5  # each ends orderly: no broken connection
            assert time.monotonic() - began < 5
            await asyncio.wait_for(ended.wait(), 10)
