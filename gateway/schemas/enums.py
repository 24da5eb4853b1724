"""Names of enum values in REST: those of the contract in lower case, without the name of the enum."""

from typing import Any


def enum_name(enum: Any, number: int) -> str:
    """The name of an enum value in REST: `awaiting_approval` for TASK_STATE_AWAITING_APPROVAL."""
    return str(enum.values_by_number[number].name).removeprefix(_prefix(enum)).lower()


def enum_number(enum: Any, name: str) -> int:
    """The number of the enum value with this name in REST."""
    number: int = enum.values_by_name[_prefix(enum) + name.upper()].number
    return number


def _prefix(enum: Any) -> str:
    return str(enum.values_by_number[0].name).removesuffix("UNSPECIFIED")
