"""Keyset pagination: a page token holds where a page ended and is bound to the filters of its list."""

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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items of a list, and the token of the next page; "" on the last page."""

    items: tuple[T, ...]
    next_page_token: str

    def map(self, convert: Callable[[T], U]) -> "Page[U]":
        """The page with each item converted."""
        return Page(tuple(map(convert, self.items)), self.next_page_token)


@dataclass(frozen=True)
class Cursor:
    """Where a page begins: after the item with this sort value and tie-breaker. `size`: how many items."""

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
    """The cursor of a request. `filters`: all its other fields. `sort`, `tie`: the types of the sort key.

    Raises InvalidArgument for a token that does not belong to this list with these filters.
    """
    filter_hash = hashlib.sha256(json.dumps([str(item) for item in filters]).encode()).hexdigest()[:16]
    if not page_token:
        return Cursor(page_size, filter_hash)
    try:
        text = base64.b64decode(page_token.encode(), altchars=b"-_", validate=True)
        token: tuple[int, str, str | int, str] = json.loads(text)
        version, of_filter, value, last = token
        if (version, of_filter) == (1, filter_hash) and type(value) is sort and _is_storable(value, last):
            tie(last)
            found = Cursor(page_size, filter_hash, value, last)
            if isinstance(value, int):
                _ = found.time  # raises after the year 9999
            return found
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError):
        pass
    raise errors.InvalidArgument.field("page_token", "is not a next_page_token of this list with these filters")


def _is_storable(*values: object) -> bool:
    """Whether PostgreSQL could store these values. A forged token may contain anything."""
    texts = [value.encode() for value in values if isinstance(value, str)]  # a lone surrogate raises ValueError
    return not any(b"\0" in text for text in texts) and all(isinstance(value, str | int) for value in values)


def page(rows: Sequence[T], cursor: Cursor, key: Callable[[T], tuple[str | int, str]]) -> Page[T]:
    """The page of up to `cursor.size` + 1 rows. The extra row shows that there is a next page."""
    if len(rows) <= cursor.size:
        return Page(tuple(rows), "")
    kept = rows[: cursor.size]
    value, tie = key(kept[-1])
    text = json.dumps([1, cursor.filter_hash, value, tie], separators=(",", ":"))
    return Page(tuple(kept), base64.urlsafe_b64encode(text.encode()).decode())
