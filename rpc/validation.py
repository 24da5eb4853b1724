"""Checks a request against the limits in its contract: the field option `(types.v1.limits)` of limits.proto.

The checks are compiled once for each message type. Text is normalised in place, so a handler reads what was checked.
"""

import functools
import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from frontispiece.types.v1.limits_pb2 import Limits
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from rpc.errors import FieldViolation, InvalidArgument
from rpc.limits import describe_range, limits, number_problem, of_field

__all__ = ["check", "describe_range", "limits", "number_problem"]

DEFAULT_MAX_LENGTH = 100_000
"""The largest number of characters of a text for which the contract gives no max_length."""

MAX_VIOLATIONS = 32
"""The largest number of violations in one error. An error is sent in HTTP/2 headers, which are limited in size."""

# Unicode categories: Cc (control) and Cs (surrogate); Zs (space).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_MULTILINE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_LINE_BREAK = re.compile("\r\n|[\t\n\r\u0085\u2028\u2029]")
# They show letters in another order than they are stored. Scripts that run from right to left do not need them.
_OVERRIDES = str.maketrans(dict.fromkeys("\u202d\u202e"))
# Categories of characters that show nothing by themselves: control, format, surrogate, separators, marks.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Mn", "Me"})
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # fillers of Hangul, and the empty cell of Braille

Violations = list[FieldViolation]
ValueCheck = Callable[[Any, str, Violations], Any]
"""Checks a value, which is at a path of the request; appends what is wrong; returns the value to use instead."""


def check(message: Message) -> None:
    """Normalise the text of `message` in place and check each field. Raises InvalidArgument, naming the wrong ones."""
    found: Violations = []
    _check_message(message, "", found)
    if found:
        raise InvalidArgument.fields(found[:MAX_VIOLATIONS])


def _check_message(message: Message, prefix: str, found: Violations) -> None:
    checks, required = _plan(message.DESCRIPTOR)
    for field, value in message.ListFields():
        if (entry := checks.get(field)) and len(found) < MAX_VIOLATIONS:
            name, check_value = entry
            clean = check_value(value, prefix + name, found)
            if clean is not value:
                setattr(message, name, clean)
    for field in required:
        if problem := _missing(message, field):
            found.append(FieldViolation(prefix + field.name, problem))


@functools.cache
def _plan(descriptor: Descriptor) -> tuple[dict[FieldDescriptor, tuple[str, ValueCheck]], list[FieldDescriptor]]:
    """For a message type: the name and the check of each field that has one, and the required fields."""
    checks = {field: (field.name, found) for field in descriptor.fields if (found := _field_check(field))}
    return checks, [field for field in descriptor.fields if of_field(field).required]


def _missing(message: Message, field: FieldDescriptor) -> str:
    """Why a required field counts as not set; "" if it is set. In a oneof only the field that is set is required."""
    oneof = field.containing_oneof
    if field.has_presence and not message.HasField(field.name):
        return "" if oneof is not None and len(oneof.fields) > 1 else "must be set"
    value = getattr(message, field.name)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING or field.is_repeated:
        return "" if (value.strip(_SPACES + "\n\t") if isinstance(value, str) else value) else "must not be empty"
    return "" if value or (field.has_presence and field.enum_type is None) else "must be set"


def _field_check(field: FieldDescriptor) -> ValueCheck | None:
    limits = of_field(field)
    if not field.is_repeated:
        return _value_check(field, limits)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_check(limits, _value_check(field.message_type.fields_by_name["value"], limits))
    return _list_check(limits, _value_check(field, limits) or (lambda value, _path, _found: value))


def _value_check(field: FieldDescriptor, limits: Limits) -> ValueCheck | None:
    """The check of one value: of the field itself, of an item of a list or of a value of a map."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text_check(limits)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes_check(limits.max_bytes) if limits.HasField("max_bytes") else None
    if field.message_type is not None:
        return _nested_check
    if field.enum_type is not None:
        return _enum_check(field.enum_type.name, frozenset(field.enum_type.values_by_number))
    is_real = field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
    return _number_check(limits) if is_real or limits.ByteSize() else None


def _nested_check(value: Message, path: str, found: Violations) -> Message:
    _check_message(value, path + ".", found)
    return value


def _text_check(limits: Limits) -> ValueCheck:
    most = limits.max_length if limits.HasField("max_length") else DEFAULT_MAX_LENGTH
    hopeless = 4 * most + 1000  # NFC makes a text at most four times shorter; the rest is room for spaces at its ends
    multiline = limits.multiline
    pattern = re.compile(limits.pattern) if limits.pattern else None
    wrong_pattern = f"must be {limits.pattern_description or 'text that matches ' + limits.pattern}"
    control = _CONTROL_MULTILINE if multiline else _CONTROL
    wrong_control = "must not contain control characters" + (" except line breaks and tabs" if multiline else "")

    def check_text(value: str, path: str, found: Violations) -> str:
        clean = value
        if pattern is None and len(value) <= hopeless:  # normalising megabytes would delay all other calls
            clean = value.replace("\r\n", "\n") if multiline else _line(value)
            clean = unicodedata.normalize("NFC", clean)
        if len(clean) > most:
            found.append(FieldViolation(path, f"must have at most {most} characters, has {len(clean)}"))
        elif control.search(clean):
            found.append(FieldViolation(path, wrong_control))
        elif pattern is not None and clean and not pattern.fullmatch(clean):
            found.append(FieldViolation(path, wrong_pattern))
        return value if clean == value else clean

    return check_text


def _line(value: str) -> str:
    """A text as one line. A text in which nothing can be seen is empty: no page could show it, or link it."""
    line = _LINE_BREAK.sub(" ", value).translate(_OVERRIDES).strip(_SPACES)
    return line if any(map(_is_visible, line)) or _CONTROL.search(line) else ""  # control characters are refused


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in _INVISIBLE and character not in _BLANK_LETTERS


def _bytes_check(most: int) -> ValueCheck:
    def check_bytes(value: bytes, path: str, found: Violations) -> bytes:
        if len(value) > most:
            found.append(FieldViolation(path, f"must be at most {most} bytes, has {len(value)}"))
        return value

    return check_bytes


def _enum_check(name: str, numbers: frozenset[int]) -> ValueCheck:
    def check_enum(value: int, path: str, found: Violations) -> int:
        if value not in numbers:
            found.append(FieldViolation(path, f"must be a value of {name}; is {value}"))
        return value

    return check_enum


def _number_check(limits: Limits) -> ValueCheck:
    clamp = int(limits.max) if limits.clamp else None
    low = limits.min if limits.HasField("min") else -math.inf
    high = limits.max if limits.HasField("max") else math.inf
    multiple_of = limits.multiple_of

    def check_number(value: float, path: str, found: Violations) -> float:
        if low < value < high and not (multiple_of and value % multiple_of):  # the usual case
            return value
        if clamp is not None and value > clamp:
            return clamp
        if problem := number_problem(value, limits):
            found.append(FieldViolation(path, problem))
        return value

    return check_number


def _list_check(limits: Limits, check_item: ValueCheck) -> ValueCheck:
    def check_list(values: Any, path: str, found: Violations) -> Any:
        if limits.HasField("max_items") and len(values) > limits.max_items:
            found.append(FieldViolation(path, f"must have at most {limits.max_items} items, has {len(values)}"))
            return values
        first: dict[str, int] = {}
        for i, value in enumerate(values):
            if len(found) >= MAX_VIOLATIONS:
                break
            clean = check_item(value, f"{path}[{i}]", found)
            if clean is not value:
                values[i] = clean
            if clean == "":
                found.append(FieldViolation(f"{path}[{i}]", "must not be empty"))
            if limits.unique_by and first.setdefault(key := getattr(clean, limits.unique_by), i) != i:
                problem = f"must differ from the other items; item {first[key]} has the same"
                found.append(FieldViolation(f"{path}[{i}].{limits.unique_by}", problem))
        return values

    return check_list


def _map_check(limits: Limits, check_value: ValueCheck | None) -> ValueCheck:
    in_words = f"a name that matches {limits.key_pattern}"
    check_name = _text_check(Limits(pattern=limits.key_pattern, pattern_description=in_words))

    def check_map(values: Any, path: str, found: Violations) -> Any:
        size = sum(len(text.encode()) for item in values.items() for text in item) if limits.max_bytes else 0
        if limits.HasField("max_bytes") and size > limits.max_bytes:
            problem = f"must be at most {limits.max_bytes} bytes, names included, has {size}"
            found.append(FieldViolation(path, problem))
            return values
        for name, value in list(values.items()):
            at = f"{path}[{name[:64]!r}]"
            check_name(name, at, found)
            clean = check_value(value, at, found) if check_value else value
            if clean is not value:
                values[name] = clean
        return values

    return check_map
