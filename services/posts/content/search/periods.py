"""Periods of time as numbers, which the index of words holds beside the words: periods_of in 0003_lists.sql."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEVELS = 6
_STEP = 8
_NUMBERS = 100_000_000
"""A period of level n is _STEP ** n hours long; the numbers of its level begin at n times this."""


def covering(first: datetime, last: datetime) -> list[int]:
    """Periods that cover the hours from `first` to `last` and nothing else: about 80 numbers at most in 70 years."""
    begin, end = _hour(first), _hour(last) + 1
    found: list[int] = []
    while begin < end:
        level = 0
        while level + 1 < _LEVELS and begin % _STEP ** (level + 1) == 0 and begin + _STEP ** (level + 1) <= end:
            level += 1
        found.append(level * _NUMBERS + begin // _STEP**level)
        begin += _STEP**level
    return found


def _hour(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(hours=1)
