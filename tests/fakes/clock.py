"""`FakeClock`: time that moves by hand."""

import asyncio


class FakeClock:
    """`advance` moves time and wakes whoever slept long enough."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self._now_ms

    async def sleep_ms(self, duration_ms: int) -> None:
        if duration_ms <= 0:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now_ms + duration_ms, future))
        await future

    def advance(self, duration_ms: int) -> None:
        self._now_ms += duration_ms
        for until, future in self._sleepers:
            if until <= self._now_ms and not future.done():
                future.set_result(None)
        self._sleepers = [(until, future) for until, future in self._sleepers if not future.done()]
