"""Scalers: keep a workload's replicas at demand, by the HPA's algorithm, through the same arbitration and governor as everything else.

Guarantee: no data never scales down (nor up), and neither does the first that comes after it; bounds are never crossed; a rise waits for nothing
but an action in flight on the same target; capacity that something else holds up (a policy's scale-up, a fail-over) is not taken away. A choice
that stays the same is recorded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Measurement, OutcomeStatus, Truth, Watch, stable_id
from pipeline.model.target import Target
from pipeline.remediate import dispatch, guards, hpa
from pipeline.remediate.catalogue import places
from pipeline.remediate.dispatch import Draft
from pipeline.remediate.hpa_behavior import Aged, History, Normalized, normalize, rules_of
from pipeline.remediate.state import ScalerState
from pipeline.remediate.templates import TemplateError, render_expr
from pipeline.remediate.turn import Hold, Launched, Refused, Settled, Turn
from pipeline.rulebook.spec import Scaler, Service

KEPT: Final = 500
BLIND_ROUNDS: Final = 3
RETRY_MS: Final = 15_000


@dataclass(frozen=True, slots=True)
class Scaling:
    """One scaler at one measurement."""

    turn: Turn
    spec: Scaler
    state: ScalerState
    service: Service
    target: Target
    at_ms: int = 0

    @property
    def owner(self) -> str:
        """Its name in arbitration."""
        return f"scaler:{self.spec.name}"


def target_of(spec: Scaler, service: Service) -> Target | None:
    """The workload that the scaler keeps: its target, its site's, or the first of the service."""
    if spec.target:
        return Target.parse(spec.target)
    workloads = [place for place in places(service) if place.kind == "workload" and (place.site == spec.site if spec.site else True)]
    return workloads[0].target if workloads else None


def adopt(turn: Turn) -> None:
    """Start with these rules: a standing value for every scaler, none for those that are gone."""
    wanted: dict[str, str] = {}
    for spec, service in turn.scope.scalers:
        if guards.effective_mode(turn, spec.mode) == "off":
            continue
        state = turn.state.scalers.setdefault(spec.name, ScalerState())
        wanted[spec.name] = _watch(turn, spec, service, state)
    for name, state in list(turn.state.scalers.items()):
        if name not in wanted:
            turn.unwatch(state.watch_id)
            del turn.state.scalers[name]


def _watch(turn: Turn, spec: Scaler, service: Service, state: ScalerState) -> str:
    try:
        expr = render_expr(spec.metric.expr, {"service": service.name, **service.match, **({"site": spec.site} if spec.site else {})})
    except TemplateError:
        expr = spec.metric.expr
    id_ = stable_id("watch", turn.group, "scaler", spec.name, expr, spec.interval_ms)
    if state.watch_id != id_:
        turn.unwatch(state.watch_id)
        state.watch_id = id_
        turn.watch(Watch(id=id_, group=turn.group, at_ms=turn.now_ms, expr=expr, kind="value", interval_ms=spec.interval_ms))
    return id_


def measured(turn: Turn, measurement: Measurement) -> None:
    """A value of one of the scalers' expressions."""
    for spec, service in turn.scope.scalers:
        state = turn.state.scalers.get(spec.name)
        if state is None or state.watch_id != measurement.watch_id:
            continue
        target = target_of(spec, service)
        if target is not None:
            _evaluate(Scaling(turn, spec, state, service, target, measurement.at_ms), measurement)


def _evaluate(scaling: Scaling, measurement: Measurement) -> None:
    seen = scaling.turn.state.observed.get(str(scaling.target))
    current = (seen.value or {}).get("replicas") if seen else None
    hold = _blind(scaling, measurement, current)
    if hold is not None or measurement.value is None or current is None:
        if hold is not None:
            scaling.state.blind_at_ms = scaling.turn.now_ms
            _say(scaling, hold)
        return
    ready = int((seen.value or {}).get("ready", current)) if seen else current
    raw = recommendation(scaling.spec, measurement.value, current, ready)
    unseen = _unseen(scaling, measurement, raw, current, ready)
    answer = _normalized(scaling, raw if unseen is None else current, current)
    if answer.replicas == current and unseen is not None:
        _say(scaling, unseen)
    elif answer.replicas == current:
        _stays(scaling, raw, current, answer, measurement.value)
    else:
        _propose(scaling, raw, current, answer, measurement.value)


def _blind(scaling: Scaling, measurement: Measurement, current: int | None) -> Hold | None:
    name = scaling.spec.name
    if measurement.truth is not Truth.TRUE or measurement.value is None:
        text = f"Scaler {name} gets no value for its demand, so it leaves {scaling.target} at {current} replicas."
        return Hold(Reason.NO_DATA, text, {"expr": scaling.spec.metric.expr, "current": current})
    if measurement.warming:
        return Hold(Reason.WARMING, f"The windows behind scaler {name} are not whole yet.", {"value": measurement.value, "current": current})
    if current is None:
        return Hold(Reason.NO_DATA, f"Nobody has read how many replicas {scaling.target} has, so scaler {name} waits.", {"value": measurement.value})
    if scaling.service.limits.replicas is None:
        return Hold(
            Reason.LIMIT, f"Service {scaling.service.name} has no limits.replicas, so scaler {name} changes nothing.", {"value": measurement.value}
        )
    return None


def _unseen(scaling: Scaling, measurement: Measurement, raw: int, current: int, ready: int) -> Hold | None:
    """Why a lower demand is not believed: the silence of dead replicas, or of some of the series, is not little demand."""
    evidence = {"value": measurement.value, "current": current, "wanted": raw, "ready": ready, "silent_series": measurement.silent}
    if raw < current and measurement.silent:
        text = f"{measurement.silent} of the series behind the demand are silent, so the {current} replicas of {scaling.target} stay."
        return Hold(Reason.NO_DATA, text, evidence)
    if raw < current and ready < current:
        text = f"Only {ready} of the {current} replicas of {scaling.target} are ready; what they cannot show is not low demand, so all stay."
        return Hold(Reason.STABILIZING, text, evidence)
    return None


def recommendation(spec: Scaler, value: float, current: int, ready: int) -> int:
    """What the metric alone asks for."""
    up, down = spec.behavior.scale_up.tolerance, spec.behavior.scale_down.tolerance
    tolerance = hpa.Tolerance(down=spec.tolerance if down is None else down, up=spec.tolerance if up is None else up)
    if spec.metric.target_average is not None:
        return hpa.average_value(value, spec.metric.target_average, current, tolerance)
    return hpa.total_value(value, spec.metric.target_value or 1.0, current, ready, tolerance)


def _normalized(scaling: Scaling, raw: int, current: int) -> Normalized:
    state, now_ms, limits = scaling.state, scaling.turn.now_ms, scaling.service.limits.replicas
    low, high = (limits.min, limits.max) if limits else (current, current)
    desired = max(raw, floor(scaling), current if _was_blind(scaling) else 0)
    state.floor = min(max(raw, low), high)
    rules = rules_of(scaling.spec.behavior)
    if not state.recommendations:  # the number found at the start counts as a recommendation: a restart must not scale down at once
        state.recommendations.append((now_ms, current))
    history = History(_aged(state.recommendations, now_ms), _aged(state.up_events, now_ms), _aged(state.down_events, now_ms))
    state.recommendations.append((now_ms, desired))
    longest_ms = max(rule.window_ms for rule in rules)
    state.recommendations = [entry for entry in state.recommendations if now_ms - entry[0] <= longest_ms][-KEPT:] or state.recommendations[-1:]
    if current < low or current > high:
        bound = min(max(current, low), high)
        return Normalized(bound, "ReadyForNewScale", limited=True, limit_reason="TooFewReplicas" if current < low else "TooManyReplicas")
    return normalize(current, desired, (low, high), history, rules)


def _was_blind(scaling: Scaling) -> bool:
    """Whether it could not see a moment ago: windows that fill again show too little, and what was asked for before is forgotten meanwhile."""
    down = rules_of(scaling.spec.behavior)[1]
    quiet_ms = max(BLIND_ROUNDS * scaling.spec.interval_ms, down.window_ms)
    return 0 < scaling.turn.now_ms - quiet_ms < scaling.state.blind_at_ms


def _aged(entries: list[tuple[int, int]], now_ms: int) -> list[Aged]:
    return [Aged(value, now_ms - at_ms) for at_ms, value in entries]


def floor(scaling: Scaling) -> int:
    """What others hold up on this workload: scale-ups of policies and operators, and capacity that leads a fail-over."""
    state = scaling.turn.state
    floors = [int(override.value.get("replicas", 0)) for override in state.overrides.values() if override.target == scaling.target]
    for failover in state.failovers.values():
        leads = [place for place in places(scaling.service) if place.target == scaling.target and place.site and place.site == failover.to]
        floors += [failover.needed for _ in leads if failover.phase not in {"home", "suspect"}]
    return max(floors, default=0)


def _stays(scaling: Scaling, raw: int, current: int, answer: Normalized, value: float) -> None:
    evidence = {"value": value, "current": current, "wanted": raw, "able_to_scale": answer.able_to_scale, "limit": answer.limit_reason}
    if raw < current and answer.stabilized >= current:
        text = f"Demand asks for {raw} replicas of {scaling.target}; the {current} stay until lower demand has lasted."
        _say(scaling, Hold(Reason.STABILIZING, text, evidence))
    elif answer.limited:
        _say(scaling, Hold(Reason.LIMIT, f"Demand asks for {raw} replicas of {scaling.target}; its limits keep it at {current}.", evidence))
    elif scaling.turn.state.said.get(scaling.owner) == Reason.NO_DATA:  # good to know that it sees again
        _say(
            scaling,
            Hold(Reason.WITHIN_TOLERANCE, f"{scaling.target} has the {current} replicas that demand asks for.", evidence, verdict=Verdict.NOTE),
        )
    else:
        scaling.turn.forget(scaling.owner)


def _say(scaling: Scaling, hold: Hold) -> None:
    mode = guards.effective_mode(scaling.turn, scaling.spec.mode)
    scaling.turn.decide_once(scaling.owner, hold, policy=scaling.spec.name, verb="scale", target=scaling.target, mode=mode)


def _propose(scaling: Scaling, raw: int, current: int, answer: Normalized, value: float) -> None:
    turn, spec, state = scaling.turn, scaling.spec, scaling.state
    mode = guards.effective_mode(turn, spec.mode)
    waits = any(order.owner == scaling.owner for order in turn.state.orders.values())
    if waits or turn.now_ms < state.retry_at_ms or (mode == "observe" and state.would_be == answer.replicas):
        return
    hold = _guarded(scaling, mode, answer.replicas < current)
    if hold is None:
        state.serial += 1
        state.would_be = answer.replicas
        evidence = {"value": value, "current": current, "wanted": raw, "limit": answer.limit_reason}
        hold = dispatch.submit(turn, _draft(scaling, answer.replicas, current, mode, evidence))
        if hold is None:
            turn.forget(scaling.owner)
    if hold is not None:
        _say(scaling, hold)


def _guarded(scaling: Scaling, mode: str, down: bool) -> Hold | None:
    turn, spec = scaling.turn, scaling.spec
    if mode == "off":
        return Hold(Reason.MODE_OFF, f"Scaler {spec.name} is switched off here.")
    if not guards.granted(turn, "scale"):
        return Hold(Reason.NOT_GRANTED, f"Controllers of {turn.group} may not use scale.", {"verb": "scale"})
    ledger = guards.ledger_of(turn, scaling.owner, mode)
    until_ms = ledger.last_at_ms + spec.guard.cooldown_ms
    if down and ledger.last_at_ms and turn.now_ms < until_ms:
        return Hold(Reason.COOLDOWN, f"Scaler {spec.name} changed {scaling.target} lately.", {"until_ms": until_ms})
    return None


def _draft(scaling: Scaling, replicas: int, current: int, mode: str, evidence: Mapping[str, Any]) -> Draft:
    return Draft(
        owner=scaling.owner,
        service=scaling.service.name,
        verb="scale",
        target=scaling.target,
        desired={"replicas": replicas},
        ttl_ms=scaling.spec.guard.ttl_ms,
        direction="up" if replicas > current else "down",
        mode=mode,
        policy=scaling.spec.name,
        serial=scaling.state.serial,
        reason=Reason.SCALER_DEMAND,
        caused_at_ms=scaling.at_ms,
        evidence=evidence,
    )


def _state_of(turn: Turn, owner: str) -> ScalerState | None:
    return turn.state.scalers.get(owner.partition(":")[2])


def launched(turn: Turn, event: Launched) -> None:
    """A change is on its way."""
    guards.ledger_of(turn, event.order.owner, event.order.action.mode).last_at_ms = turn.now_ms


def refused(turn: Turn, event: Refused) -> None:
    """A change did not go; the next measurement asks again, with a new attempt."""
    action = event.order.action
    turn.decide_once(event.order.owner, event.hold, **dispatch.about(action))


def settled(turn: Turn, event: Settled) -> None:
    """A change is in force: it counts in the rate policies. One that did not work is asked for again after a pause; a second owner is told."""
    state, action, outcome = _state_of(turn, event.order.owner), event.order.action, event.outcome
    if state is None or outcome.status in {OutcomeStatus.ALREADY_THERE, OutcomeStatus.PLANNED}:
        return
    if outcome.status is not OutcomeStatus.APPLIED:
        state.retry_at_ms = turn.now_ms + RETRY_MS
        if outcome.status is OutcomeStatus.CONFLICT and turn.state.said.get(f"conflict:{event.order.owner}") != Reason.CONFLICT:
            turn.state.said[f"conflict:{event.order.owner}"] = Reason.CONFLICT
            text = f"Something else changes the replicas of {action.target}; scaler {action.policy} does not fight it."
            turn.notice(f"{action.target} has a second owner", text)
        return
    turn.forget(f"conflict:{event.order.owner}")
    before = (outcome.before or {}).get("replicas")
    change = action.desired["replicas"] - before if before is not None else 0
    events = state.up_events if change > 0 else state.down_events
    if change:
        events.append((outcome.applied_at_ms or turn.now_ms, abs(change)))
        del events[:-KEPT]
