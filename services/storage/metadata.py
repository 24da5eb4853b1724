"""The metadata of an object: what a caller may add, and what is ours."""

import re
from datetime import UTC, datetime

from rpc.errors import FieldViolation, InvalidArgument
from services.storage.models import UploadHeader

MAX_CALLER_BYTES = 1536
"""Names and values together. S3 allows 2 KB in all; the rest is for what the service adds."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")  # HTTP trims spaces at the ends
_OURS = frozenset({"task-id", "generated-date", "sha256", "width", "height", "thumbhash"})


def object_metadata(header: UploadHeader) -> dict[str, str]:
    """What is stored with the object: `generated-date`, `task-id` and the caller's own."""
    time = header.request_time or datetime.now(UTC)
    date = time.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    ours = {"generated-date": date}
    if header.task_id:
        ours["task-id"] = header.task_id
    return {**header.metadata, **ours}


def check_metadata(metadata: dict[str, str]) -> None:
    """Raises InvalidArgument for what does not survive an HTTP header."""
    violations = [
        FieldViolation(f"header.metadata[{name!r}]", problem)
        for name, value in metadata.items()
        if (problem := _problem(name, value))
    ]
    size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    if size > MAX_CALLER_BYTES:
        violations.append(
            FieldViolation("header.metadata", f"has {size} bytes of names and values; at most {MAX_CALLER_BYTES}")
        )
    if violations:
        raise InvalidArgument.fields(violations, reason="METADATA_INVALID")


def _problem(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        return "a name is 1 to 64 of a-z, 0-9 and hyphen"
    if name in _OURS:
        return "this name is set by the service"
    if not _VALUE.fullmatch(value):
        return "a value is printable ASCII, not empty, without spaces at its ends"
    return ""
