"""What the engine said so far, read from its bus as any other program could. The demo judges by this alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from pipeline.model import wire
from pipeline.model.reasons import Reason
from pipeline.model.records import Action, AlertFact, AlertState, AnyRecord, Decision, Incident, Outcome, OutcomeStatus, Value
from pipeline.ports.bus import ACTIONS, FACTS, OUTCOMES, RECORDS, Bus

T = TypeVar("T", bound=Value)
F = TypeVar("F")


class Entry(NamedTuple):
    """A record and when it was committed to the bus (wall clock, ms)."""

    at_ms: int
    record: AnyRecord


@dataclass
class Journal:
    """Follows facts, actions, outcomes and records. `changed` is set whenever something came in."""

    bus: Bus
    entries: list[Entry] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for topic in (FACTS, ACTIONS, OUTCOMES, RECORDS):
                tasks.create_task(self._follow(topic))

    async def _follow(self, topic: str) -> None:
        async for record in self.bus.read(topic):
            self.entries.append(Entry(record.appended_at_ms, wire.decode(record.value)))
            self.changed.set()

    async def until(self, condition: Callable[[], F | None], timeout_seconds: float) -> F | None:
        """The first non-None answer of `condition`, asked again at every news; None when time is up."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while (found := condition()) is None:
            self.changed.clear()
            rest = deadline - asyncio.get_running_loop().time()
            if rest <= 0:
                return None
            try:
                await asyncio.wait_for(self.changed.wait(), min(rest, 0.25))
            except TimeoutError:
                continue
        return found

    def of(self, kind: type[T], since_ms: int = 0) -> Iterator[tuple[int, T]]:
        """Records of one type with their time, oldest first."""
        for at_ms, record in self.entries:
            if at_ms >= since_ms and isinstance(record, kind):
                yield at_ms, record

    def firing(self, name: str, since_ms: int) -> tuple[int, AlertFact] | None:
        """The first time since then that an alert of this name fired."""
        return self._turned(name, AlertState.FIRING, since_ms)

    def resolved(self, name: str, since_ms: int) -> tuple[int, AlertFact] | None:
        """The first time since then that an alert of this name ended."""
        return self._turned(name, AlertState.RESOLVED, since_ms)

    def _turned(self, name: str, state: AlertState, since_ms: int) -> tuple[int, AlertFact] | None:
        facts = self.of(AlertFact, since_ms)
        return next(((at_ms, fact) for at_ms, fact in facts if fact.alert.name == name and fact.alert.state is state), None)

    def alerts_from(self, source: str, since_ms: int) -> Iterator[tuple[int, AlertFact]]:
        """Alerts of one source (rule, sigma, external) that fired since then."""
        return (
            (at_ms, fact) for at_ms, fact in self.of(AlertFact, since_ms) if fact.alert.source == source and fact.alert.state is AlertState.FIRING
        )

    def action(self, action_id: str) -> Action | None:
        """The action with this id."""
        return next((action for _, action in self.of(Action) if action.id == action_id), None)

    def applied(self, since_ms: int, *verbs: str) -> list[tuple[Action, Outcome]]:
        """Actions applied since then, in order of application, each once (an outcome travels on two topics)."""
        outcomes = {outcome.id: outcome for _, outcome in self.of(Outcome, since_ms) if outcome.status is OutcomeStatus.APPLIED}
        pairs = [(self.action(outcome.action_id), outcome) for outcome in outcomes.values()]
        return [(action, outcome) for action, outcome in pairs if action is not None and (not verbs or action.verb in verbs)]

    def decision(self, since_ms: int, *reasons: Reason) -> Decision | None:
        """The first decision since then with one of these reasons."""
        return next((decision for _, decision in self.of(Decision, since_ms) if decision.reason in reasons), None)

    def incident(self, since_ms: int) -> Incident | None:
        """The newest state of the last incident opened or moved since then."""
        return next((incident for _, incident in reversed(list(self.of(Incident, since_ms)))), None)
