"""Object metadata: what the service adds, and which names a caller cannot use."""

from datetime import UTC, datetime

from frontispiece.storage.v1.images_pb2 import StoreImageHeader

from rpc.errors import FieldViolation, InvalidArgument

DESCRIPTION = frozenset({"sha256", "source-sha256", "width", "height", "thumbhash"})
"""Metadata of an S3 object that describe the image itself."""

_RESERVED = DESCRIPTION | {"task-id", "generated-date"}


def object_metadata(header: StoreImageHeader) -> dict[str, str]:
    """`generated-date`, `task-id` and the metadata of the caller.

    Raises InvalidArgument for a reserved or empty name, an empty value, and a request_time that is not after 1970.
    """
    violations = [
        FieldViolation(f"header.metadata[{name!r}]", problem)
        for name, value in header.metadata.items()
        if (problem := _problem(name, value))
    ]
    time = datetime.now(UTC)
    if header.HasField("request_time"):
        try:
            time = header.request_time.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            violations.append(FieldViolation("header.request_time", "must be a valid time"))
        if header.request_time.seconds < 1:
            violations.append(FieldViolation("header.request_time", "must be after 1970"))
    if violations:
        raise InvalidArgument.fields(violations)
    added = {"generated-date": time.replace(microsecond=0, tzinfo=None).isoformat() + "Z"}
    if header.task_id:
        added["task-id"] = header.task_id
    return {**header.metadata, **added}


def _problem(name: str, value: str) -> str:
    if not name:
        return "the name must not be empty"
    if name in _RESERVED:
        return "the name is reserved"
    return "" if value else "must not be empty"
