"""`Remediator`: the fold of one group. Facts, outcomes, grants, commands and ticks in; proposals, actions, decisions, incidents out.

Guarantees: no clock and no I/O, so the same inputs with the same `now_ms` give byte-identical effects and snapshots; a second copy of any input
changes nothing; no action id goes out twice; what is held is looked at again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import (
    AlertFact,
    AlertState,
    Command,
    Effect,
    Ending,
    Grant,
    Measurement,
    Observation,
    Outcome,
    RemediatorInput,
    Tick,
    Watch,
)
from pipeline.remediate import commands, dispatch, failover, failover_watch, incidents, results, revert, scaler, shadow, steps, wants
from pipeline.remediate.catalogue import Scope
from pipeline.remediate.state import AlertEntry, Seen, State, dump, load
from pipeline.remediate.turn import Launched, Refused, Settled, Turn
from pipeline.rulebook.book import RuleBook

Handler = Callable[[Turn, "Launched | Refused | Settled"], None]
OWNERS: Final[Mapping[str, object]] = {"run": results, "release": revert, "operator": commands, "scaler": scaler, "failover": failover}
HANDLERS: Final[Mapping[type, str]] = {Launched: "launched", Refused: "refused", Settled: "settled"}
ROUNDS: Final = 50  # how often one step may go round; a step that needs more is a mistake of ours, and goes on at the next tick


class Remediator:
    """One per group; small state; a fold."""

    def __init__(self, group: str, rules: RuleBook) -> None:
        self.scope = Scope(rules, group)
        self.state = State(group)

    def step(self, event: RemediatorInput, now_ms: int) -> list[Effect]:
        """Take one input. `now_ms` never goes back; a smaller one counts as the newest seen."""
        now_ms = max(now_ms, self.state.now_ms)
        self.state.now_ms = now_ms
        cause = f"tick:{now_ms}" if isinstance(event, Tick) else event.id
        turn = Turn(self.state, self.scope, now_ms, cause)
        if self.state.rules_version != self.scope.rules.version or not self.state.started:
            _adopt_rules(turn)
        if not isinstance(event, AlertFact | Command) or turn.first_sight(event.id):  # the others are recognised by what they speak of
            _take(turn, event)
        _advance(turn)
        incidents.flush(turn)
        return turn.effects

    def due_at_ms(self) -> int | None:
        """When a Tick is wanted next; 0 before the first step, because controllers start with it."""
        state = self.state
        if not state.started or state.rules_version != self.scope.rules.version:
            return 0
        turn = Turn(state, self.scope, state.now_ms, "")
        times = [want.due_at_ms for want in state.wants.values()]
        times += [order.due_at_ms for order in state.orders.values()]
        times += [due for run in state.runs.values() if (due := steps.due_at_ms(run)) is not None]
        times += [override.expires_at_ms for override in state.overrides.values() if override.expires_at_ms]
        times += [release.due_at_ms for release in state.releases.values()]
        times += [due for incident in state.incidents.values() if (due := incidents.due_at_ms(turn, incident)) is not None]
        times += [due for entry in state.failovers.values() if (due := failover.due_at_ms(entry, state.now_ms)) is not None]
        soonest = min(times, default=wants.NEVER_MS)
        return soonest if soonest < wants.NEVER_MS else None

    def reload(self, rules: RuleBook, now_ms: int) -> list[Effect]:
        """Go on with other rules: guards, incidents and runs keep their past."""
        self.scope = Scope(rules, self.state.group)
        return self.step(Tick(at_ms=now_ms), now_ms)

    def watches(self) -> list[Watch]:
        """The standing expressions in force, to be asked for again after detection lost them."""
        return [watch for watch in self.state.watches.values() if watch.until_ms == 0 or watch.until_ms > self.state.now_ms]

    def snapshot(self) -> bytes:
        """The whole memory as bytes."""
        return dump(self.state)

    def restore(self, data: bytes) -> None:
        """Take up the memory again. Raises `StateError` for what this version cannot read."""
        self.state = load(State, data)


def _adopt_rules(turn: Turn) -> None:
    turn.state.rules_version, turn.state.started, turn.afresh = turn.rules.version, True, True
    scaler.adopt(turn)
    failover_watch.adopt(turn)
    shadow.adopt(turn)


def _take(turn: Turn, event: RemediatorInput) -> None:
    match event:
        case AlertFact():
            _alert(turn, event)
        case Measurement():
            _measurement(turn, event)
        case Observation():
            _observation(turn, event)
        case Outcome():
            dispatch.settle(turn, event)
        case Grant():
            dispatch.on_grant(turn, event)
        case Command():
            commands.obey(turn, event)
        case Tick():
            pass


def _advance(turn: Turn) -> None:
    """Let everything that is due happen, until nothing more follows."""
    dispatch.advance(turn)
    for _ in range(ROUNDS):
        _deliver(turn)
        steps.advance(turn)
        failover.advance(turn)
        wants.advance(turn)
        if not (turn.inbox or turn.again or turn.afresh or steps.waiting(turn)):
            break
    revert.advance(turn)
    _deliver(turn)
    incidents.advance(turn)
    for id_ in [id_ for id_, watch in turn.state.watches.items() if watch.until_ms and watch.until_ms < turn.now_ms]:
        turn.state.watches.pop(id_)
        turn.state.heard.pop(id_, None)
    for id_ in [id_ for id_, silence in turn.state.silences.items() if silence.ends_at_ms <= turn.now_ms]:
        del turn.state.silences[id_]


def _deliver(turn: Turn) -> None:
    """Tell the owners of orders what became of them, in order."""
    while turn.inbox:
        event = turn.inbox.pop(0)
        owner = OWNERS[event.order.owner.partition(":")[0]]
        getattr(owner, HANDLERS[type(event)])(turn, event)


def _alert(turn: Turn, fact: AlertFact) -> None:
    alert, known = fact.alert, turn.state.alerts.get(fact.alert.id)
    if known is not None and (alert.revision < known.alert.revision or alert == known.alert):
        return  # a copy, or older news than what is known
    if alert.state is AlertState.PENDING:
        return
    if alert.state is AlertState.RESOLVED:
        _resolved(turn, fact, known)
        return
    if known is not None and known.alert.state is AlertState.RESOLVED and alert.revision <= known.alert.revision:
        return  # this life is over
    service = turn.scope.service_of(alert.labels)
    name = service.name if service is not None else ""
    entry = AlertEntry(alert, fact.at_ms, fact.caused_at_ms or (known.caused_at_ms if known else 0), known.incident_id if known else "", name)
    turn.state.alerts[alert.id] = entry
    entry.incident_id = incidents.attach(turn, entry)
    wants.raise_wants(turn, entry)


def _resolved(turn: Turn, fact: AlertFact, known: AlertEntry | None) -> None:
    if known is None:
        return
    known.alert, known.heard_at_ms = fact.alert, fact.at_ms
    reason = {Ending.BY_NODATA: Reason.RESOLVED_BY_NODATA, Ending.BY_RULE_CHANGE: Reason.RESOLVED_BY_RULE_CHANGE}
    code = reason.get(fact.alert.ended or Ending.BY_VALUE, Reason.RESOLVED_BY_VALUE)
    evidence = {"value": fact.alert.value, "lasted_ms": fact.alert.resolved_at_ms - fact.alert.fired_at_ms}
    text = f"{fact.alert.name} ended: {code}."
    turn.decide(Verdict.NOTE, code, text, evidence, alert_id=fact.alert.id, incident_id=known.incident_id)
    incidents.note(turn, known.incident_id, f"alert {fact.alert.name} ended: {code}", fact.alert.id)
    for run in [run for run in turn.state.runs.values() if run.alert_id == fact.alert.id]:
        results.alert_ended(turn, run)
    shadow.ended(turn, known)
    incidents.settle(turn, known.incident_id)
    turn.again = True


def _measurement(turn: Turn, measurement: Measurement) -> None:
    if measurement.watch_id not in turn.state.watches or measurement.at_ms <= turn.state.heard.get(measurement.watch_id, -1):
        return  # of a watch that is over, or a copy
    turn.state.heard[measurement.watch_id] = measurement.at_ms
    for run in list(turn.state.runs.values()):
        if measurement.watch_id == run.baseline_watch or (run.verification is not None and measurement.watch_id in run.verification.watches):
            results.measured(turn, run, measurement)
            return
    scaler.measured(turn, measurement)
    failover_watch.measured(turn, measurement)


def _observation(turn: Turn, observation: Observation) -> None:
    key = str(observation.target)
    known = turn.state.observed.get(key)
    if known is not None and (known.at_ms > observation.at_ms or observation.id in known.ids):
        return  # older than what is known, or a copy
    ids = known.ids if known is not None and known.at_ms == observation.at_ms else []
    turn.state.observed[key] = Seen(observation.at_ms, observation.observed, observation.error, [*ids, observation.id])
    shadow.observed(turn, observation, known.value if known else None)
    if observation.observed is not None:
        revert.observed(turn, observation.target, observation.at_ms, observation.observed)
