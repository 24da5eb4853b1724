"""How many posts contain a word, from the statistics that PostgreSQL keeps for its planner (ANALYZE, autovacuum)."""

import asyncio
import bisect
import itertools
import logging
import math
from dataclasses import dataclass, field

from rpc import errors
from services.posts.content.search.words import Term
from services.posts.database.database import Database

log = logging.getLogger(__name__)

_KEPT_SECONDS = 60.0
_ALL = 0.999999  # its logarithm is finite

STATISTICS = """
SELECT greatest(c.reltuples, 0)::bigint AS posts, s.most_common_elems::text::text[] AS lexemes,
    s.most_common_elem_freqs AS shares
FROM pg_class c LEFT JOIN pg_stats s
    ON s.schemaname = c.relnamespace::regnamespace::text AND s.tablename = c.relname AND s.attname = 'search'
WHERE c.oid = 'posts'::regclass
"""


@dataclass(frozen=True)
class Frequencies:
    """`posts`: the number of posts, about. `shares`: of the posts that contain each of the frequent lexemes, 0 to 1."""

    posts: int = 0
    shares: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sum up, so that the share of all lexemes with one beginning is a difference.

        A lexeme that is not among the frequent ones is usually much rarer than the rarest of them.
        """
        sums = itertools.accumulate(
            (math.log1p(-min(self.shares[lexeme], _ALL)) for lexeme in sorted(self.shares)), initial=0.0
        )
        object.__setattr__(self, "_sorted", sorted(self.shares))
        object.__setattr__(self, "_sums", list(sums))
        object.__setattr__(self, "_rare", min(self.shares.values(), default=0.0) / 20)

    _sorted: list[str] = field(init=False, repr=False)
    _sums: list[float] = field(init=False, repr=False)
    _rare: float = field(init=False, repr=False)

    def share(self, term: Term) -> float:
        """The share of the posts that contain a term, 0 to 1, as if lexemes were independent of each other."""
        if not term.begins:
            return self.shares.get(term.lexeme, self._rare)
        first = bisect.bisect_left(self._sorted, term.lexeme)
        last = bisect.bisect_right(self._sorted, term.lexeme + "\U0010ffff")
        return max(-math.expm1(self._sums[last] - self._sums[first]), self._rare)


class Statistics:
    """The frequencies of now. They are read again, in the background, when they are older than a minute."""

    def __init__(self, database: Database) -> None:
        """Nothing is read yet."""
        self._database = database
        self._found: Frequencies | None = None
        self._read_at = 0.0
        self._reading: asyncio.Task[None] | None = None

    async def frequencies(self) -> Frequencies:
        """The frequencies. Raises what the database raises, at the first time only."""
        if self._found is None:
            await self._read()
        elif asyncio.get_running_loop().time() > self._read_at + _KEPT_SECONDS and self._reading is None:
            self._reading = asyncio.create_task(self._read_again())
        assert self._found is not None
        return self._found

    async def _read_again(self) -> None:
        try:
            await self._read()
        except errors.RpcError as error:
            log.debug("no statistics of words", exc_info=error)
        finally:
            self._reading = None

    async def _read(self) -> None:
        row = await self._database.fetchrow(STATISTICS)
        self._read_at = asyncio.get_running_loop().time()
        self._found = Frequencies()
        if row is not None and row["lexemes"]:
            # Further numbers follow those of the lexemes: the least and the greatest.
            shares = dict(zip(row["lexemes"], row["shares"], strict=False))
            self._found = Frequencies(row["posts"], shares)
