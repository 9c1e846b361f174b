"""What comes back to a run: actions that went out, refusals, outcomes, measurements, and the end of its alert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Measurement, OutcomeStatus
from pipeline.remediate import dispatch, follow, incidents, revert, verify
from pipeline.remediate.plans import expressions, policy_of, step_of
from pipeline.remediate.state import Run
from pipeline.remediate.templates import TemplateError
from pipeline.remediate.transitions import Happening
from pipeline.remediate.turn import About, Launched, Refused, Settled, Turn
from pipeline.rulebook.spec import Step


def _run_of(turn: Turn, owner: str) -> Run | None:
    return turn.state.runs.get(owner.partition(":")[2])


def launched(turn: Turn, event: Launched) -> None:
    """An action of the run went out."""
    run, action = _run_of(turn, event.order.owner), event.order.action
    if run is None:
        return
    follow.charge(turn, run)
    if action.mode == "enforce":
        incidents.acted(turn, run.incident_id, action.id, dispatch.describe(action))


def refused(turn: Turn, event: Refused) -> None:
    """An action of the run did not go out."""
    run, action, hold = _run_of(turn, event.order.owner), event.order.action, event.hold
    turn.decide(hold.verdict, hold.reason, hold.text, hold.evidence, **dispatch.about(action))
    if run is None or action.id not in run.orders:
        return
    run.orders[action.id] = hold.reason
    run.due_at_ms = hold.retry_at_ms or turn.now_ms + follow.HELD_RETRY_MS
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
    run.due_at_ms = turn.now_ms + follow.REFUSED_RETRY_MS
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
        follow.hand_over(turn, run, "somebody else changed the target in the meantime.")
    elif run.phase == "reverting":
        follow.reverted(turn, run, answers)
    elif answers & {OutcomeStatus.APPLIED, OutcomeStatus.ALREADY_THERE}:
        _applied(turn, run)
    elif answers & {OutcomeStatus.FAILED, OutcomeStatus.UNKNOWN}:
        follow.apply_failed(turn, run, uncertain=OutcomeStatus.UNKNOWN in answers)
    else:
        follow.not_sent(turn, run)


def _applied(turn: Turn, run: Run) -> None:
    step = step_of(policy_of(turn, run), run)
    if step is None or step.verify is None:
        follow.succeeded(turn, run)
        return
    outcomes = [turn.state.done[id_].outcome for id_ in run.orders if id_ in turn.state.done]
    applied_at_ms = max((outcome.applied_at_ms or outcome.at_ms for outcome in outcomes if outcome.status in dispatch.IN_FORCE), default=turn.now_ms)
    try:
        exprs = expressions(turn, run, step)
    except TemplateError as error:
        _judged(turn, run, step, verify.Verdict.INCONCLUSIVE, {"error": str(error)})
        return
    run.phase = "verifying"
    run.applied_at_ms = applied_at_ms
    verify.begin(turn, run, step.verify, exprs, applied_at_ms)
    incidents.happen(turn, run.incident_id, Happening.APPLIED, f"measuring the effect of {step.verb}", run.policy)
    check(turn, run)


def check(turn: Turn, run: Run) -> None:
    """Look at a verification that needs no measurement: by the alert's end, or at the end of its time."""
    step, verification = step_of(policy_of(turn, run), run), run.verification
    if run.phase != "verifying" or verification is None:
        return
    if step is None or step.verify is None:
        follow.finish(turn, run, "the rules no longer have the step that was being measured")
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
        follow.finish(turn, run, "its alert is over")
    else:
        check(turn, run)


def measured(turn: Turn, run: Run, measurement: Measurement) -> None:
    """A measurement of this run's verification, or of how things were before its step."""
    if measurement.watch_id == run.baseline_watch:
        verify.take_baseline(run, measurement)
        return
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
        run.verified, run.failed = True, False
        follow.succeeded(turn, run)
    elif verdict is verify.Verdict.FAILURE:
        _did_not_help(turn, run, step, evidence)
    else:
        turn.decide(Verdict.HOLD, Reason.VERIFY_INCONCLUSIVE, f"Whether {step.verb} helped could not be measured.", evidence, **about)
        incidents.note(turn, run.incident_id, f"inconclusive: {step.verb}", run.policy)
        _inconclusive(turn, run, step)


def _did_not_help(turn: Turn, run: Run, step: Step, evidence: Mapping[str, Any]) -> None:
    how = follow.default_on_failure(step)
    about: About = {"incident_id": run.incident_id, "alert_id": run.alert_id, "policy": run.policy, "verb": step.verb}
    turn.decide(Verdict.FAIL, Reason.VERIFY_FAILED, f"{step.verb} did not help enough.", evidence, **about)
    incidents.note(turn, run.incident_id, f"not verified: {step.verb}", run.policy)
    run.failed = True
    level = evidence.get("value")
    if how == "revert" and verify.improved(step.verify, run.baseline, level):
        numbers = {"before": run.baseline, "after": level, "success": step.verify.success if step.verify else None}
        text = f"It is better than before {step.verb}, but not enough: the change stays, and the ladder goes on."
        turn.decide(Verdict.NOTE, Reason.IMPROVED, text, numbers, **about)
        how = "next"
    follow.after_failure(turn, run, how)


def _inconclusive(turn: Turn, run: Run, step: Step) -> None:
    if step.on_inconclusive == "next":
        follow.next_or_give_up(turn, run, f"the effect of {step.verb} could not be measured")
    elif step.on_inconclusive == "revert":
        run.failed = True
        follow.after_failure(turn, run, "revert")
    else:
        text = f"The effect of {step.verb} could not be measured; it is kept, and nothing more is done."
        incidents.escalate(turn, run.incident_id, Reason.VERIFY_INCONCLUSIVE, text, policy=run.policy)
        follow.finish(turn, run, text)
