"""Own retention: the loop that asks a store to let go of what is too old. No ILM is needed for it.

Guarantee: a failed round is told and tried again at the next one; nothing else stops because of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pipeline.ports.clock import Clock
from pipeline.record.errors import StoreError

HOUR_MS: Final = 3_600_000


class Expiring(Protocol):
    """Both stores."""

    async def expire(self, now_ms: int, keep_days: Mapping[str, int] | None = None) -> int:
        """Drop what is older than its kind is kept; return how much."""
        ...


async def keep_expiring(
    store: Expiring,
    clock: Clock,
    *,
    keep_days: Mapping[str, int] | None = None,
    every_ms: int = HOUR_MS,
    on_done: Callable[[int], None],
    on_failed: Callable[[StoreError], None],
) -> None:
    """Expire now and every `every_ms`, until cancelled. `keep_days`: days per kind, where other than in `kinds.KINDS`."""
    while True:
        try:
            on_done(await store.expire(clock.now_ms(), keep_days))
        except StoreError as error:
            on_failed(error)
        await clock.sleep_ms(every_ms)
