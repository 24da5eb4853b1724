"""Keyset pagination: page tokens that hold where a page ended and are bound to the filter of their list."""

import base64
import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from rpc import errors

T = TypeVar("T")
U = TypeVar("U")

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items of a list, and the token of the next page; "" on the last."""

    items: tuple[T, ...]
    next_page_token: str

    def map(self, convert: Callable[[T], U]) -> "Page[U]":
        """The page with each item converted."""
        return Page(tuple(map(convert, self.items)), self.next_page_token)


@dataclass(frozen=True)
class Cursor:
    """Where a page begins: after the item with this sort value and this tie-breaker. `size` is what was asked for."""

    size: int
    filter_hash: str
    sort: str | int | None = None
    tie: str | None = None

    @property
    def time(self) -> datetime | None:
        """The sort value as a time."""
        return None if self.sort is None else _EPOCH + timedelta(microseconds=int(self.sort))

    @property
    def id(self) -> uuid.UUID | None:
        """The tie-breaker as a UUID."""
        return None if self.tie is None else uuid.UUID(self.tie)


def microseconds(time: datetime) -> int:
    """A time as microseconds since 1970, exactly."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def cursor(
    page_size: int,
    page_token: str,
    *filters: object,
    sort: type[str] | type[int] = int,
    tie: Callable[[str], object] = uuid.UUID,
) -> Cursor:
    """The cursor that a request asks for. `filters`: all its other fields; `sort`, `tie`: the types of the key.

    Raises InvalidArgument for a negative size, and for a token that is not one of this list with these filters.
    """
    if page_size < 0:
        raise errors.InvalidArgument.field("page_size", "must not be negative")
    size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    filter_hash = hashlib.sha256(json.dumps([str(item) for item in filters]).encode()).hexdigest()[:16]
    if not page_token:
        return Cursor(size, filter_hash)
    try:
        text = base64.b64decode(page_token.encode(), altchars=b"-_", validate=True)
        token: tuple[int, str, str | int, str] = json.loads(text)
        version, of_filter, value, last = token
        if (version, of_filter) == (1, filter_hash) and type(value) is sort and _is_storable(value, last):
            tie(last)
            wanted = Cursor(size, filter_hash, value, last)
            if isinstance(value, int):
                _ = wanted.time  # raises past the year 9999
            return wanted
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError):
        pass
    raise errors.InvalidArgument.field("page_token", "is not a next_page_token of this list with these filters")


def _is_storable(*values: object) -> bool:
    """Whether PostgreSQL could hold these; a forged token may contain anything."""
    texts = [value.encode() for value in values if isinstance(value, str)]  # a lone surrogate raises ValueError
    return not any(b"\0" in text for text in texts) and all(isinstance(value, str | int) for value in values)


def page(rows: Sequence[T], at: Cursor, key: Callable[[T], tuple[str | int, str]]) -> Page[T]:
    """The page made of up to `at.size` + 1 rows: the one too many tells that there is a next page."""
    if len(rows) <= at.size:
        return Page(tuple(rows), "")
    kept = rows[: at.size]
    value, tie = key(kept[-1])
    text = json.dumps([1, at.filter_hash, value, tie], separators=(",", ":"))
    return Page(tuple(kept), base64.urlsafe_b64encode(text.encode()).decode())
