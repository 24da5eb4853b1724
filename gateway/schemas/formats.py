"""Texts of a certain format, as OpenAPI describes them."""

import base64
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError


def _base64(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except ValueError:  # also for characters outside of ASCII
        raise PydanticCustomError("base64", "must be base64 (RFC 4648, with padding, without a data: prefix)") from None
    return value


Base64 = Annotated[str, AfterValidator(_base64)]
"""Bytes as base64 text."""

Uuid = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
"""The id of something, as OpenAPI describes it."""

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time (RFC 3339), as OpenAPI describes it."""

Url = Annotated[str, WithJsonSchema({"type": "string", "format": "uri"})]
"""An absolute URL, as OpenAPI describes it."""
