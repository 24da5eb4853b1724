"""Requests of a gRPC method as HTTP requests to the gateway, made from the message, and the fields that REST has."""

import base64
import functools
import json
import operator
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
from frontispiece.types.v1 import generation_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway.errors import rest_name
from gateway.schemas.enums import enum_name
from tests.protos.limit_cases import Case


@dataclass(frozen=True)
class Route:
    """An operation of the REST interface."""

    verb: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()


ROUTES: dict[str, list[Route]] = {
    "CreateTask": [
        Route("post", "/api/tasks"),
        Route("post", "/api/media/generate-image", (("prefer", "respond-async"),)),
    ],
    "GetTask": [Route("get", "/api/tasks/{task_id}")],
    "ListTasks": [Route("get", "/api/tasks")],
    "WatchTask": [Route("get", "/api/tasks/{task_id}/events")],
    "CancelTask": [Route("post", "/api/tasks/{task_id}/cancel")],
    "RetryTask": [Route("post", "/api/tasks/{task_id}/retry")],
    "ApproveTask": [Route("post", "/api/tasks/{task_id}/approve")],
    "RejectTask": [Route("post", "/api/tasks/{task_id}/reject")],
    "CreatePost": [Route("post", "/api/posts")],
    "GetPost": [Route("get", "/api/posts/{post}")],
    "ListPosts": [Route("get", "/api/posts")],
    "UpdatePost": [Route("patch", "/api/posts/{post}")],
    "PublishPost": [Route("post", "/api/posts/{post}/publish")],
    "UnpublishPost": [Route("post", "/api/posts/{post}/unpublish")],
    "DeletePost": [Route("delete", "/api/posts/{post}")],
    "CreateAuthor": [Route("post", "/api/authors")],
    "ListAuthors": [Route("get", "/api/authors")],
    "CreateCategory": [Route("post", "/api/categories")],
    "ListCategories": [Route("get", "/api/categories")],
    "ListTags": [Route("get", "/api/tags")],
    "StoreImage": [Route("post", "/api/media/images")],
    "GetImage": [Route("get", "/media/{key}")],
}
"""The operations that send a method, by its name."""

NO_ROUTE = {
    "SetImageState": "posts and the worker mark images",
    "ValidateParameters": "posts checks parameters when a task is created",
    "Generate": "the worker generates",
}
"""Methods that REST does not have, and who calls them."""

_MADE_BY_GATEWAY = "the gateway makes the header of an upload"
NOT_IN_REST = {
    ("CreateTask", "parameters"): "its fields stand in the body itself",
    ("CreateTask", "parameters.initial_image.url"): "it is output only",
    ("UpdatePost", "update_mask"): "it is the names of the fields in the body",
    **{
        (f"{verb}{noun}", "etag"): "it is If-Match, and an HTTP header cannot carry a control character"
        for noun, verbs in (
            ("Post", ("Update", "Publish", "Unpublish", "Delete")),
            ("Task", ("Cancel", "Retry", "Approve", "Reject")),
        )
        for verb in verbs
    },
    ("ListPosts", "view"): "REST returns the content of each post",
    ("StoreImage", "header.request_id"): "it is a hash of Idempotency-Key",
    ("StoreImage", "header.task_id"): _MADE_BY_GATEWAY,
    ("StoreImage", "header.size_bytes"): "it is Content-Length; a larger body is 413 (tests/gateway/test_uploads.py)",
    ("StoreImage", "header.sha256"): _MADE_BY_GATEWAY,
    ("StoreImage", "header.metadata"): _MADE_BY_GATEWAY,
    ("StoreImage", "header.origin"): _MADE_BY_GATEWAY,
    ("StoreImage", "chunk"): "the gateway cuts the body into chunks",
}
"""Fields that REST does not have, and why."""

NOT_FOUND = {
    ("GetPost", "id"): "POST_NOT_FOUND",
    ("GetPost", "slug"): "POST_NOT_FOUND",
    ("UpdatePost", "id"): "POST_NOT_FOUND",
    ("PublishPost", "id"): "POST_NOT_FOUND",
    ("UnpublishPost", "id"): "POST_NOT_FOUND",
    ("DeletePost", "id"): "POST_NOT_FOUND",
    ("GetImage", "key"): "IMAGE_NOT_FOUND",
}
"""Names in a path: one that nothing can have is 404 with this code, as one that nothing has."""

OTHER_REASONS = {"IMAGE_NOT_FOUND", "STOCK_NOT_CONFIGURED", "IDEMPOTENCY_MISMATCH"}
"""Codes of problems that name a field because of the state of the system, not because of its limits."""

_KEY = "Idempotency-Key"


async def send(client: httpx2.AsyncClient, route: Route, case: Case, value: int | None = None) -> httpx2.Response:
    """Send the request of a case to the gateway. `value` replaces that of the tested field."""
    values = _object(case.request, case.field)
    if value is not None:
        *parents, name = rest_name(case.field).split(".")
        functools.reduce(operator.getitem, parents, values)[name] = value
    headers: dict[str, Any] = dict(route.headers)
    if _KEY in values:
        headers[_KEY] = str(values.pop(_KEY)).encode()
    # A post has an id or a slug in its path.
    path = re.sub(r"\{(\w+)\}", lambda m: _in_path(values.pop(m[1] if m[1] in values else "slug")), route.path)
    if route.verb == "get":
        return await client.get(path, params=values, headers=headers)
    headers["content-type"] = "application/json"
    body = json.dumps(values, ensure_ascii=False).encode()  # NaN as most libraries write it
    return await client.request(route.verb.upper(), path, content=body, headers=headers)


def _in_path(value: str) -> str:
    """A value as a part of a path. A client would resolve ".." itself, so dots are escaped."""
    return quote(value, safe="/").replace(".", "%2E")


def _object(message: Message, tested: str) -> dict[str, Any]:
    """The set fields of a message and the field at the path `tested`, by their names in REST."""
    step, _, rest = tested.partition(".")
    name, _, index = step.partition("[")
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        is_set = len(value) > 0 if field.is_repeated else field in dict(message.ListFields())
        if not is_set and field.name != name:
            continue
        if field.name == "parameters":
            found |= _object(value, rest)
        elif field.name != "update_mask":  # the names of the fields in the body
            at = int(index.rstrip("]")) if index else -1
            found[rest_name(field.name)] = _value(field, value, rest if field.name == name else "", at)
    return found


def _value(field: FieldDescriptor, value: Any, tested: str, index: int) -> Any:
    if field.is_repeated:
        return [_single(field, one, tested if i == index else "") for i, one in enumerate(value)]
    return _single(field, value, tested)


def _single(field: FieldDescriptor, value: Any, tested: str) -> Any:
    if field.message_type is not None:
        return _object(value, tested)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if field.name == "source":  # REST has a boolean for the two sources
        return {generation_pb2.IMAGE_SOURCE_STOCK: False, generation_pb2.IMAGE_SOURCE_GENERATED: True}.get(value, value)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value) if value in field.enum_type.values_by_number else str(value)
    return value


def has_field(document: dict[str, Any], route: Route, field: str) -> bool:
    """Whether OpenAPI says that an operation has the field with this name in REST, as a parameter or in its body."""
    operation = document["paths"][route.path][route.verb]
    if field.lower() in {one["name"].lower() for one in operation.get("parameters", [])}:
        return True
    content = operation.get("requestBody", {}).get("content", {})
    schema: Any = content.get("application/json", {}).get("schema", {})
    for step in re.sub(r"\[\d+\]", "", field).split("."):
        schema = _resolved(document, schema).get("properties", {}).get(step)
        if schema is None:
            return False
    return True


def _resolved(document: dict[str, Any], schema: Any) -> Any:
    """The schema of an object, without references, alternatives and lists around it."""
    for alternative in schema.get("anyOf", []):
        if alternative.get("type") != "null":
            return _resolved(document, alternative)
    if "items" in schema:
        return _resolved(document, schema["items"])
    if "$ref" in schema:
        return _resolved(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    return schema
