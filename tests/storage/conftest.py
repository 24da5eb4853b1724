"""Storage as its callers use it: real servers, real folders, a real S3 server."""

import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import boto3
import grpc
import pytest
from frontispiece.storage.v1 import images_pb2, images_pb2_grpc
from moto import mock_aws

from rpc import errors
from rpc.channel import open_channel
from rpc.server import running
from services.storage.__main__ import assembled
from services.storage.settings import StorageSettings
from tests.s3_server import SeaweedFS
from tests.storage.samples import picture

BUCKET = "images"
IMAGES = images_pb2.DESCRIPTOR.services_by_name["ImageService"]
TIME = 1_790_000_000


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No AWS settings of the machine or of another test."""
    for name in os.environ:
        if name.startswith(("AWS_", "STORAGE_", "S3_", "USE_S3", "PUBLIC_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("STORAGE_LOCAL_ROOT", str(tmp_path / "media"))


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """One S3 server for the session. A test that stops a server starts its own."""
    with SeaweedFS(tmp_path_factory.mktemp("seaweed"), BUCKET) as server:
        yield server


@dataclass(frozen=True)
class MotoBucket:
    """A bucket of moto in this process. It stands for AWS, without an endpoint.

    It checks neither keys nor checksums nor expiry, so it proves less than SeaweedFS.
    """

    endpoint_url: str = ""
    bucket: str = BUCKET
    region: str = "eu-west-1"
    access_key: str = "moto"
    secret_key: str = "moto"


@pytest.fixture
def moto() -> Iterator[MotoBucket]:
    with mock_aws():
        found = MotoBucket()
        session = boto3.session.Session(found.access_key, found.secret_key, region_name=found.region)
        session.client("s3").create_bucket(
            Bucket=found.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        yield found


def local_settings(root: Path, **more: Any) -> StorageSettings:
    return StorageSettings(listen="127.0.0.1:0", local_root=root, **more)


def s3_settings(server: SeaweedFS | MotoBucket, **more: Any) -> StorageSettings:
    return StorageSettings(
        **{
            "listen": "127.0.0.1:0",
            "s3_bucket": server.bucket,
            "s3_region": server.region,
            "s3_endpoint_url": server.endpoint_url,
            "access_key_id": server.access_key,
            "secret_access_key": server.secret_key,
            **more,
        }
    )


class Client:
    """Calls to a storage server, as another service makes them."""

    def __init__(self, channel: Any) -> None:
        self.stub = images_pb2_grpc.ImageServiceStub(channel)

    async def store(self, data: bytes, *, step: int = 256 * 1024, timeout: float = 30, **header: Any) -> "Stored":
        response = await self.stub.StoreImage(messages(data, step=step, **header), timeout=timeout)
        return flat(response.image)

    async def upload(self, data: bytes, **header: Any) -> "Stored":
        """Store an image as one that a person uploads."""
        return await self.store(data, origin=images_pb2.IMAGE_ORIGIN_UPLOAD, **header)

    async def get(self, key: str, **request: Any) -> tuple["Header", bytes]:
        call = self.stub.GetImage(images_pb2.GetImageRequest(key=key, **request), timeout=30)
        parts = [part async for part in call]
        assert all(part.WhichOneof("part") == "chunk" for part in parts[1:])
        return Header(parts[0].header), b"".join(part.chunk for part in parts[1:])

    async def set_state(self, key: str, state: images_pb2.ImageState) -> "Stored":
        request = images_pb2.SetImageStateRequest(key=key, state=state)
        return flat((await self.stub.SetImageState(request, timeout=30)).image)

    async def status(self) -> images_pb2.GetStatusResponse:
        return await self.stub.GetStatus(images_pb2.GetStatusRequest(), timeout=5)


@dataclass(frozen=True)
class Stored:
    """The fields of storage.v1.Image and of the messages in it."""

    key: str
    url: str
    content_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    thumbhash: str
    backend: images_pb2.ImageBackend
    state: images_pb2.ImageState
    create_seconds: int = field(compare=False)  # S3 has a time of its own


def flat(message: images_pb2.Image) -> Stored:
    image = message.image
    return Stored(
        key=image.key,
        url=image.url,
        **{name.name: getattr(image.file, name.name) for name in image.file.DESCRIPTOR.fields},
        thumbhash=image.thumbhash,
        backend=message.backend,
        state=message.state,
        create_seconds=message.create_time.seconds,
    )


class Header:
    """A GetImageHeader with its image flat."""

    def __init__(self, message: images_pb2.GetImageHeader) -> None:
        self.image = flat(message.image)
        self.redirect_url = message.redirect_url
        self.redirect_seconds = message.redirect_ttl.seconds if message.HasField("redirect_ttl") else None
        self.range_start = message.range_start
        self.range_size = message.range_size


def upload_header(data: bytes, **fields: Any) -> images_pb2.StoreImageHeader:
    header = images_pb2.StoreImageHeader(
        **{
            "request_id": str(uuid.uuid4()),
            "task_id": "0191f2a0-0000-7000-8000-000000000001",
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            **fields,
        }
    )
    if "request_time" not in fields:
        header.request_time.seconds = TIME
    return header


async def messages(
    data: bytes, *, step: int = 256 * 1024, **fields: Any
) -> AsyncIterator[images_pb2.StoreImageRequest]:
    yield images_pb2.StoreImageRequest(header=upload_header(data, **fields))
    for start in range(0, len(data), step):
        yield images_pb2.StoreImageRequest(chunk=data[start : start + step])


async def stream(requests: Iterable[images_pb2.StoreImageRequest]) -> AsyncIterator[images_pb2.StoreImageRequest]:
    for request in requests:
        yield request


@asynccontextmanager
async def storage(settings: StorageSettings) -> AsyncIterator[Client]:
    """A storage server with these settings, and a client."""
    async with (
        assembled(settings) as (service, _),
        running([service], settings) as server,
        open_channel(server.address, services=[IMAGES], retries=False, health_check=False) as channel,
    ):
        await channel.channel_ready()  # a connection that is slow on a busy machine would fail the first call
        yield Client(channel)


class Start(Protocol):
    async def __call__(self, settings: StorageSettings) -> Client: ...


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start servers that end with the test."""
    async with AsyncExitStack() as stack:

        async def started(settings: StorageSettings) -> Client:
            return await stack.enter_async_context(storage(settings))

        yield started


@pytest.fixture
async def local(tmp_path: Path, start: Start) -> Client:
    """Storage on a disk."""
    return await start(local_settings(tmp_path / "media"))


@pytest.fixture
def image() -> bytes:
    return picture()


@pytest.fixture
def fresh_image() -> bytes:
    """An image that was not stored before."""
    return picture(seed=uuid.uuid4().int, width=32 + uuid.uuid4().int % 64)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where `local` keeps its images."""
    return tmp_path / "media"


async def refusal(call: Any) -> errors.RpcError:
    """The error of a call, which must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return errors.from_call(caught.value)
