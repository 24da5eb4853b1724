"""Objects, redirects and failures of S3, on a real server behind a proxy that can fail."""

import asyncio
import hashlib
import re
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.image_pb2 import ImageFile

from rpc import context, errors
from services.storage.__main__ import assembled, open_primary
from services.storage.backends.base import BackendRefused
from services.storage.backends.s3.backend import S3Backend
from services.storage.models import StoredImage
from tests.s3_server import SeaweedFS
from tests.storage.conftest import BUCKET, Client, MotoBucket, Start, s3_settings
from tests.storage.faults import Fault, FaultyProxy
from tests.storage.samples import content, noise, picture


@pytest.fixture
async def client(seaweed: SeaweedFS, start: Start) -> Client:
    return await start(s3_settings(seaweed))


@pytest.fixture
async def proxy(seaweed: SeaweedFS) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(seaweed.endpoint_url).running() as running:
        yield running


@pytest.fixture
async def behind_proxy(seaweed: SeaweedFS, proxy: FaultyProxy, start: Start) -> Client:
    return await start(s3_settings(seaweed, s3_endpoint_url=proxy.endpoint_url, health_seconds=0.2))


async def fails(call: Any) -> errors.RpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return errors.from_call(caught.value)


async def fetch(url: str) -> tuple[int, bytes]:
    def get() -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return await asyncio.to_thread(get)


class TestObjects:
    async def test_an_object_has_headers_metadata_tags_and_checksum(
        self, client: Client, seaweed: SeaweedFS, fresh_image: bytes
    ) -> None:
        task = "0191f2a0-0000-7000-8000-0000000000aa"
        image = await client.store(fresh_image, task_id=task, metadata={"model": "sdxl-tiny"})
        s3 = seaweed.client()
        head = s3.head_object(Bucket=BUCKET, Key=image.key, ChecksumMode="ENABLED")
        assert head["ContentType"] == "image/png"
        assert head["CacheControl"] == "max-age=31536000, immutable"
        assert "ContentEncoding" not in head
        assert head["ContentLength"] == len(fresh_image)
        assert head["ChecksumCRC32"], "the server checked the bytes against our own checksum"
        assert head["Metadata"] == {
            "task-id": task,
            "generated-date": "2026-09-21T14:13:20Z",
            "model": "sdxl-tiny",
            "sha256": hashlib.sha256(fresh_image).hexdigest(),
            "width": str(image.width),
            "height": str(image.height),
            "thumbhash": image.thumbhash,
        }
        tags = s3.get_object_tagging(Bucket=BUCKET, Key=image.key)["TagSet"]
        assert tags == [{"Key": "state", "Value": "draft"}]
        await client.set_state(image.key, images_pb2.IMAGE_STATE_PUBLISHED)
        tags = s3.get_object_tagging(Bucket=BUCKET, Key=image.key)["TagSet"]
        assert tags == [{"Key": "state", "Value": "published"}]
        assert s3.get_object(Bucket=BUCKET, Key=image.key)["Body"].read() == fresh_image

    async def test_other_tags_survive_a_change_of_state(
        self, client: Client, seaweed: SeaweedFS, fresh_image: bytes
    ) -> None:
        image = await client.store(fresh_image)
        s3 = seaweed.client()
        theirs = [{"Key": "state", "Value": "draft"}, {"Key": "cost-centre", "Value": "17"}]
        s3.put_object_tagging(Bucket=BUCKET, Key=image.key, Tagging={"TagSet": theirs})
        await client.set_state(image.key, images_pb2.IMAGE_STATE_PUBLISHED)
        tags = {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=BUCKET, Key=image.key)["TagSet"]}
        assert tags == {"state": "published", "cost-centre": "17"}

    async def test_encryption_is_requested_by_the_setting(
        self, seaweed: SeaweedFS, start: Start, fresh_image: bytes
    ) -> None:
        client = await start(s3_settings(seaweed, s3_encryption="AES256"))
        image = await client.store(fresh_image)
        head = seaweed.client().head_object(Bucket=BUCKET, Key=image.key)
        assert head["ServerSideEncryption"] == "AES256"

    async def test_over_tls_only_the_image_is_stored(
        self, tls_seaweed: SeaweedFS, start: Start, fresh_image: bytes
    ) -> None:
        """Over TLS boto sends its own checksum as a trailer, and this server stores the coding of the trailer."""
        client = await start(s3_settings(tls_seaweed))
        image = await client.store(fresh_image)
        answer = tls_seaweed.client().get_object(Bucket=BUCKET, Key=image.key)
        assert answer.get("ContentEncoding", "") == ""
        assert answer["Body"].read() == fresh_image

    async def test_an_object_without_our_metadata_is_readable(self, client: Client, seaweed: SeaweedFS) -> None:
        seaweed.client().put_object(Bucket=BUCKET, Key="generated/by-hand.png", Body=b"hello", ContentType="image/png")
        header, back = await client.get("generated/by-hand.png")
        assert back == b"hello"
        assert (header.image.width, header.image.sha256) == (0, "")

    async def test_an_object_outside_the_prefix_is_not_found(self, client: Client, seaweed: SeaweedFS) -> None:
        seaweed.client().put_object(Bucket=BUCKET, Key="backups/secret.sql", Body=b"secret")
        error = await fails(client.get("backups/secret.sql"))
        assert error.code is grpc.StatusCode.NOT_FOUND


class TestConditionalPut:
    @pytest.fixture
    async def backend(self, seaweed: SeaweedFS) -> AsyncIterator[S3Backend]:
        backend = open_primary(s3_settings(seaweed))
        assert isinstance(backend, S3Backend)
        yield backend
        await backend.close()

    async def test_other_bytes_under_a_key_are_refused(self, backend: S3Backend) -> None:
        one, other = picture(seed=1), picture(seed=2)
        image = stored_image("generated/1-conflict.png", one)
        await backend.put(image, content(one))
        assert (await backend.put(image, content(one))).file == image.file
        with pytest.raises(errors.AlreadyExists):
            await backend.put(stored_image(image.key, other), content(other))
        assert (await backend.stat(image.key)).file == image.file

    async def test_of_twelve_concurrent_puts_of_other_bytes_one_succeeds(self, backend: S3Backend) -> None:
        pictures = [picture(seed=seed) for seed in range(12)]
        key = f"generated/{time.time_ns()}-race.png"
        outcomes = await asyncio.gather(
            *(backend.put(stored_image(key, data), content(data)) for data in pictures), return_exceptions=True
        )
        winners = [outcome for outcome in outcomes if isinstance(outcome, StoredImage)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, errors.AlreadyExists)]
        assert (len(winners), len(losers)) == (1, 11)
        assert (await backend.stat(key)).file == winners[0].file


class TestRedirects:
    async def test_a_presigned_url_reads_only_the_image(self, client: Client, fresh_image: bytes) -> None:
        image = await client.store(fresh_image)
        header, body = await client.get(image.key, accept_redirect=True)
        assert body == b""
        assert header.redirect_seconds == 900
        url = urlsplit(header.redirect_url)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
        assert query["X-Amz-Expires"] == "900"
        assert await fetch(header.redirect_url) == (200, fresh_image)
        assert (await fetch(header.redirect_url.replace(image.key, "generated/.probe")))[0] == 403
        signature = query["X-Amz-Signature"]
        forged = signature[:-1] + ("0" if signature[-1] != "0" else "1")
        assert (await fetch(header.redirect_url.replace(signature, forged)))[0] == 403
        plain = f"{url.scheme}://{url.netloc}{url.path}"
        assert (await fetch(plain))[0] == 403, "the bucket is private"

    async def test_an_expired_url_is_refused(self, seaweed: SeaweedFS, client: Client, fresh_image: bytes) -> None:
        image = await client.store(fresh_image)
        backend = open_primary(s3_settings(seaweed))
        lasting, expiring = await backend.direct_url(image.key, 600), await backend.direct_url(image.key, 1)
        assert lasting is not None
        assert expiring is not None
        async with asyncio.timeout(20):
            while (await fetch(expiring))[0] != 403:
                await asyncio.sleep(0.2)
        assert (await fetch(lasting))[0] == 200
        await backend.close()

    async def test_on_aws_a_presigned_url_is_regional_and_virtual_hosted(
        self, moto: MotoBucket, start: Start, image: bytes
    ) -> None:
        client = await start(s3_settings(moto))
        stored = await client.store(image)
        header, _ = await client.get(stored.key, accept_redirect=True)
        assert header.redirect_url.startswith(f"https://images.s3.eu-west-1.amazonaws.com/{stored.key}?")

    async def test_a_session_token_is_part_of_the_signature(self, moto: MotoBucket, start: Start, image: bytes) -> None:
        client = await start(s3_settings(moto, session_token="temporary-token"))
        stored = await client.store(image)
        header, _ = await client.get(stored.key, accept_redirect=True)
        assert "X-Amz-Security-Token=temporary-token" in header.redirect_url

    async def test_with_a_cdn_every_url_begins_with_it(self, seaweed: SeaweedFS, start: Start, image: bytes) -> None:
        client = await start(s3_settings(seaweed, cloudfront_domain="https://d111.cloudfront.net/"))
        stored = await client.store(image)
        assert stored.url == f"https://d111.cloudfront.net/{stored.key}"
        header, body = await client.get(stored.key, accept_redirect=True)
        assert (header.redirect_url, body) == (stored.url, b"")
        assert header.redirect_seconds is None
        assert (await client.get(stored.key))[1] == image, "without accept_redirect the bytes are returned"
        assert (await client.status()).base_url == "https://d111.cloudfront.net"

    async def test_an_unknown_key_is_not_redirected(self, client: Client) -> None:
        error = await fails(client.get("generated/1-nothing.png", accept_redirect=True))
        assert error.code is grpc.StatusCode.NOT_FOUND

    async def test_header_only_returns_the_redirect(self, client: Client, fresh_image: bytes) -> None:
        image = await client.store(fresh_image)
        header, _ = await client.get(image.key, accept_redirect=True, header_only=True)
        assert header.redirect_url
        assert header.image.size_bytes == len(fresh_image)


class TestFailures:
    @pytest.mark.parametrize("fault", [Fault.SILENT, Fault.RESET, Fault.BUSY])
    async def test_a_failed_put_ends_within_the_deadline_and_says_when_to_retry(
        self, seaweed: SeaweedFS, proxy: FaultyProxy, fresh_image: bytes, fault: Fault
    ) -> None:
        backend = open_primary(s3_settings(seaweed, s3_endpoint_url=proxy.endpoint_url))
        await backend.check()
        await proxy.behave(fault)
        key = f"generated/1-{fault.name}.png"
        context.set_remaining_seconds(4)
        with pytest.raises(errors.Unavailable) as caught:
            await backend.put(stored_image(key, fresh_image), content(fresh_image))
        context.set_remaining_seconds(None)
        if fault is Fault.SILENT:
            assert re.search(r"did not respond within [123]\.\d s", caught.value.message)
        assert caught.value.reason == "S3_UNAVAILABLE"
        assert caught.value.retry_after_seconds
        assert "127.0.0.1" not in caught.value.message
        await proxy.behave(Fault.NONE)
        assert (await backend.put(stored_image(key, fresh_image), content(fresh_image))).key == key
        await backend.close()

    @pytest.mark.parametrize("fault", [Fault.SILENT, Fault.RESET, Fault.BUSY])
    async def test_a_failing_s3_is_never_a_missing_image(
        self, behind_proxy: Client, proxy: FaultyProxy, fresh_image: bytes, fault: Fault
    ) -> None:
        image = await behind_proxy.store(fresh_image)
        await proxy.behave(fault)
        request = images_pb2.GetImageRequest(key=image.key)
        error = await fails(behind_proxy.stub.GetImage(request, timeout=4).read())
        assert error.code is grpc.StatusCode.UNAVAILABLE

    async def test_a_broken_read_continues_where_it_stopped(self, behind_proxy: Client, proxy: FaultyProxy) -> None:
        data = noise(1200, 900)
        image = await behind_proxy.store(data)
        await proxy.behave(Fault.CUT, cuts=2, cut_after_bytes=1_000_000)
        header, back = await behind_proxy.get(image.key)
        assert back == data
        assert header.range_size == len(data)
        assert proxy.cuts_left == 0

    async def test_status_follows_failure_and_recovery_of_s3(self, behind_proxy: Client, proxy: FaultyProxy) -> None:
        assert (await behind_proxy.status()).healthy
        await proxy.behave(Fault.RESET)
        await until(behind_proxy, healthy=False)
        assert "S3" in (await behind_proxy.status()).reason
        await proxy.behave(Fault.NONE)
        await until(behind_proxy, healthy=True)

    async def test_storage_starts_without_s3_and_uses_it_later(
        self, seaweed: SeaweedFS, proxy: FaultyProxy, start: Start, fresh_image: bytes
    ) -> None:
        await proxy.behave(Fault.RESET)
        client = await start(s3_settings(seaweed, s3_endpoint_url=proxy.endpoint_url, health_seconds=0.2))
        assert not (await client.status()).healthy
        await proxy.behave(Fault.NONE)
        await until(client, healthy=True)
        assert (await client.store(fresh_image)).key

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"s3_bucket": "no-such-bucket"}, "AWS_S3_BUCKET"),
            ({"secret_access_key": "wrong"}, "AWS_SECRET_ACCESS_KEY"),
            ({"access_key_id": "unknown"}, "AWS_ACCESS_KEY_ID"),
        ],
    )
    async def test_a_refused_setting_is_named_at_the_start(
        self, seaweed: SeaweedFS, changed: dict[str, str], named: str
    ) -> None:
        with pytest.raises(BackendRefused, match=named):
            async with assembled(s3_settings(seaweed, **changed)):
                pytest.fail("it started")

    async def test_a_deleted_bucket_is_unavailable_and_not_a_missing_image(self, tmp_path: Path, start: Start) -> None:
        with SeaweedFS(tmp_path) as own:
            client = await start(s3_settings(own))
            image = await client.store(picture())
            s3 = own.client()
            for found in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
                s3.delete_object(Bucket=BUCKET, Key=found["Key"])
            s3.delete_bucket(Bucket=BUCKET)
            error = await fails(client.get(image.key))
            assert error.code is grpc.StatusCode.UNAVAILABLE
            assert error.reason == "S3_REFUSED"


async def until(client: Client, *, healthy: bool) -> None:
    async with asyncio.timeout(30):
        while (await client.status()).healthy is not healthy:
            await asyncio.sleep(0.05)


def stored_image(key: str, data: bytes) -> StoredImage:
    sha256 = hashlib.sha256(data).hexdigest()
    file = ImageFile(content_type="image/png", width=64, height=48, size_bytes=len(data), sha256=sha256)
    return StoredImage(
        key=key, backend=images_pb2.IMAGE_BACKEND_S3, file=file, source_sha256=sha256, create_time=datetime.now(UTC)
    )


@pytest.fixture(scope="module")
def tls_seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    folder = tmp_path_factory.mktemp("tls")
    with SeaweedFS(folder, BUCKET, tls=True) as server:
        yield server


@pytest.fixture(autouse=True)
def trusted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "tls_seaweed" in request.fixturenames:
        server: SeaweedFS = request.getfixturevalue("tls_seaweed")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(server.certificate))
