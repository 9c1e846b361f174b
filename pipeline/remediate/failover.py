"""Fail-over: leave an unhealthy site for one with room, capacity first, and come home in steps.

```
home -> leading (capacity first) -> moving -> away -> returning (25, 50, 100 %) -> home + regret window
                  ^                             |          |
                  +------- unhealthy again -----+----------+
```
Only a condition that was TRUE for the whole of `for` starts it: no data is not unhealthy. Traffic goes only into measured headroom: as much as the
ready replicas of the other site can carry; when that is nothing it is held and a person is asked. Nothing of the group is scaled down until the
regret window after the return is over (see `arbiter`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Measurement, Truth, Watch, stable_id
from pipeline.remediate import dispatch, guards, incidents, revert
from pipeline.remediate.failover_view import View, needed_replicas, room_percent, too_old_ms
from pipeline.remediate.state import FailoverState
from pipeline.remediate.templates import TemplateError, render_expr
from pipeline.remediate.transitions import Happening
from pipeline.remediate.turn import About, Hold, Launched, Refused, Settled, Turn
from pipeline.rulebook.spec import Failover, Service

LEAD_MS: Final = 30_000  # how long capacity may take before traffic goes into what there is
RETRY_MS: Final = 5000
NEVER_MS: Final = 2**60


# --- standing expressions ------------------------------------------------------------------------------------------------------------


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


# --- phases --------------------------------------------------------------------------------------------------------------------------


def advance(turn: Turn) -> None:
    """Let every failover do what its phase asks for now."""
    for spec, service in turn.scope.failovers:
        state = turn.state.failovers.get(spec.name)
        if state is None:
            continue
        view = View(turn, spec, service, state)
        for _ in range(len(PHASES) + 2):
            before = (state.phase, state.share)
            PHASES[state.phase](view)
            if (state.phase, state.share) == before:
                break


def due_at_ms(state: FailoverState, now_ms: int) -> int | None:
    """When time alone changes something."""
    times = [at_ms for at_ms in (state.due_at_ms, state.regret_until_ms) if at_ms > now_ms]
    return min(times, default=None)


def _enter(view: View, phase: str, *, due_at_ms: int = 0) -> None:
    state = view.state
    state.phase, state.entered_at_ms, state.due_at_ms = phase, view.turn.now_ms, due_at_ms
    state.order_id, state.answer = "", ""
    view.turn.forget(view.owner)


def _home(view: View) -> None:
    state, turn = view.state, view.turn
    if state.regret_until_ms and state.regret_until_ms <= turn.now_ms:
        _give_back(view)
    away = next((site for site in view.spec.priority if view.share(site) > 0 and view.held(f"unhealthy:{site}", view.spec.for_ms)), None)
    if away is None:
        _quiet(view)
        return
    hold = _forbidden(view) or _choose(view, away)
    if hold is None:
        _begin(view, away)
        return
    if hold.reason is Reason.NO_HEADROOM and turn.state.said.get(view.owner) != hold.reason:
        _open(view, away)
        incidents.escalate(turn, state.incident_id, hold.reason, hold.text, policy=view.spec.name)
    view.say(hold)
    state.due_at_ms = hold.retry_at_ms or turn.now_ms + RETRY_MS


def _quiet(view: View) -> None:
    """No site is to be left: an incident that waited for room is over, and what cannot be seen is said."""
    state, turn = view.state, view.turn
    blind = [site for site in view.spec.priority if view.share(site) > 0 and view.truth(f"unhealthy:{site}") is Truth.NODATA]
    if state.incident_id and not blind and not any(view.truth(f"unhealthy:{site}") is Truth.TRUE for site in view.spec.priority):
        incidents.happen(turn, state.incident_id, Happening.RESOLVE, "recovered by itself")
        state.incident_id = ""
    if not blind:
        turn.forget(view.owner)
    elif view.heard_all():
        view.say(
            Hold(
                Reason.NO_DATA,
                f"Whether {', '.join(blind)} of {view.service.name} is healthy cannot be seen; no data is not unhealthy.",
                {"sites": blind},
            )
        )


def _forbidden(view: View) -> Hold | None:
    turn, spec = view.turn, view.spec
    mode = view.mode
    verb = next((verb for verb in ("fail_over", "fail_back", "scale") if not guards.granted(turn, verb)), None)
    if verb is not None:
        return Hold(Reason.NOT_GRANTED, f"Controllers of {turn.group} may not use {verb}.", {"verb": verb})
    if turn.state.paused and mode != "observe":
        return Hold(Reason.PAUSED, f"Paused: {turn.state.paused}", {"paused": turn.state.paused})
    ledger = guards.ledger_of(turn, view.owner, mode)
    until_ms = ledger.last_at_ms + spec.guard.cooldown_ms
    if ledger.last_at_ms and turn.now_ms < until_ms:
        return Hold(Reason.COOLDOWN, f"Failover {spec.name} moved traffic lately.", {"until_ms": until_ms}, retry_at_ms=until_ms)
    recent = [at_ms for at_ms in ledger.started_at_ms if at_ms + spec.guard.attempts.per_ms > turn.now_ms]
    if len(recent) >= spec.guard.attempts.max:
        evidence = {"attempts": len(recent), "max": spec.guard.attempts.max}
        return Hold(Reason.ATTEMPTS_EXHAUSTED, f"Failover {spec.name} has moved traffic {len(recent)} times lately; a person is needed.", evidence)
    return None


def _choose(view: View, away: str) -> Hold | None:
    """Pick the first site of the priority list that can take over; a Hold when there is none."""
    candidates = [site for site in view.spec.priority if site != away and view.usable(site)]
    view.state.to = candidates[0] if candidates else ""
    if candidates:
        return None
    seen = {
        site: {"unhealthy": view.truth(f"unhealthy:{site}"), "healthy": view.truth(f"healthy:{site}"), "ready": view.ready(site)}
        for site in view.spec.priority
    }
    return Hold(Reason.NO_HEADROOM, f"{away} of {view.service.name} is unhealthy, and no other site can take over.", {"sites": seen})


def _open(view: View, away: str) -> None:
    state, turn = view.state, view.turn
    if state.incident_id not in turn.state.incidents:
        since_ms = state.since_ms.get(f"unhealthy:{away}", turn.now_ms)
        title = f"site {away} of {view.service.name} is unhealthy"
        state.incident_id = incidents.open_incident(turn, view.service.name, title, f"failover/{view.spec.name}/{away}/{since_ms}")


def _begin(view: View, away: str) -> None:
    state, turn = view.state, view.turn
    state.away, state.verified = away, False
    state.serial += 1
    ledger = guards.ledger_of(turn, view.owner, view.mode)
    ledger.started_at_ms = [*ledger.started_at_ms, turn.now_ms][-100:]
    ledger.last_at_ms = turn.now_ms
    _open(view, away)
    share = view.share(away) + view.share(state.to)
    state.needed = needed_replicas(view, state.to, share)
    evidence = {
        "unhealthy_since_ms": state.since_ms.get(f"unhealthy:{away}"),
        "for_ms": view.spec.for_ms,
        "demand": state.demand,
        "needed": state.needed,
        "ready": view.ready(state.to),
    }
    text = f"{away} of {view.service.name} is unhealthy; {state.to} needs {state.needed} ready replicas to take over."
    turn.decide(Verdict.NOTE, Reason.FAILOVER_UNHEALTHY, text, evidence, incident_id=state.incident_id, policy=view.spec.name, mode=view.mode)
    _enter(view, "leading", due_at_ms=turn.now_ms + LEAD_MS)


def _leading(view: View) -> None:
    """Capacity leads traffic: wait for it, but not for ever."""
    state, turn = view.state, view.turn
    if view.mode == "observe":
        _enter(view, "moving")
        return
    if not view.held(f"unhealthy:{state.away}", 0) and view.truth(f"unhealthy:{state.away}") is Truth.FALSE:
        turn.decide(
            Verdict.DROP,
            Reason.EXPIRED,
            f"{state.away} recovered before traffic was moved.",
            {},
            incident_id=state.incident_id,
            policy=view.spec.name,
        )
        incidents.happen(turn, state.incident_id, Happening.RESOLVE, "recovered by itself")
        _come_home(view)
        return
    ready = view.ready(state.to)
    if (ready is not None and ready >= state.needed) or turn.now_ms >= state.entered_at_ms + LEAD_MS or not _lead(view, state.to):
        _enter(view, "moving")


def _lead(view: View, site: str) -> bool:
    """Ask for the capacity that is missing; False when none can be had."""
    state, turn = view.state, view.turn
    if state.order_id:
        return state.answer in {"", *dispatch.IN_FORCE}
    draft = view.capacity_draft(site, state.needed)
    if draft is None:
        return view.replicas(site) is not None and (view.replicas(site) or 0) >= state.needed  # they are starting
    hold = dispatch.submit(turn, draft)
    if hold is not None:
        view.say(hold)
        state.due_at_ms = hold.retry_at_ms or turn.now_ms + RETRY_MS
        return True
    state.replicas_before.setdefault(str(draft.target), view.replicas(site) or 0)
    state.order_id = draft.action_id
    return True


def _moving(view: View) -> None:
    state, turn = view.state, view.turn
    if state.order_id:
        _moved(view)
        return
    if turn.now_ms < state.due_at_ms:
        return
    wish = view.shares_without(state.away, state.to, room_percent(view, state.to))
    if wish is None:
        hold = Hold(
            Reason.NO_HEADROOM,
            f"{state.to} has no room for the traffic of {state.away}.",
            {"ready": view.ready(state.to), "needed": state.needed, "demand": state.demand},
        )
        if turn.state.said.get(view.owner) != Reason.NO_HEADROOM:
            view.say(hold)
            incidents.escalate(turn, state.incident_id, Reason.NO_HEADROOM, hold.text, policy=view.spec.name)
        state.due_at_ms = turn.now_ms + RETRY_MS
        return
    _submit(view, "fail_over", wish, Reason.FAILOVER_UNHEALTHY)


def _submit(view: View, verb: str, sites: Mapping[str, int], reason: Reason) -> None:
    state, turn = view.state, view.turn
    state.serial += 1
    draft = view.traffic_draft(verb, sites, reason)
    hold = dispatch.submit(turn, draft) if draft is not None else Hold(Reason.UNKNOWN_TARGET, f"{view.service.name} has no sites_target.")
    if hold is not None:
        view.say(hold)
        state.due_at_ms = hold.retry_at_ms or turn.now_ms + RETRY_MS
    elif draft is not None:
        state.order_id, state.answer = draft.action_id, ""


def _moved(view: View) -> None:
    state = view.state
    if not state.answer:
        return
    if state.answer in dispatch.IN_FORCE:
        if state.override_id and state.override_id != state.order_id:
            revert.release_record(view.turn, state.override_id)
        state.override_id = state.order_id
        incidents.happen(view.turn, state.incident_id, Happening.APPLIED, f"traffic of {state.away} moved to {state.to}", view.spec.name)
        _enter(view, "away")
    elif state.answer == "planned":
        _enter(view, "watching")
    elif state.answer == "conflict":
        _hand_over(view, "somebody else changes the shares of the sites")
    else:
        state.order_id, state.answer, state.due_at_ms = "", "", view.turn.now_ms + RETRY_MS


def _hand_over(view: View, why: str) -> None:
    incidents.escalate(view.turn, view.state.incident_id, Reason.CONFLICT, f"Handed over: {why}.", policy=view.spec.name)
    _come_home(view)


def _watching(view: View) -> None:
    """Observe: the move was only planned; wait until the site is well again by itself."""
    if view.truth(f"unhealthy:{view.state.away}") is Truth.FALSE:
        after_ms = view.turn.now_ms - view.state.entered_at_ms
        text = f"{view.state.away} recovered {after_ms / 1000:.1f} s after failover {view.spec.name} would have moved its traffic."
        view.turn.decide(
            Verdict.NOTE,
            Reason.RESOLVED_BY_VALUE,
            text,
            {"after_ms": after_ms},
            incident_id=view.state.incident_id,
            policy=view.spec.name,
            mode="observe",
        )
        incidents.happen(view.turn, view.state.incident_id, Happening.RESOLVE, "recovered by itself")
        _come_home(view)


def _away(view: View) -> None:
    state, turn, spec = view.state, view.turn, view.spec
    if not state.verified and view.fresh_after(f"unhealthy:{state.to}", state.entered_at_ms + spec.for_ms):
        _verify(view)
    if view.share(state.away) > 0 and view.truth(f"unhealthy:{state.away}") is Truth.TRUE and room_percent(view, state.to) > view.share(state.to):
        _enter(view, "moving")  # there was not room for all of it, and now there is more
        return
    since_ms = max(state.since_ms.get(f"healthy:{state.away}", 0), state.entered_at_ms)
    well = view.truth(f"healthy:{state.away}") is Truth.TRUE and view.truth(f"unhealthy:{state.away}") is not Truth.TRUE
    if well and state.heard_ms.get(f"healthy:{state.away}", 0) - since_ms >= spec.fail_back.after_ms:
        evidence = {"healthy_since_ms": since_ms, "after_ms": spec.fail_back.after_ms}
        turn.decide(
            Verdict.NOTE,
            Reason.FAILBACK_HEALTHY,
            f"{state.away} is healthy again; traffic comes home in steps.",
            evidence,
            incident_id=state.incident_id,
            policy=spec.name,
        )
        state.share = 0
        _enter(view, "returning")


def _verify(view: View) -> None:
    state, turn = view.state, view.turn
    truth = view.truth(f"unhealthy:{state.to}")
    about: About = {"incident_id": state.incident_id, "policy": view.spec.name}
    if truth is Truth.FALSE:
        state.verified = True
        turn.decide(
            Verdict.NOTE, Reason.VERIFIED, f"{state.to} carries the traffic of {state.away} and is not unhealthy.", {"site": state.to}, **about
        )
        incidents.note(turn, state.incident_id, f"verified: {state.to} carries it", view.spec.name)
    elif view.held(f"unhealthy:{state.to}", view.spec.for_ms):
        state.verified = True
        text = f"{state.to} is unhealthy since it carries the traffic of {state.away}."
        turn.decide(Verdict.FAIL, Reason.VERIFY_FAILED, text, {"site": state.to}, **about)
        incidents.escalate(turn, state.incident_id, Reason.VERIFY_FAILED, text, policy=view.spec.name)


def _returning(view: View) -> None:
    state, turn, spec = view.state, view.turn, view.spec
    if state.order_id and not state.answer:
        return
    if view.truth(f"unhealthy:{state.away}") is Truth.TRUE or view.truth(f"healthy:{state.away}") is Truth.FALSE:
        text = f"{state.away} is not healthy at {state.share} % of the traffic; it goes back to {state.to}."
        turn.decide(Verdict.FAIL, Reason.VERIFY_FAILED, text, {"share": state.share}, incident_id=state.incident_id, policy=spec.name)
        _enter(view, "moving")
        return
    if state.answer and not _step_done(view):
        return
    if turn.now_ms < state.due_at_ms or view.truth(f"healthy:{state.away}") is not Truth.TRUE:
        return
    if state.share == 100:
        turn.decide(
            Verdict.NOTE,
            Reason.VERIFIED,
            f"All traffic is back on {state.away}, and it is healthy.",
            {},
            incident_id=state.incident_id,
            policy=spec.name,
        )
        incidents.happen(turn, state.incident_id, Happening.RESOLVE, "resolved: failed back", spec.name)
        revert.release_record(turn, state.override_id)
        state.regret_until_ms = turn.now_ms + max(spec.fail_back.after_ms, 1)
        _come_home(view)
        return
    share = next(step for step in spec.fail_back.steps if step > state.share)
    state.needed = max(state.needed, needed_replicas(view, state.to, 100 - share))
    _submit(view, "fail_back", view.shares_home(state.away, state.to, share), Reason.FAILBACK_HEALTHY)


def _step_done(view: View) -> bool:
    """Take the answer to a fail-back step; False when there is nothing more to do now."""
    state, answer = view.state, view.state.answer
    state.order_id, state.answer = "", ""
    if answer in dispatch.IN_FORCE:
        state.share = next(step for step in view.spec.fail_back.steps if step > state.share)
        state.due_at_ms = view.turn.now_ms + view.spec.fail_back.pause_ms
    elif answer == "conflict":
        _hand_over(view, "somebody else changes the shares of the sites")
    else:
        state.due_at_ms = view.turn.now_ms + RETRY_MS
    return False


def _come_home(view: View) -> None:
    state = view.state
    _enter(view, "home")
    state.away, state.incident_id, state.override_id, state.share = "", "", "", 0


def _give_back(view: View) -> None:
    """After the regret window: capacity that led traffic, and that no scaler keeps, goes back to what it was."""
    state, turn = view.state, view.turn
    state.regret_until_ms = 0
    for target, replicas in list(state.replicas_before.items()):
        draft = view.give_back_draft(target, replicas)
        hold = dispatch.submit(turn, draft) if draft is not None else None
        if hold is not None:
            view.say(hold)
            state.regret_until_ms = hold.retry_at_ms or turn.now_ms + RETRY_MS
        else:
            del state.replicas_before[target]
    state.to, state.needed = "", 0


PHASES: Final[Mapping[str, Callable[[View], None]]] = {
    "home": _home,
    "leading": _leading,
    "moving": _moving,
    "away": _away,
    "returning": _returning,
    "watching": _watching,
}


# --- what comes back -----------------------------------------------------------------------------------------------------------------


def _state_of(turn: Turn, owner: str) -> FailoverState | None:
    return turn.state.failovers.get(owner.partition(":")[2])


def launched(turn: Turn, event: Launched) -> None:
    """An action of the failover is on its way."""
    action = event.order.action
    if action.mode == "enforce":
        incidents.acted(turn, action.incident_id, action.id, dispatch.describe(action))


def refused(turn: Turn, event: Refused) -> None:
    """An action did not go: the phase asks again."""
    state, action = _state_of(turn, event.order.owner), event.order.action
    turn.decide(event.hold.verdict, event.hold.reason, event.hold.text, event.hold.evidence, **dispatch.about(action))
    if state is not None and state.order_id == action.id:
        state.serial += 1
        state.order_id, state.answer, state.due_at_ms = "", "", event.hold.retry_at_ms or turn.now_ms + RETRY_MS


def settled(turn: Turn, event: Settled) -> None:
    """An action has its outcome."""
    state, action = _state_of(turn, event.order.owner), event.order.action
    if action.verb == "fail_over":
        revert.came_into_force(turn, turn.state.done[action.id])
    if state is not None and state.order_id == action.id:
        state.answer = event.outcome.status
