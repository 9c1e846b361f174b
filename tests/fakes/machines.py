"""Tiny machines in the shape of detector, remediator and governor, to drive the stages with."""

import json
from typing import Any

from pipeline.model.labels import Labels
from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import (
    Action,
    Alert,
    AlertFact,
    AlertState,
    Decision,
    Effect,
    Grant,
    Outcome,
    Proposal,
    RemediatorInput,
    Tick,
    Watch,
)
from pipeline.model.signals import SignalBatch
from pipeline.model.target import Target


class FakeDetector:
    """Says a fact for every sample above 100, raises on 13, ticks every second once it has seen something. Counts what it has seen."""

    lookback_ms = 60_000

    def __init__(self) -> None:
        self.sum = 0.0
        self.rewound: list[float] = []
        self.facts = 0
        self.watches: list[str] = []
        self.due: int | None = None

    def feed(self, batch: SignalBatch, now_ms: int) -> list[Any]:
        out: list[Any] = []
        for value in batch.values:
            if value == 13:
                raise RuntimeError("unlucky")
            self.sum += value
            if value > 100:
                self.facts += 1
                out.append(fact(f"f{value:g}", now_ms))
        self.due = now_ms + 1000
        return out

    def advance(self, now_ms: int) -> list[Any]:
        self.due = None
        return []

    def watch(self, watch: Watch, now_ms: int) -> None:
        self.watches.append(watch.id)

    def due_at_ms(self) -> int | None:
        return self.due

    def reload(self, rules: Any, now_ms: int) -> tuple[None, list[Any]]:
        return None, [fact("ended", now_ms)]

    def rewind(self, batch: SignalBatch) -> None:
        self.rewound.extend(batch.values)

    def snapshot(self) -> bytes:
        return json.dumps(self.facts).encode()

    def restore(self, data: bytes) -> None:
        self.facts = json.loads(data)


class FakeRemediator:
    """Proposes an action for each firing fact, acts on a grant, notes an outcome."""

    def __init__(self, group: str, rules: Any) -> None:
        self.group = group
        self.wanted: dict[str, Action] = {}
        self.seen: list[str] = []

    def step(self, event: RemediatorInput, now_ms: int) -> list[Effect]:
        self.seen.append(type(event).__name__)
        if isinstance(event, AlertFact):
            wish = action(event.id, self.group, now_ms)
            self.wanted[wish.id] = wish
            return [Proposal(id=wish.id, group=self.group, at_ms=now_ms, action=wish)]
        if isinstance(event, Grant) and event.granted:
            return [self.wanted[event.id]]
        if isinstance(event, Outcome):
            return [decision(event.action_id, self.group, now_ms)]
        return []

    def due_at_ms(self) -> int | None:
        return None if self.seen else 0

    def reload(self, rules: Any, now_ms: int) -> list[Effect]:
        self.seen.append("reload")
        return []

    def snapshot(self) -> bytes:
        return json.dumps(self.seen).encode()

    def restore(self, data: bytes) -> None:
        self.seen = json.loads(data)


class FakeGovernor:
    """Grants everything once."""

    def __init__(self) -> None:
        self.granted: list[str] = []

    def step(self, event: Any, now_ms: int) -> list[Grant]:
        if not isinstance(event, Proposal) or event.id in self.granted:
            return []
        self.granted.append(event.id)
        return [Grant(id=event.id, group=event.group, at_ms=now_ms, granted=True, reason=Reason.GRANTED)]

    def snapshot(self) -> bytes:
        return json.dumps(self.granted).encode()

    def restore(self, data: bytes) -> None:
        self.granted = json.loads(data)


def fact(id_: str, at_ms: int, group: str = "checkout") -> AlertFact:
    alert = Alert(id=f"alert-{id_}", name="Errors", rule_id="r", labels=Labels.of(service=group), state=AlertState.FIRING, active_at_ms=at_ms)
    return AlertFact(id=id_, group=group, at_ms=at_ms, alert=alert)


def action(id_: str, group: str, at_ms: int) -> Action:
    return Action(
        id=f"action-{id_}",
        group=group,
        verb="scale",
        target=Target.parse("local://workload/checkout"),
        desired={"replicas": 3},
        at_ms=at_ms,
        expires_at_ms=at_ms + 60_000,
    )


def decision(id_: str, group: str, at_ms: int) -> Decision:
    return Decision(id=f"decision-{id_}", group=group, at_ms=at_ms, verdict=Verdict.NOTE, reason=Reason.APPLIED, text="applied")


def tick(at_ms: int) -> Tick:
    return Tick(at_ms=at_ms)
