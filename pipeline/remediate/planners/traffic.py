"""Planners that move traffic: weights over backends, shares over sites.

Guarantee: whole percents that sum to 100, never all on what is known to be dead, and no move at all when nothing healthy is left to take it, or
when the same alert says as much of all that would take it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.model.reasons import Reason
from pipeline.model.target import Target
from pipeline.remediate.planners.base import Case, Plan, Refusal, is_dead, shares, unknown_target
from pipeline.remediate.templates import render
from pipeline.rulebook.spec import FailOver, ShiftTraffic


def shift_traffic(case: Case) -> tuple[Plan, ...] | Refusal:
    """Weights on the service's route: away from a version or backend, or outright."""
    spec: ShiftTraffic = case.spec
    named = case.named()
    if isinstance(named, Refusal):
        return named
    targets = (
        [named.target]
        if named
        else [place.target for place in case.places("route") if not place.site] or [place.target for place in case.places("route")]
    )
    if not targets:
        return unknown_target(f"Service {case.service.name} has no route in the catalogue, so its traffic cannot be shifted.")
    plans = []
    for target in targets:
        plan = _outright(case, target) if spec.away_from is None else _away(case, target)
        if isinstance(plan, Refusal):
            return plan
        plans.append(plan)
    return tuple(plans)


def _outright(case: Case, target: Target) -> Plan | Refusal:
    weights = dict(case.spec.weights)
    unknown = sorted(set(weights) - {backend.name for backend in case.service.backends})
    if unknown:
        return unknown_target(f"Service {case.service.name} has no backend {', '.join(unknown)}.")
    return Plan(target, {"weights": weights})


def weights_now(case: Case, target: Target) -> dict[str, float]:
    """The weights in force: as observed, else as the catalogue says."""
    seen = case.seen(target).get("weights")
    names = [backend.name for backend in case.service.backends]
    if isinstance(seen, Mapping) and seen:
        return {name: float(seen.get(name, 0)) for name in [*names, *(name for name in seen if name not in names)]}
    return {backend.name: float(backend.weight) for backend in case.service.backends}


def _away(case: Case, target: Target) -> Plan | Refusal:
    ((what, template),) = case.spec.away_from.items()
    bad = render(template, case.names)
    now = weights_now(case, target)
    leaving = backend_of(case, what, bad)
    if leaving is None or leaving not in now:
        return unknown_target(f"No backend of {case.service.name} is or runs {bad!r} (backends: {', '.join(now) or 'none'}).")
    others = {name: weight for name, weight in now.items() if name != leaving and not _backend_dead(case, name)}
    if not others:
        evidence = {"weights": now, "away_from": leaving}
        return Refusal(
            Reason.NO_HEADROOM, f"No healthy backend of {case.service.name} is left to take the traffic of {leaving}.", evidence, retry=True
        )
    ill = sorted(name for name in others if case.as_ill & {name, _version(case, name)})
    if len(ill) == len(others):
        text = f"{', '.join(ill)} of {case.service.name} is as ill as {leaving}, so moving traffic there is no cure."
        return Refusal(Reason.NO_HEADROOM, text, {"weights": now, "away_from": leaving, "as_ill": ill}, retry=True)
    if not any(others.values()):
        others = {name: float(_catalogue_weight(case, name)) for name in others}
    keeps = min(case.spec.to_percent, int(now[leaving])) if sum(now.values()) == 100 else case.spec.to_percent
    taken = shares(others, 100 - keeps)
    weights = {name: keeps if name == leaving else taken.get(name, 0) for name in now}
    if {name: float(weight) for name, weight in weights.items()} == now:
        return Refusal(Reason.ALREADY_THERE, f"{leaving} has {keeps} % of the traffic of {case.service.name} already.", {"weights": weights})
    return Plan(target, {"weights": weights}, direction="drain")


def backend_of(case: Case, what: str, value: str) -> str | None:
    """The backend named `value`, or (for a version) the one whose workload was seen to run it."""
    for backend in case.service.backends:
        if backend.name == value:
            return backend.name
    if what == "version":
        for place in case.places("workload"):
            if place.backend and case.seen(place.target).get("version") == value:
                return place.backend
    return None


def _version(case: Case, name: str) -> str:
    return next((str(case.seen(place.target).get("version", "")) for place in case.places("workload") if place.backend == name), "")


def _backend_dead(case: Case, name: str) -> bool:
    return any(place.backend == name and is_dead(case.seen(place.target)) for place in case.places("workload"))


def _catalogue_weight(case: Case, name: str) -> int:
    return next((backend.weight for backend in case.service.backends if backend.name == name), 0)


def fail_over(case: Case) -> tuple[Plan, ...] | Refusal:
    """Shares over sites: none on the site that is left, the rest in proportion on those not known to be dead."""
    spec: FailOver = case.spec
    named = case.named()
    if isinstance(named, Refusal):
        return named
    target = named.target if named else next((place.target for place in case.places("sites")), None)
    if target is None:
        return unknown_target(f"Service {case.service.name} has no sites_target in the catalogue, so it cannot fail over.")
    away = render(spec.away_from, case.names)
    names = [site.name for site in case.service.sites]
    if away not in names:
        return unknown_target(f"Service {case.service.name} has no site {away!r} (sites: {', '.join(names)}).")
    now = sites_now(case.seen(target), names)
    others = {name: now[name] for name in names if name != away and not _site_dead(case, name)}
    if not others:
        return Refusal(
            Reason.NO_HEADROOM, f"No other site of {case.service.name} is alive to take the traffic of {away}.", {"sites": now}, retry=True
        )
    taken = shares(others, 100)
    wish = {name: taken.get(name, 0) for name in names}
    if {name: float(share) for name, share in wish.items()} == now:
        return Refusal(Reason.ALREADY_THERE, f"Site {away} of {case.service.name} has no traffic already.", {"sites": wish})
    return (Plan(target, {"sites": wish}),)


def sites_now(seen: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    """The shares in force, as far as they were read; equal parts where nothing was."""
    known = seen.get("sites")
    if isinstance(known, Mapping) and known:
        return {name: float(known.get(name, 0)) for name in names}
    return {name: float(share) for name, share in shares(dict.fromkeys(names, 1.0), 100).items()}


def _site_dead(case: Case, name: str) -> bool:
    workloads = [case.seen(place.target) for place in case.places("workload") if place.site == name]
    return bool(workloads) and all(is_dead(value) for value in workloads)
