"""The moves that every phase of a failover is made of: entering a phase, sending shares, leading with capacity, handing over, coming home."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.model.reasons import Reason
from pipeline.remediate import dispatch, incidents
from pipeline.remediate.failover_view import View
from pipeline.remediate.turn import Hold

RETRY_MS: Final = 5000


def enter(view: View, phase: str, *, due_at_ms: int = 0) -> None:
    """The failover is in another phase now."""
    state = view.state
    state.phase, state.entered_at_ms, state.due_at_ms = phase, view.turn.now_ms, due_at_ms
    state.order_id, state.answer = "", ""
    view.turn.forget(view.owner)


def submit(view: View, verb: str, sites: Mapping[str, int], reason: Reason) -> None:
    """Ask for other shares of the sites, as a new attempt."""
    state, turn = view.state, view.turn
    state.serial += 1
    draft = view.traffic_draft(verb, sites, reason)
    hold = dispatch.submit(turn, draft) if draft is not None else Hold(Reason.UNKNOWN_TARGET, f"{view.service.name} has no sites_target.")
    if hold is not None:
        view.say(hold)
        state.due_at_ms = hold.retry_at_ms or turn.now_ms + RETRY_MS
    elif draft is not None:
        state.order_id, state.answer = draft.action_id, ""


def lead(view: View, site: str) -> bool:
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


def open_incident(view: View, away: str) -> None:
    """The incident of this illness, opened once."""
    state, turn = view.state, view.turn
    if state.incident_id not in turn.state.incidents:
        since_ms = state.since_ms.get(f"unhealthy:{away}", turn.now_ms)
        title = f"site {away} of {view.service.name} is unhealthy"
        state.incident_id = incidents.open_incident(turn, view.service.name, title, f"failover/{view.spec.name}/{away}/{since_ms}")


def hand_over(view: View, why: str) -> None:
    """Somebody else owns the shares: a person decides."""
    incidents.escalate(view.turn, view.state.incident_id, Reason.CONFLICT, f"Handed over: {why}.", policy=view.spec.name)
    come_home(view)


def come_home(view: View) -> None:
    """Nothing is in force any more, or nothing was done."""
    state = view.state
    enter(view, "home")
    state.away, state.incident_id, state.override_id, state.share = "", "", "", 0


def give_back(view: View) -> None:
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
