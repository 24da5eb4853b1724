"""Images on a disk: the layout, what a crash leaves, and symbolic links."""

import asyncio
import errno
import hashlib
import json
import os
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.image_pb2 import ImageFile

from rpc import errors
from services.storage.backends.local.backend import LocalBackend
from services.storage.models import ByteRange, StoredImage
from tests.storage.conftest import Client, Start, local_settings
from tests.storage.folders import files_below
from tests.storage.samples import content, padded_to, picture

KEY = "generated/1790000000-sample.png"


def image_of(data: bytes, key: str = KEY) -> StoredImage:
    sha256 = hashlib.sha256(data).hexdigest()
    file = ImageFile(content_type="image/png", width=64, height=48, size_bytes=len(data), sha256=sha256)
    return StoredImage(
        key=key, backend=images_pb2.IMAGE_BACKEND_LOCAL, file=file, source_sha256=sha256, create_time=datetime.now(UTC)
    )


@pytest.fixture
async def backend(root: Path) -> AsyncIterator[LocalBackend]:
    backend = LocalBackend(root)
    yield backend
    await backend.close()


def _modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


class TestLayout:
    async def test_the_bytes_are_at_their_key_and_the_sidecar_below_meta(
        self, local: Client, root: Path, image: bytes
    ) -> None:
        stored = await local.store(image, metadata={"model": "tiny"})
        assert (root / stored.key).read_bytes() == image
        sidecar = json.loads((root / ".meta" / stored.key).read_text())
        assert sidecar["content_type"] == "image/png"
        assert sidecar["cache_control"] == "max-age=31536000, immutable"
        assert sidecar["sha256"] == stored.sha256
        assert sidecar["state"] == "draft"
        assert sidecar["metadata"]["model"] == "tiny"
        assert sidecar["metadata"]["task-id"] == "0191f2a0-0000-7000-8000-000000000001"
        assert files_below(root) == sorted([f".meta/{stored.key}", stored.key])

    async def test_only_the_owner_and_the_group_can_read(self, local: Client, root: Path, image: bytes) -> None:
        """Drafts are among the images."""
        stored = await local.store(image)
        assert _modes(root) <= {0o640, 0o750, 0o600}
        assert stat.S_IMODE((root / stored.key).stat().st_mode) == 0o640

    async def test_everybody_can_read_if_a_setting_says_so(self, root: Path, start: Start, image: bytes) -> None:
        stored = await (await start(local_settings(root, world_readable=True))).store(image)
        for path in (root / stored.key, *(root / stored.key).parents[:2]):
            assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044

    async def test_a_folder_of_an_earlier_release_is_closed_at_the_start(
        self, root: Path, start: Start, image: bytes
    ) -> None:
        stored = await (await start(local_settings(root, world_readable=True))).store(image)
        root.chmod(0o755)
        client = await start(local_settings(root))
        assert stat.S_IMODE(root.stat().st_mode) == 0o750
        assert (await client.get(stored.key))[1] == image

    async def test_images_survive_a_restart(self, root: Path, start: Start, image: bytes) -> None:
        first = await start(local_settings(root))
        stored = await first.store(image)
        await first.set_state(stored.key, images_pb2.IMAGE_STATE_PUBLISHED)
        header, back = await (await start(local_settings(root))).get(stored.key)
        assert (back, header.image.state) == (image, images_pb2.IMAGE_STATE_PUBLISHED)


class TestCreate:
    async def test_other_bytes_under_a_key_are_refused(self, backend: LocalBackend) -> None:
        one, other = picture(seed=1), picture(seed=2)
        await backend.put(image_of(one), content(one))
        with pytest.raises(errors.AlreadyExists):
            await backend.put(image_of(other), content(other))
        assert (await backend.put(image_of(one), content(one))).key == KEY
        assert (await backend.stat(KEY)).file == image_of(one).file

    async def test_of_twelve_concurrent_puts_of_other_bytes_one_succeeds(
        self, backend: LocalBackend, root: Path
    ) -> None:
        pictures = [picture(seed=seed) for seed in range(12)]
        outcomes = await asyncio.gather(
            *(backend.put(image_of(data), content(data)) for data in pictures), return_exceptions=True
        )
        winners = [outcome for outcome in outcomes if isinstance(outcome, StoredImage)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, errors.AlreadyExists)]
        assert (len(winners), len(losers)) == (1, 11)
        stored = (root / KEY).read_bytes()
        assert hashlib.sha256(stored).hexdigest() == winners[0].file.sha256 == (await backend.stat(KEY)).file.sha256
        assert files_below(root) == [f".meta/{KEY}", KEY]

    async def test_two_backends_on_one_folder_see_the_same_images(self, backend: LocalBackend, root: Path) -> None:
        second = LocalBackend(root)
        data = picture()
        both = await asyncio.gather(
            backend.put(image_of(data), content(data)), second.put(image_of(data), content(data))
        )
        assert both[0].file == both[1].file
        await second.set_state(KEY, images_pb2.IMAGE_STATE_PUBLISHED)
        assert (await backend.stat(KEY)).state == images_pb2.IMAGE_STATE_PUBLISHED
        await second.close()


class TestAfterACrash:
    async def test_data_without_a_sidecar_are_completed_by_a_repeated_put(
        self, backend: LocalBackend, root: Path
    ) -> None:
        data = picture()
        await backend.put(image_of(data), content(data))
        (root / ".meta" / KEY).unlink()
        with pytest.raises(errors.NotFound):
            await backend.stat(KEY)
        with pytest.raises(errors.AlreadyExists):
            await backend.put(image_of(picture(seed=2)), content(picture(seed=2)))
        assert (await backend.put(image_of(data), content(data))).file == image_of(data).file
        assert (await backend.stat(KEY)).file.size_bytes == len(data)

    async def test_the_sweep_removes_old_data_that_were_not_acknowledged(
        self, backend: LocalBackend, root: Path
    ) -> None:
        data = picture()
        await backend.put(image_of(data), content(data))
        for name, age in (("generated/1-old.png", 3600), ("generated/2-new.png", 1)):
            (root / name).write_bytes(b"half an upload")
            os.utime(root / name, (time.time() - age,) * 2)
        (root / ".tmp" / "dead").write_bytes(b"litter")
        await LocalBackend(root).close()
        assert files_below(root) == [f".meta/{KEY}", KEY, "generated/2-new.png"]

    async def test_the_sweep_keeps_files_that_are_being_written(self, backend: LocalBackend, root: Path) -> None:
        files = backend._files
        with files._temporary(b"being written") as (_, name):
            assert files.sweep_temporary() == 0
            assert (root / ".tmp" / name).exists()

    async def test_a_damaged_sidecar_is_data_loss_and_not_a_missing_image(
        self, backend: LocalBackend, root: Path
    ) -> None:
        data = picture()
        await backend.put(image_of(data), content(data))
        for damage in (b"", b"{", b"[]", b'{"version": 2}', b'{"version": 1, "key": "other"}'):
            (root / ".meta" / KEY).write_bytes(damage)
            with pytest.raises(errors.DataLoss):
                await backend.stat(KEY)

    async def test_truncated_data_are_data_loss(self, backend: LocalBackend, root: Path) -> None:
        data = picture()
        await backend.put(image_of(data), content(data))
        os.truncate(root / KEY, 100)
        with pytest.raises(errors.DataLoss):
            [piece async for piece in backend.read(KEY, ByteRange(0, len(data)))]


class TestSymbolicLinks:
    async def test_a_link_to_a_file_is_not_followed(
        self, local: Client, root: Path, tmp_path: Path, image: bytes
    ) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(b"secret")
        stored = await local.store(image)
        (root / stored.key).unlink()
        (root / stored.key).symlink_to(secret)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await local.get(stored.key)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_a_link_to_a_folder_is_not_followed(self, backend: LocalBackend, root: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (root / "generated").symlink_to(outside)
        data = picture()
        with pytest.raises(errors.Unavailable):
            await backend.put(image_of(data), content(data))
        assert list(outside.iterdir()) == []

    async def test_a_fifo_is_not_found(self, local: Client, root: Path, image: bytes) -> None:
        stored = await local.store(image)
        (root / stored.key).unlink()
        os.mkfifo(root / stored.key)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await local.get(stored.key)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class TestFullDisk:
    async def test_a_full_disk_is_reported_and_leaves_no_files(
        self, small_disk: Path, start: Start, image: bytes
    ) -> None:
        client = await start(local_settings(small_disk / "media", health_seconds=0.2))
        small = await client.store(image)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.store(padded_to(4 * 1024 * 1024))
        error = errors.from_call(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
        assert error.retry_after_seconds is not None
        assert files_below(small_disk / "media") == sorted([f".meta/{small.key}", small.key])
        assert (await client.get(small.key))[1] == image
        status = await client.status()
        assert not status.healthy
        assert "full" in status.reason


class TestFailingDisk:
    async def test_a_failed_fsync_leaves_no_files(
        self, local: Client, root: Path, image: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(descriptor: int) -> None:
            raise OSError(errno.EIO, "broken disk")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await local.store(image)
        error = errors.from_call(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DISK_FAILED")
        assert files_below(root) == []
        assert (await local.store(image)).key

    async def test_the_response_comes_after_data_sidecar_and_folders_are_synced(
        self, local: Client, root: Path, image: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[str] = []
        fsync = os.fsync

        def noting(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(f"{root.resolve()}/"))
            fsync(descriptor)

        if not Path("/proc/self/fd").exists():
            pytest.skip("the order of fsync is read from /proc, which this system does not have")
        await local.store(picture(seed=9))
        monkeypatch.setattr(os, "fsync", noting)
        await local.store(image)
        order = [name if not name.startswith(".tmp/") else ".tmp/" for name in synced if not name.startswith(".probe")]
        assert order == [".tmp/", "generated", ".tmp/", ".meta/generated"]

    async def test_a_folder_that_cannot_be_created_prevents_the_start(self, tmp_path: Path, start: Start) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(OSError, match="file"):
            await start(local_settings(tmp_path / "file" / "media"))
