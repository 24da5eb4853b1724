"""The verdict of rpc.validation on a case, and the case as it is sent to a server."""

import hashlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

from frontispiece.storage.v1 import images_pb2

from rpc import errors
from rpc.validation import check
from tests.protos.limit_cases import Case
from tests.protos.samples import png


def violations(case: Case) -> dict[str, str]:
    """What rpc.validation says about the request of a case, by field."""
    request = type(case.request)()
    request.CopyFrom(case.request)
    try:
        check(request)
    except errors.InvalidArgument as error:
        return {violation.field: violation.description for violation in error.violations}
    return {}


def field_of(case: Case) -> str:
    """The tested field without the index of a list or the name in a map."""
    parts = (part.partition("[")[0] for part in case.field.split("."))
    return ".".join(parts) if "['" not in case.field else case.field.partition("[")[0]


def completed(case: Case, stored: dict[str, str]) -> Case:
    """The case with references to what exists, so that no other field is wrong."""
    request = type(case.request)()
    request.CopyFrom(case.request)
    names = request.DESCRIPTOR.fields_by_name
    tested = names.get(case.field)
    choice = tested.containing_oneof.fields if tested is not None and tested.containing_oneof is not None else ()
    others = {field.name for field in choice}  # of a oneof only the tested field is set
    for name, value in stored.items():
        if (
            name in names
            and name != case.field
            and name not in others
            and not (name == "task_id" and case.method.name == "CreateTask")
        ):
            setattr(request, name, value)
    if "update_mask" in names and case.field != "update_mask":
        request.title = request.title or "A door"
        request.update_mask.paths.extend(sorted({"title", field_of(case)} - {"id", "etag"}))
    if "parameters" in names:
        _complete_initial_image(case, request, stored["key"])
    return Case(case.method, request, case.field, case.limit, case.is_accepted)


def _complete_initial_image(case: Case, request: Any, key: str) -> None:
    """Let the initial image exist, if there is one."""
    is_generate, is_bytes = case.method.name == "Generate", case.field == "initial_image"
    if not is_bytes and not request.parameters.HasField("initial_image"):
        return
    initial = request.parameters.initial_image
    if field_of(case) != "parameters.initial_image.key":
        initial.key = key
    if initial.HasField("mask_feather"):
        initial.mask = png(100)  # without a mask there is nothing to feather
    if is_generate and not is_bytes:
        request.initial_image = png(100)


async def upload(case: Case) -> AsyncIterator[Any]:
    """The messages of StoreImage: the header, the bytes."""
    if case.request.WhichOneof("part") == "chunk":
        yield images_pb2.StoreImageRequest(
            header=images_pb2.StoreImageHeader(request_id=uuid.uuid4().hex, size_bytes=len(case.request.chunk))
        )
        yield case.request
        return
    header = case.request.header
    is_size = field_of(case) == "header.size_bytes"
    data = png(header.size_bytes) if is_size and case.is_accepted and header.size_bytes > 100 else png(100)
    if not is_size:
        header.size_bytes = len(data)
    if case.is_accepted and header.sha256:
        header.sha256 = hashlib.sha256(data).hexdigest()
    yield case.request
    for start in range(0, len(data), 1 << 20):
        yield images_pb2.StoreImageRequest(chunk=data[start : start + (1 << 20)])
