"""What the executor needs, in memory: a clock moved by hand, an intent log that survives a restart, a switch, and crashes on demand."""

import asyncio
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pipeline.model.records import Action, Outcome
from pipeline.ports.execution import Intent


class FakeClock:
    """Wall time that stands still. With `auto` a sleep returns at once and moves the time; without, `advance` lets it pass."""

    def __init__(self, now_ms: int = 1_700_000_000_000, *, auto: bool = True) -> None:
        self.now, self.auto = now_ms, auto
        self.slept: list[int] = []
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self.now

    async def sleep_ms(self, duration_ms: int) -> None:
        self.slept.append(duration_ms)
        if self.auto:
            self.now += duration_ms
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + duration_ms, len(self.slept), future))
        await future

    async def advance(self, duration_ms: int) -> None:
        """Let time pass, waking sleepers in order."""
        until = self.now + duration_ms
        while self._sleepers and self._sleepers[0][0] <= until:
            self.now, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            for _ in range(5):
                await asyncio.sleep(0)
        self.now = until


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Faults:
    """Crashes at the n-th passage of a named fault point; `passed` lists every passage."""

    armed: dict[str, int] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.passed.append(name)
        if self.armed.get(name) == self.passed.count(name):
            raise Crash(name)


class MemoryIntents:
    """The intent log; keep the object over a restart of the executor. `outcomes` is what was published, in order."""

    def __init__(self) -> None:
        self.intents: dict[str, Intent] = {}
        self.outcomes: list[Outcome] = []

    async def accept(self, action: Action) -> bool:
        if action.id in self.intents:
            return False
        self.intents[action.id] = Intent(action=action)
        return True

    async def planned(self, action_id: str, change: Mapping[str, Any]) -> None:
        msgspec.json.encode(change)  # must be plain data
        self.intents[action_id] = msgspec.structs.replace(self.intents[action_id], change=change)

    async def finish(self, outcome: Outcome) -> None:
        intent = self.intents[outcome.action_id]
        if intent.outcome is None:
            self.outcomes.append(outcome)
        self.intents[outcome.action_id] = msgspec.structs.replace(intent, outcome=outcome)

    async def unfinished(self) -> list[Intent]:
        return [intent for intent in self.intents.values() if intent.outcome is None]


@dataclass
class FakeSwitch:
    """A pause flag; `answers` are given first, one per question."""

    why: str = ""
    answers: list[str] = field(default_factory=list)

    def paused(self) -> str:
        return self.answers.pop(0) if self.answers else self.why


@dataclass(frozen=True)
class FakeGrants:
    verbs: tuple[str, ...] | None = None
    mode: str = "enforce"
