"""The limits of the fields of a contract, as the option `(types.v1.limits)` gives them, and numbers in words."""

import math

from frontispiece.types.v1 import limits_pb2
from frontispiece.types.v1.limits_pb2 import Limits
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message


def limits(message: Descriptor | type[Message], path: str) -> Limits:
    """The limits of the field at `path` ("parameters.initial_image.strength") of a message type.

    No field of the result is set if the contract gives no limits. Raises KeyError if the field does not exist.
    """
    descriptor = message if isinstance(message, Descriptor) else message.DESCRIPTOR
    *parents, name = path.split(".")
    for parent in parents:
        nested = descriptor.fields_by_name[parent].message_type
        if nested is None:
            raise KeyError(path)
        descriptor = nested
    return of_field(descriptor.fields_by_name[name])  # type: ignore[arg-type]  # two names of one class


def of_field(field: FieldDescriptor) -> Limits:
    """The limits of a field."""
    found: Limits = field.GetOptions().Extensions[limits_pb2.limits]  # type: ignore[index]
    return found


def describe_range(limits: Limits) -> str:
    """The numbers that `limits` accept, in words: "a multiple of 8, from 64 to 4096 pixels"; "" for any number."""
    lower, upper = limits.HasField("min"), limits.HasField("max")
    if lower and upper and not (limits.exclusive_min or limits.exclusive_max):
        text = f"from {limits.min:.16g} to {limits.max:.16g}"
    else:
        least = f"{'greater than' if limits.exclusive_min else 'at least'} {limits.min:.16g}" if lower else ""
        most = f"{'less than' if limits.exclusive_max else 'at most'} {limits.max:.16g}" if upper else ""
        text = " and ".join(filter(None, (least, most)))
    if text and limits.unit:
        text += f" {limits.unit}"
    multiple = f"a multiple of {limits.multiple_of}" if limits.multiple_of > 1 else ""
    return ", ".join(filter(None, (multiple, text)))


def number_problem(value: float, limits: Limits) -> str:
    """What is wrong with a number: "must be from 1 to 80 steps; is 81"; "" if nothing is. Ignores `clamp`."""
    if not math.isfinite(value):
        return f"must be a finite number; is {value}"
    low = limits.HasField("min") and (value <= limits.min if limits.exclusive_min else value < limits.min)
    high = limits.HasField("max") and (value >= limits.max if limits.exclusive_max else value > limits.max)
    if low or high or (limits.multiple_of and value % limits.multiple_of):
        return f"must be {describe_range(limits)}; is {value}"
    return ""
