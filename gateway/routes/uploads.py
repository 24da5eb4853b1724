"""Pictures that editors bring along: bytes in, on to storage as they come."""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

import grpc
from fastapi import APIRouter, Depends, Request, Response
from frontispiece.storage.v1 import images_pb2
from starlette.requests import ClientDisconnect

from gateway.auth import ADMIN
from gateway.errors import FieldError, Problem
from gateway.routes.responses import EDITOR, WRITE, RequestId, problems
from gateway.schemas.pictures import UploadedImage
from gateway.state import Gateway, gateway
from rpc import context, errors

PATH = "/api/media/images"
CONTENT_TYPES = ("image/png", "image/jpeg", "image/webp")

_CHUNK_BYTES = 256 * 1024

# Storage's own limit, which is shorter, tells why; this one ends a call that nobody answers.
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
    summary="Upload a picture",
)
async def upload_image(
    request: Request, here: Annotated[Gateway, Depends(gateway)], request_id: RequestId, response: Response
) -> UploadedImage:
    """Store a PNG, JPEG or WebP of at most 32 MiB, 8,192 pixels a side and 33 megapixels in all.

    The body is the file itself, with its Content-Length. With an `Idempotency-Key`, the same key and bytes give the
    same image, and the same key with other bytes is 422. What no task and no post uses may expire.
    """
    image = await _store(here.clients.images, _header(request, request_id), request)
    response.headers["location"] = f"/media/{image.key}"
    return UploadedImage(
        key=image.key,
        url=image.url,
        width=image.width,
        height=image.height,
        content_type=image.content_type,
        size_bytes=image.size_bytes,
        sha256=image.sha256,
        thumbhash=image.thumbhash,
    )


def _header(request: Request, request_id: str) -> images_pb2.StoreImageHeader:
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise Problem(411, "LENGTH_REQUIRED", "send the size of the image as Content-Length")
    if int(length) == 0:
        raise _wrong("IMAGE_INVALID", "must be a PNG, JPEG or WebP image, is empty")
    header = images_pb2.StoreImageHeader(
        request_id=str(uuid.uuid5(_NAMESPACE, f"{ADMIN}:{request_id}")),
        size_bytes=int(length),
        metadata={"source": "upload"},
    )
    if "idempotency-key" not in request.headers:  # else nobody knows when it was sent first
        header.request_time.FromDatetime(datetime.now(UTC))
    return header


async def _store(images: Any, header: images_pb2.StoreImageHeader, request: Request) -> images_pb2.Image:
    """Pass the body on piece by piece; nothing of it piles up here, since each write waits for storage."""
    context.set_remaining_seconds(None)
    call = images.StoreImage(timeout=_UPLOAD_SECONDS)
    try:
        await _send(call, header, request)
        answer = await call
    except grpc.aio.AioRpcError as error:
        raise _refusal(errors.from_call(error)) from None
    except ClientDisconnect:
        raise Problem(408, "BODY_TOO_SLOW", "the body ended before its length") from None
    finally:
        call.cancel()
    image: images_pb2.Image = answer.image
    return image


async def _send(call: Any, header: images_pb2.StoreImageHeader, request: Request) -> None:
    try:
        await call.write(images_pb2.StoreImageRequest(header=header))
        async for piece in request.stream():
            for start in range(0, len(piece), _CHUNK_BYTES):
                await call.write(images_pb2.StoreImageRequest(chunk=piece[start : start + _CHUNK_BYTES]))
        await call.done_writing()
    except asyncio.InvalidStateError:
        return  # storage has answered already: its answer says why
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.INTERNAL:
            raise
        # A message that was under way when storage answered: grpc.aio then tells INTERNAL in place of the answer.
        raise errors.Unavailable("storage ended the upload before its end", reason="UPLOAD_BROKEN_OFF") from None


def _refusal(error: errors.RpcError) -> Exception:
    """What a refusal of storage is to somebody who sent one body: its fields are no names of hers."""
    if isinstance(error, errors.InvalidArgument):
        return _wrong(error.reason, "; ".join(violation.description for violation in error.violations))
    if error.reason == "UPLOAD_TOO_SLOW":
        return Problem(408, error.reason, error.message)
    return error


def _wrong(code: str, message: str) -> Problem:
    return Problem(422, code, f"the image: {message}", [FieldError("", message)])
