"""Text as the interface accepts it: normalized, without control characters, within its length."""

import re
import unicodedata
import uuid
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

MAX_PROMPT = 2000
MAX_TITLE = 200
MAX_CONTENT = 100_000
MAX_TAGS = 8
MAX_TAG = 50
MAX_ALT_TEXT = 500
MAX_COMMENT = 1000
MAX_NAME = 100
MAX_QUERY = 200

_LINE_BREAKS = frozenset("\n\r\t")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Input(BaseModel):
    """What a caller sends: exact types, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Output(BaseModel):
    """What the gateway answers; a field that is null is there all the same."""

    model_config = ConfigDict(frozen=True)


def _well_formed(value: str, allowed: frozenset[str]) -> str:
    for character in value:
        category = unicodedata.category(character)
        if category == "Cs":
            raise PydanticCustomError("surrogate", "must not contain a lone surrogate")
        if category == "Cc" and character not in allowed:
            raise PydanticCustomError("control_character", "must not contain control characters")
    if not unicodedata.is_normalized("NFC", value):
        raise PydanticCustomError("not_nfc", "must be in Unicode normalization form NFC")
    return value


def _line(value: str) -> str:
    return _well_formed(value, frozenset())


def _paragraphs(value: str) -> str:
    return _well_formed(value, _LINE_BREAKS)


def _not_blank(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return value


def _slug(value: str) -> str:
    if not _SLUG.fullmatch(value):
        raise PydanticCustomError("slug", "must be lower-case letters, digits and single hyphens between them")
    return value


def _uuid(value: str) -> str:
    if not is_uuid(value):
        raise PydanticCustomError("uuid", "must be a UUID")
    return value.lower()


def is_uuid(value: str) -> bool:
    """Whether `value` is a UUID written with hyphens."""
    try:
        return str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


Line = Annotated[str, AfterValidator(_line)]
Paragraphs = Annotated[str, AfterValidator(_paragraphs)]
FilledLine = Annotated[str, AfterValidator(_line), AfterValidator(_not_blank)]

Prompt = Annotated[FilledLine, Field(min_length=1, max_length=MAX_PROMPT)]
Title = Annotated[FilledLine, Field(min_length=1, max_length=MAX_TITLE)]
Content = Annotated[Paragraphs, Field(max_length=MAX_CONTENT)]
AltText = Annotated[Line, Field(max_length=MAX_ALT_TEXT)]
Comment = Annotated[Paragraphs, Field(max_length=MAX_COMMENT)]
Name = Annotated[FilledLine, Field(min_length=1, max_length=MAX_NAME)]
Tag = Annotated[FilledLine, Field(min_length=1, max_length=MAX_TAG)]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS)]
Slug = Annotated[str, AfterValidator(_slug), Field(min_length=1, max_length=100)]
Uuid = Annotated[str, AfterValidator(_uuid), Field(min_length=36, max_length=36)]
Key = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9._/-]+$")]
