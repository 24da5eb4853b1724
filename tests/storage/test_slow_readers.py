"""Readers that take nothing, or a part: storage holds a few pieces for each, and cuts those that stall."""

import asyncio
import os
from pathlib import Path

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2

from rpc import errors
from services.storage import servicer
from services.storage.backends.base import READ_SIZE
from services.storage.backends.local.backend import LocalBackend
from services.storage.backends.local.files import read_cached
from services.storage.models import ByteRange
from tests.storage.conftest import Client
from tests.storage.samples import content, noise
from tests.storage.test_local import image_of

DATA = noise(3000, 3000)  # more than the window of a stream grows to


async def test_pieces_are_at_most_64_kib(local: Client) -> None:
    stored = await local.store(DATA)
    call = local.stub.GetImage(images_pb2.GetImageRequest(key=stored.key), timeout=60)
    chunks = [message.chunk async for message in call][1:]
    assert b"".join(chunks) == DATA
    assert max(len(chunk) for chunk in chunks) <= READ_SIZE <= 64 * 1024


async def test_a_reader_that_takes_nothing_is_cut_and_others_are_not(
    local: Client, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "READER_SECONDS", 0.5)
    stored = await local.store(DATA)
    call = local.stub.GetImage(images_pb2.GetImageRequest(key=stored.key), timeout=120)
    assert (await call.read()).header.range_size == len(DATA)
    async with asyncio.timeout(60):
        while not _is_open(root / stored.key):
            await asyncio.sleep(0.01)
        while _is_open(root / stored.key):
            await asyncio.sleep(0.01)
    assert (await local.get(stored.key))[1] == DATA
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    assert errors.from_call(caught.value).reason == "READER_TOO_SLOW"


async def test_a_reader_that_stops_leaves_no_open_file(root: Path) -> None:
    backend = LocalBackend(root)
    await backend.put(image_of(DATA), content(DATA))
    before = _open_files()
    reading = backend.read(image_of(DATA).key, ByteRange(0, len(DATA)))
    assert len(await anext(reading)) == READ_SIZE
    assert _open_files() == before + 1
    await reading.aclose()
    assert _open_files() == before
    await backend.close()


def test_cached_bytes_are_read_at_once_and_beyond_the_end_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        assert read_cached(file.fileno(), 4, 3) in (b"3456", b"")  # empty where the file system cannot say
        assert read_cached(file.fileno(), 4, 10) == b""


def _is_open(path: Path) -> bool:
    return any(os.path.realpath(link) == str(path) for link in Path("/proc/self/fd").iterdir())


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
