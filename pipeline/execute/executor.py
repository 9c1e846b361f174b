"""`Executor`: takes granted actions, settles one at a time per target and several targets at once, and reports one outcome per action.

Guarantees: an action is durable when `accept` returns; an id known already is ignored; what a crash left is settled by `resume`; nothing is written
while paused, after the expiry, or beyond a grant. An error of the intent log (or an armed fault point) ends the executor: `failed` raises it, and the
process should be started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from pipeline.execute import outcomes
from pipeline.execute.permits import Grants
from pipeline.execute.settle import Settler, Surroundings
from pipeline.model.records import Action, Outcome
from pipeline.model.target import Target
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Connector
from pipeline.ports.execution import FaultPoint, Intent, IntentLog, KillSwitch

AT_ONCE: Final = 16  # targets under way together

OnOutcome = Callable[[Action, Outcome], None]
"""Called after an outcome is durable, for metrics and logs. Must not raise."""


def _no_fault(_name: str) -> None:
    """No fault is armed."""


def _no_hook(_action: Action, _outcome: Outcome) -> None:
    """Nobody listens."""


def _no_fence(_group: str) -> int:
    """One owner for ever."""
    return 0


class Executor:
    """One per process. Use inside a running event loop."""

    def __init__(
        self,
        connectors: Mapping[str, Connector],
        intents: IntentLog,
        switch: KillSwitch,
        clock: Clock,
        grants: Callable[[str], Grants],
        *,
        fence: Callable[[str], int] = _no_fence,
        fault: FaultPoint = _no_fault,
        on_outcome: OnOutcome = _no_hook,
    ) -> None:
        self._intents, self._clock, self._fault, self._on_outcome = intents, clock, fault, on_outcome
        self._settler = Settler(Surroundings(connectors, intents, switch, clock, grants, fence, fault))
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting: dict[Target, deque[tuple[Intent, bool]]] = {}
        self._lanes: dict[Target, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[None] | None = None
        self._broken: BaseException | None = None

    async def accept(self, action: Action) -> bool:
        """Make it durable and queue it; False when its id is known already."""
        self._raise_failure()
        if not await self._intents.accept(action):
            return False
        self._queue(Intent(action=action), recovered=False)
        return True

    async def resume(self) -> int:
        """Queue what a crash or a stop left unfinished, oldest first; how many. Call once, before the first `accept`."""
        left = await self._intents.unfinished()
        for intent in left:
            self._queue(intent, recovered=True)
        return len(left)

    async def drain(self, timeout_ms: int) -> bool:
        """Wait until nothing is under way; False when time ran out."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000):
                while self._lanes:
                    await asyncio.wait(self._lanes.values())
        self._raise_failure()
        return not self._lanes

    async def failed(self) -> None:
        """Wait until the executor cannot go on, then raise why. Runs beside everything else."""
        self._raise_failure()
        self._failure = asyncio.get_running_loop().create_future()
        await self._failure

    async def close(self) -> None:
        """Stop at once. What is under way stays unfinished in the log, for `resume`."""
        lanes = list(self._lanes.values())
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)

    def _queue(self, intent: Intent, *, recovered: bool) -> None:
        target = intent.action.target
        self._waiting.setdefault(target, deque()).append((intent, recovered))
        if target not in self._lanes:
            self._lanes[target] = asyncio.create_task(self._work(target), name=f"execute {target}")

    async def _work(self, target: Target) -> None:
        waiting = self._waiting[target]
        try:
            while waiting and self._broken is None:
                intent, recovered = waiting.popleft()
                async with self._slots:
                    await self._settle(intent, recovered=recovered)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - kept for whoever waits in `failed`, `drain` or calls `accept`
            self._fail(error)
        finally:
            del self._lanes[target], self._waiting[target]

    async def _settle(self, intent: Intent, *, recovered: bool) -> None:
        ending = await self._settler.settle(intent)
        record = outcomes.outcome(intent.action, ending, now_ms=self._clock.now_ms(), recovered=recovered)
        await self._intents.finish(record)
        self._fault("after_outcome")
        self._on_outcome(intent.action, record)

    def _fail(self, error: BaseException) -> None:
        if self._broken is None:
            self._broken = error
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    def _raise_failure(self) -> None:
        if self._broken is not None:
            raise self._broken
