"""Checks of policies: the services, sites, backends, targets, receivers and alerts that they name."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from pipeline.model.target import Target
from pipeline.rulebook.book import AlertRule, RuleBook
from pipeline.rulebook.check_catalogue import unique
from pipeline.rulebook.context import DEFAULT_RECEIVER, NEEDS, Context, targets_of
from pipeline.rulebook.files import LoadedFile, Spot, policy_spots
from pipeline.rulebook.matching import equalities, matcher_problem
from pipeline.rulebook.problems import Problem, closest, did_you_mean
from pipeline.rulebook.spec import Policy, Service, Step

_MODES: Final = ("off", "observe", "propose", "enforce")
_OUTWARD: Final = frozenset({"notify", "call"})  # verbs that touch no service


def check_policies(book: RuleBook, files: list[LoadedFile], context: Context, problems: list[Problem]) -> None:
    """All policies."""
    placed = list(policy_spots(files, problems))
    unique(((spot, policy.name) for spot, _, policy in placed), "policy")
    alerts = {rule.name for group in book.groups for rule in group.rules if isinstance(rule, AlertRule)} | {
        name for file in files for name in file.sigma_alerts
    }
    for spot, steps, policy in placed:
        _when(spot, policy, alerts)
        services = _services(spot, policy, book)
        for index, step in enumerate(policy.steps):
            _Step(steps.under(index), step, services, book, context).check()
        if context.grants_known:
            _grants(spot, policy, services, book)


def _when(spot: Spot, policy: Policy, alerts: set[str]) -> None:
    if not isinstance(policy.when, dict):
        for index, text in enumerate(policy.when):
            wrong = matcher_problem(text)
            if wrong:
                spot.note(wrong, "when", index)
    name = equalities(policy.when).get("alertname", "")
    if name and name not in alerts:
        close = closest(name, alerts)
        hint = f"did you mean {close!r}?" if close else "fine where it comes from outside, through the gateway"
        spot.note(
            f"policy {policy.name!r} waits for alert {name!r}, which no rule here raises", "when", "alertname", suggestion=hint, severity="warning"
        )


def _services(spot: Spot, policy: Policy, book: RuleBook) -> list[Service]:
    """The services that a policy can mean: the one it names, else those whose labels do not contradict its matchers."""
    names = [service.name for service in book.services]
    if policy.service is not None:
        if policy.service not in names:
            hint = did_you_mean(policy.service, names, what="services")
            spot.note(f"policy {policy.name!r} names an unknown service: {policy.service!r}", "service", suggestion=hint)
        return [service for service in book.services if service.name == policy.service]
    wanted = equalities(policy.when)
    possible = [service for service in book.services if all(wanted.get(name, value) == value for name, value in service.match.items())]
    named = wanted.get("service")
    if not possible and book.services and named is not None:
        hint = did_you_mean(named, names, what="services")
        spot.note(f"policy {policy.name!r} waits for alerts of service {named!r}, which is not in the catalogue", "when", "service", suggestion=hint)
    return possible


def _grants(spot: Spot, policy: Policy, services: list[Service], book: RuleBook) -> None:
    """Warn of what the grants will hold back in every service that the policy can mean."""
    granted = [book.grant_of(service.group_name) for service in services]
    if not granted or policy.mode in {"off", "observe"}:
        return
    highest = max((grant.mode for grant in granted), key=_MODES.index)
    if _MODES.index(highest) < _MODES.index(policy.mode):
        hint = f"grants: {{{services[0].group_name}: {{mode: {policy.mode}}}}} in the configuration"
        spot.note(f"policy {policy.name!r} wants to {policy.mode}, the grants allow {highest} only", "mode", suggestion=hint, severity="warning")
    for index, step in enumerate(policy.steps):
        if step.verb not in _OUTWARD and all(grant.verbs is not None and step.verb not in grant.verbs for grant in granted):
            spot.note(f"the grants do not allow {step.verb}", "steps", index, step.verb, severity="warning")


class _Step:
    """One step being checked against the services that it can mean."""

    def __init__(self, spot: Spot, step: Step, services: list[Service], book: RuleBook, context: Context) -> None:
        self.spot, self.step, self.services, self.book, self.context = spot, step, services, book, context
        self.spec: Any = getattr(step, step.verb)

    def check(self) -> None:
        """Everything about it."""
        verb = self.step.verb
        if verb == "notify":
            self._notify()
        elif verb == "call":
            self.context.check_target(self.spot, self.spec.target, verb, "target", verb=verb)
        elif self.spec.target is not None:
            self._named_target()
        else:
            self._default_targets()
        special = {"shift_traffic": self._backends, "scale": self._replicas, "restart": self._site, "block": self._addresses}.get(verb)
        if special is not None:
            special()

    def _notify(self) -> None:
        known = self.context.receivers
        if known is not None and self.spec.to not in known and self.spec.to != DEFAULT_RECEIVER:
            hint = did_you_mean(self.spec.to, {*known, DEFAULT_RECEIVER}, what="receivers")
            self.spot.note(f"unknown receiver {self.spec.to!r}", "notify", "to", suggestion=hint)

    def _named_target(self) -> None:
        """Targets come only from the catalogue."""
        verb, text = self.step.verb, self.spec.target
        listed = {str(Target.parse(target)) for service in self.book.services for _, target, _ in targets_of(service)}
        if text not in listed:
            self.spot.note(
                f"{text} is no target of a service in the catalogue", verb, "target", suggestion=did_you_mean(text, listed, what="targets")
            )
        self.context.check_target(self.spot, text, verb, "target", verb=verb)

    def _default_targets(self) -> None:
        verb = self.step.verb
        kind, wanted = NEEDS[verb]
        if not self.services:
            self.spot.note(f"{verb} needs a service, and none in these files can be meant", verb, suggestion="write a service under services:")
            return
        targets = [text for service in self.services for what, text, _ in targets_of(service) if what == kind]
        if not targets:
            names = ", ".join(service.name for service in self.services[:5])
            self.spot.note(f"{verb} needs {wanted}, and service {names} has none", verb, suggestion="add it to the service, or write target:")
        for text in targets[:1]:
            self.context.check_target(self.spot, text, verb, verb=verb)

    def _backends(self) -> None:
        known = {backend.name for service in self.services for backend in service.backends}
        for name in self.spec.weights or {}:
            if known and name not in known:
                hint = did_you_mean(name, known, what="backends")
                self.spot.note(f"unknown backend {name!r}", "shift_traffic", "weights", name, suggestion=hint)
        for what, name in (self.spec.away_from or {}).items():
            if known and what == "backend" and "{{" not in name and name not in known:
                hint = did_you_mean(name, known, what="backends")
                self.spot.note(f"unknown backend {name!r}", "shift_traffic", "away_from", what, suggestion=hint)

    def _replicas(self) -> None:
        self._site()
        limits = [service.limits.replicas for service in self.services if service.limits.replicas is not None]
        wanted = self.spec.replicas
        if limits and all(not limit.min <= wanted <= limit.max for limit in limits):
            bounds = f"limits.replicas is {limits[0].min} to {limits[0].max}"
            self.spot.note(f"{wanted} replicas are outside the service's limits", "scale", "replicas", suggestion=bounds)

    def _site(self) -> None:
        check_site(self.spot, self.spec.site, self.services, self.step.verb, "site")

    def _addresses(self) -> None:
        for index, text in enumerate(self.spec.never_block):
            self._address(text, "never_block", index)
        if "{{" not in self.spec.address:
            self._address(self.spec.address, "address")

    def _address(self, text: str, *path: str | int) -> None:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            self.spot.note(f"not an address or network: {text!r}", "block", *path, suggestion="write for example 10.0.0.0/8")


def check_site(spot: Spot, site: str | None, services: list[Service], *path: str | int) -> None:
    """A site that is named must be one of the services'."""
    known = {one.name for service in services for one in service.sites}
    if site is not None and services and site not in known:
        spot.note(f"unknown site {site!r}", *path, suggestion=did_you_mean(site, known, what="sites"))
