"""What must hold in every run, whatever happens: judged from what the engine said, what the connector wrote, and what was true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pipeline.model import wire
from pipeline.model.reasons import Reason
from pipeline.model.records import Action, Alert, AlertState, Decision
from pipeline.model.target import Target
from tests.simulator.plant import PERSON
from tests.simulator.rules import book

if TYPE_CHECKING:
    from tests.simulator.run import Simulation

BLIND_MS = 3000  # the window of the scaler's expression: after as much silence it sees nothing of a source
NEAR_END_MS = 8000  # what began so late may not be finished
TURNS = 2


class Story:
    """A run as the checks read it."""

    def __init__(self, simulation: Simulation) -> None:
        self.scenario, self.mode, self.plant = simulation.scenario, simulation.mode, simulation.plant
        self.engine, self.connectors = simulation.engine, simulation.connectors
        self.actions = simulation.engine.actions
        self.by_id = {action.id: action for _, action in self.actions}
        self.decisions: list[tuple[int, Decision]] = []
        self.alerts: dict[str, tuple[int, Alert]] = {}
        for said in simulation.engine.said:
            record = wire.decode(said.data)
            if isinstance(record, Decision):
                self.decisions.append((said.at_ms, record))
            elif isinstance(record, Alert) and record.state is AlertState.FIRING:
                self.alerts.setdefault(record.id, (said.at_ms, record))

    @property
    def end_ms(self) -> int:
        return self.scenario.length_ms

    def writes(self) -> Iterator[tuple[int, Action, Target, Mapping[str, Any], Mapping[str, Any]]]:
        """What we wrote: true time, action, target, before, after."""
        for at_ms, key, target, before, after in self.plant.history:
            if key != PERSON and set(after) != {"previous_version"}:
                yield at_ms, self.by_id[key], target, before, after


def _size(target: Target, values: Mapping[str, Any]) -> float | None:
    """One number that says where the target stands, so that a turn can be told."""
    if "replicas" in values:
        return float(values["replicas"])
    if "weights" in values:
        return float(values["weights"].get("v1", 0))
    return float(values["sites"].get("a", 0)) if "sites" in values else None


def _turns(story: Story) -> Iterator[str]:
    """No target is pushed to and fro more than twice within one incident."""
    moves: dict[tuple[str, Target], list[float]] = defaultdict(list)
    for _, action, target, before, after in story.writes():
        old, new = _size(target, {name: before[name] for name in after if name in before}), _size(target, after)
        if action.incident_id and old is not None and new is not None and old != new:
            moves[action.incident_id, target].append(new - old)
    for (incident_id, target), steps in moves.items():
        turns = sum(1 for one, two in pairwise(steps) if (one > 0) != (two > 0))
        if turns > TURNS:
            yield f"{target} changed direction {turns} times in incident {incident_id}: {steps}"


def _budgets(story: Story) -> Iterator[str]:
    """A policy touches no more targets than its budget says."""
    for policy in book(story.scenario.variant, story.mode, story.scenario.least, story.scenario.canary_percent).policies:
        guard = policy.guard
        touched: dict[Target, int] = {}
        for at_ms, action, target, *_ in story.writes():
            if action.policy == policy.name and not action.reverts and action.identity == "reflexarc":
                touched[target] = at_ms
                recent = [one for one, last_ms in touched.items() if last_ms > at_ms - guard.budget.per_ms]
                if len(recent) > (guard.budget.targets or 99):
                    yield f"{policy.name} touched {len(recent)} targets within {guard.budget.per_ms} ms: {', '.join(map(str, recent))}"


def _bounds(story: Story) -> Iterator[str]:
    """Never below the minimum or above the maximum."""
    for _, action, target, _, after in story.writes():
        if "replicas" in after and not story.scenario.least <= after["replicas"] <= 6:
            yield f"{action.verb} set {target} to {after['replicas']} replicas"


def _blind_cuts(story: Story) -> Iterator[str]:
    """Nothing is scaled down by a scaler that does not see all of its demand."""
    spans = story.scenario.metrics
    for at_ms, action, target, before, after in story.writes():
        if "replicas" not in after or after["replicas"] >= before["replicas"] or not action.policy.endswith("-demand"):
            continue
        for key in ("missing:services", "partial:a", "partial:b"):
            if any(span.from_ms + BLIND_MS < at_ms < span.to_ms for span in spans.get(key, ())):
                yield f"{target} was scaled down from {before['replicas']} to {after['replicas']} at {at_ms} while {key}"


def _failures_end(story: Story) -> Iterator[str]:
    """A failed verification is undone, followed by the next rung, or handed to a person."""
    for index, (at_ms, decision) in enumerate(story.decisions):
        if decision.reason is not Reason.VERIFY_FAILED or at_ms > story.end_ms - NEAR_END_MS or decision.mode == "observe":
            continue
        later = [one for _, one in story.decisions[index + 1 :] if one.incident_id == decision.incident_id]
        acted = any(one.incident_id == decision.incident_id and when >= at_ms for when, one in story.actions)
        if not acted and not any(one.reason in {Reason.ESCALATED, Reason.REVERT_NOT_VALID, Reason.STEPS_EXHAUSTED} for one in later):
            yield f"failed verification of {decision.verb} at {at_ms} had no consequence"


def _one_in_flight(story: Story) -> Iterator[str]:
    """Two actions never work on one target at once."""
    overlaps = sum(connector.overlaps for connector in story.connectors.values())
    if overlaps:
        yield f"{overlaps} actions overlapped on one target"


def _applied_once(story: Story) -> Iterator[str]:
    """No action is written twice; observe writes nothing."""
    keys: dict[str, int] = defaultdict(int)
    for _, action, *_ in story.writes():
        keys[action.id] += 1
    for key, count in keys.items():
        if count > 1:
            yield f"action {key} ({story.by_id[key].verb}) was written {count} times"
    if story.mode == "observe" and keys:
        yield f"observe wrote {len(keys)} changes"


def _explained(story: Story) -> Iterator[str]:
    """Every alert caused an action or has a decision with a reason."""
    known = {decision.alert_id for _, decision in story.decisions} | {action.alert_id for _, action in story.actions}
    restarts = [happening for happening in story.scenario.happenings if happening.what == "restart"]
    dead = [(happening.at_ms, happening.at_ms + int(happening.value)) for happening in restarts]
    for alert_id, (at_ms, alert) in story.alerts.items():
        unheard = any(begin <= at_ms + 1000 and at_ms >= begin - 1000 and end > story.end_ms - 1000 for begin, end in dead)
        if alert_id not in known and at_ms < story.end_ms - 1000 and not unheard:
            yield f"{alert.name} {dict(alert.labels.pairs)} at {at_ms} caused nothing, and no decision says why"


CHECKS: tuple[Callable[[Story], Iterator[str]], ...] = (
    _turns, _budgets, _bounds, _blind_cuts, _failures_end, _one_in_flight, _applied_once, _explained,
)  # fmt: skip


def violations(simulation: Simulation) -> list[str]:
    """Everything that did not hold."""
    story = Story(simulation)
    return [f"{check.__name__.strip('_')}: {text}" for check in CHECKS for text in check(story)]
