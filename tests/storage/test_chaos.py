"""S3 and storage killed with -9 under load: no acknowledged image is lost, damaged or stored twice."""

import asyncio
import random
from pathlib import Path

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2

from rpc.channel import open_channel
from tests.s3_server import SeaweedFS
from tests.storage.conftest import BUCKET, IMAGES, Client
from tests.storage.folders import files_below
from tests.storage.processes import StorageProcess
from tests.storage.samples import padded_to

WORKERS = 6
IMAGES_EACH = 25
ROUNDS = 2

Acknowledged = dict[str, tuple[bytes, int]]
"""By key: the bytes, and the backend in the response."""


async def work(client: Client, worker: int, acknowledged: Acknowledged, chance: random.Random) -> None:
    """Store images. A failed call is repeated with the same request, as the worker does."""
    for number in range(IMAGES_EACH):
        data = padded_to(chance.randint(50_000, 600_000))
        while True:
            try:
                image = await client.store(data, request_id=f"{worker}-{number}", timeout=10)
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
        acknowledged[image.key] = (data, image.backend)


async def trouble(s3: SeaweedFS, process: StorageProcess, acknowledged: Acknowledged, chance: random.Random) -> None:
    """Kill S3, then storage; start storage without S3 and kill it; start both."""
    async with process.running():
        while len(acknowledged) < WORKERS * 4:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(s3.kill)
        await asyncio.sleep(chance.uniform(0.2, 0.8))
        process.kill()
    async with process.running():
        await asyncio.sleep(chance.uniform(0.3, 1.0))
        process.kill()
    async with process.running() as client:
        await asyncio.to_thread(s3.start)
        await asyncio.sleep(chance.uniform(0.1, 0.5))
        process.kill()  # while it moves images from the spool
        del client


async def settled(client: Client) -> images_pb2.GetStatusResponse:
    async with asyncio.timeout(90):
        while (status := await client.status()).spool_count or not status.healthy:
            await asyncio.sleep(0.1)
    return status


def stored_objects(s3: SeaweedFS) -> dict[str, bytes]:
    client = s3.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="generated/")
    keys = [item["Key"] for page in pages for item in page.get("Contents", []) if "/." not in item["Key"]]
    return {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_no_acknowledged_image_is_lost_when_storage_and_s3_are_killed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: Acknowledged = {}
    with SeaweedFS(tmp_path / "s3") as s3:
        process = StorageProcess(
            **s3.environment, STORAGE_LOCAL_ROOT=str(tmp_path / "media"), STORAGE_HEALTH_SECONDS="0.3"
        )
        async with open_channel(process.address, services=[IMAGES]) as channel:
            workers = [
                asyncio.create_task(work(Client(channel), number, acknowledged, random.Random(seed * 100 + number)))
                for number in range(WORKERS)
            ]
            await trouble(s3, process, acknowledged, chance)
            async with process.running() as client:
                await asyncio.gather(*workers)
                await settled(client)
                back = {key: (await client.get(key))[1] for key in acknowledged}
        stored = await asyncio.to_thread(stored_objects, s3)
    assert len(acknowledged) == WORKERS * IMAGES_EACH
    assert back == {key: data for key, (data, _) in acknowledged.items()}
    assert stored == back, "each image is in S3, complete and once"
    named = {backend for _, backend in acknowledged.values()}
    assert named == {images_pb2.IMAGE_BACKEND_S3, images_pb2.IMAGE_BACKEND_SPOOL}, "the outage was noticed"
    # A killed health check leaves its probe, which a start ten minutes later removes.
    left = [name for name in files_below(tmp_path / "spool") if not name.startswith(".probe/")]
    assert left == []
