"""Server interceptors: what every call gets around its handler.

Both interceptors cache the handlers that they have wrapped, so that a call costs one look-up by its method.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from rpc import context, errors, validation

log = logging.getLogger("rpc.call")

# Probes call these every few seconds: they are logged at DEBUG.
_QUIET_PREFIXES = ("/grpc.health.", "/grpc.reflection.")

Handler = Any  # grpc.RpcMethodHandler, whose four kinds the stubs do not tell apart
Behavior = Any
Context = grpc.aio.ServicerContext[Any, Any]


class _WrappingInterceptor(grpc.aio.ServerInterceptor):
    """Replaces the behaviour of each handler by that which `wrap` returns."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]], details: grpc.HandlerCallDetails
    ) -> Handler:
        """The wrapped handler of the method; None if there is no such method."""
        method = details.method
        wrapped = self._handlers.get(method)
        if wrapped is None:
            handler = await continuation(details)
            if handler is None:
                return None
            wrapped = self._handlers[method] = self._wrap_handler(handler, method)
        return wrapped

    def _wrap_handler(self, handler: Handler, method: str) -> Handler:
        requests = "stream" if handler.request_streaming else "unary"
        responses = "stream" if handler.response_streaming else "unary"
        behavior = getattr(handler, f"{requests}_{responses}")
        make = getattr(grpc, f"{requests}_{responses}_rpc_method_handler")
        wrapped = self.wrap(behavior, method, handler.request_streaming, handler.response_streaming)
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def wrap(self, behavior: Behavior, method: str, streams_in: bool, streams_out: bool) -> Behavior:
        """The behaviour to use instead of `behavior`, which is that of `method` ("/package.Service/Method")."""
        raise NotImplementedError


class ValidationInterceptor(_WrappingInterceptor):
    """Checks every request against the limits of its contract (rpc.validation) before the handler gets it.

    Of a stream of requests, each is checked when the handler reads it from the request iterator. Requests that are not
    protobuf messages are not checked. It must come after CallInterceptor, which sends the error to the caller.
    """

    def wrap(self, behavior: Behavior, method: str, streams_in: bool, streams_out: bool) -> Behavior:
        """Check before `behavior` is called."""

        def call(request: Any, call_context: Context) -> Any:
            if streams_in:
                request = _CheckedRequests(request)
            elif isinstance(request, Message):
                validation.check(request)
            return behavior(request, call_context)

        return call


class _CheckedRequests:
    """An iterator of requests that checks each."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = requests
        self._iterator: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._iterator is None:  # not before: an iterator of gRPC that is never read warns when it is deleted
            self._iterator = aiter(self._requests)
        request = await anext(self._iterator)
        if isinstance(request, Message):
            validation.check(request)
        return request


class CallInterceptor(_WrappingInterceptor):
    """Gives every call its context, a log line, and errors that may be public.

    - It sets deadline, request id and principal for the handler (rpc.context).
    - It sends an RpcError as rich status, and any other exception as INTERNAL "internal error" with a reference id.
      grpc.aio would send the text of the exception to the caller.
    - It always raises CancelledError again: swallowing it leaks memory (grpc#43360).
    - It logs one line for each call, and drops the errors that grpc.aio logs when a response finds its caller gone.
    - `running` are the tasks of handlers in progress. Server.stop() does not wait for a handler whose caller has gone
      (grpc#37239).
    """

    def __init__(self) -> None:
        """Begin with no running handlers."""
        super().__init__()
        self.running: set[asyncio.Task[Any]] = set()
        logging.getLogger("grpc._cython.cygrpc").addFilter(_is_relevant)

    def wrap(self, behavior: Behavior, method: str, streams_in: bool, streams_out: bool) -> Behavior:
        """`behavior` with all of this around it."""
        return self._streaming(behavior, method) if streams_out else self._unary(behavior, method)

    def _unary(self, behavior: Behavior, method: str) -> Behavior:
        async def call(request: Any, call_context: Context) -> Any:
            async with self._around(method, call_context):
                return await behavior(request, call_context)

        return call

    def _streaming(self, behavior: Behavior, method: str) -> Behavior:
        async def call(request: Any, call_context: Context) -> AsyncIterator[Any]:
            async with self._around(method, call_context):
                responses = behavior(request, call_context)
                if isinstance(responses, Awaitable):  # of the health service, which writes to the context
                    await responses
                    return
                async with contextlib.aclosing(responses):
                    async for response in responses:
                        yield response

        return call

    @contextlib.asynccontextmanager
    async def _around(self, method: str, call_context: Context) -> AsyncIterator[None]:
        begin = time.perf_counter()
        task: Any = asyncio.current_task()
        self.running.add(task)
        try:
            _set_context(call_context)
            yield
            _log_call(method, grpc.StatusCode.OK, "", begin)
        except BaseException as error:
            await _fail(error, method, call_context, begin)
            raise
        finally:
            self.running.discard(task)


def _is_relevant(record: logging.LogRecord) -> bool:
    """Whether a record of grpc says more than that a response could not be sent, because the caller had gone."""
    error = record.exc_info[0] if record.exc_info else None
    return error is None or error.__name__ != "ExecuteBatchError"  # a private class


async def _fail(error: BaseException, method: str, call_context: Context, begin: float) -> None:
    """Log a call that ended with `error`. Raises AbortError instead of an error that must not be sent as it is."""
    if isinstance(error, grpc.aio.AbortError):
        _log_call(method, call_context.code() or grpc.StatusCode.UNKNOWN, call_context.details() or "", begin)
    elif isinstance(error, Exception):
        public = _public(error, method)
        _log_call(method, public.code, public.message, begin)
        await call_context.abort_with_status(errors.to_status(public))
    else:
        _log_call(method, grpc.StatusCode.CANCELLED, "", begin)


def _set_context(call_context: Context) -> None:
    metadata = {key: value for key, value in call_context.invocation_metadata() or ()}
    context.request_id.set(context.accept_id(_text(metadata.get(context.REQUEST_ID_KEY))))
    context.principal.set(context.accept_principal(_text(metadata.get(context.PRINCIPAL_KEY))))
    context.set_remaining_seconds(call_context.time_remaining())


def _text(value: str | bytes | None) -> str | None:
    return value if isinstance(value, str) else None


def _public(error: Exception, method: str) -> errors.RpcError:
    """The error to send to the caller."""
    if isinstance(error, errors.RpcError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return errors.from_call(error)  # another of our servers sent it, so it is public
    reference = uuid.uuid4().hex[:12]
    log.exception("unexpected error in %s", method, extra={"reference": reference}, exc_info=error)
    return errors.Internal(
        f"internal error, reference {reference}", reason="INTERNAL", metadata={"reference": reference}
    )


def _log_call(method: str, code: grpc.StatusCode, detail: str, begin: float) -> None:
    level = logging.DEBUG if method.startswith(_QUIET_PREFIXES) else logging.INFO
    fields: dict[str, object] = {"code": code.name, "ms": round((time.perf_counter() - begin) * 1e3, 1)}
    if detail:
        fields["detail"] = detail
    log.log(level, method, extra=fields)
