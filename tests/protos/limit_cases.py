"""Requests with one field at the edge of a limit or beyond it: for every limit of every request, from descriptors."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from frontispiece.generator.v1 import generator_pb2
from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.limits_pb2 import Limits
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from rpc.limits import of_field
from tests.protos.samples import EXAMPLES, UUID, png

FILES = (tasks_pb2, posts_pb2, images_pb2, generator_pb2)
METHODS: list[MethodDescriptor] = [
    method for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
]

# For the patterns that a text of one letter, repeated, does not match: a UUID, a SHA-256, a revision.
_SAMPLES = (UUID, "a" * 64)

_REALS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


@dataclass(frozen=True)
class Case:
    """A request, and the verdict on it."""

    method: MethodDescriptor
    request: Message
    field: str
    """The path of the field that is tested, as violations name it."""
    limit: str
    """The name of the limit that is tested."""
    is_accepted: bool

    def __str__(self) -> str:
        """The id of a parametrised test."""
        verdict = "edge" if self.is_accepted else "beyond"
        return f"{self.method.name}-{self.field}-{self.limit}-{verdict}"


Setter = Callable[[Message, Any], None]
"""Sets the field that is tested of a request."""


def cases() -> list[Case]:
    """Every case of every method."""
    return [
        Case(method, request, field, limit, is_accepted)
        for method in METHODS
        for field, limit, is_accepted, request in _requests(method)
    ]


def valid(message: Message) -> Message:
    """Set the required fields of a message."""
    for field in message.DESCRIPTOR.fields:
        if of_field(field).required and not _is_choice(field):
            _set(message, field, [_valid(field)] if field.is_repeated else _valid(field))
    return message


def _is_choice(field: FieldDescriptor) -> bool:
    """Whether a field belongs to a oneof; it is required only if it is the one that is set."""
    return field.containing_oneof is not None and len(field.containing_oneof.fields) > 1


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _requests(method: MethodDescriptor) -> Iterator[tuple[str, str, bool, Message]]:
    cls: type[Message] = GetMessageClass(method.input_type)

    def walk(message_type: Any, prefix: str, parent: Callable[[Message], Message]) -> Iterator[Any]:
        """The cases of a message type, which `parent` finds in a request (and makes)."""
        for field in message_type.fields:
            path = prefix + field.name
            for limit, is_accepted, value, suffix in _values(field):
                request = valid(cls())
                _set(parent(request), field, value)
                yield path + suffix, limit, is_accepted, request
            nested = field.message_type
            if nested is None or is_map(field) or nested.full_name.startswith("google."):
                continue
            index = "[0]." if field.is_repeated else "."
            yield from walk(nested, path + index, lambda r, f=field: _child(parent(r), f))  # type: ignore[misc]

    yield from walk(method.input_type, "", lambda request: request)


def _child(message: Message, field: FieldDescriptor) -> Message:
    """The nested message in a field, or the first one of a list; made, with its required fields, if it is missing."""
    value = getattr(message, field.name)
    if field.is_repeated:
        return value[0] if value else valid(value.add())
    if not message.HasField(field.name):
        value.SetInParent()
        valid(value)
    return value


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    """Set a field, or clear it (None)."""
    message.ClearField(field.name)
    if is_map(field):
        getattr(message, field.name).update(value or {})
    elif field.is_repeated:
        getattr(message, field.name).extend(value or [])
    elif isinstance(value, Message):
        getattr(message, field.name).CopyFrom(value)
        getattr(message, field.name).SetInParent()
    elif value is not None:
        setattr(message, field.name, value)


def _valid(field: FieldDescriptor, index: int = 0) -> Any:
    """A value that a field (or an item of it) accepts; it differs by `index`."""
    limits = of_field(field)
    if field.message_type is not None:
        message = valid(GetMessageClass(field.message_type)())
        if limits.unique_by:
            setattr(message, limits.unique_by, f"x{index}")
        return message
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(limits, 1 + index)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"x"
    if field.enum_type is not None:
        return max(field.enum_type.values_by_number)
    least = math.nextafter(limits.min, math.inf) if limits.exclusive_min else limits.min
    return least if field.cpp_type in _REALS else int(least)


def _text(limits: Limits, length: int) -> str:
    """A text of `length` that matches the pattern; if the pattern accepts one length only, of that."""
    candidates = [character * length for character in "ax1"] + list(_SAMPLES)
    for text in candidates:
        if not limits.pattern or re.fullmatch(limits.pattern, text):
            return text
    raise AssertionError(f"add a sample for the pattern {limits.pattern}")


def _values(field: FieldDescriptor) -> Iterator[tuple[str, bool, Any, str]]:
    """For each limit of a field: its name, whether the value is accepted, the value, and what follows the path."""
    limits = of_field(field)
    if limits.required:
        yield "required", False, "" if _is_choice(field) else None, ""
        if field.type == FieldDescriptor.TYPE_STRING and not limits.pattern:
            yield "blank", False, " \u3000", ""
    if is_map(field):
        yield from _map_values(limits)
    elif field.is_repeated:
        yield from _list_values(field, limits)
    else:
        for limit, is_accepted, value in _scalar_values(field, limits):
            yield limit, is_accepted, value, ""


def _list_values(field: FieldDescriptor, limits: Limits) -> Iterator[tuple[str, bool, Any, str]]:
    for limit, is_accepted, value in _scalar_values(field, limits):
        yield limit, is_accepted, [value], "[0]"
    if limits.HasField("max_items"):
        items = [_valid(field, index) for index in range(limits.max_items + 1)]
        yield "max_items", True, items[:-1], ""
        yield "max_items", False, items, ""
    if limits.unique_by:
        yield "unique_by", False, [_valid(field), _valid(field)], f"[1].{limits.unique_by}"


def _map_values(limits: Limits) -> Iterator[tuple[str, bool, Any, str]]:
    if limits.HasField("max_bytes"):
        count = 8
        full = {f"n{i}": "x" * (limits.max_bytes // count - 2) for i in range(count)}
        full["n0"] += "x" * (limits.max_bytes % count)
        yield "max_bytes", True, full, ""
        yield "max_bytes", False, {**full, "n1": full["n1"] + "x"}, ""
    if limits.key_pattern:
        yield "key_pattern", False, {"A b": "x"}, "['A b']"
    if limits.pattern:
        yield "pattern", False, {"n": "\u00e9"}, "['n']"


def _scalar_values(field: FieldDescriptor, limits: Limits) -> Iterator[tuple[str, bool, Any]]:
    if field.type == FieldDescriptor.TYPE_STRING:
        yield from _text_values(limits)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        if limits.HasField("max_bytes"):
            yield "max_bytes", True, png(limits.max_bytes)
            yield "max_bytes", False, png(limits.max_bytes + 1)
    elif field.enum_type is not None:
        yield "defined", True, max(field.enum_type.values_by_number)
        yield "defined", False, max(field.enum_type.values_by_number) + 1
    elif field.cpp_type in _REALS:
        yield from _real_values(limits)
    elif field.message_type is None and field.cpp_type != FieldDescriptor.CPPTYPE_BOOL:
        yield from _integer_values(field, limits)


def _text_values(limits: Limits) -> Iterator[tuple[str, bool, Any]]:
    if limits.HasField("max_length"):
        text = _text(limits, limits.max_length)
        yield "max_length", True, text
        yield "max_length", False, text + text[-1]
    if limits.pattern:
        yield "pattern", True, _text(limits, 1)
        yield "pattern", False, "\u00e9 \u00e9"
        for is_accepted, text in EXAMPLES.get(limits.pattern, []):
            yield "example", is_accepted, text
    else:
        if limits.HasField("max_length"):  # decomposed, it is twice as long before it is normalised
            yield "normalised", True, "e\u0301" * limits.max_length
            yield "blanks", not limits.multiline, f" {'x' * limits.max_length}\u3000"
        yield "control", False, "x\x07"


def _real_values(limits: Limits) -> Iterator[tuple[str, bool, Any]]:
    yield "finite", False, math.nan
    for name, bound, is_exclusive, outwards in (
        ("min", limits.min, limits.exclusive_min, -math.inf),
        ("max", limits.max, limits.exclusive_max, math.inf),
    ):
        if limits.HasField(name):
            yield name, True, math.nextafter(bound, -outwards) if is_exclusive else bound
            yield name, False, bound if is_exclusive else math.nextafter(bound, outwards)


def _integer_values(field: FieldDescriptor, limits: Limits) -> Iterator[tuple[str, bool, Any]]:
    step = limits.multiple_of or 1
    is_signed = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
    # Without presence, 0 is "not set": no limit applies to it.
    if limits.HasField("min"):
        if limits.min or field.has_presence:
            yield "min", True, int(limits.min)
        below = int(limits.min) - step
        if (below >= 0 or is_signed) and (below or field.has_presence):
            yield "min", False, below
    if limits.HasField("max"):
        yield "max", True, int(limits.max)
        yield ("clamp" if limits.clamp else "max"), limits.clamp, int(limits.max) + step
    if step > 1:
        yield "multiple_of", False, int(limits.min) + step - 1
