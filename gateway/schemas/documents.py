"""Messages as JSON documents of a shape, by a plan that is made once for each shape.

`Shape.from_messages` looks at every field of every message; a list of twenty posts took two milliseconds of it.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.schemas.base import Output, annotated
from gateway.schemas.enums import enum_name
from gateway.schemas.limits import field_of

Document = dict[str, Any]
Convert = Callable[[Any], Any]

_NONE: Mapping[str, Any] = MappingProxyType({})


class Plan:
    """Makes the documents of one shape from messages of one type. Null is an empty string or a time that is not set.

    It compiles one function that reads each field by its name, as dataclasses does for its methods: a loop over the
    fields takes twice as long.
    """

    def __init__(
        self,
        shape: type[Output],
        message: type[Message],
        paths: Mapping[str, str] = _NONE,
        plans: "Mapping[str, Plan]" = _NONE,
    ) -> None:
        """`paths`: where the fields are that the message does not have itself, such as `{"width": "file.width"}`.

        `plans`: those of fields that hold messages and have paths as well. Raises KeyError for a field of the shape
        that the message does not have.
        """
        converts: dict[str, Convert] = {}
        items = []
        for name, field in shape.model_fields.items():
            path = paths.get(name, name)
            descriptor = _field(message, path)
            nullable, inner = annotated(field.annotation)
            plan = plans.get(name)
            converts[name] = plan.document if plan else _conversion(descriptor, nullable, inner)
            value = f"message.{path}" if converts[name] is _same else f"{name}(message.{path})"
            items.append(f"{name!r}: {value}")
        source = f"lambda message: {{{', '.join(items)}}}"
        self.document: Callable[[Any], Document] = eval(source, {**converts})
        """The document of a message."""

    def __call__(self, message: Any) -> Document:
        """The document of a message."""
        return self.document(message)


def _field(message: type[Message], path: str) -> FieldDescriptor:
    folder, dot, rest = path.partition(".")
    field = field_of(message, folder)
    if not dot:
        return field
    assert field.message_type is not None
    return _field(GetMessageClass(field.message_type), rest)


def _conversion(field: FieldDescriptor, nullable: bool, shape: Any) -> Convert:
    single = _single(field, nullable, shape)
    if not field.is_repeated:
        return single
    return list if single is _same else (lambda values: [single(value) for value in values])


def _single(field: FieldDescriptor, nullable: bool, shape: Any) -> Convert:
    kind = field.message_type
    if kind is not None and kind.full_name == Timestamp.DESCRIPTOR.full_name:
        return _time_or_null if nullable else time
    if kind is not None and kind.full_name == Duration.DESCRIPTOR.full_name:
        return _seconds
    if kind is not None:
        return Plan(shape, GetMessageClass(kind)).document
    if field.enum_type is not None:
        return {number: enum_name(field.enum_type, number) for number in field.enum_type.values_by_number}.__getitem__
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode("ascii")
    return _null_if_empty if nullable else _same


def _same(value: Any) -> Any:
    return value


def _null_if_empty(value: Any) -> Any:
    return value or None


def time(value: Any) -> str:
    """A Timestamp as in its JSON form: RFC 3339 in UTC, with 0, 3, 6 or 9 digits after the point."""
    nanos = value.nanos
    text = _second(value.seconds)
    if not nanos:
        return f"{text}Z"
    if nanos % 1_000:
        return f"{text}.{nanos:09d}Z"
    if nanos % 1_000_000:
        return f"{text}.{nanos // 1_000:06d}Z"
    return f"{text}.{nanos // 1_000_000:03d}Z"


@lru_cache(maxsize=4096)  # the times of a post are read again and again
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def _time_or_null(value: Any) -> str | None:
    return time(value) if value.seconds or value.nanos else None


def _seconds(value: Duration) -> float:
    return value.ToMilliseconds() / 1000
