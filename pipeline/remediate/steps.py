"""A run of a policy, step by step: plan, send, measure, keep or undo, go on or stop.

```
planning -> sending -> verifying -> (next step: planning) | done
               |           |  failed: on_failure revert -> reverting -> next step, next -> next step, keep -> stop
               v           v  inconclusive: hold -> stop and tell, next, revert
              held       conflict anywhere: handed over
```
A run that ends well settles its incident; one that ran out of steps escalates it. In observe a run stops after its first would-be action and waits in
`shadow` for what happens without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Measurement, OutcomeStatus, stable_id
from pipeline.remediate import dispatch, guards, incidents, revert, verify
from pipeline.remediate.catalogue import service_named
from pipeline.remediate.planners import Case, Plan, Refusal
from pipeline.remediate.plans import draft, expressions, names_of, plan, policy_of, step_of
from pipeline.remediate.state import Run, Want
from pipeline.remediate.templates import TemplateError, render
from pipeline.remediate.transitions import Happening
from pipeline.remediate.turn import About, Hold, Launched, Refused, Settled, Turn
from pipeline.rulebook.spec import Policy, Step

HELD_RETRY_MS: Final = 5000
NEVER_MS: Final = 2**60
REST_MS: Final = 10_000  # even without a cool-down an alert gets the time to end before its policy acts again
TELLING: Final = frozenset({"notify", "call"})
CURES: Final = frozenset({"roll_back", "deploy"})
TRAFFIC: Final = frozenset({"shift_traffic", "fail_over"})
FAILED: Final = "failed"


# --- planning and sending ------------------------------------------------------------------------------------------------------------


def drive(turn: Turn, run: Run) -> Hold | None:
    """Plan and send the step the run stands at. The Hold is given back only before the run has done anything."""
    policy = policy_of(turn, run)
    step = step_of(policy, run)
    service = service_named(turn.rules, run.service)
    entry = turn.state.alerts.get(run.alert_id)
    if policy is None or step is None or service is None or entry is None:
        finish(turn, run, "the rules no longer have what this run needs")
        return None
    if step.verb == "notify":
        return _notify(turn, run, step, names_of(entry, service))
    hold = _blocked(turn, run, step)
    if hold is None:
        plans = plan(run, step, Case(service, getattr(step, step.verb), names_of(entry, service), turn.state.observed, turn.now_ms, _key(run)))
        if isinstance(plans, Refusal):
            return _refusal(turn, run, policy, plans)
        hold = _send(turn, run, policy, step, plans)
    return None if hold is None else _held(turn, run, policy, hold)


def _key(run: Run) -> str:
    return stable_id("key", run.id, run.step, run.serial)


def _blocked(turn: Turn, run: Run, step: Step) -> Hold | None:
    mode = guards.effective_mode(turn, run.mode)
    if guards.MODES.index(mode) < guards.MODES.index(run.mode):
        text = f"The grant of {turn.group} was lowered to {mode} while the run was at work."
        return Hold(Reason.NOT_GRANTED, text, {"mode": run.mode, "granted_mode": mode})
    if not guards.granted(turn, step.verb):
        return Hold(Reason.NOT_GRANTED, f"Policies of {turn.group} may not use {step.verb}.", {"verb": step.verb})
    return None


def _refusal(turn: Turn, run: Run, policy: Policy, refusal: Refusal) -> Hold | None:
    """Nothing to wish for: already as wanted goes on, the rest is held or ends the run."""
    retry_at_ms = turn.now_ms + (HELD_RETRY_MS if refusal.retry else 10 * HELD_RETRY_MS)
    hold = Hold(refusal.reason, refusal.text, refusal.evidence, retry_at_ms=retry_at_ms)
    more = run.step + 1 < len(policy.steps) and policy.steps[run.step].then == "next"
    if refusal.reason is Reason.ALREADY_THERE and (more or run.changed):
        turn.decide(
            Verdict.NOTE, refusal.reason, refusal.text, refusal.evidence, incident_id=run.incident_id, alert_id=run.alert_id, policy=run.policy
        )
        return _succeeded(turn, run)
    if refusal.retry or not (run.changed or run.failed):
        return _held(turn, run, policy, hold)
    turn.decide(Verdict.HOLD, hold.reason, hold.text, hold.evidence, incident_id=run.incident_id, alert_id=run.alert_id, policy=run.policy)
    return _next_or_give_up(turn, run, hold.text)


def _send(turn: Turn, run: Run, policy: Policy, step: Step, plans: tuple[Plan, ...]) -> Hold | None:
    drafts = [draft(turn, run, policy, step, one) for one in plans]
    hold = next((hold for wish in drafts if (hold := dispatch.obstacle(turn, wish)) is not None), None)
    if hold is not None:
        return hold
    run.phase, run.orders, run.step_changed, run.held_since_ms = "sending", {wish.action_id: "" for wish in drafts}, [], 0
    for wish in drafts:
        hold = dispatch.submit(turn, wish)
        if hold is not None:
            run.orders[wish.action_id] = hold.reason
    return None


def _notify(turn: Turn, run: Run, step: Step, names: Mapping[str, str]) -> Hold | None:
    spec, incident = step.notify, turn.state.incidents.get(run.incident_id)
    title = incident.title if incident else run.policy
    if spec is None:
        return None
    try:
        text = render(spec.text, names) if spec.text else f"Policy {run.policy} has worked on: {title}."
    except TemplateError:
        text = spec.text  # a message with a hole is better than none
    if run.mode == "observe":
        turn.decide(
            Verdict.ACT,
            Reason.MODE_OBSERVE,
            f"Would have told {spec.to}: {text}",
            incident_id=run.incident_id,
            policy=run.policy,
            verb="notify",
            mode="observe",
        )
    else:
        turn.notice(title, text, to=spec.to, incident_id=run.incident_id, severity=incident.severity if incident else "")
        turn.decide(
            Verdict.ACT,
            Reason.GRANTED,
            f"Told {spec.to}: {text}",
            incident_id=run.incident_id,
            alert_id=run.alert_id,
            policy=run.policy,
            verb="notify",
        )
        incidents.note(turn, run.incident_id, f"told {spec.to}", run.policy)
    _charge(turn, run)
    return _next_or_give_up(turn, run, "the steps are used up") if run.failed else _succeeded(turn, run)


def _held(turn: Turn, run: Run, policy: Policy, hold: Hold) -> Hold | None:
    """Before anything was done the want keeps the hold; in the middle of a ladder the run waits, at most for the policy's TTL."""
    if not run.changed and not run.failed and run.step == 0:
        return hold
    run.held_since_ms = run.held_since_ms or turn.now_ms
    about: About = {"incident_id": run.incident_id, "alert_id": run.alert_id, "policy": run.policy}
    if turn.now_ms - run.held_since_ms > policy.guard.ttl_ms:
        text = f"Step {run.step + 1} of {run.policy} was held for longer than its TTL: {hold.text}"
        turn.decide(Verdict.DROP, Reason.STALE, text, {"held_by": hold.reason, **hold.evidence}, **about)
        finish(turn, run, text, failed=True)
        return None
    turn.decide_once(f"run:{run.id}:{run.step}", hold, **about)
    run.phase, run.serial = "held", _next_serial(turn, run)
    run.due_at_ms = hold.retry_at_ms or turn.now_ms + HELD_RETRY_MS
    return None


def _next_serial(turn: Turn, run: Run) -> int:
    ledger = guards.ledger_of(turn, run.policy, run.mode)
    ledger.serial += 1
    return ledger.serial


# --- what comes back -----------------------------------------------------------------------------------------------------------------


def _run_of(turn: Turn, owner: str) -> Run | None:
    return turn.state.runs.get(owner.partition(":")[2])


def _charge(turn: Turn, run: Run) -> None:
    """The run has really begun to act: cool-down and attempts count it."""
    ledger = guards.ledger_of(turn, run.policy, run.mode)
    if ledger.last_at_ms < run.started_at_ms or not ledger.last_at_ms:
        ledger.started_at_ms.append(turn.now_ms)
    ledger.last_at_ms = turn.now_ms


def launched(turn: Turn, event: Launched) -> None:
    """An action of the run went out."""
    run, action = _run_of(turn, event.order.owner), event.order.action
    if run is None:
        return
    _charge(turn, run)
    if action.mode == "enforce":
        incidents.acted(turn, run.incident_id, action.id, dispatch.describe(action))


def refused(turn: Turn, event: Refused) -> None:
    """An action of the run did not go out."""
    run, action, hold = _run_of(turn, event.order.owner), event.order.action, event.hold
    turn.decide(hold.verdict, hold.reason, hold.text, hold.evidence, **dispatch.about(action))
    if run is None or action.id not in run.orders:
        return
    run.orders[action.id] = hold.reason
    run.due_at_ms = hold.retry_at_ms or turn.now_ms + HELD_RETRY_MS
    policy = policy_of(turn, run)
    if hold.reason is Reason.EXPIRED and policy is not None:  # nobody wanted it: do not ask again at once
        run.due_at_ms = turn.now_ms + max(policy.guard.cooldown_ms, policy.guard.ttl_ms)
    _answered(turn, run)


def settled(turn: Turn, event: Settled) -> None:
    """An action of the run has its outcome."""
    run, action, outcome = _run_of(turn, event.order.owner), event.order.action, event.outcome
    done = turn.state.done[action.id]
    revert.came_into_force(turn, done)
    if outcome.status in dispatch.IN_FORCE and action.reverts:
        revert.release_record(turn, action.reverts)
    if run is None or action.id not in run.orders:
        return
    run.orders[action.id] = outcome.status
    run.due_at_ms = turn.now_ms + HELD_RETRY_MS
    if outcome.status is OutcomeStatus.APPLIED and not action.reverts:
        run.changed.append(action.id)
        run.step_changed.append(action.id)
    _answered(turn, run)


def _answered(turn: Turn, run: Run) -> None:
    """Go on once every action of the step has its answer."""
    if not all(run.orders.values()):
        return
    answers = set(run.orders.values())
    if run.mode == "observe":
        run.phase, run.shadow_at_ms = "shadow", turn.now_ms
    elif OutcomeStatus.CONFLICT in answers:
        _hand_over(turn, run, "somebody else changed the target in the meantime")
    elif run.phase == "reverting":
        _reverted(turn, run, answers)
    elif answers & {OutcomeStatus.APPLIED, OutcomeStatus.ALREADY_THERE}:
        _applied(turn, run)
    elif answers & {OutcomeStatus.FAILED, OutcomeStatus.UNKNOWN}:
        _apply_failed(turn, run)
    else:
        _not_sent(turn, run)


def _not_sent(turn: Turn, run: Run) -> None:
    """Nothing went out or everything was refused on arrival: try again with a new attempt, or leave it to the want."""
    if run.changed or run.failed or run.step > 0:
        run.phase, run.serial = "held", _next_serial(turn, run)
        run.held_since_ms = run.held_since_ms or turn.now_ms
        return
    del turn.state.runs[run.id]
    rearm(turn, run, due_at_ms=run.due_at_ms, reason=next(iter(run.orders.values())))


def _applied(turn: Turn, run: Run) -> None:
    step = step_of(policy_of(turn, run), run)
    if step is None or step.verify is None:
        _succeeded(turn, run)
        return
    outcomes = [turn.state.done[id_].outcome for id_ in run.orders if id_ in turn.state.done]
    applied_at_ms = max((outcome.applied_at_ms or outcome.at_ms for outcome in outcomes if outcome.status in dispatch.IN_FORCE), default=turn.now_ms)
    try:
        exprs = expressions(turn, run, step)
    except TemplateError as error:
        _judged(turn, run, step, verify.Verdict.INCONCLUSIVE, {"error": str(error)})
        return
    run.phase = "verifying"
    verify.begin(turn, run, step.verify, exprs, applied_at_ms)
    incidents.happen(turn, run.incident_id, Happening.APPLIED, f"measuring the effect of {step.verb}", run.policy)
    check(turn, run)


def check(turn: Turn, run: Run) -> None:
    """Look at a verification that needs no measurement: by the alert's end, or at the end of its time."""
    step, verification = step_of(policy_of(turn, run), run), run.verification
    if run.phase != "verifying" or verification is None:
        return
    if step is None or step.verify is None:
        finish(turn, run, "the rules no longer have the step that was being measured")
        return
    verdict = None
    if step.verify.alert is not None:
        verdict = verify.by_alert(verification, turn.state.alerts.get(run.alert_id), turn.now_ms)
    elif turn.now_ms >= verify.due_at_ms(verification):
        verdict = verify.Verdict.INCONCLUSIVE
    if verdict is not None:
        _judged(turn, run, step, verdict, verify.evidence(verification, step.verify))


def alert_ended(turn: Turn, run: Run) -> None:
    """The run's alert is over: what was not sent yet is not needed any more; a verification by the alert has its answer."""
    waiting = [order for order in turn.state.orders.values() if order.owner == f"run:{run.id}" and order.phase != "flight"]
    if run.phase == "sending" and run.step == 0 and not run.changed and waiting:
        text = f"The alert ended before {run.policy} acted; nothing is done."
        turn.decide(Verdict.DROP, Reason.EXPIRED, text, {}, incident_id=run.incident_id, alert_id=run.alert_id, policy=run.policy)
        finish(turn, run, "its alert is over")
    else:
        check(turn, run)


def measured(turn: Turn, run: Run, measurement: Measurement) -> None:
    """A measurement of this run's verification."""
    step, verification = step_of(policy_of(turn, run), run), run.verification
    if verification is None or step is None or step.verify is None:
        return
    verdict = verify.take(verification, step.verify, measurement)
    if verdict is not None:
        evidence = {**verify.evidence(verification, step.verify), "value": measurement.value, "truth": measurement.truth}
        _judged(turn, run, step, verdict, evidence)


def _judged(turn: Turn, run: Run, step: Step, verdict: verify.Verdict, evidence: Mapping[str, Any]) -> None:
    verify.end(turn, run)
    about: About = {"incident_id": run.incident_id, "alert_id": run.alert_id, "policy": run.policy, "verb": step.verb}
    if run.step_changed:
        about["action_id"] = run.step_changed[-1]
    if verdict is verify.Verdict.SUCCESS:
        turn.decide(Verdict.NOTE, Reason.VERIFIED, f"{step.verb} helped: the effect was measured.", evidence, **about)
        incidents.note(turn, run.incident_id, f"verified: {step.verb}", run.policy)
        incidents.verified(turn, run.incident_id)
        run.verified = True
        _succeeded(turn, run)
    elif verdict is verify.Verdict.FAILURE:
        turn.decide(Verdict.FAIL, Reason.VERIFY_FAILED, f"{step.verb} did not help enough.", evidence, **about)
        incidents.note(turn, run.incident_id, f"not verified: {step.verb}", run.policy)
        run.failed = True
        _after_failure(turn, run, step.on_failure or ("revert" if step.verb in TRAFFIC else "keep"))
    else:
        turn.decide(Verdict.HOLD, Reason.VERIFY_INCONCLUSIVE, f"Whether {step.verb} helped could not be measured.", evidence, **about)
        incidents.note(turn, run.incident_id, f"inconclusive: {step.verb}", run.policy)
        _inconclusive(turn, run, step)


def _inconclusive(turn: Turn, run: Run, step: Step) -> None:
    if step.on_inconclusive == "next":
        _next_or_give_up(turn, run, f"the effect of {step.verb} could not be measured")
    elif step.on_inconclusive == "revert":
        run.failed = True
        _after_failure(turn, run, "revert")
    else:
        text = f"The effect of {step.verb} could not be measured; it is kept, and nothing more is done."
        incidents.escalate(turn, run.incident_id, Reason.VERIFY_INCONCLUSIVE, text, policy=run.policy)
        finish(turn, run, text)


# --- what follows --------------------------------------------------------------------------------------------------------------------


def _succeeded(turn: Turn, run: Run) -> Hold | None:
    policy = policy_of(turn, run)
    step = step_of(policy, run)
    if step is not None and step.verb in CURES and run.verified:
        _cured(turn, run)
    if policy is not None and step is not None and step.then == "next" and run.step + 1 < len(policy.steps):
        return _go_to(turn, run, run.step + 1)
    finish(turn, run, "done")
    return None


def _cured(turn: Turn, run: Run) -> None:
    """The bad version is gone: weights that this run moved away from it may go home."""
    versions = [turn.state.done[id_].action.desired.get("from", "") for id_ in run.step_changed if id_ in turn.state.done]
    for id_ in run.changed:
        override = turn.state.overrides.get(id_)
        if override is not None and override.verb == "shift_traffic":
            cause = f"the version it was for was replaced by {run.policy}"
            revert.ask_release(turn, id_, cause, strict=True, bad_version=next(iter(versions), ""))


def _go_to(turn: Turn, run: Run, index: int) -> Hold | None:
    run.step, run.phase, run.orders, run.step_changed = index, "planning", {}, []
    return drive(turn, run)


def _next_or_give_up(turn: Turn, run: Run, why: str) -> Hold | None:
    policy = policy_of(turn, run)
    if policy is not None and run.step + 1 < len(policy.steps):
        return _go_to(turn, run, run.step + 1)
    finish(turn, run, why, failed=True)
    return None


def _after_failure(turn: Turn, run: Run, how: str) -> None:
    policy = policy_of(turn, run)
    if how == "revert":
        _revert(turn, run)
    elif how == "next":
        _next_or_give_up(turn, run, "the last step did not help")
    else:  # keep: nothing more is changed, but a person is told the way the policy says
        rest = policy.steps[run.step + 1 :] if policy is not None else ()
        telling = next((index for index, step in enumerate(rest, run.step + 1) if step.verb in TELLING), None)
        if telling is not None:
            _go_to(turn, run, telling)
        else:
            finish(turn, run, "the step did not help; its change is kept", failed=True)


def _revert(turn: Turn, run: Run) -> None:
    run.orders = {}
    drafts = []
    for id_ in reversed(run.step_changed):
        way = revert.undo(turn, turn.state.done[id_], owner=f"run:{run.id}", serial=run.serial)
        if way is None:
            revert.release_record(turn, id_)
            turn.decide(
                Verdict.NOTE, Reason.RELEASED, "The floor of the scale-up is released; nothing is cut.", action_id=id_, incident_id=run.incident_id
            )
        elif isinstance(way, Hold):
            turn.decide(way.verdict, way.reason, way.text, way.evidence, action_id=id_, incident_id=run.incident_id, policy=run.policy)
            _hand_over(turn, run, way.text)
            return
        else:
            drafts.append(way)
    run.phase, run.due_at_ms, run.orders = "reverting", NEVER_MS, {wish.action_id: "" for wish in drafts}
    for wish in drafts:
        hold = dispatch.submit(turn, wish)
        if hold is not None:
            run.due_at_ms = turn.now_ms + HELD_RETRY_MS
            turn.decide_once(f"revert:{wish.reverts}", hold, incident_id=run.incident_id, policy=run.policy)
    if not drafts:
        _next_or_give_up(turn, run, "the last step did not help")


def retry_revert(turn: Turn, run: Run) -> None:
    """A revert that was held (paused, another action in flight) is tried again."""
    if run.phase == "reverting" and not any(order.owner == f"run:{run.id}" for order in turn.state.orders.values()):
        _revert(turn, run)


def _reverted(turn: Turn, run: Run, answers: set[str]) -> None:
    if answers <= dispatch.IN_FORCE:
        incidents.note(turn, run.incident_id, "undone", run.policy)
        run.step_changed = []
        _next_or_give_up(turn, run, "the last step did not help and was undone")
    else:
        _hand_over(turn, run, "the change could not be undone")


def _hand_over(turn: Turn, run: Run, why: str) -> None:
    incidents.escalate(turn, run.incident_id, Reason.CONFLICT, f"Handed over: {why}", policy=run.policy)
    run.failed = False  # a person was asked already
    finish(turn, run, why)


def _apply_failed(turn: Turn, run: Run) -> None:
    step = step_of(policy_of(turn, run), run)
    run.failed = True
    if step is not None and step.on_failure == "next":
        _next_or_give_up(turn, run, f"{step.verb} could not be applied")
    else:
        _after_failure(turn, run, "keep")


def finish(turn: Turn, run: Run, why: str, *, failed: bool = False) -> None:
    """End the run; its incident settles or is escalated, and its policy may be considered again after its guards."""
    verify.end(turn, run)
    turn.state.runs.pop(run.id, None)
    dispatch.withdraw(turn, f"run:{run.id}")
    if failed or run.failed:
        text = f"Policy {run.policy} has no further step: {why}."
        turn.decide(Verdict.FAIL, Reason.STEPS_EXHAUSTED, text, {"steps_done": run.step + 1}, incident_id=run.incident_id, policy=run.policy)
        incidents.escalate(turn, run.incident_id, Reason.STEPS_EXHAUSTED, text, policy=run.policy)
    else:
        incidents.happen(turn, run.incident_id, Happening.SETTLE, f"policy {run.policy} is done", run.policy)
    incidents.settle(turn, run.incident_id, verified=run.verified)
    turn.again = True
    policy = policy_of(turn, run)
    breath_ms = REST_MS if run.changed and policy is not None and not policy.guard.cooldown_ms else 0
    rearm(turn, run, due_at_ms=turn.now_ms + breath_ms)


def rearm(turn: Turn, run: Run, *, due_at_ms: int, reason: str = "") -> None:
    """Should the run's alert still fire, its policy is considered again."""
    if guards.still_fires(turn.state.alerts.get(run.alert_id)):
        key = f"{run.policy}:{run.alert_id}"
        turn.state.wants.setdefault(key, Want(run.policy, run.alert_id, run.incident_id, due_at_ms, reason))


def advance(turn: Turn) -> None:
    """Let time pass for every run."""
    for run in list(turn.state.runs.values()):
        if run.id not in turn.state.runs:
            continue
        if run.phase == "verifying":
            check(turn, run)
        elif run.phase == "held" and run.due_at_ms <= turn.now_ms:
            drive(turn, run)
        elif run.phase == "reverting" and run.due_at_ms <= turn.now_ms:
            retry_revert(turn, run)


def due_at_ms(run: Run) -> int | None:
    """When the run wants to be looked at."""
    if run.phase == "verifying" and run.verification is not None:
        return verify.due_at_ms(run.verification)
    return run.due_at_ms if run.phase in {"held", "reverting"} else None
