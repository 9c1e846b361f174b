"""The retention loop goes on whatever one round brings."""

import asyncio

import pytest

from pipeline.record.errors import StoreError
from pipeline.record.retention import keep_expiring


class Rounds:
    """A store whose rounds are scripted, and the clock between them."""

    def __init__(self, *script):
        self.script = list(script)
        self.asked = []
        self.time_ms = 0

    def now_ms(self):
        return self.time_ms

    async def sleep_ms(self, duration_ms):
        self.time_ms += duration_ms
        if not self.script:
            raise asyncio.CancelledError

    async def expire(self, now_ms, keep_days=None):
        self.asked.append((now_ms, keep_days))
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


async def test_a_failed_round_is_told_and_the_next_one_comes():
    rounds, done, failed = Rounds(3, StoreError("away"), 0), [], []
    with pytest.raises(asyncio.CancelledError):
        await keep_expiring(rounds, rounds, keep_days={"logs": 1}, every_ms=500, on_done=done.append, on_failed=failed.append)
    assert rounds.asked == [(0, {"logs": 1}), (500, {"logs": 1}), (1000, {"logs": 1})]
    assert done == [3, 0]
    assert [str(error) for error in failed] == ["away"]
