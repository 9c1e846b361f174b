"""Checks of scalers, failovers, silences, inhibitions and maintenance windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pipeline.rulebook.book import RuleBook
from pipeline.rulebook.check_catalogue import unique
from pipeline.rulebook.check_policies import check_site
from pipeline.rulebook.context import Context, targets_of
from pipeline.rulebook.files import LoadedFile, Spot, spots
from pipeline.rulebook.matching import matcher_problem
from pipeline.rulebook.problems import Problem, did_you_mean
from pipeline.rulebook.spec import Failover, Inhibition, Maintenance, Scaler, Service, Silence


def check_scalers(book: RuleBook, files: list[LoadedFile], context: Context, problems: list[Problem]) -> None:
    """All scalers: a service with limits and a workload, and one scaler a workload."""
    placed = [(spot, one) for spot, one in spots(files, "scalers", problems) if isinstance(one, Scaler)]
    unique(((spot, one.name) for spot, one in placed), "scaler")
    owners: dict[str, str] = {}
    for spot, scaler in placed:
        service = _service(spot, scaler.service, book, f"scaler {scaler.name!r}")
        if service is None:
            continue
        check_site(spot, scaler.site, [service], "site")
        if service.limits.replicas is None:
            hint = "limits: {replicas: {min: 2, max: 10}} at the service"
            spot.note(f"scaler {scaler.name!r} has no bounds: service {service.name!r} has no limits.replicas", "service", suggestion=hint)
        target = _scaled(scaler, service)
        if target is None:
            spot.note(f"service {service.name!r} has no workload that scaler {scaler.name!r} could scale", "service")
            continue
        context.check_target(spot, target, "target" if scaler.target else "service", verb="scale")
        if target in owners:
            spot.note(f"scalers {owners[target]!r} and {scaler.name!r} both scale {target}", "name")
        owners.setdefault(target, scaler.name)


def _scaled(scaler: Scaler, service: Service) -> str | None:
    """The workload that a scaler scales: named, its site's, else the first of a site."""
    if scaler.target is not None:
        return scaler.target
    sites = [site for site in service.sites if site.workload and scaler.site in {None, site.name}]
    if sites:
        return sites[0].workload
    return next((text for kind, text, _ in targets_of(service) if kind == "workload"), None) if scaler.site is None else None


def check_failovers(book: RuleBook, files: list[LoadedFile], context: Context, problems: list[Problem]) -> None:
    """All failovers: sites that exist, something that moves traffic between them, and known headroom."""
    placed = [(spot, one) for spot, one in spots(files, "failovers", problems) if isinstance(one, Failover)]
    unique(((spot, one.name) for spot, one in placed), "failover")
    for spot, failover in placed:
        service = _service(spot, failover.service, book, f"failover {failover.name!r}")
        if service is None:
            continue
        for index, site in enumerate(failover.priority):
            check_site(spot, site, [service], "priority", index)
        if len(set(failover.priority)) < len(failover.priority):
            spot.note("priority names a site twice", "priority")
        if service.sites_target is None:
            hint = "sites_target: at the service says what moves traffic between its sites"
            spot.note(f"service {service.name!r} has no sites_target, so it cannot fail over", "service", suggestion=hint)
        else:
            context.check_target(spot, service.sites_target, "service", verb="fail_over")
        blind = [site.name for site in service.sites if site.name in failover.priority and site.capacity_per_replica is None]
        if blind:
            hint = "capacity_per_replica: requests/s that one replica serves"
            message = f"the headroom of site {', '.join(blind)} of {service.name!r} is unknown"
            spot.note(message, "priority", suggestion=hint, severity="warning")


def check_muting(book: RuleBook, files: list[LoadedFile], problems: list[Problem]) -> None:
    """Silences, inhibitions and maintenance windows."""
    for spot, one in spots(files, "silences", problems):
        if isinstance(one, Silence):
            _matchers(spot, one.match, "match")
            _window(spot, one.starts_at, one.ends_at)
    for spot, one in spots(files, "inhibitions", problems):
        if isinstance(one, Inhibition):
            _matchers(spot, one.source, "source")
            _matchers(spot, one.target, "target")
    for spot, one in spots(files, "maintenance", problems):
        if isinstance(one, Maintenance):
            _service(spot, one.service, book, "maintenance")
            _window(spot, one.starts_at, one.ends_at)


def _service(spot: Spot, name: str, book: RuleBook, what: str) -> Service | None:
    for service in book.services:
        if service.name == name:
            return service
    spot.note(
        f"{what} names an unknown service: {name!r}", "service", suggestion=did_you_mean(name, (one.name for one in book.services), what="services")
    )
    return None


def _matchers(spot: Spot, spec: Mapping[str, str] | Sequence[str], key: str) -> None:
    if not isinstance(spec, Mapping):
        for index, text in enumerate(spec):
            wrong = matcher_problem(text)
            if wrong:
                spot.note(wrong, key, index)


def _window(spot: Spot, starts_at: str, ends_at: str) -> None:
    starts, ends = _instant(spot, starts_at, "starts_at"), _instant(spot, ends_at, "ends_at")
    if starts is not None and ends is not None and starts >= ends:
        spot.note("ends_at is not after starts_at", "ends_at")


def _instant(spot: Spot, text: str, key: str) -> datetime | None:
    hint = "write RFC 3339, for example 2026-03-01T08:00:00Z"
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        spot.note(f"{key} is not a time: {text!r}", key, suggestion=hint)
        return None
    if instant.tzinfo is None:
        spot.note(f"{key} has no time zone: {text!r}", key, suggestion=hint)
        return None
    return instant
