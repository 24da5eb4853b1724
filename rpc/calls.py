"""What every call to a server gets: its context, errors that may be seen, a log line, and to be counted while it runs.

Handlers are wrapped once, when a service is added. A grpc interceptor could do the same, but makes every call look for
its handler through one coroutine more.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any

import grpc

from rpc import context, errors

log = logging.getLogger("rpc.call")

# Probes come every few seconds for ever: not worth a line.
_QUIET_PREFIXES = ("/grpc.health.", "/grpc.reflection.")

Handler = Any  # grpc.RpcMethodHandler of four shapes; the stubs cannot tell them apart
Context = grpc.aio.ServicerContext[Any, Any]


class Calls:
    """Wraps the handlers of a server.

    - sets deadline, request id and principal for the handler (rpc.context);
    - turns an RpcError into its rich status, and anything else into INTERNAL "internal error" with a reference id:
      grpc.aio would send the text of the exception to the caller;
    - re-raises CancelledError, always: swallowing it leaks memory (grpc#43360);
    - logs one line a call, and none of grpc's own where the caller is gone when its answer comes;
    - remembers running handlers, because Server.stop() does not wait for one whose caller has gone (grpc#37239).
    """

    def __init__(self) -> None:
        """Start with no running handlers."""
        self.running: set[asyncio.Task[Any]] = set()
        logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)

    def wrap(self, handler: Handler, method: str) -> Handler:
        """The handler of `method` ("/package.Service/Method") with all of this around it."""
        streams_in, streams_out = handler.request_streaming, handler.response_streaming
        shape = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
        around = self._streaming if streams_out else self._unary
        make = getattr(grpc, f"{shape}_rpc_method_handler")
        return make(around(getattr(handler, shape), method), handler.request_deserializer, handler.response_serializer)

    def _unary(self, behavior: Any, method: str) -> Any:
        async def call(request: Any, call_context: Context) -> Any:
            begin = time.perf_counter()
            task: Any = asyncio.current_task()
            self.running.add(task)
            try:
                _set_context(call_context)
                response = await behavior(request, call_context)
                _log_call(method, grpc.StatusCode.OK, "", begin)
                return response
            except BaseException as error:
                await _failed(error, method, call_context, begin)
                raise
            finally:
                self.running.discard(task)

        return call

    def _streaming(self, behavior: Any, method: str) -> Any:
        async def call(request: Any, call_context: Context) -> AsyncIterator[Any]:
            begin = time.perf_counter()
            task: Any = asyncio.current_task()
            self.running.add(task)
            try:
                _set_context(call_context)
                # Health and reflection write to the context instead of yielding.
                responses = behavior(request, call_context)
                if isinstance(responses, Awaitable):
                    await responses
                else:
                    async with contextlib.aclosing(responses):
                        async for response in responses:
                            yield response
                _log_call(method, grpc.StatusCode.OK, "", begin)
            except BaseException as error:
                await _failed(error, method, call_context, begin)
                raise
            finally:
                self.running.discard(task)

        return call


class Registrar:
    """Stands for a server where services are added, and hands it their handlers wrapped."""

    def __init__(self, server: grpc.aio.Server, calls: Calls) -> None:
        """Add to `server`."""
        self._server = server
        self._calls = calls

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Add the handlers of a service by the names of its methods."""
        wrapped = {
            name: self._calls.wrap(handler, f"/{service_name}/{name}") for name, handler in method_handlers.items()
        }
        self._server.add_registered_method_handlers(service_name, wrapped)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Nothing: generated code adds each method twice, and this is the way that takes longer with each call."""


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record of grpc's is more than that an answer could not be sent, since its caller had gone."""
    error = record.exc_info[0] if record.exc_info else None
    return error is None or error.__name__ != "ExecuteBatchError"  # a private class


async def _failed(error: BaseException, method: str, call_context: Context, begin: float) -> None:
    """Log a call that ended with `error`. Raises AbortError in place of an error that may not leave as it is."""
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
    """What the caller may know of an error."""
    if isinstance(error, errors.RpcError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return errors.from_call(error)  # of another of our servers, which made it public already
    reference = uuid.uuid4().hex[:12]
    log.exception("unexpected error in %s", method, extra={"reference": reference}, exc_info=error)
    return errors.Internal(
        f"internal error, reference {reference}", reason="INTERNAL", metadata={"reference": reference}
    )


def _log_call(method: str, code: grpc.StatusCode, detail: str, begin: float) -> None:
    level = logging.DEBUG if method.startswith(_QUIET_PREFIXES) else logging.INFO
    if not log.isEnabledFor(level):
        return
    # Not log.log(): it looks for the calling line, which is this one, and takes as long as all the rest.
    record = logging.LogRecord(log.name, level, "", 0, method, None, None)
    record.code, record.ms = code.name, round((time.perf_counter() - begin) * 1e3, 1)
    if detail:
        record.detail = detail
    log.handle(record)
