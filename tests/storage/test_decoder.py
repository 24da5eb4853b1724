"""Images are decoded in processes with limits: what happens when an image exceeds them, or when a process ends."""

import asyncio
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from PIL import Image

from services.storage.content import Content
from services.storage.imaging.budget import Budget
from services.storage.imaging.decoder import Decoder, ProcessedImage
from services.storage.imaging.formats import (
    PNG,
    PNG_COST,
    WEBP_COST,
    WEBP_LOSSLESS_COST,
    Cost,
    ImageRefused,
    recognise,
)
from services.storage.imaging.incoming import ReceivedImage
from services.storage.imaging.webp import read_header
from services.storage.settings import MAX_IMAGE_BYTES, StorageSettings
from tests.storage.conftest import Client, Start, local_settings, refusal
from tests.storage.processes import StorageProcess
from tests.storage.samples import chunk, content, encoded, gradient, header, padded_to, picture, png

MIB = 1024 * 1024
GOOD = picture()


@pytest.fixture
async def decoder(tmp_path: Path) -> AsyncIterator[Decoder]:
    decoder = Decoder(2, 384 * MIB, MAX_IMAGE_BYTES, tmp_path)
    yield decoder
    await decoder.close()


def received(data: bytes) -> ReceivedImage:
    return ReceivedImage(content(data), "0" * 64, recognise(data))


async def process(decoder: Decoder, data: bytes, *, reencode: bool = True) -> ProcessedImage:
    return await decoder.process(received(data), reencode=reencode)


def children(pid: int) -> list[int]:
    return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until(condition: object) -> None:
    async with asyncio.timeout(60):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


class TestEnds:
    async def test_an_image_whose_process_is_killed_is_refused_and_the_next_one_is_not(self, decoder: Decoder) -> None:
        async with decoder._memory.held(384 * MIB):  # the process waits for its memory
            call = asyncio.ensure_future(process(decoder, GOOD))
            await until(lambda: decoder._memory._others)
            assert decoder._sandbox is not None
            for child in children(decoder._sandbox.pid):
                os.kill(child, signal.SIGKILL)
        with pytest.raises(ImageRefused, match="cannot be decoded within the limits"):
            await call
        assert (await process(decoder, GOOD)).file.width == 64

    async def test_the_sandbox_is_started_again(self, decoder: Decoder) -> None:
        await process(decoder, GOOD)
        assert decoder._sandbox is not None
        first = decoder._sandbox.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: not _runs(first))
        assert (await process(decoder, GOOD)).file.width == 64
        assert decoder._sandbox.pid != first

    async def test_a_cancelled_image_gives_its_memory_back(self, decoder: Decoder) -> None:
        async with decoder._memory.held(384 * MIB):
            call = asyncio.ensure_future(process(decoder, GOOD))
            await until(lambda: decoder._memory._others)
            call.cancel()
        async with asyncio.timeout(60), decoder._memory.held(384 * MIB), decoder._processes.held(3):
            pass

    def test_a_process_that_takes_too_much_cpu_time_is_ended(self) -> None:
        program = "from services.storage.imaging.sandbox import _confine\n_confine(1 << 30, 0)\nwhile True:\n    pass"
        ended = subprocess.run([sys.executable, "-c", program], check=False)
        assert ended.returncode == -signal.SIGXCPU

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc")
    async def test_no_process_is_left_when_storage_is_killed_and_none_knows_a_key(self, tmp_path: Path) -> None:
        process = StorageProcess(STORAGE_LOCAL_ROOT=str(tmp_path / "media"), AWS_SECRET_ACCESS_KEY="canary")
        async with process.running() as client:
            await client.upload(GOOD)
            assert process.pid is not None
            (sandbox,) = children(process.pid)
            assert b"AWS" not in Path(f"/proc/{sandbox}/environ").read_bytes()
            processes = [sandbox, *children(sandbox)]
            process.kill()
            await until(lambda: not any(_runs(pid) for pid in processes))


def _runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class TestMemory:
    async def test_an_image_that_needs_more_than_the_limit_is_refused_with_the_limit(
        self, tmp_path: Path, start: Start
    ) -> None:
        client = await start(local_settings(tmp_path / "media", decode_max_bytes=64 * MIB))
        data = encoded(Image.new("RGB", (8000, 4000)))
        error = await refusal(client.upload(data))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE")
        assert [violation.field for violation in error.violations] == ["chunk"]
        assert f"{64 * MIB} bytes" in error.message
        assert (await client.upload(GOOD)).key

    @pytest.mark.parametrize(
        ("data", "most"),
        [
            pytest.param(b"VP8L\x0a\0\0\0\x2f" + (8191 | 4027 << 14).to_bytes(4, "little"), 12_000_000, id="lossless"),
            pytest.param(b"VP8X\x0a\0\0\0\x10\0\0\0\xff\x1f\0\xbb\x0f\0", 12_000_000, id="transparent"),
            pytest.param(b"VP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a\0\x20\xbc\x0f", 20_000_000, id="lossy"),
        ],
    )
    async def test_a_webp_that_is_too_large_to_decode_is_refused_with_the_limit(
        self, local: Client, data: bytes, most: int
    ) -> None:
        """Two of 1.3 KB took 900 MB."""
        error = await refusal(local.upload(b"RIFF\x20\0\0\0WEBP" + data + bytes(20)))
        assert error.reason == "IMAGE_TOO_LARGE"
        assert "8192 x 4028 pixels" in error.message
        assert f"{most} pixels in all" in error.message

    @pytest.mark.parametrize(
        ("data", "cost"),
        [
            pytest.param(picture(64, 48, "WEBP"), WEBP_COST, id="lossy"),
            pytest.param(picture(64, 48, "WEBP", lossless=True), WEBP_LOSSLESS_COST, id="lossless"),
            pytest.param(encoded(gradient().convert("LA").convert("RGBA"), "WEBP"), WEBP_COST, id="opaque"),
            pytest.param(picture(64, 48, "WEBP", exif=b"Exif\0\0"), WEBP_COST, id="with metadata"),
        ],
    )
    def test_the_header_of_a_webp_is_read(self, data: bytes, cost: Cost) -> None:
        assert read_header(data) == (64, 48, cost)

    def test_the_default_has_room_for_the_largest_image_of_each_kind(self) -> None:
        limit = StorageSettings.model_fields["decode_max_bytes"].default
        for cost in (PNG_COST, WEBP_COST, WEBP_LOSSLESS_COST):
            assert cost.max_pixels * cost.bytes_per_pixel < limit

    async def test_the_largest_images_are_decoded_within_their_limits(self, decoder: Decoder) -> None:
        for data in (
            encoded(gradient(8192, 4028)),
            encoded(gradient(8192, 4028), "JPEG", progressive=True, subsampling=0),
            encoded(gradient(4000, 3000), "WEBP", lossless=True, method=0, quality=0),
        ):
            made = await process(decoder, data)
            assert made.file.width * made.file.height >= 12_000_000

    async def test_the_rest_of_a_stream_of_pixels_is_not_inflated(self, local: Client) -> None:
        bomb = zlib.compress(bytes(300_000_000), 9)
        data = png(header(16, 16), chunk(b"IDAT", bomb), chunk(b"IEND"))
        stored = await local.upload(data)
        assert (stored.width, stored.height) == (16, 16)
        assert stored.size_bytes < 1000


class TestTurns:
    async def test_who_cannot_have_its_share_waits_and_nobody_is_overtaken(self) -> None:
        budget, order = Budget(10), list[str]()

        async def use(name: str, units: int, *, urgent: bool = False) -> None:
            async with budget.held(units, urgent=urgent):
                order.append(name)
                await asyncio.sleep(0)

        async with budget.held(6), asyncio.TaskGroup() as group:
            for name, units in (("large", 8), ("small", 1)):
                group.create_task(use(name, units))
            await asyncio.sleep(0)
            assert order == []
            group.create_task(use("urgent", 4, urgent=True))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert order == ["urgent"]
            budget._release(6)
            await until(lambda: len(order) == 3)
            budget._free -= 6
        assert order == ["urgent", "large", "small"]

    async def test_an_image_of_the_generator_does_not_wait_behind_uploads(self, decoder: Decoder) -> None:
        async with decoder._uploads.held(2):
            uploads = [asyncio.ensure_future(process(decoder, GOOD)) for _ in range(5)]
            await until(lambda: len(decoder._uploads._others) == 5)
            made = await process(decoder, GOOD, reencode=False)
            assert b"".join(made.content.pieces()) == GOOD
            assert not any(call.done() for call in uploads)
        for made in await asyncio.gather(*uploads):
            made.content.close()

    async def test_the_bytes_are_those_of_the_content_whatever_its_position(self, decoder: Decoder) -> None:
        data = padded_to(MIB)
        source = content(data)
        source.seek(1000)
        made = await decoder.process(ReceivedImage(source, "0" * 64, PNG), reencode=False)
        assert made.content.read() == data


class TestContent:
    def test_views_have_positions_of_their_own_and_outlive_each_other(self) -> None:
        one = content(b"0123456789")
        other = one.copy()
        assert one.read(4) == b"0123"
        one.close()
        one.close()
        assert other.read() == b"0123456789"
        assert other.seek(-3, os.SEEK_END) == 7
        assert other.read(2) == b"78"
        assert list(other.pieces()) == [b"0123456789"]
        assert other.tell() == 9
        assert (other.size, other.sha256()[:8]) == (10, "84d89877")
        assert isinstance(other, Content)
        descriptors: Iterator[Content] = (other, other.copy())  # type: ignore[assignment]
        assert len({view.fileno() for view in descriptors}) == 2
