"""Every limit of every field of every request has the same verdict everywhere: at its edge, and one beyond."""

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from rpc.limits import of_field
from rpc.validation import check
from tests.protos.limit_cases import METHODS, Case, cases, is_map, valid
from tests.protos.verdicts import violations

CASES = cases()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_a_request_with_its_required_fields_is_accepted(method: object) -> None:
    check(valid(GetMessageClass(method.input_type)()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_checker_accepts_the_edge_and_refuses_one_beyond(case: Case) -> None:
    found = violations(case)
    assert set(found) == (set() if case.is_accepted else {case.field})


def _fields(message: Descriptor, prefix: str = "") -> list[tuple[str, FieldDescriptor]]:
    found = []
    for field in message.fields:
        found.append((prefix + field.name, field))
        nested = field.message_type
        if nested is not None and not is_map(field) and not nested.full_name.startswith("google."):
            found += _fields(nested, f"{prefix}{field.name}.")
    return found


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_lists_and_bytes_of_requests_have_a_largest_size(method: object) -> None:
    unlimited = [
        path
        for path, field in _fields(method.input_type)  # type: ignore[attr-defined]
        if (field.is_repeated and not (of_field(field).HasField("max_items") or of_field(field).HasField("max_bytes")))
        or (field.type == FieldDescriptor.TYPE_BYTES and not of_field(field).HasField("max_bytes"))
    ]
    assert not unlimited


UNCHECKED_TASK = "a text that is not a UUID is the id of no task: NOT_FOUND"
EXCEPTIONS = {
    "storage.v1.StoreImageHeader.request_id": "it is part of a file name",
    "posts.v1.GetPostRequest.slug": "a text that is not a slug is the name of no post: NOT_FOUND",
    "posts.v1.GetTaskRequest.task_id": UNCHECKED_TASK,
    "posts.v1.WatchTaskRequest.task_id": UNCHECKED_TASK,
    "posts.v1.CancelTaskRequest.task_id": UNCHECKED_TASK,
    "posts.v1.RetryTaskRequest.task_id": UNCHECKED_TASK,
    "posts.v1.ApproveTaskRequest.task_id": UNCHECKED_TASK,
    "posts.v1.RejectTaskRequest.task_id": UNCHECKED_TASK,
}
"""Fields with other limits than the fields with the same meaning, and why."""


def meaning(name: str) -> str:
    """What a field refers to, by its name; "" for a field that is no name of something."""
    if name in {"slug", "request_id"}:
        return name
    return "object key" if name == "key" or name.endswith("_key") else "id" if name.endswith("_id") else ""


def references() -> dict[str, dict[str, tuple[object, ...]]]:
    """For each meaning, the limits of the fields of requests that have it, by the full names of the fields."""
    found: dict[str, dict[str, tuple[object, ...]]] = {}
    for method in METHODS:
        for _, field in _fields(method.input_type):
            if field.type == FieldDescriptor.TYPE_STRING and (group := meaning(field.name)):
                limits = of_field(field)
                size = limits.max_length if limits.HasField("max_length") else None
                name = field.full_name.removeprefix("frontispiece.")
                found.setdefault(group, {})[name] = (limits.pattern, limits.pattern_description, size)
    return found


@pytest.mark.parametrize("group", ["slug", "request_id", "object key", "id"])
def test_fields_with_the_same_meaning_have_the_same_limits(group: str) -> None:
    fields = references()[group]
    usual = {name: limits for name, limits in fields.items() if name not in EXCEPTIONS}
    assert len(usual) > 1
    assert len(set(usual.values())) == 1, usual
    needless = {name for name, limits in fields.items() if name in EXCEPTIONS and limits in usual.values()}
    assert not needless


def test_the_exceptions_are_fields_of_requests() -> None:
    assert EXCEPTIONS.keys() <= {name for fields in references().values() for name in fields}
