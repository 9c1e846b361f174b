"""What of a group can be changed: the targets of its services, and what each of them is. Actions go nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.model.labels import Labels
from pipeline.model.target import Target
from pipeline.remediate.matchers import Matcher
from pipeline.remediate.matchers import of as matchers_of
from pipeline.rulebook.book import UNASSIGNED, AlertRule, RuleBook
from pipeline.rulebook.spec import Failover, GrantSpec, Policy, Scaler, Service


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


def place_of(services: Sequence[Service], target: Target) -> Place | None:
    """What the target is to these services; None: it is not theirs."""
    return next((place for service in services for place in places(service) if place.target == target), None)


class Scope:
    """The part of a rule book that concerns one group, found once per load: a step must not search 2,000 services."""

    def __init__(self, rules: RuleBook, group: str) -> None:
        self.rules, self.group = rules, group

    @cached_property
    def services(self) -> dict[str, Service]:
        """The services whose actions may collide here, by name."""
        return {service.name: service for service in self.rules.services if service.group_name == self.group}

    @cached_property
    def places(self) -> dict[Target, Place]:
        """What each target of the group is."""
        return {place.target: place for service in reversed(self.services.values()) for place in reversed(list(places(service)))}

    @cached_property
    def places_of(self) -> dict[str, list[Place]]:
        """Every place of each service; a target that is both a site's and a backend's is two places."""
        return {name: list(places(service)) for name, service in self.services.items()}

    @cached_property
    def policies(self) -> list[tuple[Policy, tuple[Matcher, ...]]]:
        """All policies with their matchers, highest priority first, then in the order of the files."""
        ordered = sorted(self.rules.policies, key=lambda policy: -policy.priority)
        return [(policy, matchers_of(policy.when)) for policy in ordered]

    @cached_property
    def _by_alertname(self) -> dict[str, list[int]]:
        """Positions in `policies` by the alert name they ask for; those that ask for none (or by pattern) stand under the empty name."""
        found: dict[str, list[int]] = {"": []}
        for index, (_, conditions) in enumerate(self.policies):
            exact = next((condition.value for condition in conditions if condition.name == "alertname" and condition.op == "="), "")
            found.setdefault(exact, []).append(index)
        return found

    def policies_of(self, labels: Mapping[str, str]) -> list[Policy]:
        """The policies that speak of an alert with these labels, in order."""
        positions = sorted({*self._by_alertname[""], *self._by_alertname.get(labels.get("alertname", ""), ())})
        candidates = [self.policies[index] for index in positions]
        return [policy for policy, conditions in candidates if all(condition.matches(labels) for condition in conditions)]

    @cached_property
    def policy(self) -> dict[str, Policy]:
        """Policies by name."""
        return {policy.name: policy for policy in self.rules.policies}

    @cached_property
    def scalers(self) -> list[tuple[Scaler, Service]]:
        """The scalers of the group's services."""
        return [(spec, self.services[spec.service]) for spec in self.rules.scalers if spec.service in self.services]

    @cached_property
    def failovers(self) -> list[tuple[Failover, Service]]:
        """The failovers of the group's services."""
        return [(spec, self.services[spec.service]) for spec in self.rules.failovers if spec.service in self.services]

    @cached_property
    def alert_rules(self) -> dict[str, AlertRule]:
        """Alert rules by id."""
        return {rule.rule_id: rule for group in self.rules.groups for rule in group.rules if isinstance(rule, AlertRule)}

    @cached_property
    def grant(self) -> GrantSpec:
        """What the administrator allows here."""
        return self.rules.grant_of(self.group)

    def service_of(self, labels: Labels) -> Service | None:
        """The service of this group that the labels speak of: the one with most matching labels."""
        fitting = [service for service in self.services.values() if all(labels.get(name, "") == value for name, value in service.match.items())]
        return max(fitting, key=lambda service: len(service.match), default=None)


def groups_of(rules: RuleBook) -> list[str]:
    """Every group that needs a remediator, the one for alerts that belong to no service included."""
    return [*sorted({service.group_name for service in rules.services}), UNASSIGNED]
