"""`RecordTelemetry`: counts records as they pass, and measures the way from cause to firing to applied to verified.

It joins an action to the alert that caused it by their ids, and remembers at most `capacity` of each; what it has forgotten is not measured.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple, TypeVar

from pipeline.model.reasons import Reason
from pipeline.model.records import Action, Alert, AlertFact, AlertState, AnyRecord, DeadLetter, Decision, Finding, Measurement, Outcome, OutcomeStatus
from pipeline.ports.clock import Clock
from pipeline.telemetry.metrics import Telemetry

CAPACITY: Final = 10_000
Held = TypeVar("Held")


class _Applied(NamedTuple):
    action: Action
    applied_at_ms: int


class RecordTelemetry:
    """Feed it every fact, action, outcome, decision, finding and dead letter once, when it is written.

    `clock` says when an alert's firing was known; without it the fact's own time counts, which is event time and hides what detection took.
    """

    def __init__(self, telemetry: Telemetry, *, clock: Clock | None = None, capacity: int = CAPACITY) -> None:
        self._telemetry, self._clock, self._capacity = telemetry, clock, capacity
        self._fired_at_ms: OrderedDict[str, int] = OrderedDict()
        self._actions: OrderedDict[str, _Applied] = OrderedDict()

    def observe(self, record: AnyRecord) -> None:
        """Count one record; kinds that say nothing here are ignored."""
        match record:
            case AlertFact(alert=alert):
                self._alert(record, alert)
            case Measurement(truth=truth):
                self._telemetry.fact("measurement", truth.value)
            case Action():
                self._remember(self._actions, record.id, _Applied(record, 0))
            case Outcome():
                self._outcome(record)
            case Decision():
                self._decision(record)
            case Finding(level=level):
                self._telemetry.finding(level)
            case DeadLetter(topic=topic, reason=reason):
                self._telemetry.dead_letter(topic, reason)
            case _:
                pass

    def _alert(self, fact: AlertFact, alert: Alert) -> None:
        self._telemetry.fact("alert", alert.state.value)
        if alert.state is AlertState.FIRING and alert.id not in self._fired_at_ms:
            fired_at_ms = self._clock.now_ms() if self._clock is not None else fact.at_ms
            self._remember(self._fired_at_ms, alert.id, fired_at_ms)
            if fact.caused_at_ms:
                self._telemetry.reaction("cause_to_firing", fired_at_ms - fact.caused_at_ms)

    def _outcome(self, outcome: Outcome) -> None:
        known = self._actions.get(outcome.action_id)
        self._telemetry.action(known.action.verb if known else "unknown", outcome.status.value)
        if known is None or outcome.status is not OutcomeStatus.APPLIED or known.applied_at_ms:
            return
        applied_at_ms = outcome.applied_at_ms or outcome.at_ms
        self._remember(self._actions, outcome.action_id, _Applied(known.action, applied_at_ms))
        fired_at_ms = self._fired_at_ms.get(known.action.alert_id)
        if fired_at_ms is not None:
            self._telemetry.reaction("firing_to_applied", applied_at_ms - fired_at_ms)
        if known.action.caused_at_ms:
            self._telemetry.reaction("cause_to_applied", applied_at_ms - known.action.caused_at_ms)

    def _decision(self, decision: Decision) -> None:
        self._telemetry.decision(decision.verdict.value, decision.reason.value)
        known = self._actions.get(decision.action_id)
        if decision.reason is Reason.VERIFIED and known is not None and known.applied_at_ms:
            self._telemetry.reaction("applied_to_verified", decision.at_ms - known.applied_at_ms)

    def _remember(self, store: OrderedDict[str, Held], key: str, value: Held) -> None:
        store[key] = value
        while len(store) > self._capacity:
            store.popitem(last=False)
