"""`Observer`: reads the catalogue's targets again and again and says what they are: at a change, and every 30 s."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.model.records import Observation, stable_id
from pipeline.model.target import Target
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Connector, ConnectorError

REPEAT_MS: Final = 30_000
_READ_S: Final = 5.0

Emit = Callable[[Observation], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Said:
    turn: int
    at_ms: int
    observed: Mapping[str, Any] | None
    error: str


class Observer:
    """`targets`: target -> group. `emit` publishes; what it raises ends `run`."""

    def __init__(self, connectors: Mapping[str, Connector], targets: Mapping[Target, str], clock: Clock, emit: Emit, *, interval_ms: int) -> None:
        self._connectors, self._targets, self._clock, self._emit = connectors, dict(targets), clock, emit
        self._interval_ms = interval_ms
        self._said: dict[Target, _Said] = {}
        self._turns = 0

    async def run(self) -> None:
        """Look at everything every interval, until cancelled."""
        while True:
            await asyncio.gather(*(self.look(target) for target in self._targets))
            await self._clock.sleep_ms(self._interval_ms)

    async def look(self, target: Target) -> None:
        """Look at one target now (after an action on it, for example); targets outside the catalogue are passed over."""
        group = self._targets.get(target)
        if group is None:
            return
        self._turns += 1
        turn = self._turns
        observed, error = await self._read(target)
        now_ms, last = self._clock.now_ms(), self._said.get(target)
        if last is not None and last.turn > turn:
            return  # a look that began later has spoken: what this one saw is older
        if last is not None and (last.observed, last.error) == (observed, error) and now_ms - last.at_ms < REPEAT_MS:
            return
        self._said[target] = _Said(turn, now_ms, observed, error)
        record_id = stable_id("observation", target, now_ms, observed, error)
        await self._emit(Observation(id=record_id, group=group, target=target, at_ms=now_ms, observed=observed, error=error))

    async def _read(self, target: Target) -> tuple[Mapping[str, Any] | None, str]:
        connector = self._connectors.get(target.connector)
        if connector is None:
            return None, f"no connector {target.connector!r} is configured"
        try:
            async with asyncio.timeout(_READ_S):
                return dict((await connector.read(target)).value), ""
        except TimeoutError:
            return None, f"no answer within {_READ_S:g} s"
        except ConnectorError as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001 - a bug in a connector is an unreadable target, not the end of observing
            return None, f"{type(error).__name__}: {error}"
