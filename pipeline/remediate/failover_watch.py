"""A failover's standing expressions: both conditions of every site and the demand, and what was last heard of each."""

from __future__ import annotations

from pipeline.model.reasons import Reason
from pipeline.model.records import Measurement, Truth, Watch, stable_id
from pipeline.remediate import guards
from pipeline.remediate.failover_view import too_old_ms
from pipeline.remediate.state import FailoverState
from pipeline.remediate.templates import TemplateError, render_expr
from pipeline.remediate.turn import Hold, Turn
from pipeline.rulebook.spec import Failover, Service


def adopt(turn: Turn) -> None:
    """Start with these rules: the conditions of every site and the demand stand; those of failovers that are gone do not."""
    names = set()
    for spec, service in turn.scope.failovers:
        if guards.effective_mode(turn, spec.mode) != "off":
            names.add(spec.name)
            _watch_all(turn, spec, service, turn.state.failovers.setdefault(spec.name, FailoverState()))
    for name, state in list(turn.state.failovers.items()):
        if name not in names:
            for watch_id in state.watches:
                turn.unwatch(watch_id)
            del turn.state.failovers[name]


def _watch_all(turn: Turn, spec: Failover, service: Service, state: FailoverState) -> None:
    wanted: dict[str, tuple[str, str, dict[str, str]]] = {"demand": (spec.demand, "value", {})}
    for site in spec.priority:
        wanted[f"unhealthy:{site}"] = (spec.unhealthy, "condition", {"site": site})
        wanted[f"healthy:{site}"] = (spec.healthy, "condition", {"site": site})
    ids = {}
    for key, (text, kind, more) in wanted.items():
        try:
            expr = render_expr(text, {"service": service.name, **service.match, **more})
        except TemplateError as error:
            hold = Hold(Reason.TEMPLATE, f"Failover {spec.name}: {error}.")
            turn.decide_once(f"failover:{spec.name}:{key}", hold, policy=spec.name)
            continue
        id_ = stable_id("watch", turn.group, "failover", spec.name, key, expr, spec.interval_ms)
        ids[id_] = key
        if id_ not in state.watches:
            turn.watch(Watch(id=id_, group=turn.group, at_ms=turn.now_ms, expr=expr, kind=kind, interval_ms=spec.interval_ms))
    for watch_id in [watch_id for watch_id in state.watches if watch_id not in ids]:
        turn.unwatch(watch_id)
    state.watches = ids


def measured(turn: Turn, measurement: Measurement) -> None:
    """An answer about a site, or the demand."""
    for spec, _ in turn.scope.failovers:
        state = turn.state.failovers.get(spec.name)
        key = state.watches.get(measurement.watch_id) if state is not None else None
        if state is None or key is None or measurement.at_ms < state.heard_ms.get(key, 0):
            continue
        gap_ms = measurement.at_ms - state.heard_ms.get(key, measurement.at_ms)
        state.heard_ms[key] = measurement.at_ms
        truth = Truth.NODATA if measurement.warming else measurement.truth
        if key == "demand":
            if truth is Truth.TRUE and measurement.value is not None:
                state.demand = measurement.value
            continue
        if state.truths.get(key) != truth or gap_ms > too_old_ms(spec):
            state.truths[key], state.since_ms[key] = truth, measurement.at_ms
