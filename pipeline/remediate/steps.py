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

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import AlertState, Ending, stable_id
from pipeline.remediate import dispatch, follow, guards, incidents, results, verify
from pipeline.remediate.planners import Case, Plan, Refusal
from pipeline.remediate.plans import draft, expressions, names_of, plan, policy_of, step_of
from pipeline.remediate.state import AlertEntry, Run
from pipeline.remediate.templates import TemplateError, render
from pipeline.remediate.turn import About, Hold, Turn
from pipeline.rulebook.spec import Policy, Step


def drive(turn: Turn, run: Run) -> Hold | None:
    """Plan and send the step the run stands at. The Hold is given back only before the run has done anything."""
    policy = policy_of(turn, run)
    step = step_of(policy, run)
    service = turn.scope.services.get(run.service)
    entry = turn.state.alerts.get(run.alert_id)
    if policy is None or step is None or service is None or entry is None:
        follow.finish(turn, run, "the rules no longer have what this run needs")
        return None
    if step.verb == "notify":
        return _notify(turn, run, step, names_of(entry, service))
    if _healed(turn, run, entry):
        text = f"{entry.alert.name} ended by its value before the next step of {run.policy}, and nothing of it is in force; no more is done."
        turn.decide(
            Verdict.DROP,
            Reason.RESOLVED_BY_VALUE,
            text,
            {"step": run.step + 1},
            incident_id=run.incident_id,
            alert_id=run.alert_id,
            policy=run.policy,
        )
        undone = {done.action.reverts for done in turn.state.done.values()}
        run.failed = run.failed and not undone.issuperset(run.changed)  # a step that failed and was not undone is a person's to know
        follow.finish(turn, run, "its alert is over")
        return None
    hold = _blocked(turn, run, step)
    if hold is None:
        spec, names = getattr(step, step.verb), names_of(entry, service)
        plans = plan(run, step, Case(service, spec, names, turn.state.observed, turn.now_ms, _key(run), _as_ill(turn, entry)))
        if isinstance(plans, Refusal):
            return _refusal(turn, run, policy, plans)
        hold = _send(turn, run, policy, step, plans)
    return None if hold is None else _held(turn, run, policy, hold)


def _as_ill(turn: Turn, entry: AlertEntry) -> frozenset[str]:
    """Versions and backends of which the same alert fires with at least half the value: what they have in common is to blame, not the version."""
    own, found = entry.alert, set()
    for other in turn.state.alerts.values():
        alert = other.alert
        same = alert.name == own.name and alert.id != own.id and other.service == entry.service and alert.state is AlertState.FIRING
        if same and own.value is not None and alert.value is not None and 2 * alert.value >= own.value:
            found |= {alert.labels.get("version", ""), alert.labels.get("backend", "")}
    own_names = {own.labels.get("version", ""), own.labels.get("backend", ""), ""}
    return frozenset(found - own_names)


def _healed(turn: Turn, run: Run, entry: AlertEntry) -> bool:
    """Whether the trouble went by itself while a later rung waited. A change of the run in force may be what heals: then the ladder goes on."""
    over = entry.alert.state is AlertState.RESOLVED and entry.alert.ended is Ending.BY_VALUE
    return over and run.step > 0 and not any(id_ in turn.state.overrides for id_ in run.changed)


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
    retry_at_ms = turn.now_ms + (follow.HELD_RETRY_MS if refusal.retry else 10 * follow.HELD_RETRY_MS)
    hold = Hold(refusal.reason, refusal.text, refusal.evidence, retry_at_ms=retry_at_ms)
    more = run.step + 1 < len(policy.steps) and policy.steps[run.step].then == "next"
    if refusal.reason is Reason.ALREADY_THERE and (more or run.changed):
        turn.decide(
            Verdict.NOTE, refusal.reason, refusal.text, refusal.evidence, incident_id=run.incident_id, alert_id=run.alert_id, policy=run.policy
        )
        follow.succeeded(turn, run)
        return None
    if refusal.retry or not (run.changed or run.failed):
        return _held(turn, run, policy, hold)
    turn.decide(Verdict.HOLD, hold.reason, hold.text, hold.evidence, incident_id=run.incident_id, alert_id=run.alert_id, policy=run.policy)
    follow.next_or_give_up(turn, run, hold.text)
    return None


def _send(turn: Turn, run: Run, policy: Policy, step: Step, plans: tuple[Plan, ...]) -> Hold | None:
    drafts = [draft(turn, run, policy, step, one) for one in plans]
    hold = next((hold for wish in drafts if (hold := dispatch.obstacle(turn, wish)) is not None), None)
    if hold is not None:
        return hold
    run.phase, run.orders, run.step_changed, run.held_since_ms = "sending", {wish.action_id: "" for wish in drafts}, [], 0
    if step.verify is not None and follow.default_on_failure(step) == "revert":
        measure_baseline(turn, run, step)
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
    follow.charge(turn, run)
    if run.failed:
        follow.next_or_give_up(turn, run, "the steps are used up")
    else:
        follow.succeeded(turn, run)
    return None


def _held(turn: Turn, run: Run, policy: Policy, hold: Hold) -> Hold | None:
    """Before anything was done the want keeps the hold; in the middle of a ladder the run waits, at most for the policy's TTL."""
    if not run.changed and not run.failed and run.step == 0:
        return hold
    run.held_since_ms = run.held_since_ms or turn.now_ms
    about: About = {"incident_id": run.incident_id, "alert_id": run.alert_id, "policy": run.policy}
    if turn.now_ms - run.held_since_ms > policy.guard.ttl_ms:
        text = f"Step {run.step + 1} of {run.policy} was held for longer than its TTL: {hold.text}"
        turn.decide(Verdict.DROP, Reason.STALE, text, {"held_by": hold.reason, **hold.evidence}, **about)
        follow.finish(turn, run, text, failed=True)
        return None
    turn.decide_once(f"run:{run.id}:{run.step}", hold, **about)
    run.phase, run.serial = "held", follow.next_serial(turn, run)
    run.due_at_ms = hold.retry_at_ms or turn.now_ms + follow.HELD_RETRY_MS
    return None


def measure_baseline(turn: Turn, run: Run, step: Step) -> None:
    """Have the success expression read once before the change, so that worse, same and better can be told apart."""
    try:
        exprs = expressions(turn, run, step)
    except TemplateError:
        return  # said when the verification begins
    if step.verify is not None and "success" in exprs:
        verify.ask_baseline(turn, run, step.verify, exprs["success"])


def advance(turn: Turn) -> None:
    """Let time pass for every run, and drive those that stand before a step."""
    for run in list(turn.state.runs.values()):
        while run.id in turn.state.runs and run.phase == "planning":
            drive(turn, run)
        if run.id not in turn.state.runs:
            continue
        if run.phase == "verifying":
            results.check(turn, run)
        elif run.phase == "held" and run.due_at_ms <= turn.now_ms:
            drive(turn, run)
        elif run.phase == "reverting" and run.due_at_ms <= turn.now_ms:
            follow.retry_revert(turn, run)


def waiting(turn: Turn) -> bool:
    """Whether a run stands before a step that was not driven yet."""
    return any(run.phase == "planning" for run in turn.state.runs.values())


def due_at_ms(run: Run) -> int | None:
    """When the run wants to be looked at."""
    if run.phase == "verifying" and run.verification is not None:
        return verify.due_at_ms(run.verification)
    return run.due_at_ms if run.phase in {"held", "reverting"} else None
