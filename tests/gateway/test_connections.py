"""Connections with invalid, large or slow requests."""

import asyncio
import contextlib
import json
import re

import pytest

from gateway.serving.protocol import MAX_HEAD_BYTES
from tests.gateway.scripted import EDITOR, Scripted, scripted

HEAD = "POST /api/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
AUTHORIZED = HEAD + f"authorization: {EDITOR['authorization']}\r\n"


async def connect(front: Scripted) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = front.base_url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def exchange(front: Scripted, *pieces: bytes) -> bytes:
    """Send each piece, and read until the other side closes."""
    reader, writer = await connect(front)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


def problem(answer: bytes) -> tuple[int, str]:
    """Status and code of the problem that an answer is."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return int(head.split()[1]), json.loads(body)["code"]


class TestHeads:
    @pytest.mark.parametrize(
        "junk", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"]
    )
    async def test_bytes_that_are_not_http_are_a_problem(self, front: Scripted, junk: bytes) -> None:
        assert problem(await exchange(front, junk)) == (400, "MALFORMED_REQUEST")

    async def test_headers_at_the_limit_are_accepted(self, front: Scripted) -> None:
        response = await front.client.get("/healthz", headers={"x-padding": "x" * (MAX_HEAD_BYTES - 1000)})
        assert response.status_code == 200

    @pytest.mark.parametrize("name", ["one large header", "many small headers", "a long address"])
    async def test_headers_above_the_limit_are_refused(self, front: Scripted, name: str) -> None:
        head = {
            "one large header": b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-padding: " + b"x" * MAX_HEAD_BYTES,
            "many small headers": b"GET /healthz HTTP/1.1\r\nhost: x" + b"\r\nx-a: bcdefgh" * 2000,
            "a long address": b"GET /healthz?" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nhost: x",
        }[name]
        assert problem(await exchange(front, head + b"\r\n\r\n")) == (431, "HEADERS_TOO_LARGE")

    async def test_headers_that_never_end_are_refused(self, front: Scripted) -> None:
        reader, writer = await connect(front)
        writer.write(b"GET /healthz HTTP/1.1\r\nx-padding: ")
        for _ in range(200):  # 800 KB, if it were allowed
            writer.write(b"x" * 4096)
            await asyncio.sleep(0)
            if reader.at_eof() or writer.is_closing():
                break
            try:
                await writer.drain()
            except ConnectionError:
                break
        else:
            assert problem(await reader.read()) == (431, "HEADERS_TOO_LARGE")
        writer.close()

    async def test_a_request_sent_byte_by_byte_is_served(self, front: Scripted) -> None:
        request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        answer = await exchange(front, *(bytes([byte]) for byte in request))
        assert answer.startswith(b"HTTP/1.1 200")

    async def test_incomplete_requests_are_dropped_after_their_time(self) -> None:
        async with scripted(client_seconds=0.5) as front:
            connections = [await connect(front) for _ in range(200)]
            for _, writer in connections[:100]:
                writer.write(b"GET /healthz HTTP/1.1\r\nhost:")
            for reader, writer in connections:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 30) == b""
                writer.close()
            assert (await front.client.get("/healthz")).status_code == 200


class TestBodies:
    async def test_a_body_that_stops_arriving_is_408(self) -> None:
        async with scripted(client_seconds=0.5) as front:
            answer = await exchange(front, (AUTHORIZED + "content-length: 100\r\n\r\n{").encode())
            assert problem(answer) == (408, "BODY_TOO_SLOW")

    async def test_the_body_of_an_unauthenticated_request_is_not_awaited(self) -> None:
        async with scripted(client_seconds=20) as front:
            reader, writer = await connect(front)
            writer.write((HEAD + "content-length: 100\r\n\r\n").encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 401")
            writer.close()


class TestOneAfterTheOther:
    async def test_pipelined_requests_do_not_share_a_principal(self, front: Scripted) -> None:
        mine = f"GET /api/capabilities HTTP/1.1\r\nhost: x\r\nauthorization: {EDITOR['authorization']}\r\n\r\n"
        theirs = "GET /api/capabilities HTTP/1.1\r\nhost: x\r\n\r\n"
        last = theirs.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")
        answer = await exchange(front, (mine + theirs + mine + last).encode())
        statuses = re.findall(rb"HTTP/1.1 (\d+)", answer)
        assert statuses == [b"501", b"401", b"501", b"401"]
