"""Uploads of images: the body is passed on to storage as it arrives."""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import grpc
from fastapi import APIRouter, Request, Response
from frontispiece.storage.v1 import images_pb2
from starlette.requests import ClientDisconnect

from gateway.errors import FieldError, Problem
from gateway.middleware.access import ADMIN
from gateway.routes.dependencies import EDITOR, Context, RequestId
from gateway.routes.problems import WRITE, problems
from gateway.schemas.images import UploadedImage
from rpc import context, errors

PATH = "/api/media/images"
CONTENT_TYPES = ("image/png", "image/jpeg", "image/webp")

_CHUNK_BYTES = 256 * 1024

# Longer than the limit of storage, whose error names the reason. This one ends a call that storage does not answer.
_UPLOAD_SECONDS = 600.0

_NAMESPACE = uuid.UUID("b6a3c1de-3f0b-4b0e-9c55-2d4f0c7c7a10")

router = APIRouter(tags=["media"], dependencies=EDITOR)

_BODY = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in CONTENT_TYPES},
    }
}


@router.post(
    PATH,
    status_code=201,
    responses={**WRITE, **problems(408, 411, 507)},
    openapi_extra=_BODY,
    summary="Upload an image",
)
async def upload_image(app: Context, request: Request, request_id: RequestId, response: Response) -> UploadedImage:
    """Store a PNG, JPEG or WebP image.

    The body is the file itself, with its Content-Length. The image is turned upright, converted to sRGB and stored
    without its metadata. The same `Idempotency-Key` with the same bytes returns the same image; with other bytes it is
    422. An image that no task and no post uses may expire.
    """
    stored = await _store(app.clients.uploads, _header(request, request_id), request)
    response.headers["location"] = f"/media/{stored.image.key}"
    return UploadedImage.from_messages(stored.image, stored.image.file)


def _header(request: Request, request_id: str) -> images_pb2.StoreImageHeader:
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise Problem(411, "LENGTH_REQUIRED", "send the size of the image as Content-Length")
    if int(length) == 0:
        raise _invalid("IMAGE_INVALID", "must be a PNG, JPEG or WebP image, is empty")
    header = images_pb2.StoreImageHeader(
        request_id=str(uuid.uuid5(_NAMESPACE, f"{ADMIN}:{request_id}")),
        size_bytes=int(length),
        metadata={"source": "upload"},
        origin=images_pb2.IMAGE_ORIGIN_UPLOAD,
    )
    if "idempotency-key" not in request.headers:  # a retry with a key has another time, so it must not count
        header.request_time.FromDatetime(datetime.now(UTC))
    return header


async def _store(images: Any, header: images_pb2.StoreImageHeader, request: Request) -> images_pb2.Image:
    """Pass the body on in chunks. Each write waits for storage, so nothing is buffered here."""
    context.set_remaining_seconds(None)
    call = images.StoreImage(timeout=_UPLOAD_SECONDS)
    try:
        await _send(call, header, request)
        response = await call
    except grpc.aio.AioRpcError as error:
        raise _for_uploader(errors.from_call(error)) from None
    except ClientDisconnect:
        raise Problem(408, "BODY_TOO_SLOW", "the body ended before its length") from None
    finally:
        call.cancel()
    image: images_pb2.Image = response.image
    return image


async def _send(call: Any, header: images_pb2.StoreImageHeader, request: Request) -> None:
    try:
        await call.write(images_pb2.StoreImageRequest(header=header))
        async for piece in request.stream():
            for start in range(0, len(piece), _CHUNK_BYTES):
                await call.write(images_pb2.StoreImageRequest(chunk=piece[start : start + _CHUNK_BYTES]))
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
