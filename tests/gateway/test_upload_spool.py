"""Uploads are collected in temporary files, whose size is limited: as they are, as forms, and of unknown size."""

import asyncio
import io
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.spool import Spool
from rpc import errors
from tests.gateway.conftest import assert_mismatch, assert_problem
from tests.gateway.scripted import EDITOR, Scripted, scripted
from tests.gateway.streams import until
from tests.gateway.test_upload_streams import STORED
from tests.gateway.test_uploads import PATH, PNG, encoded, pixels, upload

MIB = 1024 * 1024
LIMIT = 32 * MIB


async def in_pieces(data: bytes, size: int = 5000) -> AsyncIterator[bytes]:
    """The bytes without their total."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def form(client: httpx2.AsyncClient, files: Any, **keywords: Any) -> httpx2.Response:
    return await client.post(PATH, files=files, **keywords)


def collecting(front: Scripted) -> list[Any]:
    """What storage receives of each upload: its header and its bytes."""
    received: list[Any] = []

    async def store(parts: Any) -> Any:
        header, data = None, b""
        async for part in parts:
            header, data = header or part.header, data + part.chunk
        received.append((header, data))
        return STORED

    front.scripts.on("StoreImage", store)
    return received


class TestForms:
    @pytest.mark.parametrize("name", ["file", "image", "upload[0]"])
    async def test_the_only_file_of_a_form_is_stored(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient, name: str
    ) -> None:
        data = encoded()
        response = await form(editor, {name: ("é.png", data, "image/x-whatever")}, data={"caption": "ignored"})
        assert response.status_code == 201, response.text
        assert pixels((await reader.get(response.headers["location"])).content) == pixels(data)

    async def test_the_same_key_and_bytes_are_one_image_however_they_are_sent(self, editor: httpx2.AsyncClient) -> None:
        key, data = {"idempotency-key": str(uuid.uuid4())}, encoded()
        answers = [
            await form(editor, {"file": data}, headers=key),
            await upload(editor, data, **key),
            await upload(editor, in_pieces(data), **key),
        ]
        assert [answer.json() for answer in answers] == [answers[0].json()] * 3
        assert_mismatch(assert_problem(await form(editor, {"file": encoded()}, headers=key), 422))

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ([("caption", (None, "text"))], "must have one file, has none"),
            ([("a", ("a.png", encoded())), ("b", ("b.png", encoded()))], "must have one file, has 2"),
        ],
        ids=["none", "two"],
    )
    async def test_a_form_without_exactly_one_file_is_422(
        self, editor: httpx2.AsyncClient, parts: Any, message: str
    ) -> None:
        document = assert_problem(await form(editor, parts), 422, "INVALID_ARGUMENT")
        assert document["errors"] == [{"field": "", "message": message}]

    @pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
    async def test_a_body_that_is_no_form_is_400(self, editor: httpx2.AsyncClient, kind: str) -> None:
        assert_problem(await upload(editor, encoded(), kind), 400, "MALFORMED_FORM")

    async def test_a_file_that_is_no_image_or_empty_is_422(self, editor: httpx2.AsyncClient) -> None:
        for data in (b"no picture", b""):
            assert_problem(await form(editor, {"file": ("x.png", data)}), 422, "IMAGE_INVALID")

    async def test_a_file_just_below_the_limit_is_stored_and_one_above_is_413(self, front: Scripted) -> None:
        received = collecting(front)
        assert (await form(front.client, {"file": bytes(LIMIT)})).status_code == 201
        assert received[0][0].size_bytes == len(received[0][1]) == LIMIT
        for size in (LIMIT + 1, LIMIT + 5 * MIB):
            document = assert_problem(await form(front.client, {"file": bytes(size)}), 413, "BODY_TOO_LARGE")
        assert str(LIMIT) in document["detail"] or "at most" in document["detail"]
        assert len(received) == 1


class TestUnknownSize:
    async def test_a_body_in_chunks_is_stored_with_its_size(self, front: Scripted) -> None:
        received, data = collecting(front), os.urandom(3 * MIB)
        response = await front.client.post(PATH, content=in_pieces(data, 100_000), headers=PNG)
        assert response.status_code == 201, response.text
        (header, bytes_), *_ = received
        assert (header.size_bytes, bytes_) == (len(data), data)

    async def test_a_body_above_the_limit_is_413_and_nothing_reaches_storage(self, front: Scripted) -> None:
        received = collecting(front)
        response = await front.client.post(PATH, content=in_pieces(bytes(LIMIT + 1), MIB), headers=PNG)
        assert str(LIMIT) in assert_problem(response, 413, "BODY_TOO_LARGE")["detail"]
        assert received == []

    async def test_an_empty_body_is_refused(self, editor: httpx2.AsyncClient) -> None:
        assert_problem(await upload(editor, in_pieces(b"")), 422, "IMAGE_INVALID")

    async def test_a_full_spool_is_503_until_there_is_room(self) -> None:
        async with scripted(spool_bytes=2 * MIB) as front:
            received, waiting = collecting(front), asyncio.Event()

            async def slow() -> AsyncIterator[bytes]:
                yield bytes(MIB + MIB // 2)
                await waiting.wait()

            first = asyncio.create_task(front.client.post(PATH, content=slow(), headers=PNG))
            await until(lambda: front.context.spool.used > MIB)
            response = await front.client.post(PATH, content=in_pieces(bytes(MIB)), headers=PNG)
            assert_problem(response, 503, "UPLOADS_BUSY")
            assert response.headers["retry-after"]
            assert_problem(await upload(front.client, bytes(MIB)), 503, "UPLOADS_BUSY")
            waiting.set()
            assert (await first).status_code == 201
            assert (await upload(front.client, bytes(MIB))).status_code == 201
            assert front.context.spool.used == 0
            assert len(received) == 2

    async def test_dripping_uploads_hold_little(self) -> None:
        """Eight that announced nothing and send a byte now and then leave room for a whole image."""
        async with scripted(spool_bytes=40 * MIB) as front:
            collecting(front)
            waiting = asyncio.Event()

            async def drip() -> AsyncIterator[bytes]:
                yield b"x"
                await waiting.wait()

            drips = [asyncio.create_task(front.client.post(PATH, content=drip(), headers=PNG)) for _ in range(8)]
            await until(lambda: front.context.spool.used >= 4 * MIB)
            assert (await form(front.client, {"file": bytes(LIMIT)})).status_code == 201
            waiting.set()
            assert {(await one).status_code for one in drips} == {201}

    async def test_a_disk_without_room_is_507(self, front: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
        collecting(front)
        monkeypatch.setattr("gateway.routes.uploads.temporary_file", lambda: io.FileIO("/dev/full", "r+"))
        assert_problem(await upload(front.client, bytes(MIB)), 507, "DISK_FULL")

    async def test_a_disconnect_gives_the_space_back(self, front: Scripted) -> None:
        async def endless() -> AsyncIterator[bytes]:
            yield bytes(MIB)
            await asyncio.Event().wait()

        sending = asyncio.create_task(front.client.post(PATH, content=endless(), headers={**EDITOR, **PNG}))
        await until(lambda: front.context.spool.used > 0)
        sending.cancel()
        await until(lambda: front.context.spool.used == 0)


def test_a_share_counts_its_bytes_and_gives_them_back() -> None:
    spool = Spool(2 * MIB)
    with spool.share() as share:
        assert spool.used == 512 * 1024
        share.add(MIB)
        assert spool.used == MIB
        with pytest.raises(errors.Unavailable):
            share.add(2 * MIB)
        assert spool.used == MIB
    assert spool.used == 0
