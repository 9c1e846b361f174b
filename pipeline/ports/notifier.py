"""How people are told."""

from __future__ import annotations

from typing import Protocol

from pipeline.model.records import Notice


class Notifier(Protocol):
    """One receiver."""

    async def send(self, notice: Notice) -> None:
        """Deliver, or raise `Temporary` / `Permanent` of the connector errors. `notice.id` is the idempotency key."""
        ...
