"""What the cache of answers keeps, shares and forgets."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from gateway.cache import store
from gateway.cache.store import Cache, Kept, Memo


class Counter:
    """Makes values that count, and can be held up."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def make(self) -> Memo:
        self.calls += 1
        number = self.calls
        await self.gate.wait()
        return Memo(number)


@pytest.fixture
def cache() -> Cache:
    return Cache(1_000_000)


async def started(counter: Counter, calls: int) -> None:
    while counter.calls < calls:
        await asyncio.sleep(0)


async def number(cache: Cache, make: Callable[[], Awaitable[Memo]], key: str = "a") -> int:
    value: int = (await cache.get(key, make)).value
    return value


async def test_a_value_is_made_once(cache: Cache) -> None:
    made = Counter()
    assert [await number(cache, made.make) for _ in range(3)] == [1, 1, 1]
    assert cache.fresh("a").value == 1
    assert cache.fresh("b") is None


async def test_a_value_is_made_again_when_it_is_too_old(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Counter()
    await number(cache, made.make)
    monkeypatch.setattr(store, "MAX_AGE_SECONDS", 0.0)
    assert cache.fresh("a") is None
    assert await number(cache, made.make) == 2


async def test_age_is_counted_from_the_beginning_of_the_reads(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow read may have seen the database as it was when the read began."""
    made = Counter()
    made.gate.clear()
    waiting = asyncio.create_task(number(cache, made.make))
    await started(made, 1)
    now = time.monotonic()
    monkeypatch.setattr(store.time, "monotonic", lambda: now + store.MAX_AGE_SECONDS)
    late = asyncio.create_task(number(cache, made.make))  # too late to share the first call
    await started(made, 2)
    made.gate.set()
    assert (await waiting, await late) == (1, 2)
    assert cache.fresh("a").value == 2


async def test_a_value_is_as_old_as_the_oldest_of_its_parts(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Counter()
    began = time.monotonic()
    await number(cache, part.make, "part")
    monkeypatch.setattr(store.time, "monotonic", lambda: began + store.MAX_AGE_SECONDS * 0.9)

    async def whole() -> Memo:
        return await cache.get("part", part.make)

    await number(cache, whole, "whole")
    monkeypatch.setattr(store.time, "monotonic", lambda: began + store.MAX_AGE_SECONDS * 1.1)
    assert part.calls == 1
    assert cache.fresh("whole") is None


async def test_concurrent_misses_share_one_call(cache: Cache) -> None:
    made = Counter()
    made.gate.clear()
    waiting = [asyncio.create_task(number(cache, made.make)) for _ in range(20)]
    await started(made, 1)
    made.gate.set()
    assert await asyncio.gather(*waiting) == [1] * 20


async def test_one_who_leaves_does_not_end_the_call_of_the_others(cache: Cache) -> None:
    made = Counter()
    made.gate.clear()
    first, second = (asyncio.create_task(number(cache, made.make)) for _ in range(2))
    await started(made, 1)
    first.cancel()
    await asyncio.sleep(0)
    made.gate.set()
    assert await second == 1
    assert first.cancelled()


async def test_a_drop_forgets_what_is_kept_and_what_is_on_its_way(cache: Cache) -> None:
    made = Counter()
    await number(cache, made.make, "kept")
    made.gate.clear()
    before = asyncio.create_task(number(cache, made.make))
    await started(made, 2)
    cache.drop()
    assert cache.fresh("kept") is None
    after = asyncio.create_task(number(cache, made.make))  # must not get what was read before the change
    await started(made, 3)
    made.gate.set()
    assert (await before, await after) == (2, 3)
    assert cache.fresh("a").value == 3


async def test_an_exception_is_shared_but_not_kept(cache: Cache) -> None:
    calls = 0

    async def fail() -> Memo:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        raise LookupError("no")

    results = await asyncio.gather(*(cache.get("a", fail) for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in results] == [LookupError] * 5
    assert calls == 1
    with pytest.raises(LookupError):
        await cache.get("a", fail)
    assert calls == 2


async def test_a_value_of_another_kind_is_not_kept(cache: Cache) -> None:
    async def redirect() -> str:
        return "elsewhere"

    assert await cache.get("a", redirect) == "elsewhere"
    assert len(cache) == 0


@pytest.mark.parametrize("max_bytes", [10_000, 2_000])
async def test_bytes_are_bounded_and_the_least_used_go_first(max_bytes: int) -> None:
    cache = Cache(max_bytes)

    async def value(size: int) -> Kept:
        return Memo(None, size)

    await cache.get("popular", lambda: value(100))
    for index in range(200):
        await cache.get(index, partial(value, 90 + index))
        assert cache.fresh("popular") is not None
        assert cache.bytes <= max_bytes
    assert len(cache) < 200
    cache.drop()
    assert (cache.bytes, len(cache)) == (0, 0)


async def test_entries_are_bounded() -> None:
    cache = Cache(10**9, max_entries=5)
    made = Counter()
    for index in range(50):
        await number(cache, made.make, str(index))
    assert len(cache) == 5


async def test_what_would_fill_the_cache_is_not_kept(cache: Cache) -> None:
    async def huge() -> Kept:
        return Memo(None, 500_000)

    made = Counter()
    await number(cache, made.make)
    await cache.get("huge", huge)
    assert cache.fresh("huge") is None
    assert cache.fresh("a") is not None


async def test_without_bytes_nothing_is_kept_or_shared() -> None:
    cache = Cache(0)
    made = Counter()
    assert await asyncio.gather(*(number(cache, made.make) for _ in range(3))) == [1, 2, 3]
    assert len(cache) == 0
