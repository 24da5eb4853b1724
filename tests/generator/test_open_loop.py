"""Requests that come when they come: the same for all, and counted whether answered or not."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence

import pytest

from bench.generator.arrivals import EQUAL, MIXED, poisson_turn
from bench.generator.open_loop import OpenLoop, Turns, open_loop
from bench.generator.parties import Server, Wanted
from bench.generator.queues import Queue, alike, queue
from bench.generator.report import Report


def wanted(name: str, steps: int = 20, guidance: float = 5.0) -> Wanted:
    return Wanted(name, seed=0, steps=steps, guidance=guidance)


class TestArrivals:
    def test_they_come_at_the_rate_that_was_asked_for_and_the_same_each_time(self) -> None:
        gaps = poisson_turn(36, rate=9.0, seed=3)
        assert sum(gaps) == pytest.approx(4.0)
        assert min(gaps) > 0
        assert gaps == poisson_turn(36, rate=9.0, seed=3)
        assert gaps != poisson_turn(36, rate=9.0, seed=4)
        # At another rate, the same pattern.
        assert poisson_turn(36, rate=18.0, seed=3) == pytest.approx([gap / 2 for gap in gaps])

    def test_every_kind_comes_equally_often_in_some_order(self) -> None:
        kinds = MIXED.kinds(36, seed=1)
        assert Counter(kinds) == {
            **{(steps, True): 9 for steps in (8, 20, 40)},
            **{(steps, False): 3 for steps in (8, 20, 40)},
        }
        assert kinds == MIXED.kinds(36, seed=1)
        assert kinds != MIXED.kinds(36, seed=2)
        assert set(EQUAL.kinds(36, seed=1)) == {(20, True)}


class Lists:
    """Paints a list when it is let, and says what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.go = asyncio.Semaphore(0)
        self.fails = False

    async def paint_list(self, wanted: Sequence[Wanted]) -> list[bytes]:
        self.asked.append([one.prompt for one in wanted])
        await self.go.acquire()
        if self.fails:
            raise RuntimeError("no")
        return [one.prompt.encode() for one in wanted]

    def cpu_seconds(self) -> float:
        return 0.0


class TestQueue:
    def test_only_requests_like_the_first_may_share_a_call(self) -> None:
        waiting = [wanted("a"), wanted("b", steps=8), wanted("c"), wanted("d", guidance=0.0), wanted("e", steps=8)]
        assert alike(waiting) == [0, 2]
        assert alike(waiting[1:]) == [0, 3]
        assert alike([]) == []

    async def painted(self, made: Queue, lists: Lists, requests: Sequence[Wanted]) -> list[bytes]:
        tasks = [asyncio.create_task(made.paint(one)) for one in requests]
        await asyncio.sleep(0)  # all are in the queue before anything is done
        for _ in requests:
            lists.go.release()
        return await asyncio.gather(*tasks)

    async def test_one_at_a_time_in_the_order_of_arrival(self) -> None:
        lists = Lists()
        async with queue("line", lists) as made:
            images = await self.painted(made, lists, [wanted("a"), wanted("b"), wanted("c")])
        assert lists.asked == [["a"], ["b"], ["c"]]
        assert images == [b"a", b"b", b"c"]

    async def test_lists_of_those_alike_that_wait_and_each_gets_its_own(self) -> None:
        lists = Lists()
        requests = [wanted("a"), wanted("b", steps=8), wanted("c"), wanted("d"), wanted("e", steps=8)]
        async with queue("windows", lists, at_once=2) as made:
            images = await self.painted(made, lists, requests)
        assert lists.asked == [["a", "c"], ["b", "e"], ["d"]]
        assert images == [b"a", b"b", b"c", b"d", b"e"]

    async def test_who_comes_within_the_window_shares_the_call(self) -> None:
        lists = Lists()
        async with queue("windows", lists, at_once=2, window_seconds=60.0) as made:
            # The window of a full list is not waited for, so this ends.
            assert await self.painted(made, lists, [wanted("a"), wanted("b")]) == [b"a", b"b"]
        assert lists.asked == [["a", "b"]]

    async def test_a_list_that_fails_fails_its_requests_only(self) -> None:
        lists = Lists()
        lists.fails = True
        lists.go.release()
        async with queue("line", lists) as made:
            with pytest.raises(RuntimeError, match="no"):
                await made.paint(wanted("a"))
            lists.fails = False
            lists.go.release()
            assert await made.paint(wanted("b")) == b"b"


class EngineThread(Server):
    """Paints at once, but one prompt never and one not at all."""

    def __init__(self, name: str, *, never: int = -1, refused: int = -1) -> None:
        self.name, self.never, self.refused = name, never, refused
        self.asked: list[Wanted] = []

    async def paint(self, wanted: Wanted) -> bytes:
        self.asked.append(wanted)
        if len(self.asked) == self.refused:
            raise ValueError("too many")
        if len(self.asked) == self.never:
            await asyncio.Event().wait()
        return b""

    def cpu_seconds(self) -> float:
        return 0.0


class TestOpenLoop:
    async def test_what_is_not_answered_is_counted_and_the_rest_goes_on(self) -> None:
        party = EngineThread("theirs", never=2, refused=3)
        requests = [wanted(name) for name in "abcde"]
        outcome = await open_loop(party, [0.001] * 5, requests, patience_seconds=0.05)
        assert [one.prompt for one in party.asked] == list("abcde")
        assert outcome.unfinished == 2
        assert [math.isfinite(latency) for latency in outcome.latencies] == [True, False, False, True, True]
        assert Turns([outcome]).percentiles(50)[0] < math.inf
        assert Turns([outcome]).percentiles(95) == [math.inf]

    async def test_all_get_the_same_requests_and_no_prompt_comes_twice(self) -> None:
        report = Report(None, {"device": "cpu"}, limit_seconds=60)
        parties = [EngineThread("ours"), EngineThread("theirs", refused=20)]
        measured = OpenLoop(report, "C11b", parties, MIXED, count=12)
        capacities = await measured.capacities()
        first = [one.prompt for party in parties for one in party.asked]
        await measured.measure(1000.0, rounds=2)
        await measured.measure_own(capacities)
        one, other = (party.asked[12:] for party in parties)
        assert sorted(one, key=lambda wanted: wanted.prompt) == sorted(other, key=lambda wanted: wanted.prompt)
        prompts = first + [wanted.prompt for wanted in one]
        assert len(set(prompts)) == len(prompts) == 2 * 12 + 5 * 12
        assert not [row for row in report.rows if row.what.startswith("failed")]
        (row,) = (row for row in report.rows if row.what == "mixed, 50 % of ours: theirs, p99")
        assert row.reference == "of 24 requests, 1 not finished"
        (row,) = (row for row in report.rows if row.what == "mixed, 80 % of ours: theirs, p50")
        assert "paired in 2 rounds" in row.reference
        assert row.ratio is not None
        assert any(row.what == "mixed, 80 % of their own: theirs, answered" for row in report.rows)

    async def test_rounds_for_which_there_is_no_time_are_left_out(self) -> None:
        report = Report(None, {"device": "cpu"}, limit_seconds=0.0)
        party = EngineThread("ours")
        await OpenLoop(report, "C11a", [party], EQUAL, count=4).measure(1000.0, rounds=5)
        assert len(party.asked) == 2 * 4
