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
from pipeline.model.records import Truth
from pipeline.remediate import dispatch, failover_return, guards, incidents, revert
from pipeline.remediate import failover_moves as moves
from pipeline.remediate.failover_view import View, needed_replicas, room_percent
from pipeline.remediate.state import FailoverState
from pipeline.remediate.transitions import Happening
from pipeline.remediate.turn import Hold, Launched, Refused, Settled, Turn

LEAD_MS: Final = 30_000  # how long capacity may take before traffic goes into what there is


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


def _home(view: View) -> None:
    state, turn = view.state, view.turn
    if state.regret_until_ms and state.regret_until_ms <= turn.now_ms:
        moves.give_back(view)
    away = next((site for site in view.spec.priority if view.share(site) > 0 and view.held(f"unhealthy:{site}", view.spec.for_ms)), None)
    if away is None:
        _quiet(view)
        return
    hold = _forbidden(view) or _choose(view, away)
    if hold is None:
        _begin(view, away)
        return
    if hold.reason is Reason.NO_HEADROOM and turn.state.said.get(view.owner) != hold.reason:
        moves.open_incident(view, away)
        incidents.escalate(turn, state.incident_id, hold.reason, hold.text, policy=view.spec.name)
    view.say(hold)
    state.due_at_ms = hold.retry_at_ms or turn.now_ms + moves.RETRY_MS


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


def _begin(view: View, away: str) -> None:
    state, turn = view.state, view.turn
    state.away, state.verified = away, False
    state.serial += 1
    ledger = guards.ledger_of(turn, view.owner, view.mode)
    ledger.started_at_ms = [*ledger.started_at_ms, turn.now_ms][-100:]
    ledger.last_at_ms = turn.now_ms
    moves.open_incident(view, away)
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
    moves.enter(view, "leading", due_at_ms=turn.now_ms + LEAD_MS)


def _leading(view: View) -> None:
    """Capacity leads traffic: wait for it, but not for ever."""
    state, turn = view.state, view.turn
    if view.mode == "observe":
        moves.enter(view, "moving")
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
        moves.come_home(view)
        return
    ready = view.ready(state.to)
    if (ready is not None and ready >= state.needed) or turn.now_ms >= state.entered_at_ms + LEAD_MS or not moves.lead(view, state.to):
        moves.enter(view, "moving")


def _moving(view: View) -> None:
    state, turn = view.state, view.turn
    if state.order_id:
        _moved(view)
        return
    if turn.now_ms < state.due_at_ms:
        return
    if not state.override_id and view.truth(f"unhealthy:{state.away}") is Truth.FALSE and view.mode != "observe":
        incidents.happen(turn, state.incident_id, Happening.RESOLVE, "recovered before traffic was moved")
        moves.come_home(view)
        return
    if state.override_id and (view.share(state.away) == 0 or view.truth(f"unhealthy:{state.away}") is Truth.FALSE):
        moves.enter(view, "away")  # nothing is left to be moved, or no need: coming home is looked at anew
        return
    usable = view.usable(state.to)
    wish = view.shares_without(state.away, state.to, room_percent(view, state.to)) if usable else None
    if wish is None:
        hold = Hold(
            Reason.NO_HEADROOM,
            f"{state.to} has no room for the traffic of {state.away}."
            if usable
            else f"{state.to} is not well either; traffic of {state.away} stays.",
            {"ready": view.ready(state.to), "needed": state.needed, "demand": state.demand},
        )
        if turn.state.said.get(view.owner) != Reason.NO_HEADROOM:
            view.say(hold)
            incidents.escalate(turn, state.incident_id, Reason.NO_HEADROOM, hold.text, policy=view.spec.name)
        state.due_at_ms = turn.now_ms + moves.RETRY_MS
        return
    moves.submit(view, "fail_over", wish, Reason.FAILOVER_UNHEALTHY)


def _moved(view: View) -> None:
    state = view.state
    if not state.answer:
        return
    if state.answer in dispatch.IN_FORCE:
        if state.override_id and state.override_id != state.order_id:
            revert.release_record(view.turn, state.override_id)
        state.override_id = state.order_id
        view.turn.forget(f"{view.owner}:answer")
        incidents.happen(view.turn, state.incident_id, Happening.APPLIED, f"traffic of {state.away} moved to {state.to}", view.spec.name)
        moves.enter(view, "away")
    elif state.answer == "planned":
        moves.enter(view, "watching")
    elif state.answer == "conflict":
        moves.hand_over(view, "somebody else changes the shares of the sites")
    else:
        if view.turn.state.said.get(f"{view.owner}:answer") != state.answer:
            view.turn.state.said[f"{view.owner}:answer"] = state.answer
            text = f"Moving the traffic of {state.away} to {state.to} did not work ({state.answer}); it is tried again."
            incidents.escalate(view.turn, state.incident_id, Reason.APPLY_FAILED, text, policy=view.spec.name)
        state.order_id, state.answer, state.due_at_ms = "", "", view.turn.now_ms + moves.RETRY_MS


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
        moves.come_home(view)


PHASES: Final[Mapping[str, Callable[[View], None]]] = {
    "home": _home,
    "leading": _leading,
    "moving": _moving,
    "away": failover_return.away,
    "returning": failover_return.returning,
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
        state.order_id, state.answer, state.due_at_ms = "", "", event.hold.retry_at_ms or turn.now_ms + moves.RETRY_MS


def settled(turn: Turn, event: Settled) -> None:
    """An action has its outcome."""
    state, action = _state_of(turn, event.order.owner), event.order.action
    if action.verb == "fail_over":
        revert.came_into_force(turn, turn.state.done[action.id])
    if state is not None and state.order_id == action.id:
        state.answer = event.outcome.status
