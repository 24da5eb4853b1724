"""Uploads and storage: storage is called when the body is complete, and its errors are returned."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from frontispiece.storage.v1 import images_pb2

from rpc import errors
from tests.gateway.conftest import assert_problem
from tests.gateway.scripted import EDITOR, Scripted, scripted, stored_image
from tests.gateway.streams import until
from tests.gateway.test_uploads import PATH, PNG, encoded, upload

STORED = images_pb2.StoreImageResponse(image=images_pb2.Image(image=stored_image()))


class TestStreaming:
    async def test_storage_is_called_when_the_body_is_complete(self, front: Scripted) -> None:
        """A client that sends slowly takes nothing of storage, and of the gateway a file."""
        data, arrived = os.urandom(700_000), asyncio.Event()
        received: list[Any] = []

        async def store(parts: Any) -> Any:
            assert arrived.is_set()
            received.extend([part async for part in parts])
            return STORED

        async def pieces() -> AsyncIterator[bytes]:
            yield data[:500_000]
            await until(lambda: front.context.spool.used > 512 * 1024 or received)
            arrived.set()
            yield data[500_000:]

        front.scripts.on("StoreImage", store)
        headers = {**EDITOR, **PNG, "content-length": str(len(data))}
        front.context.spool.used += 100_000  # so that the first piece shows
        response = await front.client.post(PATH, content=pieces(), headers=headers)
        assert response.status_code == 201, response.text
        header = received[0].header
        assert (header.size_bytes, dict(header.metadata)) == (len(data), {"source": "upload"})
        assert header.HasField("request_time")
        assert b"".join(part.chunk for part in received[1:]) == data

    async def test_an_upload_with_a_key_sends_no_time(self, front: Scripted) -> None:
        """Any gateway sends the same for the same key, whenever it is."""
        headers: list[Any] = []

        async def store(parts: Any) -> Any:
            headers.extend([part.header async for part in parts if part.HasField("header")])
            return STORED

        front.scripts.on("StoreImage", store)
        for key in ("mine", "mine", "other"):
            assert (await upload(front.client, encoded(), **{"idempotency-key": key})).status_code == 201
        assert not any(header.HasField("request_time") for header in headers)
        first, second, other = [header.request_id for header in headers]
        assert first == second != other

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (errors.InvalidArgument.field("chunk", "not a picture", reason="IMAGE_INVALID"), 422, "IMAGE_INVALID"),
            (errors.Unavailable("busy", reason="UPLOADS_BUSY", retry_after_seconds=1.0), 503, "UPLOADS_BUSY"),
            (errors.ResourceExhausted("full", reason="DISK_FULL"), 507, "DISK_FULL"),
            (errors.DeadlineExceeded("60 s are over", reason="UPLOAD_TOO_SLOW"), 408, "UPLOAD_TOO_SLOW"),
        ],
    )
    async def test_an_error_of_storage_is_returned(
        self, front: Scripted, error: errors.RpcError, status: int, code: str
    ) -> None:
        async def store(parts: Any) -> Any:
            async for _ in parts:  # as storage does: it reads on for a while, so that the refusal arrives
                pass
            raise error

        front.scripts.on("StoreImage", store)
        assert_problem(await upload(front.client, os.urandom(1024 * 1024)), status, code)

    async def test_a_call_that_storage_ends_at_once_is_503(self, front: Scripted) -> None:
        async def store(parts: Any) -> Any:
            raise errors.Unavailable("away")

        front.scripts.on("StoreImage", store)
        response = await upload(front.client, os.urandom(8 * 1024 * 1024))
        assert_problem(response, 503)
        assert response.headers["retry-after"]

    async def test_four_uploads_are_sent_at_once_and_the_others_wait(self, front: Scripted) -> None:
        """gRPC keeps what is not sent yet in memory, so the number of files that are sent is limited."""
        sending, most, go_on = 0, 0, asyncio.Event()

        async def store(parts: Any) -> Any:
            nonlocal sending, most
            sending += 1
            most = max(most, sending)
            await go_on.wait()
            async for _ in parts:
                pass
            sending -= 1
            return STORED

        front.scripts.on("StoreImage", store)
        uploads = [asyncio.create_task(upload(front.client, bytes(100_000))) for _ in range(9)]
        await until(lambda: sending == 4 and front.context.spool.used == 9 * 512 * 1024)
        go_on.set()
        assert {(await one).status_code for one in uploads} == {201}
        assert most == 4

    async def test_a_body_that_stops_arriving_is_408(self) -> None:
        async def store(parts: Any) -> Any:
            async for _ in parts:
                pass
            return STORED

        async with scripted(client_seconds=0.3) as front:
            front.scripts.on("StoreImage", store)
            address = urlsplit(front.base_url)
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            head = [f"POST {PATH} HTTP/1.1", "host: x", f"authorization: {EDITOR['authorization']}"]
            head += ["content-type: image/png", "content-length: 100000", "", ""]
            writer.write("\r\n".join(head).encode() + bytes(1000))
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"BODY_TOO_SLOW" in answer
