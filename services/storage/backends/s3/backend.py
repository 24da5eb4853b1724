"""Images in an S3 bucket, on AWS or on a compatible server."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from botocore.exceptions import ClientError
from frontispiece.storage.v1.images_pb2 import ImageBackend, ImageState

from rpc import context
from rpc.errors import AlreadyExists, NotFound, Unavailable
from services.storage.backends.base import READ_SIZE
from services.storage.backends.s3 import errors as s3_errors
from services.storage.backends.s3 import objects as s3_objects
from services.storage.backends.s3.client import ATTEMPTS, LazyClient, S3Options
from services.storage.backends.states import STATE_NAMES
from services.storage.content import Content
from services.storage.keys import IMAGE_PREFIX
from services.storage.models import ByteRange, SpoolUsage, StoredImage

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

CALL_SECONDS = 25.0
"""The longest time of a call to S3, all attempts together."""

_MARGIN_SECONDS = 0.5
_READ_ATTEMPTS = 3
_PROBE_KEY = f"{IMAGE_PREFIX}.probe"
_PROBE_CONTENT = b"frontispiece writes and reads this to see whether the bucket works\n"

P = ParamSpec("P")
T = TypeVar("T")


class S3Backend:
    """Images in a bucket. boto3 blocks, so each call runs in a thread of its own pool."""

    kind = ImageBackend.IMAGE_BACKEND_S3

    def __init__(self, options: S3Options, scratch: Path) -> None:
        """Does not connect yet. `scratch` is a folder for temporary files."""
        self.scratch = scratch
        self.bucket = options.bucket
        self._lazy = LazyClient(options)
        self._encryption: dict[str, Any] = {"ServerSideEncryption": options.encryption} if options.encryption else {}
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="s3")

    async def check(self) -> None:
        """Write and read a probe object below `generated/`, where the policy of the writer allows it."""
        await self._checking(self._write_probe)

    async def ping(self) -> None:
        """Read the probe object: a write every few seconds would fill a versioned bucket."""
        await self._checking(self._read_probe)

    async def put(self, image: StoredImage, data: Content) -> StoredImage:
        """Store an image with one conditional request."""
        image = replace(image, backend=self.kind)
        try:
            await self._call(self._put, image, data.copy())
        except s3_errors.Boto3Error as error:
            if not s3_errors.is_taken(error):
                raise s3_errors.translated(error, "storing") from error
            return await self._existing(image)
        return image

    async def stat(self, key: str) -> StoredImage:
        """The description of an image, from HEAD and the tags, requested at the same time."""
        # HEAD returns 404 for a missing bucket too; the response to the other request says which is missing.
        tags: dict[str, str] | BaseException
        head: dict[str, Any] | BaseException
        tags, head = await asyncio.gather(
            self._call(self._tags, key), self._call(self._head, key), return_exceptions=True
        )
        if isinstance(tags, BaseException):
            raise _reading_error(tags, key) from tags
        if isinstance(head, BaseException):
            raise _reading_error(head, key) from head
        return s3_objects.image(key, head, tags)

    async def keys_in(self, folder: str) -> list[str]:
        """Keys of images in a folder."""
        try:
            return await self._call(self._list, folder)
        except s3_errors.Boto3Error as error:
            raise s3_errors.translated(error, "listing") from error

    async def read(self, key: str, wanted: ByteRange) -> AsyncGenerator[bytes]:
        """The bytes of a range. After a broken connection, reading continues where it stopped."""
        position, end = wanted.start, wanted.start + wanted.size
        failures = 0
        while position < end:
            body = None
            try:
                body = await self._call(self._open, key, position, end)
                while piece := await self._call(body.read, min(READ_SIZE, end - position)):
                    position += len(piece)
                    failures = 0
                    yield piece
                if position < end:
                    raise OSError(f"the body ended {end - position} bytes early")
            except s3_errors.Boto3Error as error:
                failures += 1
                if s3_errors.is_missing(error) or failures == _READ_ATTEMPTS:
                    raise s3_errors.translated(error, "reading", key) from error
            finally:
                if body is not None:
                    body.close()

    async def set_state(self, key: str, state: ImageState) -> StoredImage:
        """Set the tag `state`, which lifecycle rules read. LastModified does not change."""
        before = await self.stat(key)
        try:
            await self._call(self._tag, key, state)
        except s3_errors.Boto3Error as error:
            raise s3_errors.translated(error, "marking", key) from error
        return replace(before, state=state)

    async def direct_url(self, key: str, ttl_seconds: float) -> str | None:
        """A presigned URL (SigV4, regional), for a redirect only: it must not be stored because it expires."""
        try:
            return await self._call(self._presign, key, int(ttl_seconds))
        except s3_errors.Boto3Error as error:
            raise s3_errors.translated(error, "signing a URL") from error

    def spooled(self) -> SpoolUsage:
        """Nothing."""
        return SpoolUsage()

    async def close(self) -> None:
        """Close the connections. Calls that wait for a thread are cancelled; running calls end by their timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._lazy.close)

    async def _call(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Run a call in the pool, until shortly before the caller's deadline; its thread ends by its own timeouts."""
        left = context.remaining_seconds()
        seconds = CALL_SECONDS if left is None else max(0.05, min(CALL_SECONDS, left - _MARGIN_SECONDS))
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, lambda: function(*arguments, **keywords)
                )
        except TimeoutError as error:
            raise Unavailable(
                f"S3 did not respond within {seconds:.1f} s",
                reason="S3_UNAVAILABLE",
                retry_after_seconds=s3_errors.RETRY_SECONDS,
            ) from error

    async def _checking(self, probe: Callable[[], None]) -> None:
        try:
            await self._call(probe)
        except s3_errors.Boto3Error as error:
            raise s3_errors.checked(error, self.bucket) from error

    async def _existing(self, image: StoredImage) -> StoredImage:
        """The image that a conditional put found. The same upload is a success: its response may have been lost."""
        try:
            found = await self.stat(image.key)
        except NotFound as error:
            raise Unavailable(
                "another write of the same key to S3 is in progress",
                reason="S3_CONFLICT",
                retry_after_seconds=s3_errors.RETRY_SECONDS,
            ) from error
        if not found.is_same_upload(image):
            raise AlreadyExists(f"{image.key} has another image", reason="KEY_TAKEN")
        return found

    @property
    def _client(self) -> "S3Client":
        return self._lazy.get()

    def _put(self, image: StoredImage, data: Content) -> None:
        with data:
            self._put_object(image, data)

    def _put_object(self, image: StoredImage, data: Content) -> None:
        for attempt in range(ATTEMPTS):
            data.seek(0)
            try:
                self._client.put_object(Bucket=self.bucket, **s3_objects.put_arguments(image, data), **self._encryption)
                return
            except ClientError as error:
                # The bytes were damaged on the way and are correct here.
                if s3_errors.code_of(error) != "BadDigest" or attempt == ATTEMPTS - 1:
                    raise

    def _head(self, key: str) -> dict[str, Any]:
        return dict(self._client.head_object(Bucket=self.bucket, Key=key))

    def _list(self, folder: str) -> list[str]:
        response = self._client.list_objects_v2(Bucket=self.bucket, Prefix=folder, MaxKeys=10)
        return [found["Key"] for found in response.get("Contents", [])]

    def _tags(self, key: str) -> dict[str, str]:
        response = self._client.get_object_tagging(Bucket=self.bucket, Key=key)
        return {tag["Key"]: tag["Value"] for tag in response["TagSet"]}

    def _tag(self, key: str, state: ImageState) -> None:
        tags = {**self._tags(key), "state": STATE_NAMES[state]}  # the call replaces all tags
        self._client.put_object_tagging(
            Bucket=self.bucket,
            Key=key,
            Tagging={"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]},
        )

    def _open(self, key: str, start: int, end: int) -> Any:
        return self._client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={start}-{end - 1}")["Body"]

    def _presign(self, key: str, ttl_seconds: int) -> str:
        parameters = {"Bucket": self.bucket, "Key": key}
        return self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=ttl_seconds)

    def _write_probe(self) -> None:
        self._client.put_object(
            Bucket=self.bucket,
            Key=_PROBE_KEY,
            Body=_PROBE_CONTENT,
            ContentType="text/plain",
            Tagging="state=probe",
            ChecksumCRC32=s3_objects.crc32([_PROBE_CONTENT]),
            **self._encryption,
        )
        self._read_probe()

    def _read_probe(self) -> None:
        content = self._client.get_object(Bucket=self.bucket, Key=_PROBE_KEY)["Body"].read()
        if content != _PROBE_CONTENT:
            raise OSError(f"the content of the probe object differs from what was written (process {os.getpid()})")


def _reading_error(error: BaseException, key: str) -> BaseException:
    return s3_errors.translated(error, "reading", key) if isinstance(error, s3_errors.Boto3Error) else error
