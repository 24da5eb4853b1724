"""A request without a request_time identifies one image in every backend and process: other bytes are refused."""

import asyncio
import re
import uuid
from pathlib import Path

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.image_pb2 import ImageFile

from rpc import errors
from services.storage.imaging.decoder import Decoder, ProcessedImage
from services.storage.imaging.incoming import ReceivedImage
from services.storage.settings import StorageSettings
from tests.s3_server import SeaweedFS
from tests.storage.conftest import Client, MotoBucket, Start, Stored, local_settings, refusal, s3_settings
from tests.storage.samples import content, decoded, encoded, picture

KEY = re.compile(r"generated/[0-9a-f-]{36}/[0-9a-f-]{36}\.png")
PUBLISHED = images_pb2.IMAGE_STATE_PUBLISHED


@pytest.fixture(params=["local", "seaweed", "moto"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> StorageSettings:
    if request.param == "local":
        return local_settings(tmp_path / "media")
    server: SeaweedFS | MotoBucket = request.getfixturevalue(request.param)
    return s3_settings(server)


@pytest.fixture
async def client(start: Start, settings: StorageSettings) -> Client:
    return await start(settings)


async def store(client: Client, data: bytes, request_id: str) -> Stored:
    return await client.store(data, request_id=request_id, request_time=None)


@pytest.fixture
def request_id() -> str:
    return str(uuid.uuid4())


def assert_mismatch(error: errors.RpcError) -> None:
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH")
    assert error.metadata == {"field": "request_id"}


async def test_a_repeated_upload_returns_the_same_image_and_state(client: Client, request_id: str) -> None:
    first = await store(client, picture(seed=1), request_id)
    assert KEY.fullmatch(first.key)
    assert first.create_seconds > 1_700_000_000
    assert first.url.endswith(first.key)
    await client.set_state(first.key, PUBLISHED)
    again = await store(client, picture(seed=1), request_id)
    assert (again.key, again.state) == (first.key, PUBLISHED)
    assert (await client.get(first.key))[1] == picture(seed=1)
    assert (await store(client, picture(seed=1), str(uuid.uuid4()))).key != first.key


async def test_other_bytes_are_refused_and_change_nothing(client: Client, request_id: str) -> None:
    first = await store(client, picture(seed=1), request_id)
    for other in (picture(seed=2), picture(64, 48, "JPEG"), picture(64, 48, "WEBP")):
        assert_mismatch(await refusal(store(client, other, request_id)))
    assert (await store(client, picture(seed=1), request_id)).key == first.key
    assert (await client.get(first.key))[1] == picture(seed=1)


async def test_another_process_refuses_other_bytes(
    client: Client, start: Start, settings: StorageSettings, request_id: str, tmp_path: Path
) -> None:
    first = await store(client, picture(seed=1), request_id)
    other = await start(settings.model_copy(update={"spool_root": tmp_path / "other spool"}))
    assert_mismatch(await refusal(store(other, picture(seed=2), request_id)))
    assert (await store(other, picture(seed=1), request_id)).key == first.key


async def test_concurrent_uploads_of_the_same_bytes_make_one_image(client: Client, request_id: str) -> None:
    images = await asyncio.gather(*(store(client, picture(seed=1), request_id) for _ in range(12)))
    assert len({image.key for image in images}) == 1


async def test_of_concurrent_uploads_of_other_bytes_at_most_one_succeeds(client: Client) -> None:
    for _ in range(10):
        request_id = str(uuid.uuid4())
        found = await asyncio.gather(
            *(store(client, picture(seed=seed), request_id) for seed in (1, 2)), return_exceptions=True
        )
        refused = [one for one in found if isinstance(one, grpc.aio.AioRpcError)]
        assert refused
        for one in refused:
            assert_mismatch(errors.from_call(one))


async def test_a_repeated_upload_of_a_person_is_the_same_image_even_if_it_is_encoded_differently(
    client: Client, request_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release of Pillow may encode the same upload into other bytes."""
    data = picture(64, 48, "JPEG")
    first = await client.upload(data, request_id=request_id, request_time=None)
    process = Decoder.process

    async def encoded_differently(decoder: Decoder, received: ReceivedImage, *, reencode: bool) -> ProcessedImage:
        made = await process(decoder, received, reencode=reencode)
        with made.content:
            file = content(encoded(decoded(b"".join(made.content.pieces())), "JPEG", quality=60))
        made.file.MergeFrom(ImageFile(size_bytes=file.size, sha256=file.sha256()))
        return ProcessedImage(file, made.file, made.thumbhash)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "process", encoded_differently)
        again = await client.upload(data, request_id=request_id, request_time=None)
        other = await client.upload(data, request_id=str(uuid.uuid4()), request_time=None)
    assert other.sha256 != first.sha256
    assert again == first
    error = await refusal(client.upload(picture(seed=2), request_id=request_id, request_time=None))
    assert_mismatch(error)
