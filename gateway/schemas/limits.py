"""The limits of message fields as OpenAPI keywords, and as JSON for forms."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from rpc import validation


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _numeric(field: FieldDescriptor) -> dict[str, Any]:
    limits = validation.limits(field.containing_type, field.name)
    keywords: dict[str, Any] = {}
    if limits.HasField("min"):
        keywords["exclusiveMinimum" if limits.exclusive_min else "minimum"] = _number(limits.min)
    if limits.HasField("max") and not limits.clamp:
        keywords["exclusiveMaximum" if limits.exclusive_max else "maximum"] = _number(limits.max)
    if limits.multiple_of:
        keywords["multipleOf"] = limits.multiple_of
    return keywords


def _text(field: FieldDescriptor) -> dict[str, Any]:
    limits = validation.limits(field.containing_type, field.name)
    keywords: dict[str, Any] = {}
    if limits.required:
        keywords["minLength"] = 1
    if limits.HasField("max_length"):
        keywords["maxLength"] = limits.max_length
    if limits.pattern:
        keywords["pattern"] = f"^({limits.pattern})$" if limits.required else f"^({limits.pattern})?$"
    return keywords


def openapi_limits(field: FieldDescriptor) -> dict[str, Any]:
    """The limits of a field as JSON Schema keywords."""
    limits = validation.limits(field.containing_type, field.name)
    one = _text(field) if field.type == FieldDescriptor.TYPE_STRING else _numeric(field)
    if not field.is_repeated:
        return one
    keywords: dict[str, Any] = {"maxItems": limits.max_items} if limits.HasField("max_items") else {}
    if one:
        keywords["items"] = {"type": "string", **one}
    return keywords


def form_limits(*messages: type[Message]) -> dict[str, dict[str, Any]]:
    """For each field with limits, the limits that a form needs; the first of several messages with a name decides."""
    found: dict[str, dict[str, Any]] = {}
    for message in messages:
        for field in message.DESCRIPTOR.fields:
            limits = validation.limits(message, field.name)
            set_ones = {one.name: value for one, value in limits.ListFields() if one.name not in _NOT_FOR_FORMS}
            if set_ones and field.name not in found:
                found[field.name] = {
                    name: _number(value) if isinstance(value, float) else value for name, value in set_ones.items()
                }
    return found


_NOT_FOR_FORMS = frozenset({"clamp", "key_pattern", "unique_by"})
