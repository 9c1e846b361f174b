"""From a step of a policy to wishes: names for its templates, plans, drafts with their budgets, rendered conditions."""

from __future__ import annotations

from pipeline.model.reasons import Reason
from pipeline.model.records import Budget
from pipeline.remediate.catalogue import place_of, places
from pipeline.remediate.dispatch import Draft
from pipeline.remediate.muting import labels_of
from pipeline.remediate.planners import PLANNERS, Case, Plan, Refusal
from pipeline.remediate.state import AlertEntry, Run
from pipeline.remediate.templates import TemplateError, render_expr
from pipeline.remediate.turn import Turn
from pipeline.rulebook.spec import Policy, Service, Step


def policy_of(turn: Turn, run: Run) -> Policy | None:
    """The run's policy as the rules say it now."""
    return turn.scope.policy.get(run.policy)


def step_of(policy: Policy | None, run: Run) -> Step | None:
    """The step the run stands at; None where the policy lost it in a reload."""
    return policy.steps[run.step] if policy is not None and run.step < len(policy.steps) else None


def names_of(entry: AlertEntry, service: Service) -> dict[str, str]:
    """What templates may name: the alert's labels, then fields of the service."""
    return {"service": service.name, "group": service.group_name, "service.name": service.name, **labels_of(entry)}


def plan(run: Run, step: Step, case: Case) -> tuple[Plan, ...] | Refusal:
    """What the step wishes for now, on targets of the catalogue only."""
    try:
        plans = PLANNERS[step.verb](case)
    except TemplateError as error:
        return Refusal(Reason.TEMPLATE, f"Policy {run.policy}, step {run.step + 1}: {error}.", {"known": sorted(case.names)})
    if step.verb == "call" or isinstance(plans, Refusal):
        return plans
    strange = next((plan for plan in plans if place_of([case.service], plan.target) is None), None)
    if strange is not None:
        return Refusal(Reason.UNKNOWN_TARGET, f"{strange.target} is not a target of {case.service.name}.")
    return plans


def draft(turn: Turn, run: Run, policy: Policy, step: Step, plan: Plan) -> Draft:
    """The wish as dispatch takes it."""
    entry = turn.state.alerts[run.alert_id]
    age_ms = turn.now_ms - entry.heard_at_ms
    ttl_ms = policy.guard.ttl_ms - (age_ms if run.step == 0 and 0 < age_ms < policy.guard.ttl_ms else 0)  # counted from what the alert last said
    return Draft(
        owner=f"run:{run.id}",
        service=run.service,
        verb=step.verb,
        target=plan.target,
        desired=plan.desired,
        ttl_ms=ttl_ms,
        direction=plan.direction,
        mode=run.mode,
        policy=run.policy,
        incident_id=run.incident_id,
        alert_id=run.alert_id,
        step=run.step,
        serial=run.serial,
        deadline_ms=step.deadline_ms,
        budgets=budgets(turn, run, policy, plan),
        override_until_ms=plan.override_until_ms,
        caused_at_ms=entry.caused_at_ms,
        evidence={"alert": entry.alert.name, "value": entry.alert.value, "fired_at_ms": entry.alert.fired_at_ms},
    )


def budgets(turn: Turn, run: Run, policy: Policy, plan: Plan) -> tuple[Budget, ...]:
    """What the governor counts: all targets against the absolute number, and those of one kind against the percentage.

    The percentage is of targets of the same kind: a ladder that shifts a route and then rolls back a workload touches two kinds of thing, each once.
    """
    spec, service = policy.guard.budget, turn.scope.services.get(run.service)
    if spec is None or service is None:
        return ()
    key, found = f"{policy.name}/{turn.group}", []
    if spec.targets is not None:
        found.append(Budget(key=key, per_ms=spec.per_ms, targets=spec.targets))
    if spec.percent is not None:
        here = place_of([service], plan.target)
        kind = here.kind if here else "other"
        enabled = len({place.target for place in places(service) if place.kind == kind})
        found.append(Budget(key=f"{key}/{kind}", per_ms=spec.per_ms, percent=spec.percent, enabled=enabled))
    return tuple(found)


def expressions(turn: Turn, run: Run, step: Step) -> dict[str, str]:
    """The rendered conditions of a step's verification.

    Raises:
        TemplateError: a placeholder without a value.
    """
    spec, service = step.verify, turn.scope.services.get(run.service)
    if spec is None or service is None or spec.success is None:
        return {}
    names = names_of(turn.state.alerts[run.alert_id], service)
    wanted = {"success": spec.success, "failure": spec.failure, "volume": spec.min_volume.expr if spec.min_volume else None}
    return {what: render_expr(expr, names) for what, expr in wanted.items() if expr is not None}
