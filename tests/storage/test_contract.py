"""One suite for all backends: what a caller of storage can rely on."""

import asyncio
import hashlib
from pathlib import Path

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2

from rpc import errors
from tests.s3_server import SeaweedFS
from tests.storage.conftest import TIME, Client, MotoBucket, Start, Stored, local_settings, s3_settings
from tests.storage.samples import noise, picture

DRAFT, PUBLISHED = images_pb2.IMAGE_STATE_DRAFT, images_pb2.IMAGE_STATE_PUBLISHED
UNKNOWN_KEY = "generated/1790000000-00000000-0000-4000-8000-000000000000.png"


@pytest.fixture(params=["local", "seaweed", "seaweed-encrypted", "moto"])
async def client(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> Client:
    if request.param == "local":
        return await start(local_settings(tmp_path / "media"))
    if request.param == "moto":
        moto: MotoBucket = request.getfixturevalue("moto")
        return await start(s3_settings(moto))
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    encryption = "AES256" if request.param == "seaweed-encrypted" else "auto"
    return await start(s3_settings(seaweed, s3_encryption=encryption))


def is_s3(image: Stored) -> bool:
    return image.backend == images_pb2.IMAGE_BACKEND_S3


class TestStore:
    async def test_response_describes_the_stored_bytes(self, client: Client) -> None:
        data = picture(64, 48)
        image = await client.store(data)
        assert (image.width, image.height, image.content_type) == (64, 48, "image/png")
        assert image.size_bytes == len(data)
        assert image.sha256 == hashlib.sha256(data).hexdigest()
        assert 20 <= len(image.thumbhash) <= 40
        assert image.state == DRAFT
        assert image.key.startswith(f"generated/{TIME}-")
        assert image.key.endswith(".png")
        assert image.url == f"http://127.0.0.1:8080/media/{image.key}"
        assert image.create_seconds > TIME
        assert image.backend in (images_pb2.IMAGE_BACKEND_LOCAL, images_pb2.IMAGE_BACKEND_S3)

    @pytest.mark.parametrize(
        ("image_format", "content_type", "extension"),
        [("JPEG", "image/jpeg", ".jpg"), ("WEBP", "image/webp", ".webp")],
    )
    async def test_accepts_jpeg_and_webp(
        self, client: Client, image_format: str, content_type: str, extension: str
    ) -> None:
        data = picture(80, 40, image_format)
        image = await client.store(data, step=100)
        assert (image.content_type, image.width, image.height) == (content_type, 80, 40)
        assert image.key.endswith(extension)
        assert (await client.get(image.key))[1] == data

    async def test_a_large_image_is_returned_byte_for_byte(self, client: Client) -> None:
        data = noise(1400, 1000)
        assert len(data) > 4 * 1024 * 1024
        image = await client.store(data)
        header, back = await client.get(image.key)
        assert back == data
        assert (header.range_start, header.range_size) == (0, len(data))

    async def test_a_repeated_upload_returns_the_same_image_and_state(self, client: Client, fresh_image: bytes) -> None:
        first = await client.store(fresh_image, request_id="again")
        await client.set_state(first.key, PUBLISHED)
        second = await client.store(fresh_image, request_id="again")
        assert second.key == first.key
        assert second.state == PUBLISHED, "a retry of the upload must not unpublish"

    async def test_other_bytes_or_another_request_are_another_image(self, client: Client) -> None:
        one, other = picture(seed=1), picture(seed=2)
        keys = {
            (await client.store(one, request_id="r1")).key,
            (await client.store(other, request_id="r1")).key,
            (await client.store(one, request_id="r2")).key,
        }
        assert len(keys) == 3

    async def test_twelve_concurrent_uploads_of_one_request_make_one_image(
        self, client: Client, fresh_image: bytes
    ) -> None:
        images = await asyncio.gather(*(client.store(fresh_image, request_id="race") for _ in range(12)))
        assert len({image.key for image in images}) == 1
        assert (await client.get(images[0].key))[1] == fresh_image


class TestGet:
    async def test_get_returns_the_description_that_store_returned(self, client: Client, fresh_image: bytes) -> None:
        stored = await client.store(fresh_image, metadata={"model": "sdxl"})
        header, _ = await client.get(stored.key)
        assert header.image == stored

    @pytest.mark.parametrize(
        ("offset", "limit", "expected"),
        [
            (0, 0, slice(None)),
            (10, 0, slice(10, None)),
            (10, 5, slice(10, 15)),
            (-7, 0, slice(-7, None)),
            (-7, 3, slice(-7, -4)),
            (5, 1 << 40, slice(5, None)),
            (-(1 << 40), 0, slice(None)),
        ],
    )
    async def test_a_range_returns_those_bytes(
        self, client: Client, image: bytes, offset: int, limit: int, expected: slice
    ) -> None:
        stored = await client.store(image, request_id="ranges")
        header, back = await client.get(stored.key, offset=offset, limit=limit)
        assert back == image[expected]
        assert header.range_start == len(image[: expected.start]) if expected.start else header.range_start == 0
        assert header.range_size == len(back)

    async def test_an_offset_beyond_the_last_byte_is_out_of_range(self, client: Client, image: bytes) -> None:
        stored = await client.store(image, request_id="ranges")
        assert (await client.get(stored.key, offset=len(image) - 1))[1] == image[-1:]
        for offset in (len(image), len(image) + 1, 1 << 50):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.get(stored.key, offset=offset)
            assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE

    async def test_header_only_returns_no_bytes(self, client: Client, image: bytes) -> None:
        stored = await client.store(image, request_id="ranges")
        header, back = await client.get(stored.key, header_only=True)
        assert (header.range_size, back) == (len(image), b"")

    @pytest.mark.parametrize("key", [UNKNOWN_KEY, "other/place.png", "generated"])
    async def test_an_unknown_key_is_not_found(self, client: Client, key: str) -> None:
        for call in (client.get(key), client.get(key, header_only=True), client.set_state(key, PUBLISHED)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert errors.from_call(caught.value).reason == "IMAGE_NOT_FOUND"

    async def test_reading_works_after_readers_cancelled(self, client: Client) -> None:
        stored = await client.store(noise(900, 900), request_id="leaves")
        for _ in range(30):
            call = client.stub.GetImage(images_pb2.GetImageRequest(key=stored.key), timeout=20)
            await call.read()
            await call.read()
            call.cancel()
        assert len((await client.get(stored.key))[1]) == stored.size_bytes


class TestState:
    async def test_an_image_is_published_and_made_a_draft_again(self, client: Client, fresh_image: bytes) -> None:
        stored = await client.store(fresh_image)
        for state in (PUBLISHED, PUBLISHED, DRAFT):
            assert (await client.set_state(stored.key, state)).state == state
            header, back = await client.get(stored.key)
            assert header.image.state == state
            assert back == fresh_image

    @pytest.mark.parametrize("state", [0, 17])
    async def test_other_states_are_refused(self, client: Client, state: int) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.set_state(UNKNOWN_KEY, state)  # type: ignore[arg-type]
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class TestStatus:
    async def test_status_names_a_healthy_backend(self, client: Client) -> None:
        status = await client.status()
        assert status.healthy
        assert not status.reason
        assert status.base_url == "http://127.0.0.1:8080/media"
        assert bool(status.bucket) == (status.backend == images_pb2.IMAGE_BACKEND_S3)
