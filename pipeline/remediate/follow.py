"""What follows a step of a run: the next rung, undoing, giving up, the end, and the bookkeeping of all of them.

Rule: after success `then` decides; after failure the step's change is reverted or kept and the ladder goes on, except that `keep` only tells.
A run never drives its next step itself: it is put back to `planning`, and `steps.advance` takes it from there.
"""

from __future__ import annotations

from typing import Final

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import OutcomeStatus
from pipeline.remediate import dispatch, guards, incidents, revert, verify
from pipeline.remediate.plans import policy_of, step_of
from pipeline.remediate.state import Run, Want
from pipeline.remediate.transitions import Happening
from pipeline.remediate.turn import Hold, Turn
from pipeline.rulebook.spec import Step

HELD_RETRY_MS: Final = 5000
REFUSED_RETRY_MS: Final = 30_000
UNDO_PATIENCE_MS: Final = 300_000
NEVER_MS: Final = 2**60
REST_MS: Final = 10_000  # even without a cool-down an alert gets the time to end before its policy acts again
TELLING: Final = frozenset({"notify", "call"})
CURES: Final = frozenset({"roll_back", "deploy"})
TRAFFIC: Final = frozenset({"shift_traffic", "fail_over"})


def next_serial(turn: Turn, run: Run) -> int:
    """A number that no earlier attempt of the policy had."""
    ledger = guards.ledger_of(turn, run.policy, run.mode)
    ledger.serial += 1
    return ledger.serial


def charge(turn: Turn, run: Run) -> None:
    """The run has really begun to act: cool-down and attempts count it."""
    ledger = guards.ledger_of(turn, run.policy, run.mode)
    if not run.charged:
        ledger.started_at_ms.append(turn.now_ms)
    run.charged = True
    ledger.last_at_ms = turn.now_ms


def uncharge(turn: Turn, run: Run) -> None:
    """Nothing was done after all."""
    ledger = guards.ledger_of(turn, run.policy, run.mode)
    if run.charged and not run.changed and ledger.started_at_ms:
        ledger.started_at_ms.pop()
        ledger.last_at_ms = max(ledger.started_at_ms, default=0)
        run.charged = False


def default_on_failure(step: Step) -> str:
    """What happens to a change that did not help, where the step does not say."""
    return step.on_failure or ("revert" if step.verb in TRAFFIC else "keep")


def succeeded(turn: Turn, run: Run) -> None:
    """The step is done and, where it is measured, has helped."""
    policy = policy_of(turn, run)
    step = step_of(policy, run)
    if step is not None and step.verb in CURES and run.verified:
        _cured(turn, run)
    if policy is not None and step is not None and step.then == "next" and run.step + 1 < len(policy.steps):
        _go_to(run, run.step + 1)
    else:
        finish(turn, run, "done")


def _cured(turn: Turn, run: Run) -> None:
    """The bad version is gone: weights that this run moved away from it may go home."""
    versions = [turn.state.done[id_].action.desired.get("from", "") for id_ in run.step_changed if id_ in turn.state.done]
    for id_ in run.changed:
        override = turn.state.overrides.get(id_)
        if override is not None and override.verb == "shift_traffic":
            cause = f"the version it was for was replaced by {run.policy}"
            revert.ask_release(turn, id_, cause, strict=True, bad_version=next(iter(versions), ""))


def _go_to(run: Run, index: int) -> None:
    run.step, run.phase, run.orders, run.step_changed = index, "planning", {}, []
    run.baseline, run.applied_at_ms, run.held_since_ms = None, 0, 0


def next_or_give_up(turn: Turn, run: Run, why: str) -> None:
    """The step did not do it: the next rung, or the end of the ladder."""
    policy = policy_of(turn, run)
    if policy is not None and run.step + 1 < len(policy.steps):
        _go_to(run, run.step + 1)
    else:
        finish(turn, run, why, failed=True)


def after_failure(turn: Turn, run: Run, how: str) -> None:
    """The step did not help: `how` is revert, next or keep."""
    policy = policy_of(turn, run)
    if how == "revert":
        _revert(turn, run)
    elif how == "next":
        next_or_give_up(turn, run, "the last step did not help")
    else:  # keep: nothing more is changed, but a person is told the way the policy says
        rest = policy.steps[run.step + 1 :] if policy is not None else ()
        telling = next((index for index, step in enumerate(rest, run.step + 1) if step.verb in TELLING), None)
        if telling is not None:
            _go_to(run, telling)
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
            hand_over(turn, run, way.text)
            return
        else:
            drafts.append(way)
    run.phase, run.due_at_ms, run.orders = "reverting", NEVER_MS, {wish.action_id: "" for wish in drafts}
    for wish in drafts:
        hold = dispatch.submit(turn, wish)
        if hold is not None and hold.reason is Reason.DWELL:
            turn.decide(hold.verdict, hold.reason, hold.text, hold.evidence, incident_id=run.incident_id, policy=run.policy, target=wish.target)
            hand_over(turn, run, hold.text)
            return
        if hold is not None:
            run.due_at_ms = turn.now_ms + HELD_RETRY_MS
            turn.decide_once(f"revert:{wish.reverts}", hold, incident_id=run.incident_id, policy=run.policy)
    if not drafts:
        next_or_give_up(turn, run, "the last step did not help")


def retry_revert(turn: Turn, run: Run) -> None:
    """A revert that was held (paused, another action in flight) is tried again."""
    if any(order.owner == f"run:{run.id}" for order in turn.state.orders.values()):
        return
    run.held_since_ms = run.held_since_ms or turn.now_ms
    if turn.now_ms - run.held_since_ms > UNDO_PATIENCE_MS:
        hand_over(turn, run, "the change could not be undone in time.")
        return
    run.serial = next_serial(turn, run)
    _revert(turn, run)


def reverted(turn: Turn, run: Run, answers: set[str]) -> None:
    """The undoing has its answers."""
    if answers <= dispatch.IN_FORCE:
        incidents.note(turn, run.incident_id, "undone", run.policy)
        for id_ in run.step_changed:
            turn.forget(f"revert:{id_}")
        run.step_changed = []
        next_or_give_up(turn, run, "the last step did not help and was undone")
    elif answers & {OutcomeStatus.FAILED, OutcomeStatus.UNKNOWN}:
        hand_over(turn, run, "the change could not be undone.")
    else:  # refused or too late: nothing was touched, so it may be asked again
        run.due_at_ms = turn.now_ms + REFUSED_RETRY_MS


def hand_over(turn: Turn, run: Run, why: str) -> None:
    """Somebody else owns the target, or the way back is closed: a person decides."""
    incidents.escalate(turn, run.incident_id, Reason.CONFLICT, f"Handed over: {why}", policy=run.policy)
    run.failed = False  # a person was asked already
    finish(turn, run, why)


def apply_failed(turn: Turn, run: Run, *, uncertain: bool) -> None:
    """The change could not be made: the next rung, unless nobody knows what is in force or the policy says keep."""
    step = step_of(policy_of(turn, run), run)
    run.failed = True
    if step is not None and not uncertain and default_on_failure(step) != "keep":
        next_or_give_up(turn, run, f"{step.verb} could not be applied")
    else:
        after_failure(turn, run, "keep")


def not_sent(turn: Turn, run: Run) -> None:
    """Nothing went out, or everything was refused on arrival: try again with a new attempt, or leave it to the want."""
    if run.changed or run.failed or run.step > 0:
        run.phase, run.serial = "held", next_serial(turn, run)
        run.held_since_ms = run.held_since_ms or turn.now_ms
        return
    uncharge(turn, run)
    verify.end(turn, run)
    del turn.state.runs[run.id]
    incidents.happen(turn, run.incident_id, Happening.SETTLE, f"policy {run.policy} was refused", run.policy)
    rearm(turn, run, due_at_ms=run.due_at_ms, reason=next(iter(run.orders.values()), ""))


def finish(turn: Turn, run: Run, why: str, *, failed: bool = False) -> None:
    """End the run; its incident settles or is escalated, and its policy may be considered again after its guards."""
    verify.end(turn, run)
    turn.state.runs.pop(run.id, None)
    for subject in [subject for subject in turn.state.said if subject.startswith(f"run:{run.id}:")]:
        turn.forget(subject)
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
    breath_ms = REST_MS if run.charged and policy is not None and not policy.guard.cooldown_ms else 0
    rearm(turn, run, due_at_ms=turn.now_ms + breath_ms)


def rearm(turn: Turn, run: Run, *, due_at_ms: int, reason: str = "") -> None:
    """Should the run's alert still fire, its policy is considered again."""
    if guards.still_fires(turn.state.alerts.get(run.alert_id)):
        key = f"{run.policy}:{run.alert_id}"
        turn.state.wants.setdefault(key, Want(run.policy, run.alert_id, run.incident_id, due_at_ms, reason))
