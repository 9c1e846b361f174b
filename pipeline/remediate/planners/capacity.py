"""Planners for how much of a service runs: replicas inside the limits, restarts."""

from __future__ import annotations

from pipeline.model.reasons import Reason
from pipeline.remediate.catalogue import Place
from pipeline.remediate.planners.base import Case, Plan, Refusal, unknown_target
from pipeline.rulebook.spec import Scale, Service


def clamp(service: Service, replicas: int) -> int:
    """The wish inside the service's limits."""
    limits = service.limits.replicas
    return replicas if limits is None else min(max(replicas, limits.min), limits.max)


def scale(case: Case) -> tuple[Plan, ...] | Refusal:
    """Set the replicas of one workload. Not knowing how many there are, it holds: it could not tell adding from removing."""
    spec: Scale = case.spec
    place = workload_of(case)
    if isinstance(place, Refusal):
        return place
    current = case.seen(place.target).get("replicas")
    wish = clamp(case.service, spec.replicas)
    if current is None:
        return Refusal(Reason.NO_DATA, f"Nobody has read yet how many replicas {place.target} has.", {"wanted": wish}, retry=True)
    if wish == current:
        clamped = wish != spec.replicas
        reason = Reason.LIMIT if clamped else Reason.ALREADY_THERE
        return Refusal(
            reason, f"{place.target} has {current} replicas already{', its limit' if clamped else ''}.", {"wanted": spec.replicas, "current": current}
        )
    return (Plan(place.target, {"replicas": wish}, direction="up" if wish > current else "down"),)


def restart(case: Case) -> tuple[Plan, ...] | Refusal:
    """Restart one workload; the key makes a second delivery of the same action harmless."""
    place = workload_of(case)
    if isinstance(place, Refusal):
        return place
    return (Plan(place.target, {"restart_key": case.key}),)


def workload_of(case: Case) -> Place | Refusal:
    """The workload that the step means: its target, its site's, or the first of the service."""
    named = case.named()
    if named is not None:
        return named
    site = case.spec.site or case.names.get("site", "")
    places = case.places("workload")
    fitting = (
        [place for place in places if place.site == site]
        if case.spec.site
        else ([place for place in places if place.site and place.site == site] or places)
    )
    if not fitting:
        return unknown_target(f"Service {case.service.name} has no workload{' at site ' + site if site else ''} in the catalogue.")
    return fitting[0]
