"""Backoff: how delays grow, and when a call is repeated."""

import asyncio

import pytest

from rpc import errors
from rpc.backoff import Backoff, Retries, jittered, retry, sleep

FAST = Backoff(base_seconds=0.001, max_seconds=0.002)


class Failing:
    """A call that fails a number of times, then returns how often it was called."""

    def __init__(self, count: int, error: errors.RpcError) -> None:
        self.left, self.error, self.calls = count, error, 0

    async def __call__(self) -> int:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return self.calls


class TestDelay:
    @pytest.mark.parametrize(
        ("attempt", "ceiling"), [(0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (5, 5.0), (10_000, 5.0)]
    )
    def test_the_ceiling_doubles_up_to_the_maximum(self, attempt: int, ceiling: float) -> None:
        full = [Backoff(1.0, 5.0).delay(attempt) for _ in range(500)]
        equal = [Backoff(1.0, 5.0, jitter="equal").delay(attempt) for _ in range(500)]
        assert 0 <= min(full) < ceiling / 4
        assert ceiling * 3 / 4 < max(full) <= ceiling
        assert ceiling / 2 <= min(equal) < ceiling * 5 / 8
        assert ceiling * 7 / 8 < max(equal) <= ceiling

    def test_a_success_begins_again(self) -> None:
        retries = Retries(Backoff(1.0, 1000.0, jitter="equal"))
        assert [retries.next_delay() >= 2**i / 2 for i in range(5)] == [True] * 5
        retries.reset()
        assert retries.next_delay() <= 1.0

    def test_an_interval_varies(self) -> None:
        drawn = [jittered(10.0) for _ in range(500)]
        assert 8.0 <= min(drawn) < 9.0 < 11.0 < max(drawn) <= 12.0


class TestSleep:
    async def test_an_event_ends_it(self) -> None:
        wake = asyncio.Event()
        sleeper = asyncio.create_task(sleep(60, wake))
        await asyncio.sleep(0)
        wake.set()
        await asyncio.wait_for(sleeper, 5)

    async def test_its_time_ends_it(self) -> None:
        await asyncio.wait_for(sleep(0.01, asyncio.Event()), 5)
        await asyncio.wait_for(Retries(FAST).sleep(), 5)


class TestRetry:
    async def test_unavailable_is_repeated_until_it_succeeds(self) -> None:
        noted: list[str] = []
        call = Failing(3, errors.Unavailable("later"))
        assert await retry(call, FAST, on_retry=lambda error, _delay: noted.append(error.message)) == 4
        assert noted == ["later"] * 3

    async def test_other_errors_are_raised_at_once(self) -> None:
        call = Failing(3, errors.Aborted("lost"))
        with pytest.raises(errors.Aborted):
            await retry(call, FAST)
        assert call.calls == 1

    async def test_the_caller_decides_what_is_repeated(self) -> None:
        call = Failing(1, errors.Aborted("lost"))
        assert await retry(call, FAST, is_retryable=lambda error: isinstance(error, errors.Aborted)) == 2

    async def test_the_last_error_is_raised_when_attempts_are_spent(self) -> None:
        call = Failing(9, errors.Unavailable("later"))
        with pytest.raises(errors.Unavailable):
            await retry(call, FAST, max_attempts=3)
        assert call.calls == 3

    async def test_no_attempt_begins_after_the_timeout(self) -> None:
        call = Failing(9, errors.Unavailable("later", retry_after_seconds=60))
        with pytest.raises(errors.Unavailable):
            await retry(call, FAST, timeout_seconds=1)
        assert call.calls == 1

    async def test_the_server_may_ask_for_a_longer_delay(self) -> None:
        delays: list[float] = []
        call = Failing(1, errors.Unavailable("later", retry_after_seconds=0.05))
        await retry(call, FAST, on_retry=lambda _error, delay: delays.append(delay))
        assert delays == [0.05]
