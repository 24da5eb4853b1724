"""kill -9 and SIGTERM: acknowledged images survive, other uploads leave no files."""

import asyncio
import random
from pathlib import Path

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2

from tests.s3_server import SeaweedFS
from tests.storage.conftest import Client, messages
from tests.storage.faults import Fault, FaultyProxy
from tests.storage.folders import files_below
from tests.storage.processes import StorageProcess
from tests.storage.samples import padded_to, picture

pytestmark = pytest.mark.slow


async def store_until_killed(client: Client, worker: int, acknowledged: dict[str, bytes]) -> None:
    """Store images of 3 MB in succession, and collect those that were acknowledged."""
    for number in range(1000):
        data = padded_to(3_000_000 + 1000 * worker + number)
        try:
            image = await client.store(data, request_id=f"{worker}-{number}", timeout=10)
        except grpc.aio.AioRpcError:
            return
        acknowledged[image.key] = data


async def test_acknowledged_images_survive_kill_while_writing(tmp_path: Path) -> None:
    root = tmp_path / "media"
    process = StorageProcess(STORAGE_LOCAL_ROOT=str(root))
    chance = random.Random(7)
    acknowledged: dict[str, bytes] = {}
    for _ in range(4):
        before = len(acknowledged)
        async with process.running() as client:
            assert {name for name in files_below(root) if name.startswith((".tmp", ".probe/"))} == set()
            workers = [asyncio.create_task(store_until_killed(client, worker, acknowledged)) for worker in range(4)]
            while len(acknowledged) < before + 4:
                await asyncio.sleep(0.01)
            await asyncio.sleep(chance.random() / 5)
            process.kill()
            await asyncio.gather(*workers)
    async with process.running() as client:
        for key, data in acknowledged.items():
            assert (await client.get(key))[1] == data
        visible = {name for name in files_below(root) if name.startswith("generated/")}
        for name in visible:
            assert len((root / name).read_bytes()) >= 3_000_000, "a part of an image is visible"
        assert {name for name in files_below(root) if name.startswith(".tmp")} == set()


async def test_an_upload_cut_by_kill_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    root = tmp_path / "media"
    process = StorageProcess(STORAGE_LOCAL_ROOT=str(root))
    half_sent = asyncio.Event()
    data = padded_to(2_000_000)

    async def half():  # type: ignore[no-untyped-def]
        sent = 0
        async for message in messages(data, request_id="half"):
            yield message
            sent += len(message.chunk)
            if sent > len(data) // 2:
                half_sent.set()
                await asyncio.Event().wait()

    async with process.running() as client:
        call = client.stub.StoreImage(half(), timeout=20)
        await half_sent.wait()
        process.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert files_below(root) == []
    async with process.running() as client:
        image = await client.store(data, request_id="half")
        assert (await client.get(image.key))[1] == data


async def test_sigterm_lets_a_running_upload_finish(tmp_path: Path) -> None:
    process = StorageProcess(STORAGE_LOCAL_ROOT=str(tmp_path / "media"))
    begun, go_on = asyncio.Event(), asyncio.Event()
    data = padded_to(2_000_000)

    async def slow():  # type: ignore[no-untyped-def]
        async for message in messages(data):
            yield message
            if message.WhichOneof("part") == "chunk" and not begun.is_set():
                begun.set()
                await go_on.wait()

    async with process.running() as client:
        call = client.stub.StoreImage(slow(), timeout=20)
        await begun.wait()
        stopping = asyncio.create_task(process.terminate())
        await asyncio.sleep(0.6)  # longer than the lame duck: the server takes no new calls by now
        go_on.set()
        assert (await call).image.image.file.size_bytes == len(data)
        assert await stopping == 0


async def test_an_unresponsive_s3_does_not_delay_the_exit(seaweed: SeaweedFS) -> None:
    async with FaultyProxy(seaweed.endpoint_url).running() as proxy:
        environment = {**seaweed.environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint_url}
        process = StorageProcess(**environment, STORAGE_DRAIN_SECONDS="1")
        async with process.running() as client:
            await proxy.behave(Fault.SILENT)
            images = await asyncio.gather(*(client.store(picture(seed=seed), timeout=5) for seed in range(20)))
            assert {image.backend for image in images} == {images_pb2.IMAGE_BACKEND_SPOOL}
            async with asyncio.timeout(25):  # the threads that call S3 end after 30 s
                assert await process.terminate() == 0


async def test_status_names_the_bucket(seaweed: SeaweedFS) -> None:
    async with StorageProcess(**seaweed.environment).running() as client:
        status = await client.status()
        assert (status.bucket, status.healthy) == (seaweed.bucket, True)
        assert status.backend == images_pb2.IMAGE_BACKEND_S3
