"""Pictures that editors bring along: every kind, what is none, twice, slowly, and while storage refuses."""

import asyncio
import hashlib
import io
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from frontispiece.storage.v1 import images_pb2
from PIL import Image

from rpc import errors
from tests.gateway.conftest import assert_mismatch, assert_problem, publish
from tests.gateway.scripted import EDITOR, Scripted, scripted, stored_image

PATH = "/api/media/images"
PNG = {"content-type": "image/png"}


def encoded(kind: str = "PNG", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """A picture that no other test has."""
    file = io.BytesIO()
    Image.frombytes("RGB", size, os.urandom(3 * size[0] * size[1])).save(file, kind, **options)
    return file.getvalue()


async def upload(client: httpx2.AsyncClient, data: Any, kind: str = "image/png", **headers: str) -> httpx2.Response:
    return await client.post(PATH, content=data, headers={"content-type": kind, **headers})


class TestUpload:
    @pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
    async def test_a_picture_of_each_kind(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient, kind: str
    ) -> None:
        data = encoded(kind.upper())
        response = await upload(editor, data, f"image/{kind}")
        assert response.status_code == 201, response.text
        image = response.json()
        assert (image["width"], image["height"], image["size_bytes"]) == (64, 48, len(data))
        assert (image["content_type"], image["sha256"]) == (f"image/{kind}", hashlib.sha256(data).hexdigest())
        assert image["thumbhash"]
        assert response.headers["location"] == f"/media/{image['key']}" == urlsplit(image["url"]).path
        read = await reader.get(response.headers["location"])
        assert (read.content, read.headers["content-type"]) == (data, f"image/{kind}")

    async def test_what_the_bytes_are_counts_not_what_the_request_says(self, editor: httpx2.AsyncClient) -> None:
        assert (await upload(editor, encoded("JPEG"), "image/png")).json()["content_type"] == "image/jpeg"

    async def test_about_the_largest_picture(self, editor: httpx2.AsyncClient) -> None:
        data = encoded(size=(3340, 3345), compress_level=0)
        assert 31.9 < len(data) / 1024**2 <= 32
        assert (await upload(editor, data)).json()["size_bytes"] == len(data)

    async def test_the_same_key_and_bytes_are_the_same_image(self, editor: httpx2.AsyncClient) -> None:
        key, data = str(uuid.uuid4()), encoded()
        answers = [await upload(editor, data, **{"idempotency-key": key}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        again = await upload(editor, data, **{"idempotency-key": str(uuid.uuid4())})
        fresh = [await upload(editor, data) for _ in range(2)]
        assert len({answer.json()["key"] for answer in (answers[0], again, *fresh)}) == 4

    async def test_the_same_key_with_another_picture_is_refused(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        key, data = {"idempotency-key": str(uuid.uuid4())}, encoded()
        first = await upload(editor, data, **key)
        for kind in ("PNG", "JPEG"):
            response = await upload(editor, encoded(kind), f"image/{kind.lower()}", **key)
            assert_mismatch(assert_problem(response, 422, "IDEMPOTENCY_MISMATCH"))
        assert (await upload(editor, data, **key)).json() == first.json()
        assert (await reader.get(first.headers["location"])).content == data

    async def test_it_can_be_the_picture_of_a_post(self, editor: httpx2.AsyncClient) -> None:
        image = (await upload(editor, encoded())).json()
        shelf = await publish(editor)
        body = {"title": "By hand", "author_id": shelf["author"]["id"], "category_id": shelf["category"]["id"]}
        response = await editor.post("/api/posts", json={**body, "featured_image_key": image["key"], "publish": True})
        assert response.status_code == 201, response.text
        post = response.json()
        assert post["featured_image_url"] == image["url"]
        assert post["featured_image"]["image_source"] == "upload"
        page = (await editor.get(f"/posts/{post['slug']}")).text
        assert "<figcaption>" not in page  # nobody painted it


class TestRefused:
    async def test_only_editors_may(self, reader: httpx2.AsyncClient) -> None:
        assert_problem(await upload(reader, encoded()), 401, "UNAUTHENTICATED")

    @pytest.mark.parametrize("kind", ["image/gif", "image/svg+xml", "application/json", "multipart/form-data", ""])
    async def test_other_types(self, editor: httpx2.AsyncClient, kind: str) -> None:
        headers = {"content-type": kind} if kind else {}
        document = assert_problem(await editor.post(PATH, content=encoded(), headers=headers), 415)
        assert document["detail"] == "the content type must be image/png, image/jpeg, image/webp"

    async def test_images_are_taken_nowhere_else(self, editor: httpx2.AsyncClient) -> None:
        for path in ("/api/tasks", "/api/posts", "/api/media/generate-image"):
            assert_problem(await editor.post(path, content=encoded(), headers=PNG), 415)

    @pytest.mark.parametrize(
        "data",
        [
            b"no picture",
            encoded()[:-5],
            encoded() + b"more",
            encoded().replace(b"IDAT", b"IDAT!"),
            b"\x89PNG\r\n\x1a\n",
        ],
        ids=["text", "cut", "more", "damaged", "signature"],
    )
    async def test_what_is_no_picture(self, editor: httpx2.AsyncClient, data: bytes) -> None:
        document = assert_problem(await upload(editor, data), 422, "IMAGE_INVALID")
        assert [error["field"] for error in document["errors"]] == [""]
        assert "chunk:" not in document["detail"]

    async def test_nothing(self, editor: httpx2.AsyncClient) -> None:
        assert_problem(await upload(editor, b""), 422, "IMAGE_INVALID")

    async def test_too_many_pixels(self, editor: httpx2.AsyncClient) -> None:
        file = io.BytesIO()
        Image.new("1", (8193, 1)).save(file, "PNG")
        document = assert_problem(await upload(editor, file.getvalue()), 422, "IMAGE_TOO_LARGE")
        assert "8192" in document["detail"]

    async def test_too_many_bytes(self, editor: httpx2.AsyncClient) -> None:
        limit = 32 * 1024 * 1024
        document = assert_problem(await upload(editor, bytes(limit + 1)), 413, "BODY_TOO_LARGE")
        assert str(limit) in document["detail"]

    async def test_a_size_that_is_not_announced(self, editor: httpx2.AsyncClient) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield encoded()

        assert_problem(await upload(editor, pieces()), 411, "LENGTH_REQUIRED")

    async def test_no_key(self, editor: httpx2.AsyncClient) -> None:
        assert_problem(await upload(editor, encoded(), **{"idempotency-key": "two words"}), 422, "INVALID_ARGUMENT")


STORED = images_pb2.StoreImageResponse(image=images_pb2.Image(image=stored_image()))


class TestStreaming:
    async def test_bytes_go_on_before_all_of_them_came(self, front: Scripted) -> None:
        """The last piece is sent only when storage has the first: a gateway that waits for the whole would hang."""
        arrived, data = asyncio.Event(), os.urandom(700_000)
        received: list[Any] = []

        async def store(parts: Any) -> Any:
            async for part in parts:
                received.append(part)
                if len(received) == 2:
                    arrived.set()
            return STORED

        async def pieces() -> AsyncIterator[bytes]:
            yield data[:500_000]
            await asyncio.wait_for(arrived.wait(), 20)
            yield data[500_000:]

        front.scripts.on("StoreImage", store)
        headers = {**EDITOR, **PNG, "content-length": str(len(data))}
        response = await front.client.post(PATH, content=pieces(), headers=headers)
        assert response.status_code == 201, response.text
        header = received[0].header
        assert (header.size_bytes, dict(header.metadata)) == (len(data), {"source": "upload"})
        assert header.HasField("request_time")
        assert b"".join(part.chunk for part in received[1:]) == data

    async def test_a_repeatable_upload_names_no_time(self, front: Scripted) -> None:
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
    async def test_a_refusal_in_the_middle_is_told(
        self, front: Scripted, error: errors.RpcError, status: int, code: str
    ) -> None:
        async def store(parts: Any) -> Any:
            async for _ in parts:  # as storage does: it reads on for a while, so that the refusal arrives
                pass
            raise error

        front.scripts.on("StoreImage", store)
        assert_problem(await upload(front.client, os.urandom(1024 * 1024)), status, code)

    async def test_a_storage_that_ends_at_once_is_no_bug_of_ours(self, front: Scripted) -> None:
        async def store(parts: Any) -> Any:
            raise errors.Unavailable("away")

        front.scripts.on("StoreImage", store)
        response = await upload(front.client, os.urandom(8 * 1024 * 1024))
        assert_problem(response, 503)
        assert response.headers["retry-after"]

    async def test_an_editor_who_hangs_up_ends_the_call(self, front: Scripted) -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def store(parts: Any) -> Any:
            try:
                async for _ in parts:
                    began.set()
            finally:
                ended.set()
            raise errors.InvalidArgument.field("chunk", "the upload ended early")

        async def pieces() -> AsyncIterator[bytes]:
            yield bytes(1000)
            await asyncio.Event().wait()

        front.scripts.on("StoreImage", store)
        headers = {**EDITOR, **PNG, "content-length": "100000"}
        sending = asyncio.create_task(front.client.post(PATH, content=pieces(), headers=headers))
        await asyncio.wait_for(began.wait(), 20)
        sending.cancel()
        await asyncio.wait_for(ended.wait(), 20)

    async def test_a_body_that_stands_still_is_given_up(self) -> None:
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
