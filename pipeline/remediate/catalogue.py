"""What of a group can be changed: the targets of its services, and what each of them is. Actions go nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.model.target import Target
from pipeline.rulebook.book import UNASSIGNED, RuleBook
from pipeline.rulebook.spec import Service


@dataclass(frozen=True, slots=True)
class Place:
    """One target of a service. `kind`: workload | route | sites | blocklist."""

    target: Target
    kind: str
    service: str
    site: str = ""
    backend: str = ""


def places(service: Service) -> Iterator[Place]:
    """Every target that the catalogue names for the service."""
    for kind, text in (("route", service.route), ("sites", service.sites_target), ("blocklist", service.blocklist)):
        if text:
            yield Place(Target.parse(text), kind, service.name)
    for site in service.sites:
        if site.workload:
            yield Place(Target.parse(site.workload), "workload", service.name, site=site.name)
        if site.route:
            yield Place(Target.parse(site.route), "route", service.name, site=site.name)
    for backend in service.backends:
        if backend.workload:
            yield Place(Target.parse(backend.workload), "workload", service.name, backend=backend.name)


def services_of(rules: RuleBook, group: str) -> list[Service]:
    """The services whose actions may collide in this group."""
    return [service for service in rules.services if service.group_name == group]


def service_named(rules: RuleBook, name: str) -> Service | None:
    """The catalogue's entry of that name."""
    return next((service for service in rules.services if service.name == name), None)


def place_of(services: Sequence[Service], target: Target) -> Place | None:
    """What the target is to these services; None: it is not theirs."""
    return next((place for service in services for place in places(service) if place.target == target), None)


def groups_of(rules: RuleBook) -> list[str]:
    """Every group that needs a remediator, the one for alerts that belong to no service included."""
    return [*sorted({service.group_name for service in rules.services}), UNASSIGNED]
