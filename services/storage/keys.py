"""Object keys: how those of images are made, and which keys are taken at all."""

import re
import uuid
from datetime import datetime

from rpc.errors import InvalidArgument

IMAGE_PREFIX = "generated/"
MAX_KEY_LENGTH = 512
MAX_SEGMENT_LENGTH = 200

_ALLOWED = re.compile(r"[A-Za-z0-9!_.*'()/-]+")
_NAMESPACE = uuid.UUID("4f1c0c1e-6a53-5d0e-9a6c-0a3f6b8f2f11")
_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


def image_key(request_id: str, request_time: datetime | None, sha256: str, content_type: str) -> str:
    """The key of an image: the same request and bytes always give the same one, so that a retry changes nothing.

    A request without a time has a folder of its own, where one can see whether it had other bytes before. The bytes are
    a part of the key there too: a key never stands for two images, also when nobody could look.
    """
    name = uuid.uuid5(_NAMESPACE, f"{request_id}:{sha256}")
    begin = f"{int(request_time.timestamp())}-" if request_time else f"{uuid.uuid5(_NAMESPACE, request_id)}/"
    return f"{IMAGE_PREFIX}{begin}{name}.{_EXTENSIONS[content_type]}"


def folder_of(key: str) -> str:
    """The folder of a key, with its last slash."""
    return key[: key.rindex("/") + 1]


def check_key(key: str, field: str = "key") -> str:
    """Return `key`; raises InvalidArgument, naming `field`, for one that is not safe on every backend.

    A segment may not begin with a dot: that keeps `.` and `..` out and reserves such names for our own files.
    """
    problem = _problem(key)
    if problem:
        raise InvalidArgument.field(field, problem, reason="KEY_INVALID")
    return key


def _problem(key: str) -> str:
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        return f"must have 1 to {MAX_KEY_LENGTH} characters"
    if not _ALLOWED.fullmatch(key):
        return "may hold only letters, digits and !_.*'()/-"
    for segment in key.split("/"):
        if not segment:
            return "may not begin or end with a slash or hold two in a row"
        if segment.startswith("."):
            return "may not hold a segment that begins with a dot"
        if len(segment) > MAX_SEGMENT_LENGTH:
            return f"may not hold a segment of more than {MAX_SEGMENT_LENGTH} characters"
    return ""
