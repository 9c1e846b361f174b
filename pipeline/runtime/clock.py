"""The real clock: the one place of the runtimes that reads the wall time."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Wall time of the machine."""

    def now_ms(self) -> int:
        """Unix epoch milliseconds."""
        return time.time_ns() // 1_000_000

    async def sleep_ms(self, duration_ms: int) -> None:
        """Return after `duration_ms`."""
        await asyncio.sleep(duration_ms / 1000)
