"""Lists of the posts that contain some words, at a bounded cost.

There are two ways. *Look* at the newest posts one by one, until enough contain the words: right for words that many
posts contain. Read the *index* of words and sort what it gives: right for words that few posts contain. PostgreSQL
would choose between them for all words together, so that one frequent word makes the index slow, and words that are
frequent but never occur together make it look at every post. Here looking ends after LOOKED posts, and the index is
asked for the rarest words only. If it would still give many posts, it is first asked for those of so short a time that
they should fill the page.
"""

# ruff: noqa: S608  (the statements are made of constants; values have placeholders)

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.posts.content import lists
from services.posts.content.search import periods
from services.posts.content.search.frequencies import Frequencies, Statistics
from services.posts.content.search.words import Term, terms, tsquery
from services.posts.database.database import Database, Record
from services.posts.database.where import Values
from services.posts.models import PostFilter

LOOKED = 1000
"""The largest number of posts that are looked at one by one."""

# Microseconds, measured: to read the words of a post; to read a post that the index gives; an entry of the index.
_LOOK, _READ, _ENTRY = 15.0, 1.5, 0.3

_FEW = 200
"""So many posts of the index are read at once, of whatever time they are."""

_SPARE = 4
"""The newest posts are read from the index so far back that they should give this many pages."""

_LONGEST = timedelta(days=36_500)

_TOGETHER = 20
"""A word that occurs this many times as often as the rarest is not worth its entries in the index."""


@dataclass(frozen=True)
class Search:
    """What one list in one state asks. `words`: all; `indexed`: those that the index is asked for."""

    filters: PostFilter
    words: list[Term]
    indexed: list[Term]
    state: str
    limit: int
    after: lists.After
    with_content: bool

    @property
    def others(self) -> list[Term]:
        """The words that the posts themselves are asked for."""
        return [word for word in self.words if word not in self.indexed]

    @property
    def is_filtered(self) -> bool:
        """Whether the list has a filter besides its words."""
        return bool(self.filters.tag or self.filters.category or self.filters.author)


class Searches:
    """Lists with words."""

    def __init__(self, database: Database) -> None:
        """Read from `database`."""
        self._database = database
        self._statistics = Statistics(database)

    async def find(
        self, filters: PostFilter, limit: int, after: lists.After, *, with_content: bool
    ) -> Sequence[Record]:
        """The first `limit` posts, newest first. Raises what the pool for searches raises."""
        words = terms(filters.query)
        if not words:
            return []
        frequencies = await self._statistics.frequencies()
        indexed = rarest(words, frequencies)
        found: list[Record] = []
        for state in lists.states(filters):
            search = Search(filters, words, indexed, state, limit, after, with_content)
            found += await self._find(search, frequencies)
        return sorted(found, key=lambda row: (row["sort_time"], row["id"]), reverse=True)[:limit]

    async def _find(self, search: Search, frequencies: Frequencies) -> list[Record]:
        if looks_first(search, frequencies):
            found = await self._look(search)
            if len(found) == search.limit or await self._span(search) is None:
                return found
        together = math.prod(map(frequencies.share, search.words))
        if not search.is_filtered and frequencies.posts * math.prod(map(frequencies.share, search.indexed)) > _FEW:
            found = await self._read_newest(search, search.limit * _SPARE / together)
            if len(found) == search.limit:
                return found
        return await self._read(search, None)

    async def _look(self, search: Search) -> list[Record]:
        """Those of the newest LOOKED posts that contain the words."""
        values = Values()
        newest = lists.keys(search.filters, values, search.state, search.after, str(LOOKED), more=", p.search")
        text = (
            f"SELECT n.id, n.sort_time FROM ({newest}) n"
            f" WHERE n.search @@ {values.add(tsquery(search.words))}::text::tsquery"
            f" ORDER BY n.sort_time DESC, n.id DESC LIMIT {values.add(search.limit)}"
        )
        return await self._fetch(text, values, search)

    async def _span(self, search: Search) -> tuple[datetime, datetime] | None:
        """The times of the newest post and of the one LOOKED posts later, without regard to words.

        None if there are no more than LOOKED posts.
        """
        values = Values()
        first, last = (
            lists.keys(search.filters, values, search.state, search.after, "1", offset=offset) for offset in (0, LOOKED)
        )
        rows = await self._database.fetch(f"({first}) UNION ALL ({last})", *values.all)
        times = sorted(row["sort_time"] for row in rows)
        return (times[-1], times[0]) if len(times) > 1 else None

    async def _read_newest(self, search: Search, posts: float) -> list[Record]:
        """The posts that the index gives among about so many of the newest posts."""
        span = await self._span(search)
        if span is None:
            return []
        newest, end = span
        first = newest - min((newest - end) * (posts / LOOKED), _LONGEST)
        return await self._read(search, periods.covering(first, newest))

    async def _read(self, search: Search, within: list[int] | None) -> list[Record]:
        """The posts that the index gives, of any time or `within` periods."""
        values = Values()
        text = _by_index(search, values, within)
        return await self._fetch(text, values, search)

    async def _fetch(self, keys: str, values: Values, search: Search) -> list[Record]:
        text = lists.posts_of(keys, with_content=search.with_content)
        return await self._database.fetch(text, *values.all)


def rarest(words: list[Term], frequencies: Frequencies) -> list[Term]:
    """The words that the index is asked for."""
    shares = {word: frequencies.share(word) for word in words}
    most = min(shares.values()) * _TOGETHER
    return [word for word in words if shares[word] <= most]


def looks_first(search: Search, frequencies: Frequencies) -> bool:
    """Whether to look at the newest posts before the index is asked."""
    shares = [frequencies.share(word) for word in search.indexed]
    if search.is_filtered:  # looking may end soon for want of posts
        return min(shares) * frequencies.posts > _FEW
    together = math.prod(frequencies.share(word) for word in search.words)
    looked = search.limit / together if together else math.inf
    entries, found = sum(shares) * frequencies.posts, math.prod(shares) * frequencies.posts
    by_index = entries * _ENTRY + found * (_READ + (_LOOK if search.others else 0))
    return looked <= LOOKED and looked * _LOOK < by_index


def _by_index(search: Search, values: Values, within: list[int] | None) -> str:
    """The statement of id and sort_time of posts by the index of words. OFFSET 0 keeps it from any other index.

    The tag is tested for each post in a subquery of its own, for the same reason.
    """
    indexed = f"search @@ {values.add(tsquery(search.indexed))}::text::tsquery"
    if within is not None:
        indexed += f" AND periods && {values.add(within)}::integer[]"
    found = lists.conditions(search.filters, values, "p", "p.sort_time", "p.id", search.state, search.after)
    if search.filters.tag:
        tag = lists.tag_id(search.filters, values)
        found.append(f"(SELECT true FROM post_tags pt WHERE pt.post_id = p.id AND pt.tag_id = {tag})")
    if search.others:
        found.append(f"p.search @@ {values.add(tsquery(search.others))}::text::tsquery")
    return (
        f"SELECT p.id, p.sort_time FROM (SELECT id, sort_time, state, category_id, author_id, search FROM posts"
        f" WHERE {indexed} OFFSET 0) p"
        f" WHERE {' AND '.join(found)} ORDER BY p.sort_time DESC, p.id DESC LIMIT {values.add(search.limit)}"
    )
