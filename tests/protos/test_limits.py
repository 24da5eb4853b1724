"""Every limit of every field of every request has the same verdict everywhere: at its edge, and one beyond."""

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from rpc import errors
from rpc.limits import of_field
from rpc.validation import check
from tests.protos.limit_cases import METHODS, Case, cases, is_map, valid

CASES = cases()


def violations(case: Case) -> dict[str, str]:
    """What rpc.validation says about the request of a case, by field."""
    request = type(case.request)()
    request.CopyFrom(case.request)
    try:
        check(request)
    except errors.InvalidArgument as error:
        return {violation.field: violation.description for violation in error.violations}
    return {}


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
