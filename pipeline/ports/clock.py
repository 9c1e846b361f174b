"""Where time comes from. Only the shell holds a Clock; the core gets `now_ms` as an argument."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time and waiting; a fake moves by hand."""

    def now_ms(self) -> int:
        """Unix epoch milliseconds."""
        ...

    async def sleep_ms(self, duration_ms: int) -> None:
        """Return after `duration_ms`."""
        ...
