"""The limits of every field, and text as it may be stored; a wrong field is named with its limit."""

import math
import re
import unicodedata
import uuid
from collections.abc import Sequence

from rpc.errors import FieldViolation, InvalidArgument

MAX_PROMPT = 2000
MAX_TITLE = 200
MAX_CONTENT = 100_000
MAX_NAME = 100
MAX_SLUG = 100
MAX_ALT_TEXT = 500
MAX_COMMENT = 1000
MAX_TAGS = 8
MAX_TAG = 50
MAX_QUERY = 200
MAX_KEY = 1024
MAX_SEED = 2**53 - 1
MIN_SIDE, MAX_SIDE, SIDE_STEP, MAX_PIXELS = 256, 1536, 8, 1_600_000
MAX_STEPS = 80
MAX_GUIDANCE = 30.0
MAX_CANDIDATES = 4
MAX_LORAS = 4
MAX_LORA_NAME = 200
MAX_LORA_WEIGHT = 4.0
MAX_OBJECT_KEY = 512
MAX_MASK_FEATHER = 64
MAX_INITIAL_BYTES = 16 * 1024 * 1024
MAX_INITIAL_PIXELS = 32_000_000

_SLUG = re.compile(r"[a-z0-9-]{1,100}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OBJECT_KEY = re.compile(r"(?!\.)[A-Za-z0-9!_.*'()-]+(/(?!\.)[A-Za-z0-9!_.*'()-]+)*")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,255}")


class Fields:
    """Collects what is wrong with a request, so that one answer names every wrong field."""

    def __init__(self) -> None:
        """Nothing is wrong yet."""
        self._violations: list[FieldViolation] = []

    def wrong(self, field: str, description: str) -> None:
        """Note a wrong field."""
        self._violations.append(FieldViolation(field, description))

    def check(self) -> None:
        """Raise InvalidArgument if any field was wrong."""
        if self._violations:
            raise InvalidArgument.fields(self._violations)

    def text(self, field: str, value: str, *, most: int, least: int = 0, lines: bool = False) -> str:
        """`value` in NFC, without blanks at its ends; `lines`: line breaks and tabs are allowed, and ends are kept."""
        if len(value) > 4 * most + 1000:  # hopeless: do not normalise megabytes
            self.wrong(field, f"must have at most {most} characters")
            return value
        clean = unicodedata.normalize("NFC", value)
        clean = clean.replace("\r\n", "\n") if lines else clean.strip(" ")
        if any(_is_forbidden(character, lines) for character in clean):
            self.wrong(field, "must not contain control characters" + (" but line breaks and tabs" if lines else ""))
        elif len(clean) > most:
            self.wrong(field, f"must have at most {most} characters, has {len(clean)}")
        elif len(clean) < least or (least and not clean.strip()):
            self.wrong(field, "must not be empty")
        return clean

    def integer(self, field: str, value: int | None, least: int, most: int, step: int = 1) -> int | None:
        """`value`, which must be a multiple of `step` from `least` to `most`, or None."""
        if value is not None and not (least <= value <= most and value % step == 0):
            multiple = f"a multiple of {step}, " if step > 1 else ""
            self.wrong(field, f"must be {multiple}{least} to {most}, is {value}")
        return value

    def real(self, field: str, value: float | None, least: float, most: float) -> float | None:
        """`value`, which must be finite and from `least` to `most`, or None."""
        if value is not None and not (math.isfinite(value) and least <= value <= most):
            self.wrong(field, f"must be a finite number from {least:g} to {most:g}, is {value}")
        return value

    def share(self, field: str, value: float | None, *, whole: bool) -> float | None:
        """`value`, which must be greater than 0 and less than 1, or 1 too if `whole`; or None."""
        if value is not None and not (0 < value < 1 or (whole and value == 1)):  # NaN is none of these
            self.wrong(field, f"must be greater than 0 and {'at most' if whole else 'less than'} 1, is {value}")
        return value

    def object_key(self, field: str, value: str) -> str:
        """The key of an object in storage; whether there is such an object is storage's to say."""
        if len(value) > MAX_OBJECT_KEY or not _OBJECT_KEY.fullmatch(value):
            self.wrong(
                field,
                f"must be 1 to {MAX_OBJECT_KEY} letters, digits and !_.*'()/-; no part between slashes may be empty or "
                "begin with a dot",
            )
        return value

    def slug(self, field: str, value: str, *, required: bool = False) -> str:
        """A name in URLs, or "" unless `required`."""
        if (value or required) and not is_slug(value):
            self.wrong(field, "must be 1 to 100 lower-case letters a-z, digits and hyphens")
        return value

    def tags(self, field: str, values: Sequence[str]) -> tuple[str, ...]:
        """Tag names, each once, in the order given."""
        if len(values) > MAX_TAGS:
            self.wrong(field, f"must be at most {MAX_TAGS} tags, are {len(values)}")
            return ()
        clean = [self.text(f"{field}[{i}]", value, least=1, most=MAX_TAG) for i, value in enumerate(values)]
        return tuple(dict.fromkeys(clean))

    def request_id(self, field: str, value: str) -> str:
        """An idempotency key, or ""."""
        if value and not _REQUEST_ID.fullmatch(value):
            self.wrong(field, "must be 1 to 255 visible ASCII characters")
        return value

    def reference(self, field: str, value: str, *, required: bool = False) -> uuid.UUID | None:
        """The id of something else; None for "" unless `required`."""
        if not value and not required:
            return None
        found = identifier(value)
        if found is None:
            self.wrong(field, "must be a UUID")
        return found


def identifier(value: str) -> uuid.UUID | None:
    """The UUID that a text is, in its canonical form, upper or lower case; else None."""
    return uuid.UUID(value) if _UUID.fullmatch(value) else None


def is_slug(value: str) -> bool:
    """Whether a text could be a slug."""
    return _SLUG.fullmatch(value) is not None


def _is_forbidden(character: str, lines: bool) -> bool:
    if lines and character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs")
