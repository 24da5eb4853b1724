"""Uploads of images: the body is collected in a temporary file, then sent to storage."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import IO, Any

import grpc
from fastapi import APIRouter, Request, Response
from frontispiece.storage.v1 import images_pb2
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from gateway.errors import FieldError, Problem
from gateway.middleware.access import ADMIN
from gateway.routes.dependencies import EDITOR, Context, RequestId
from gateway.routes.problems import WRITE, created, problems
from gateway.schemas.images import UploadedImage
from gateway.spool import Share, collect, pieces_of, temporary_file
from rpc import context, errors

log = logging.getLogger(__name__)

PATH = "/api/media/images"
FORM = "multipart/form-data"
CONTENT_TYPES = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "application/octet-stream",
    FORM,
    "image/jpg",
    "image/pjpeg",
    "image/x-png",
)
"""The types that are accepted; the first five are in OpenAPI. The bytes decide what an image is."""

FORM_BYTES = 64 * 1024
"""How much larger than its file a form may be."""

_MAX_FIELDS = 50

# Longer than the limit of storage, whose error names the reason. This one ends a call that storage does not answer.
_UPLOAD_SECONDS = 600.0

_NAMESPACE = uuid.UUID("b6a3c1de-3f0b-4b0e-9c55-2d4f0c7c7a10")

router = APIRouter(tags=["media"], dependencies=EDITOR)

_BYTES = {"type": "string", "format": "binary"}
_FORM = {"$ref": "#/components/schemas/UploadForm"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": _FORM if kind == FORM else _BYTES} for kind in CONTENT_TYPES[:5]},
    }
}


@router.post(
    PATH,
    status_code=201,
    responses={**WRITE, **problems(408, 507), **created("the image")},
    openapi_extra=_BODY,
    summary="Upload an image",
)
async def upload_image(app: Context, request: Request, request_id: RequestId, response: Response) -> UploadedImage:
    """Store a PNG, JPEG or WebP image.

    The body is the file itself, or a form (`multipart/form-data`) with one file. The bytes decide what it is, not the
    Content-Type. The image is turned upright, converted to sRGB and stored without its metadata. The same
    `Idempotency-Key` with the same bytes returns the same image; with other bytes it is 422. An image that no task and
    no post uses may expire.
    """
    most = app.settings.max_upload_bytes
    is_form = request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM
    if not is_form and int(request.headers.get("content-length", 0)) > most:
        raise _too_large(most)
    with app.spool.share() as share:
        pieces = _counted(request.stream(), share, most + (FORM_BYTES if is_form else 0), most)
        async with contextlib.AsyncExitStack() as stack:
            try:
                if is_form:
                    file, size = await _file_of(request, pieces, stack)
                else:
                    file = stack.enter_context(temporary_file())
                    size = await collect(pieces, file)
            except ClientDisconnect:
                raise Problem(408, "BODY_TOO_SLOW", "the body ended before its length") from None
            except OSError as error:
                log.error("the folder for temporary files does not work: %s", error)
                raise errors.ResourceExhausted("the gateway has no room for the upload", reason="DISK_FULL") from None
            header = _header(request, request_id, size, most)
            context.set_remaining_seconds(None)
            async with app.spool.sending:
                stored = await _store(app.clients.uploads, header, file)
    response.headers["location"] = f"/media/{stored.image.key}"
    return UploadedImage.from_messages(stored.image, stored.image.file)


async def _counted(pieces: AsyncIterator[bytes], share: Share, most: int, shown: int) -> AsyncIterator[bytes]:
    """The pieces, while they fit into the spool and are at most `most` bytes. The error names the limit `shown`."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > most:
            raise _too_large(shown)
        share.add(len(piece))
        yield piece


class _FormParser(MultiPartParser):
    """Starlette's parser with files on disk almost from the start."""

    spool_max_size = 64 * 1024


async def _file_of(
    request: Request, pieces: AsyncIterator[bytes], stack: contextlib.AsyncExitStack
) -> tuple[IO[bytes], int]:
    """The only file of a form, and its size. Text fields, which libraries add, are ignored."""
    parser = _FormParser(
        request.headers,
        pieces,  # type: ignore[arg-type]  # any iterator will do
        max_files=2,
        max_fields=_MAX_FIELDS,
        max_part_size=FORM_BYTES,
    )
    try:
        form: FormData = await parser.parse()
    except MultiPartException as error:
        raise Problem(400, "MALFORMED_FORM", f"the body is not a form: {error.message}") from None
    stack.push_async_callback(form.close)
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if len(files) != 1:
        message = f"must have one file, has {len(files) or 'none'}"
        raise Problem(422, "INVALID_ARGUMENT", f"the body {message}", [FieldError("", message)])
    return files[0].file, files[0].size or 0


def _header(request: Request, request_id: str, size: int, most: int) -> images_pb2.StoreImageHeader:
    if size == 0:
        raise _invalid("IMAGE_INVALID", "must be a PNG, JPEG or WebP image, is empty")
    if size > most:
        raise _too_large(most)
    header = images_pb2.StoreImageHeader(
        request_id=str(uuid.uuid5(_NAMESPACE, f"{ADMIN}:{request_id}")),
        size_bytes=size,
        metadata={"source": "upload"},
        origin=images_pb2.IMAGE_ORIGIN_UPLOAD,
    )
    if "idempotency-key" not in request.headers:  # a retry with a key has another time, so it must not count
        header.request_time.FromDatetime(datetime.now(UTC))
    return header


async def _store(images: Any, header: images_pb2.StoreImageHeader, file: IO[bytes]) -> images_pb2.Image:
    """Send a file to storage."""
    call = images.StoreImage(timeout=_UPLOAD_SECONDS)
    try:
        await _send(call, header, file)
        response = await call
    except grpc.aio.AioRpcError as error:
        raise _for_uploader(errors.from_call(error)) from None
    finally:
        call.cancel()
    image: images_pb2.Image = response.image
    return image


async def _send(call: Any, header: images_pb2.StoreImageHeader, file: IO[bytes]) -> None:
    try:
        await call.write(images_pb2.StoreImageRequest(header=header))
        async for piece in pieces_of(file):
            await call.write(images_pb2.StoreImageRequest(chunk=piece))
        await call.done_writing()
    except asyncio.InvalidStateError:
        return  # storage has already responded; its response says why
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.INTERNAL:
            raise
        # grpc.aio raises INTERNAL for a message that was being written when storage responded.
        raise errors.Unavailable("storage ended the upload early", reason="UPLOAD_BROKEN_OFF") from None


def _for_uploader(error: errors.RpcError) -> Exception:
    """An error of storage for the uploader. Its fields are those of the gRPC request, so they are left out."""
    if isinstance(error, errors.InvalidArgument):
        return _invalid(error.reason, "; ".join(violation.description for violation in error.violations))
    if error.reason == "UPLOAD_TOO_SLOW":
        return Problem(408, error.reason, error.message)
    return error


def _invalid(code: str, message: str) -> Problem:
    return Problem(422, code, f"the image: {message}", [FieldError("", message)])


def _too_large(most: int) -> Problem:
    return Problem(413, "BODY_TOO_LARGE", f"the body must be at most {most} bytes")
