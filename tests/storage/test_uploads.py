"""Uploads that are refused: too large, wrongly declared, stalled, or too many at once. They leave no files."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2
from PIL import Image

from rpc import errors
from services.storage import __main__ as storage_main
from services.storage import images
from services.storage.admission import Admission
from services.storage.settings import MAX_IMAGE_BYTES
from tests.storage.conftest import Client, Start, local_settings, messages, refusal, stream, upload_header
from tests.storage.folders import files_below
from tests.storage.samples import padded_to, picture

GOOD = picture(64, 48)


class TestSize:
    async def test_the_largest_size_is_accepted_and_one_byte_more_refused(self, local: Client, root: Path) -> None:
        largest = padded_to(MAX_IMAGE_BYTES)
        stored = await local.store(largest, step=1024 * 1024)
        assert stored.size_bytes == 32 * 1024 * 1024
        error = await refusal(local.store(padded_to(MAX_IMAGE_BYTES + 1), step=1024 * 1024))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert error.violations[0].field == "header.size_bytes"
        assert len([name for name in files_below(root) if name.startswith("generated")]) == 1

    @pytest.mark.parametrize("declared", [0, MAX_IMAGE_BYTES + 1, 1 << 40])
    async def test_a_declared_size_outside_the_limits_is_refused(self, local: Client, declared: int) -> None:
        error = await refusal(local.store(GOOD, size_bytes=declared))
        assert error.violations[0].field == "header.size_bytes"

    @pytest.mark.parametrize("difference", [-1, 1, 1000])
    async def test_a_wrong_declared_size_is_refused(self, local: Client, root: Path, difference: int) -> None:
        error = await refusal(local.store(GOOD, size_bytes=len(GOOD) + difference))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert files_below(root) == []

    async def test_bytes_beyond_the_declared_size_are_refused(self, local: Client) -> None:
        error = await refusal(local.store(GOOD + b"x", size_bytes=len(GOOD), sha256=""))
        assert error.reason == "SIZE_MISMATCH"

    async def test_an_image_of_33_megapixels_is_accepted(self, local: Client) -> None:
        buffer = io.BytesIO()
        Image.new("1", (8192, 4028)).save(buffer, "PNG")
        assert (await local.store(buffer.getvalue())).height == 4028

    @pytest.mark.parametrize("wrong", ["0" * 64, "f" * 64])
    async def test_a_wrong_sha256_is_refused(self, local: Client, root: Path, wrong: str) -> None:
        error = await refusal(local.store(GOOD, sha256=wrong))
        assert (error.reason, error.violations[0].field) == ("SHA256_MISMATCH", "header.sha256")
        assert files_below(root) == []


class TestHeader:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("request_id", ""),
            ("request_id", "a" * 65),
            ("request_id", "has space"),
            ("request_id", "../../etc/passwd"),
            ("request_id", "ключ"),
            ("task_id", "not-a-uuid"),
            ("task_id", "0191f2a000007000800000000000000g"),
            ("sha256", "A" * 64),
            ("sha256", "a" * 63),
        ],
    )
    async def test_a_wrong_field_is_named(self, local: Client, field: str, value: str) -> None:
        error = await refusal(local.store(GOOD, **{field: value}))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in error.violations] == [f"header.{field}"]

    @pytest.mark.parametrize("seconds", [0, -5, 1 << 60])
    async def test_a_wrong_request_time_is_named(self, local: Client, seconds: int) -> None:
        head = upload_header(GOOD, request_time=None)
        head.request_time.seconds = seconds

        async def requests() -> AsyncIterator[images_pb2.StoreImageRequest]:
            yield images_pb2.StoreImageRequest(header=head)
            yield images_pb2.StoreImageRequest(chunk=GOOD)

        error = await refusal(local.stub.StoreImage(requests(), timeout=10))
        assert [violation.field for violation in error.violations] == ["header.request_time"]

    @pytest.mark.parametrize(
        "metadata",
        [
            {"prompt": "маяк"},
            {"model": "caf\u00e9"},
            {"model": "line\nbreak"},
            {"model": " padded "},
            {"model": ""},
            {"Model": "upper case is lost in S3"},
            {"a b": "space"},
            {"": "nameless"},
            {"a" * 65: "long"},
            {"task-id": "ours"},
            {"sha256": "ours"},
            {"long": "v" * 1533},
        ],
    )
    async def test_metadata_that_s3_would_change_are_refused(self, local: Client, metadata: dict[str, str]) -> None:
        error = await refusal(local.store(GOOD, metadata=metadata))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert error.violations
        assert all(violation.field.startswith("header.metadata") for violation in error.violations)

    async def test_the_largest_metadata_are_accepted(self, local: Client) -> None:
        assert (await local.store(GOOD, metadata={"long": "v" * 1532})).key

    async def test_messages_in_another_order_are_refused(self, local: Client) -> None:
        head = images_pb2.StoreImageRequest(header=upload_header(GOOD))
        data = images_pb2.StoreImageRequest(chunk=GOOD)
        for wrong in ([], [data], [data, head], [head, head, data], [head, images_pb2.StoreImageRequest(), data]):
            error = await refusal(local.stub.StoreImage(stream(wrong), timeout=10))
            assert error.code is grpc.StatusCode.INVALID_ARGUMENT

    async def test_a_chunk_above_the_limit_is_refused(self, local: Client) -> None:
        data = padded_to(1024 * 1024 + 1)
        assert (await refusal(local.store(data, step=len(data)))).violations[0].field == "chunk"
        data = padded_to(1024 * 1024)
        assert (await local.store(data, step=len(data))).key


class TestLoad:
    async def test_a_stalled_upload_ends_with_deadline_exceeded(self, tmp_path: Path, start: Start) -> None:
        client = await start(local_settings(tmp_path / "slow", upload_seconds=2.0))
        stalled = asyncio.Event()

        async def requests() -> AsyncIterator[images_pb2.StoreImageRequest]:
            async for message in messages(GOOD, step=100):
                yield message
                if message.WhichOneof("part") == "chunk":
                    await stalled.wait()

        error = await refusal(client.stub.StoreImage(requests(), timeout=20))
        assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "UPLOAD_TOO_SLOW")
        assert (await client.store(GOOD)).key

    async def test_uploads_beyond_the_limit_are_unavailable(
        self, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        admission = Admission(MAX_IMAGE_BYTES)
        monkeypatch.setattr(storage_main, "Admission", lambda limit_bytes: admission)
        client = await start(local_settings(tmp_path / "busy", max_inflight_bytes=MAX_IMAGE_BYTES))
        data = padded_to(MAX_IMAGE_BYTES)
        begun, go_on = asyncio.Event(), asyncio.Event()
        first = asyncio.ensure_future(_await(client.stub.StoreImage(_stalling(data, len(data) - 1, begun, go_on))))
        async with asyncio.timeout(60):
            while admission.held_bytes < len(data) - 1:
                await asyncio.sleep(0.02)
        error = await refusal(client.store(GOOD))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UPLOADS_BUSY")
        assert error.retry_after_seconds == 1.0
        go_on.set()
        assert (await first).image.image.file.size_bytes == MAX_IMAGE_BYTES
        assert (await client.store(GOOD)).key, "the room is free again"

    async def test_only_bytes_that_have_come_are_counted(self, tmp_path: Path, start: Start) -> None:
        """Eight uploads that announced 32 MiB and sent a byte blocked all others for a minute."""
        client = await start(local_settings(tmp_path / "busy", max_inflight_bytes=MAX_IMAGE_BYTES))
        data = padded_to(MAX_IMAGE_BYTES)
        begun = [asyncio.Event() for _ in range(8)]
        calls = [client.stub.StoreImage(_stalling(data, 20, event, asyncio.Event())) for event in begun]
        await asyncio.gather(*(event.wait() for event in begun))
        for _ in range(5):
            assert (await client.store(GOOD)).key
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()

    async def test_an_upload_that_drips_is_ended(
        self, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(images, "STALLED_SECONDS", 0.5)
        client = await start(local_settings(tmp_path / "drip"))

        async def drip() -> AsyncIterator[images_pb2.StoreImageRequest]:
            async for message in messages(GOOD, step=1):
                yield message
                await asyncio.sleep(0.1)

        error = await refusal(client.stub.StoreImage(drip(), timeout=60))
        assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "UPLOAD_TOO_SLOW")
        assert "4096 bytes a second" in error.message

    async def test_a_slow_upload_that_is_fast_enough_is_accepted(
        self, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(images, "MIN_BYTES_PER_SECOND", 1)
        monkeypatch.setattr(images, "STALLED_SECONDS", 20.0)
        client = await start(local_settings(tmp_path / "slow"))
        assert (await client.store(GOOD, step=len(GOOD) // 4)).key

    async def test_an_upload_leaves_no_file_while_it_arrives_or_is_refused(self, local: Client, root: Path) -> None:
        data = padded_to(3 * 1024 * 1024)
        begun, go_on = asyncio.Event(), asyncio.Event()
        call = asyncio.ensure_future(_await(local.stub.StoreImage(_stalling(data, 2 * 1024 * 1024, begun, go_on))))
        await begun.wait()
        assert files_below(root) == []
        go_on.set()
        stored = (await call).image
        assert files_below(root) == sorted([f".meta/{stored.image.key}", stored.image.key])

    async def test_a_cancelled_upload_releases_its_memory(self, tmp_path: Path, start: Start) -> None:
        root = tmp_path / "cancelled"
        client = await start(local_settings(root, max_inflight_bytes=MAX_IMAGE_BYTES))
        data = padded_to(MAX_IMAGE_BYTES)
        for _ in range(3):
            begun = asyncio.Event()

            async def requests(begun: asyncio.Event = begun) -> AsyncIterator[images_pb2.StoreImageRequest]:
                async for message in messages(data, step=1024 * 1024):
                    yield message
                    if message.WhichOneof("part") == "chunk":
                        begun.set()
                        await asyncio.Event().wait()

            call = client.stub.StoreImage(requests(), timeout=60)
            await begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        async with asyncio.timeout(20):
            while True:
                try:
                    await client.store(GOOD)
                    break
                except grpc.aio.AioRpcError as error:
                    if errors.from_call(error).reason != "UPLOADS_BUSY":
                        raise
                    await asyncio.sleep(0.02)
        assert len([name for name in files_below(root) if name.startswith("generated")]) == 1


async def _stalling(
    data: bytes, sent_bytes: int, begun: asyncio.Event, go_on: asyncio.Event
) -> AsyncIterator[images_pb2.StoreImageRequest]:
    """An upload that stops after `sent_bytes` bytes until `go_on` is set."""
    yield images_pb2.StoreImageRequest(header=upload_header(data))
    for start in range(0, sent_bytes, 1024 * 1024):
        yield images_pb2.StoreImageRequest(chunk=data[start : min(start + 1024 * 1024, sent_bytes)])
    begun.set()
    await go_on.wait()
    for start in range(sent_bytes, len(data), 1024 * 1024):
        yield images_pb2.StoreImageRequest(chunk=data[start : start + 1024 * 1024])


async def _await(call: Any) -> Any:
    return await call
