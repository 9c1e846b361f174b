"""The second half of a failover: seeing that it helped, and coming home in steps once the site is well."""

from __future__ import annotations

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Truth
from pipeline.remediate import dispatch, dwell, incidents, revert
from pipeline.remediate import failover_moves as moves
from pipeline.remediate.failover_view import View, needed_replicas, room_percent
from pipeline.remediate.transitions import Happening
from pipeline.remediate.turn import About, Hold


def away(view: View) -> None:
    """Traffic is elsewhere: check that it is carried, and wait for the site to be well for long enough."""
    state, turn, spec = view.state, view.turn, view.spec
    if not state.verified and view.fresh_after(f"unhealthy:{state.to}", state.entered_at_ms + spec.for_ms):
        _verify(view)
    if state.guest and state.verified and view.share(state.away) == 0 and view.truth(f"unhealthy:{state.to}") is Truth.FALSE:
        _stays(view)
        return
    if view.share(state.away) > 0 and view.truth(f"unhealthy:{state.away}") is Truth.TRUE and room_percent(view, state.to) > view.share(state.to):
        moves.enter(view, "moving")  # there was not room for all of it, and now there is more
        return
    since_ms = max(state.since_ms.get(f"healthy:{state.away}", 0), state.entered_at_ms)
    well = view.truth(f"healthy:{state.away}") is Truth.TRUE and view.truth(f"unhealthy:{state.away}") is not Truth.TRUE
    if well and state.heard_ms.get(f"healthy:{state.away}", 0) - since_ms >= spec.fail_back.after_ms:
        if view.held(f"unhealthy:{state.to}", spec.for_ms):
            _change_over(view)
            return
        if _flaps(view):
            return
        evidence = {"healthy_since_ms": since_ms, "after_ms": spec.fail_back.after_ms}
        turn.decide(
            Verdict.NOTE,
            Reason.FAILBACK_HEALTHY,
            f"{state.away} is healthy again; traffic comes home in steps.",
            evidence,
            incident_id=state.incident_id,
            policy=spec.name,
        )
        state.share = _home_step(view)
        moves.enter(view, "returning")


def _home_step(view: View) -> int:
    """The last step of the way home that is in force already: a part may never have left, or have stayed."""
    here, there = view.share(view.state.away), view.share(view.state.to)
    percent = 100 * here // (here + there) if here + there else 100
    return max((step for step in view.spec.fail_back.steps if step <= percent), default=0)


def _change_over(view: View) -> None:
    """The site that took over is ill, and the one that was left is well: that is another illness, left like any other."""
    state, turn = view.state, view.turn
    well, ill = state.away, state.to
    text = f"{ill} of {view.service.name} is unhealthy itself, and {well} is well again."
    turn.decide(
        Verdict.NOTE, Reason.FAILOVER_UNHEALTHY, text, {"unhealthy": ill, "healthy": well}, incident_id=state.incident_id, policy=view.spec.name
    )
    incidents.happen(turn, state.incident_id, Happening.RESOLVE, f"{well} is well again; {ill} is ill itself", view.spec.name)
    revert.release_record(turn, state.override_id)
    moves.come_home(view)
    state.guest = view.spec.priority.index(well) < view.spec.priority.index(ill)


def _stays(view: View) -> None:
    """Traffic is where it belongs, carried and seen to be: there is nothing to bring back to the site that it only visited."""
    state, turn, spec = view.state, view.turn, view.spec
    incidents.happen(turn, state.incident_id, Happening.RESOLVE, f"resolved: traffic is on {state.to}, where it belongs", spec.name)
    revert.release_record(turn, state.override_id)
    state.guest, state.regret_until_ms = False, turn.now_ms + max(spec.fail_back.after_ms, 1)
    moves.come_home(view)


def _flaps(view: View) -> bool:
    """Whether the site came home in vain before: then traffic stays where it is carried, and a person is told once."""
    state, turn, spec = view.state, view.turn, view.spec
    step = next((step for step in spec.fail_back.steps if step > _home_step(view)), 100)
    wish = view.traffic_draft("fail_back", view.shares_home(state.away, state.to, step), Reason.FAILBACK_HEALTHY)
    hold = dwell.hold(turn, incident_id=state.incident_id, target=wish.target, desired=wish.desired) if wish is not None else None
    if hold is None:
        return False
    if turn.state.said.get(view.owner) != hold.reason:
        text = f"{state.away} of {view.service.name} is well again, but was before in vain; its traffic stays on {state.to}."
        incidents.escalate(turn, state.incident_id, hold.reason, text, policy=spec.name)
    view.say(hold)
    return True


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


def returning(view: View) -> None:
    """Bring home one share after the other, each only onto capacity that is there, each watched for `pause`."""
    state, turn, spec = view.state, view.turn, view.spec
    if state.order_id and not state.answer:
        return
    if view.truth(f"unhealthy:{state.away}") is Truth.TRUE or view.truth(f"healthy:{state.away}") is Truth.FALSE:
        if view.share(state.away) == 0:  # nothing came home yet, so there is nothing to take back
            moves.enter(view, "away")
            return
        text = f"{state.away} is not healthy at {state.share} % of the traffic; it goes back to {state.to}."
        turn.decide(Verdict.FAIL, Reason.VERIFY_FAILED, text, {"share": state.share}, incident_id=state.incident_id, policy=spec.name)
        moves.enter(view, "moving")
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
        _settle_alerts(view)
        revert.release_record(turn, state.override_id)
        state.regret_until_ms = turn.now_ms + max(spec.fail_back.after_ms, 1)
        moves.come_home(view)
        return
    share = next(step for step in spec.fail_back.steps if step > state.share)
    if _capacity_at_home(view, share):
        moves.submit(view, "fail_back", view.shares_home(state.away, state.to, share), Reason.FAILBACK_HEALTHY)


def _settle_alerts(view: View) -> None:
    """Alerts of the site that vanished with its traffic: that it is well is measured now."""
    turn, site = view.turn, view.state.away
    about = {
        entry.incident_id for entry in turn.state.alerts.values() if entry.service == view.service.name and entry.alert.labels.get("site") == site
    }
    for incident_id in sorted(about):
        incidents.settle(turn, incident_id, verified=True)


def _capacity_at_home(view: View, share: int) -> bool:
    """Whether the site that traffic comes home to can carry the share; asks for what is missing."""
    state = view.state
    both = view.share(state.away) + view.share(state.to)
    if room_percent(view, state.away) >= both * share // 100:
        return True
    state.serial += 1
    draft = view.capacity_draft(state.away, needed_replicas(view, state.away, both * share // 100))
    hold = dispatch.submit(view.turn, draft) if draft is not None else None
    evidence = {"ready": view.ready(state.away), "demand": state.demand, "share": share}
    view.say(hold or Hold(Reason.NO_HEADROOM, f"{state.away} has not the room yet for {share} % of the traffic; coming home waits.", evidence))
    state.due_at_ms = view.turn.now_ms + moves.RETRY_MS
    return False


def _step_done(view: View) -> bool:
    """Take the answer to a fail-back step; False when there is nothing more to do now."""
    state, answer = view.state, view.state.answer
    state.order_id, state.answer = "", ""
    if answer in dispatch.IN_FORCE:
        state.share = next(step for step in view.spec.fail_back.steps if step > state.share)
        state.due_at_ms = view.turn.now_ms + view.spec.fail_back.pause_ms
    elif answer == "conflict":
        moves.hand_over(view, "somebody else changes the shares of the sites")
    else:
        state.due_at_ms = view.turn.now_ms + moves.RETRY_MS
    return False
