"""Calls with a stream of requests, with the errors that grpc.aio loses.

When such a call ends while a request is being sent, grpc.aio 1.85 does not always report the status of the call:

- the half-close fails: CancelledError, although no task was cancelled (_consume_request_iterator in grpc/aio/_call.py),
  or InternalError if the caller called done_writing();
- a message fails: INTERNAL "Internal error from Core", which may overwrite the status that the server sent.

It also replaces an exception of the request iterator by CancelledError. Calls with one request have no such faults.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator
from typing import Any

import grpc

_INTERNAL_DETAILS = "Internal error from Core"
_SEND_ERRORS = (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError)


class StreamUnaryCall:
    """A call with many requests and one response, as grpc.aio.StreamUnaryCall.

    Awaiting it returns the response, or raises AioRpcError with the status of the call: UNAVAILABLE if the server died.
    It raises what the request iterator raised. It raises CancelledError only if the task or the call was cancelled.
    """

    def __init__(self, call: Any, requests: AsyncIterator[Any] | None) -> None:
        """Wrap `call`, which has no request iterator of its own, and send `requests`, if given."""
        self._call = call
        self._is_cancelled = False
        self._request_error: Exception | None = None
        self._status: grpc.aio.AioRpcError | None = None
        self._sender = asyncio.create_task(self._send_all(requests)) if requests is not None else None
        call.add_done_callback(self._on_done)

    def __getattr__(self, name: str) -> Any:
        """Everything else is that of the wrapped call."""
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the response."""
        return self._response().__await__()

    def cancel(self) -> bool:
        """Cancel the call; whether it was still in progress."""
        self._is_cancelled = True
        return bool(self._call.cancel())

    async def write(self, request: Any) -> None:
        """Send one request. Raises AioRpcError if the call has failed, InvalidStateError if it has its response."""
        await self._send(self._call.write(request))

    async def done_writing(self) -> None:
        """Send no more requests. Raises as `write` does."""
        await self._send(self._call.done_writing())

    async def _send(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except _SEND_ERRORS as error:
            await self  # raises the status of the call
            raise asyncio.InvalidStateError("the call has its response") from error

    async def _response(self) -> Any:
        try:
            return await self._call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_cancelled or (task is not None and task.cancelling()):
                raise
            raise self._request_error or self._status or _connection_lost() from None
        except grpc.aio.AioRpcError as error:
            if error.details() != _INTERNAL_DETAILS:
                raise
            raise self._status or _connection_lost() from None

    async def _send_all(self, requests: AsyncIterator[Any]) -> None:
        try:
            async for request in requests:
                try:
                    await self._call.write(request)
                except _SEND_ERRORS:
                    return  # the call has ended, and its status says why
            with contextlib.suppress(*_SEND_ERRORS):
                await self._call.done_writing()
        except Exception as error:
            self._request_error = error
            self._call.cancel()
        finally:
            if close := getattr(requests, "aclose", None):
                await close()

    def _on_done(self, call: Any) -> None:
        """Called each time that grpc.aio sets the status: keep the first one that is not its own."""
        if self._sender is not None:
            self._sender.cancel()
        code, details = _now(call.code()), _now(call.details())
        if self._status is None and code is not grpc.StatusCode.OK and details != _INTERNAL_DETAILS:
            metadata = _now(call.initial_metadata()), _now(call.trailing_metadata())
            self._status = grpc.aio.AioRpcError(code, *metadata, details, _now(call.debug_error_string()))


def _now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that does not have to wait."""
    try:
        coroutine.send(None)
    except StopIteration as returned:
        return returned.value
    coroutine.close()
    raise RuntimeError("the coroutine waits")


def _connection_lost() -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "the connection to the server was lost"
    )
