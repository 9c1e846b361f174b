"""Planners that change which version runs."""

from __future__ import annotations

from pipeline.model.reasons import Reason
from pipeline.remediate.catalogue import Place
from pipeline.remediate.planners.base import Case, Plan, Refusal, unknown_target
from pipeline.remediate.templates import render
from pipeline.rulebook.spec import Deploy, RollBack


def roll_back(case: Case) -> tuple[Plan, ...] | Refusal:
    """Replace the bad version on every workload that runs it, or might.

    `from` makes the wish safe to repeat: a workload that no longer runs the bad version is left alone by its connector.
    """
    spec: RollBack = case.spec
    bad, to = render(spec.version, case.names), render(spec.to, case.names)
    if to == bad:
        return Refusal(Reason.LIMIT, f"Rolling {bad} back to {to} changes nothing.", {"version": bad})
    workloads = _workloads(case, bad)
    if isinstance(workloads, Refusal):
        return workloads
    plans = []
    for place in workloads:
        previous = case.seen(place.target).get("previous_version")
        version = previous if to == "previous" and previous and previous != bad else to
        plans.append(Plan(place.target, {"version": version, "from": bad}))
    return tuple(plans)


def deploy(case: Case) -> tuple[Plan, ...] | Refusal:
    """Run a version on the named workload, or on all of the service's."""
    spec: Deploy = case.spec
    version = render(spec.version, case.names)
    named = case.named()
    if isinstance(named, Refusal):
        return named
    workloads = [named] if named else case.places("workload")
    if not workloads:
        return unknown_target(f"Service {case.service.name} has no workload in the catalogue.")
    return tuple(Plan(place.target, {"version": version}) for place in workloads)


def _workloads(case: Case, bad: str) -> list[Place] | Refusal:
    named = case.named()
    if named is not None:
        return named if isinstance(named, Refusal) else [named]
    places = case.places("workload")
    own = [place for place in places if place.backend == bad] or [
        place for place in places if place.backend and case.seen(place.target).get("version") == bad
    ]
    if own:
        return own
    by_site = [place for place in places if place.site]
    if not by_site:
        return unknown_target(f"No workload of {case.service.name} in the catalogue can be rolled back from {bad}.")
    running = [place for place in by_site if case.seen(place.target).get("version") == bad]
    return running or by_site
