"""Uploads: formats, invalid images, idempotency, streaming, and errors of storage."""

import hashlib
import io
import os
import uuid
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from PIL import Image

from tests.gateway.conftest import assert_mismatch, assert_problem, publish

PATH = "/api/media/images"
PNG = {"content-type": "image/png"}


def encoded(kind: str = "PNG", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """An image of random pixels."""
    file = io.BytesIO()
    Image.frombytes("RGB", size, os.urandom(3 * size[0] * size[1])).save(file, kind, **options)
    return file.getvalue()


def pixels(data: bytes) -> bytes:
    """The decoded pixels of an image."""
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


async def upload(client: httpx2.AsyncClient, data: Any, kind: str = "image/png", **headers: str) -> httpx2.Response:
    return await client.post(PATH, content=data, headers={"content-type": kind, **headers})


class TestUpload:
    @pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
    async def test_each_format_is_stored(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient, kind: str
    ) -> None:
        data = encoded(kind.upper())
        response = await upload(editor, data, f"image/{kind}")
        assert response.status_code == 201, response.text
        image = response.json()
        assert (image["width"], image["height"], image["content_type"]) == (64, 48, f"image/{kind}")
        assert image["thumbhash"]
        assert response.headers["location"] == f"/media/{image['key']}" == urlsplit(image["url"]).path
        read = await reader.get(response.headers["location"])
        assert read.headers["content-type"] == f"image/{kind}"
        assert (image["sha256"], image["size_bytes"]) == (hashlib.sha256(read.content).hexdigest(), len(read.content))
        if kind == "png":  # the others lose a little when they are encoded again
            assert pixels(read.content) == pixels(data)

    async def test_the_content_type_is_that_of_the_bytes(self, editor: httpx2.AsyncClient) -> None:
        assert (await upload(editor, encoded("JPEG"), "image/png")).json()["content_type"] == "image/jpeg"

    @pytest.mark.parametrize(
        "kind", ["image/jpg", "image/pjpeg", "image/x-png", "application/octet-stream", "IMAGE/JPEG; charset=binary"]
    )
    async def test_other_names_of_the_types_are_accepted(self, editor: httpx2.AsyncClient, kind: str) -> None:
        response = await upload(editor, encoded("JPEG"), kind)
        assert response.status_code == 201, response.text
        assert response.json()["content_type"] == "image/jpeg"

    async def test_bytes_after_the_end_of_an_image_are_not_stored(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        response = await upload(editor, encoded() + b"<script>alert(1)</script>")
        assert b"script" not in (await reader.get(response.headers["location"])).content

    async def test_an_image_just_below_the_size_limit_is_stored(self, editor: httpx2.AsyncClient) -> None:
        data = encoded(size=(3340, 3345), compress_level=0)
        assert 31.9 < len(data) / 1024**2 <= 32
        image = (await upload(editor, data)).json()
        assert (image["width"], image["height"]) == (3340, 3345)

    async def test_the_same_key_and_bytes_store_one_image(self, editor: httpx2.AsyncClient) -> None:
        key, data = str(uuid.uuid4()), encoded()
        answers = [await upload(editor, data, **{"idempotency-key": key}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        again = await upload(editor, data, **{"idempotency-key": str(uuid.uuid4())})
        fresh = [await upload(editor, data) for _ in range(2)]
        assert len({answer.json()["key"] for answer in (answers[0], again, *fresh)}) == 4

    async def test_the_same_key_with_other_bytes_is_refused(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        key, data = {"idempotency-key": str(uuid.uuid4())}, encoded()
        first = await upload(editor, data, **key)
        for kind in ("PNG", "JPEG"):
            response = await upload(editor, encoded(kind), f"image/{kind.lower()}", **key)
            assert_mismatch(assert_problem(response, 422, "IDEMPOTENCY_MISMATCH"))
        assert (await upload(editor, data, **key)).json() == first.json()
        assert pixels((await reader.get(first.headers["location"])).content) == pixels(data)

    async def test_an_upload_can_be_the_image_of_a_post(self, editor: httpx2.AsyncClient) -> None:
        image = (await upload(editor, encoded())).json()
        shelf = await publish(editor)
        body = {"title": "By hand", "author_id": shelf["author"]["id"], "category_id": shelf["category"]["id"]}
        response = await editor.post("/api/posts", json={**body, "featured_image_key": image["key"], "publish": True})
        assert response.status_code == 201, response.text
        post = response.json()
        assert post["featured_image_url"] == image["url"]
        assert post["featured_image"]["image_source"] == "upload"
        page = (await editor.get(f"/posts/{post['slug']}")).text
        assert "<figcaption>" not in page  # it was not generated


class TestRefused:
    async def test_an_upload_needs_the_token(self, reader: httpx2.AsyncClient) -> None:
        assert_problem(await upload(reader, encoded()), 401, "UNAUTHENTICATED")

    @pytest.mark.parametrize("kind", ["image/gif", "image/svg+xml", "application/json", ""])
    async def test_other_content_types_are_415(self, editor: httpx2.AsyncClient, kind: str) -> None:
        headers = {"content-type": kind} if kind else {}
        document = assert_problem(await editor.post(PATH, content=encoded(), headers=headers), 415)
        assert document["detail"].startswith("the content type must be image/png, image/jpeg, image/webp, ")

    async def test_other_routes_refuse_images(self, editor: httpx2.AsyncClient) -> None:
        for path in ("/api/tasks", "/api/posts", "/api/media/generate-image"):
            assert_problem(await editor.post(path, content=encoded(), headers=PNG), 415)

    @pytest.mark.parametrize(
        "data",
        [
            b"no picture",
            encoded()[:2000],
            encoded().replace(b"IDAT", b"IDAT!"),
            b"\x89PNG\r\n\x1a\n",
        ],
        ids=["text", "cut", "damaged", "signature"],
    )
    async def test_bytes_that_are_not_an_image_are_refused(self, editor: httpx2.AsyncClient, data: bytes) -> None:
        document = assert_problem(await upload(editor, data), 422, "IMAGE_INVALID")
        assert [error["field"] for error in document["errors"]] == [""]
        assert "chunk:" not in document["detail"]

    async def test_an_empty_body_is_refused(self, editor: httpx2.AsyncClient) -> None:
        assert_problem(await upload(editor, b""), 422, "IMAGE_INVALID")

    async def test_an_image_with_too_many_pixels_is_refused(self, editor: httpx2.AsyncClient) -> None:
        file = io.BytesIO()
        Image.new("1", (8193, 1)).save(file, "PNG")
        document = assert_problem(await upload(editor, file.getvalue()), 422, "IMAGE_TOO_LARGE")
        assert "8192" in document["detail"]

    async def test_a_body_above_the_size_limit_is_413(self, editor: httpx2.AsyncClient) -> None:
        limit = 32 * 1024 * 1024
        document = assert_problem(await upload(editor, bytes(limit + 1)), 413, "BODY_TOO_LARGE")
        assert str(limit) in document["detail"]

    async def test_an_invalid_idempotency_key_is_refused(self, editor: httpx2.AsyncClient) -> None:
        assert_problem(await upload(editor, encoded(), **{"idempotency-key": "two words"}), 422, "INVALID_ARGUMENT")
