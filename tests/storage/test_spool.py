"""An acknowledged image is never lost, whatever S3 does."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2

from services.storage.__main__ import assembled
from services.storage.backends import spool as spool_module
from services.storage.backends.base import BackendRefused
from services.storage.readiness import BREAKER_FAILURES, Breaker
from tests.s3_server import SeaweedFS
from tests.storage.conftest import BUCKET, Client, Start, local_settings, refusal, s3_settings, storage
from tests.storage.faults import Fault, FaultyProxy
from tests.storage.folders import files_below
from tests.storage.samples import padded_to, picture

SPOOL, S3, LOCAL = images_pb2.IMAGE_BACKEND_SPOOL, images_pb2.IMAGE_BACKEND_S3, images_pb2.IMAGE_BACKEND_LOCAL
DRAFT, PUBLISHED = images_pb2.IMAGE_STATE_DRAFT, images_pb2.IMAGE_STATE_PUBLISHED
GATEWAY = "http://127.0.0.1:8080/media"


@pytest.fixture
async def proxy(seaweed: SeaweedFS) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(seaweed.endpoint_url).running() as running:
        yield running


@pytest.fixture
def behind(seaweed: SeaweedFS, proxy: FaultyProxy) -> dict[str, Any]:
    """Settings of a storage service whose S3 is behind the proxy."""
    return {"server": seaweed, "s3_endpoint_url": proxy.endpoint_url, "health_seconds": 0.2}


@pytest.fixture
async def client(behind: dict[str, Any], start: Start) -> Client:
    return await start(s3_settings(**behind))


async def drained(client: Client, count: int = 0) -> None:
    """Wait until the spool has so many images."""
    async with asyncio.timeout(40):
        while (await client.status()).spool_count != count:
            await asyncio.sleep(0.05)


class TestRequestsWithoutTime:
    """Requests without a request_time while S3 fails."""

    async def test_other_bytes_than_in_the_spool_are_refused(self, client: Client, proxy: FaultyProxy) -> None:
        await proxy.behave(Fault.RESET)
        request = {"request_id": str(uuid.uuid4()), "request_time": None}
        image = await client.store(picture(seed=1), **request)
        assert image.backend == SPOOL
        error = await refusal(client.store(picture(seed=2), **request))
        assert error.reason == "IDEMPOTENCY_MISMATCH"
        assert (await client.store(picture(seed=1), **request)).key == image.key

    async def test_during_an_outage_other_bytes_become_a_second_image(self, client: Client, proxy: FaultyProxy) -> None:
        request = {"request_id": str(uuid.uuid4()), "request_time": None}
        first = await client.store(picture(seed=1), **request)
        assert first.backend == S3
        await proxy.behave(Fault.SILENT)
        second = await client.store(picture(seed=2), timeout=30, **request)
        assert second.backend == SPOOL
        await proxy.behave(Fault.NONE)
        await drained(client)
        for image, seed in ((first, 1), (second, 2)):
            assert (await client.get(image.key))[1] == picture(seed=seed)
        assert (await refusal(client.store(picture(seed=3), **request))).reason == "IDEMPOTENCY_MISMATCH"

    async def test_the_spool_is_used_before_the_deadline(self, client: Client, proxy: FaultyProxy) -> None:
        await proxy.behave(Fault.SILENT)
        image = await client.store(picture(seed=1), timeout=6, request_id=str(uuid.uuid4()), request_time=None)
        assert image.backend == SPOOL


class TestOutage:
    @pytest.mark.parametrize("fault", [Fault.SILENT, Fault.RESET, Fault.BUSY])
    async def test_an_image_is_spooled_served_and_moved(
        self, client: Client, proxy: FaultyProxy, seaweed: SeaweedFS, tmp_path: Path, fresh_image: bytes, fault: Fault
    ) -> None:
        await proxy.behave(fault)
        image = await client.store(fresh_image, timeout=5, metadata={"model": "tiny"})
        assert (image.backend, image.url) == (SPOOL, f"{GATEWAY}/{image.key}")
        assert (tmp_path / "spool" / image.key).read_bytes() == fresh_image
        header, back = await client.get(image.key, accept_redirect=True)
        assert (back, header.redirect_url, header.image.backend) == (fresh_image, "", SPOOL)
        status = await client.status()
        assert (status.backend, status.spool_count, status.spool_bytes) == (S3, 1, len(fresh_image))

        await proxy.behave(Fault.NONE)
        await drained(client)
        assert (await client.status()).healthy
        header, back = await client.get(image.key)
        assert (back, header.image.backend) == (fresh_image, S3)
        assert (await client.get(image.key, accept_redirect=True))[0].redirect_url
        stored = seaweed.client().get_object(Bucket=BUCKET, Key=image.key)
        assert stored["Body"].read() == fresh_image
        assert stored["CacheControl"] == "max-age=31536000, immutable"
        assert stored["Metadata"]["model"] == "tiny"
        assert stored["Metadata"]["task-id"] == "0191f2a0-0000-7000-8000-000000000001"
        assert files_below(tmp_path / "spool") == []

    async def test_forty_concurrent_uploads_to_an_unresponsive_s3_are_spooled_and_moved(
        self, client: Client, proxy: FaultyProxy
    ) -> None:
        await proxy.behave(Fault.SILENT)
        pictures = [picture(seed=seed, width=40 + seed) for seed in range(40)]
        images = await asyncio.gather(*(client.store(data, timeout=30) for data in pictures))
        assert {image.backend for image in images} == {SPOOL}
        await proxy.behave(Fault.NONE)
        await drained(client)
        for image, data in zip(images, pictures, strict=True):
            header, back = await client.get(image.key)
            assert (header.image.backend, back) == (S3, data)

    async def test_the_service_stays_ready_during_an_outage(self, behind: dict[str, Any], proxy: FaultyProxy) -> None:
        async with assembled(s3_settings(**behind)) as (_, readiness):
            assert await readiness.is_ready()
            await proxy.behave(Fault.RESET)
            async with asyncio.timeout(20):
                while readiness.status.healthy:
                    await asyncio.sleep(0.05)
                while not await readiness.is_ready():
                    await asyncio.sleep(0.05)

    async def test_images_are_spooled_if_s3_fails_at_the_start(
        self, behind: dict[str, Any], proxy: FaultyProxy, start: Start, fresh_image: bytes
    ) -> None:
        await proxy.behave(Fault.RESET)
        client = await start(s3_settings(**behind))
        image = await client.store(fresh_image)
        assert image.backend == SPOOL
        await proxy.behave(Fault.NONE)
        await drained(client)
        assert (await client.get(image.key))[0].image.backend == S3

    async def test_an_image_in_s3_is_unavailable_and_not_missing(
        self, client: Client, proxy: FaultyProxy, fresh_image: bytes
    ) -> None:
        image = await client.store(fresh_image)
        await proxy.behave(Fault.RESET)
        error = await refusal(client.get(image.key))
        assert error.code is grpc.StatusCode.UNAVAILABLE


class TestWhileSpooled:
    async def test_a_repeated_upload_is_the_same_image(
        self, client: Client, proxy: FaultyProxy, fresh_image: bytes
    ) -> None:
        await proxy.behave(Fault.RESET)
        first = await client.store(fresh_image, request_id="again")
        second = await client.store(fresh_image, request_id="again")
        assert first.key == second.key
        assert (await client.status()).spool_count == 1

    async def test_an_image_published_in_the_spool_is_published_in_s3(
        self, client: Client, proxy: FaultyProxy, seaweed: SeaweedFS, fresh_image: bytes
    ) -> None:
        await proxy.behave(Fault.RESET)
        image = await client.store(fresh_image)
        assert (await client.set_state(image.key, PUBLISHED)).state == PUBLISHED
        await proxy.behave(Fault.NONE)
        await drained(client)
        assert (await client.get(image.key))[0].image.state == PUBLISHED
        tags = seaweed.client().get_object_tagging(Bucket=BUCKET, Key=image.key)["TagSet"]
        assert tags == [{"Key": "state", "Value": "published"}]

    async def test_a_repeated_upload_during_an_outage_does_not_unpublish(
        self, client: Client, proxy: FaultyProxy, fresh_image: bytes
    ) -> None:
        image = await client.store(fresh_image, request_id="retried")
        await client.set_state(image.key, PUBLISHED)
        await proxy.behave(Fault.RESET)
        assert (await client.store(fresh_image, request_id="retried")).key == image.key
        await proxy.behave(Fault.NONE)
        await drained(client)
        assert (await client.get(image.key))[0].image.state == PUBLISHED

    async def test_the_url_is_at_the_gateway_until_the_image_is_in_s3(
        self, behind: dict[str, Any], proxy: FaultyProxy, start: Start, fresh_image: bytes
    ) -> None:
        client = await start(s3_settings(**behind, cloudfront_domain="d1.cloudfront.net"))
        await proxy.behave(Fault.RESET)
        image = await client.store(fresh_image)
        assert image.url == f"{GATEWAY}/{image.key}"
        assert (await client.get(image.key))[0].image.url == image.url
        await proxy.behave(Fault.NONE)
        await drained(client)
        header, _ = await client.get(image.key, accept_redirect=True)
        assert header.redirect_url == header.image.url == f"https://d1.cloudfront.net/{image.key}"

    async def test_ranges_and_header_only_work(self, client: Client, proxy: FaultyProxy, fresh_image: bytes) -> None:
        await proxy.behave(Fault.RESET)
        image = await client.store(fresh_image)
        assert (await client.get(image.key, offset=-9))[1] == fresh_image[-9:]
        assert (await client.get(image.key, header_only=True))[0].range_size == len(fresh_image)

    async def test_an_image_is_readable_at_every_moment_of_its_move(self, client: Client, proxy: FaultyProxy) -> None:
        pictures = [picture(seed=seed, width=50 + seed) for seed in range(12)]
        await proxy.behave(Fault.RESET)
        images = [await client.store(data) for data in pictures]
        moved = asyncio.Event()

        async def read_on(key: str, data: bytes) -> int:
            count = 0
            while not moved.is_set() or not count:
                assert (await client.get(key))[1] == data
                count += 1
            return count

        readers = []
        moving = asyncio.create_task(drained(client))
        await proxy.behave(Fault.NONE)
        for image, data in zip(images, pictures, strict=True):
            readers.append(asyncio.create_task(read_on(image.key, data)))
        await moving
        moved.set()
        assert all(count > 0 for count in await asyncio.gather(*readers))


class TestRestart:
    async def test_spooled_images_are_moved_by_the_next_process(
        self, behind: dict[str, Any], proxy: FaultyProxy, fresh_image: bytes
    ) -> None:
        await proxy.behave(Fault.RESET)
        async with storage(s3_settings(**behind)) as client:
            image = await client.store(fresh_image)
            await client.set_state(image.key, PUBLISHED)
        async with storage(s3_settings(**behind)) as client:
            assert (await client.status()).spool_count == 1
            assert (await client.get(image.key))[1] == fresh_image
            await proxy.behave(Fault.NONE)
            await drained(client)
            header, back = await client.get(image.key)
            assert (back, header.image.backend, header.image.state) == (fresh_image, S3, PUBLISHED)

    async def test_refused_keys_prevent_the_start_only_with_an_empty_spool(
        self, behind: dict[str, Any], proxy: FaultyProxy, fresh_image: bytes
    ) -> None:
        wrong = s3_settings(**behind, secret_access_key="wrong")
        with pytest.raises(BackendRefused):
            async with assembled(wrong):
                pytest.fail("it started")
        await proxy.behave(Fault.RESET)
        async with storage(s3_settings(**behind)) as client:
            image = await client.store(fresh_image)
        await proxy.behave(Fault.NONE)
        async with storage(wrong) as client:
            assert (await client.get(image.key))[1] == fresh_image
            status = await client.status()
            assert (status.healthy, status.spool_count) == (False, 1)
            assert "AWS_SECRET_ACCESS_KEY" in status.reason
            assert (await client.store(picture(seed=99))).backend == SPOOL

    async def test_a_second_process_cannot_use_the_spool(
        self, behind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spool_module, "_LOCK_WAIT_SECONDS", 0.1)
        async with assembled(s3_settings(**behind)):
            with pytest.raises(OSError, match="STORAGE_SPOOL_ROOT"):
                async with assembled(s3_settings(**behind)):
                    pytest.fail("it started")


class TestAnotherConfiguration:
    async def test_after_a_change_to_local_storage_spooled_images_move_to_the_disk(
        self, behind: dict[str, Any], proxy: FaultyProxy, tmp_path: Path, fresh_image: bytes
    ) -> None:
        await proxy.behave(Fault.RESET)
        async with storage(s3_settings(**behind)) as client:
            image = await client.store(fresh_image)
        async with storage(local_settings(tmp_path / "media")) as client:
            await drained(client)
            header, back = await client.get(image.key)
            assert (back, header.image.backend) == (fresh_image, LOCAL)
        assert (tmp_path / "media" / image.key).read_bytes() == fresh_image

    async def test_after_a_change_to_s3_local_images_stay_readable(
        self, seaweed: SeaweedFS, tmp_path: Path, fresh_image: bytes
    ) -> None:
        async with storage(local_settings(tmp_path / "media")) as client:
            image = await client.store(fresh_image)
        async with storage(s3_settings(seaweed, cloudfront_domain="d1.cloudfront.net")) as client:
            header, back = await client.get(image.key, accept_redirect=True)
            assert (back, header.redirect_url, header.image.backend) == (fresh_image, "", LOCAL)
            assert header.image.url == f"{GATEWAY}/{image.key}", "the CDN cannot reach it"
            assert (await client.set_state(image.key, PUBLISHED)).state == PUBLISHED
            assert (await refusal(client.get("generated/1-nothing.png"))).code is grpc.StatusCode.NOT_FOUND


class TestLimits:
    async def test_a_full_spool_refuses_uploads(
        self, behind: dict[str, Any], proxy: FaultyProxy, start: Start, tmp_path: Path
    ) -> None:
        client = await start(s3_settings(**behind, spool_max_bytes=1_000_000))
        await proxy.behave(Fault.RESET)
        first = await client.store(padded_to(600_000))
        error = await refusal(client.store(padded_to(600_001)))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SPOOL_FULL")
        assert error.retry_after_seconds is not None
        assert files_below(tmp_path / "spool") == sorted([first.key, f".meta/{first.key}"])
        assert (await client.store(padded_to(399_000))).backend == SPOOL, "a smaller one fits"

    async def test_the_spool_keeps_free_space_on_its_disk(
        self, behind: dict[str, Any], proxy: FaultyProxy, start: Start, fresh_image: bytes
    ) -> None:
        client = await start(s3_settings(**behind, spool_min_free_bytes=1 << 60))
        await proxy.behave(Fault.RESET)
        assert (await refusal(client.store(fresh_image))).reason == "SPOOL_FULL"

    async def test_damaged_bytes_are_neither_moved_nor_removed(
        self, behind: dict[str, Any], proxy: FaultyProxy, tmp_path: Path, seaweed: SeaweedFS
    ) -> None:
        await proxy.behave(Fault.RESET)
        async with storage(s3_settings(**behind)) as client:
            bad = await client.store(picture(seed=1), request_id=str(uuid.uuid4()))
            good = await client.store(picture(seed=2), request_id=str(uuid.uuid4()))
        spooled = tmp_path / "spool" / bad.key
        spooled.write_bytes(spooled.read_bytes()[:-1] + b"X")
        await proxy.behave(Fault.NONE)
        async with storage(s3_settings(**behind)) as client:
            await drained(client, 1)
            assert (await client.get(good.key))[0].image.backend == S3, "other images are moved"
            assert (await client.status()).spool_count == 1
        assert spooled.exists()
        found = seaweed.client().list_objects_v2(Bucket=BUCKET, Prefix=bad.key)
        assert "Contents" not in found


def test_the_breaker_opens_after_failures_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    breaker = Breaker()
    for _ in range(BREAKER_FAILURES - 1):
        breaker.failed()
    assert breaker.closed
    breaker.succeeded()
    for _ in range(BREAKER_FAILURES):
        assert breaker.closed
        breaker.failed()
    assert not breaker.closed
    now += 2.1
    assert breaker.closed
    breaker.failed()
    now += 1.9
    assert not breaker.closed, "the next pause is 2 to 4 seconds"
    now += 60
    breaker.succeeded()
    assert breaker.closed
