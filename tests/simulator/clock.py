"""Virtual time: an event loop whose waiting takes no time, and the engine's own wall clock, which can be stepped."""

from __future__ import annotations

import asyncio
import selectors

BASE_MS = 1_800_000_000_000


class _Skipping(selectors.SelectSelector):
    """Waits for nothing: the time that would have been waited simply passes."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list:
        if timeout is None:
            raise RuntimeError("the simulation waits for something that never comes")
        self.loop.passed_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Timers fire in order, at once; `time()` is virtual."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        selector = _Skipping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.passed_s

    @property
    def now_ms(self) -> int:
        """True time since the start, in ms."""
        return round(self.passed_s * 1000)


class EngineClock:
    """The wall clock of the machine that the engine runs on. `offset_ms`: how far it is from the true time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.offset_ms = 0

    def now_ms(self) -> int:
        return BASE_MS + self._loop.now_ms + self.offset_ms

    async def sleep_ms(self, duration_ms: int) -> None:
        await asyncio.sleep(duration_ms / 1000)
