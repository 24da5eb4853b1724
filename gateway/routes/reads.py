"""Reads that everyone may make: routed and called without FastAPI, kept in the cache, documented by FastAPI.

FastAPI takes longer to find such a route, to resolve its parameters and to validate its response than the whole answer
takes. The handler returns an Answer, or any other response, which is not kept. It declares the request, its path
parameter and a query model; further parameters (headers) are for the OpenAPI document and keep their defaults.
"""

import inspect
from collections.abc import Callable, Iterable, Set
from functools import partial
from typing import Any, TypeVar, get_type_hints

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.cache.answers import Answer
from gateway.cache.keys import key
from gateway.cache.middleware import is_anonymous
from gateway.context import AppContext
from gateway.errors import MAX_NAME, FieldError, Problem
from gateway.schemas.base import Input
from rpc.validation import MAX_VIOLATIONS

M = TypeVar("M", bound=Input)

_METHODS = frozenset({"GET", "HEAD"})


class ReadRoute(APIRoute):
    """A read. Its path has at most one parameter, which is the last part."""

    only_known = True
    """Whether query parameters that the read does not have are refused. Otherwise they are ignored."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Find the query model in the signature of `endpoint`."""
        super().__init__(path, endpoint, **options)
        hints = get_type_hints(endpoint)
        self._query = next((name for name, one in hints.items() if _is_input(one)), "")
        self._model: Any = hints.get(self._query, Input)
        self._empty: Any = self._model() if self._query else None
        self._parameter = path.partition("{")[2].rstrip("}")
        assert self._parameter or "request" in inspect.signature(endpoint).parameters
        self.app = self.serve

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises what the handler does."""
        response = await self.answer(scope)
        if isinstance(response, Answer):
            response.route = self
            await response.respond(scope, send)
        else:
            await response(scope, receive, send)

    async def answer(self, scope: Scope) -> Answer | Response:
        """The answer to a request, from the cache if everyone gets the same."""
        request = Request(scope)
        arguments: dict[str, Any] = {"request": request}
        if self._parameter:
            arguments[self._parameter] = scope["path"].rpartition("/")[2]
        if self._query:
            arguments[self._query] = parsed(self._model, request) if scope["query_string"] else self._empty
        elif self.only_known and scope["query_string"]:
            refuse_unknown(request, frozenset())
        make = partial(self.endpoint, **arguments)
        name = key(scope) if is_anonymous(scope) else None
        context: AppContext = scope["app"].state.context
        made: Answer | Response = await (make() if name is None else context.cache.get(name, make))
        return made


class OpenRead(ReadRoute):
    """A read that ignores query parameters that it does not have."""

    only_known = False


class ReadsMiddleware:
    """Calls the read of a path without the router of FastAPI, whose own routes of these paths only document them."""

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter]) -> None:
        """Wrap `app`; `routers` hold the reads."""
        self._app = app
        self._exact: dict[str, ReadRoute] = {}
        self._below: dict[str, ReadRoute] = {}
        for route in (one for router in routers for one in router.routes):
            assert isinstance(route, ReadRoute)
            table = self._below if "{" in route.path else self._exact
            table[route.path.partition("{")[0]] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] in _METHODS:
            path: str = scope["path"]
            folder, slash, name = path.rpartition("/")
            route = self._exact.get(path) or (self._below.get(folder + slash) if name else None)
            if route is not None:
                scope["route"] = route  # for the metrics
                await route.serve(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_input(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Input)


def parsed(model: type[M], request: Request) -> M:
    """The query of a request. Raises RequestValidationError, and Problem for a wrong name and for one given twice."""
    refuse_unknown(request, {field.alias or name for name, field in model.model_fields.items()})
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("query", *one["loc"])} for one in error.errors()]) from None


def refuse_unknown(request: Request, known: Set[str]) -> None:
    """Raise Problem for a query parameter that is not known, and for one that is given twice."""
    given = [name for name, _ in request.query_params.multi_items()]
    wrong = {name: "is not a parameter of this address" for name in given if name not in known}
    wrong |= {name: "must be given once" for name in given if name in known and given.count(name) > 1}
    if wrong:
        fields = [FieldError(name[:MAX_NAME], problem) for name, problem in wrong.items()][:MAX_VIOLATIONS]
        detail = "; ".join(f"{one.field}: {one.message}" for one in fields)
        raise Problem(422, "INVALID_ARGUMENT", detail, fields)
