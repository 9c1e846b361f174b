"""What the executor needs from the runtime: a durable log of intents, a kill switch, and named fault points for crash tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from pipeline.model.records import Action, Outcome


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted action. `change` is the concrete plan, logged before the first write (None: not planned yet)."""

    action: Action
    change: Mapping[str, Any] | None = None
    outcome: Outcome | None = None


class IntentLog(Protocol):
    """Durable before the outside world is touched; finished intents are kept as long as a duplicate could arrive."""

    async def accept(self, action: Action) -> bool:
        """Store a new intent; False when this action id is known already (finished or not)."""
        ...

    async def planned(self, action_id: str, change: Mapping[str, Any]) -> None:
        """Store the concrete change, before it is written anywhere."""
        ...

    async def finish(self, outcome: Outcome) -> None:
        """Publish the outcome and close the intent, so that neither happens without the other (or both are repeated with the same id)."""
        ...

    async def unfinished(self) -> list[Intent]:
        """Intents without an outcome, oldest first: what a restart has to settle."""
        ...


class KillSwitch(Protocol):
    """The pause flag; unknown means paused."""

    def paused(self) -> str:
        """Why nothing may be applied now; empty when it may. Checked right before each apply, so it must be fast."""
        ...


FaultPoint = Callable[[str], None]
"""Called with the name of a place where a crash is interesting; does nothing unless a test armed that name."""
