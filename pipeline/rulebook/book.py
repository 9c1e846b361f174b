"""`RuleBook`: all rules and policies of one load, compiled and consistent. The one thing that detection and remediation are given.

Guarantee: built only from files without an error; immutable; `version` is a hash of the content, and stands in every decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.model.labels import Labels
from pipeline.rulebook.spec import Failover, GrantSpec, Inhibition, Maintenance, Policy, Scaler, Service, Silence


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A Prometheus alerting rule. `rule_id` = stable_id(group name, alert, expr, labels): the identity that survives a reload.

    `resolve_expr` (own key): an extra condition for ending (hysteresis). `evaluation: grid` switches the early track off; `settle_ms` overrides 200.
    """

    rule_id: str
    name: str
    expr: str
    for_ms: int = 0
    keep_firing_for_ms: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    evaluation: str = "both"  # both | grid
    settle_ms: int = 200
    where: str = ""  # file:line
    resolve_expr: str = ""


@dataclass(frozen=True, slots=True)
class RecordRule:
    """A Prometheus recording rule."""

    rule_id: str
    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules evaluated together, in order, every `interval_ms`."""

    name: str
    file: str
    rules: tuple[AlertRule | RecordRule, ...]
    interval_ms: int = 60_000
    query_offset_ms: int = 0
    limit: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SigmaRule:
    """A Sigma rule file, unparsed (pipeline.sigma compiles it): its text and where it is."""

    text: str
    where: str


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Everything loaded. Order is that of the files, sorted by path."""

    version: str
    groups: tuple[RuleGroup, ...] = ()
    sigma: tuple[SigmaRule, ...] = ()
    services: tuple[Service, ...] = ()
    policies: tuple[Policy, ...] = ()
    scalers: tuple[Scaler, ...] = ()
    failovers: tuple[Failover, ...] = ()
    silences: tuple[Silence, ...] = ()
    inhibitions: tuple[Inhibition, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    grants: Mapping[str, GrantSpec] = field(default_factory=dict)  # by group, "*" for all others

    def service_of(self, labels: Labels) -> Service | None:
        """The first service all of whose `match` labels the alert carries; the one with most matching labels wins."""
        fitting = [service for service in self.services if all(labels.get(name, "") == value for name, value in service.match.items())]
        return max(fitting, key=lambda service: len(service.match), default=None)

    def group_of(self, labels: Labels) -> str:
        """The key of everything that concerns these labels; `unassigned` where no service matches."""
        service = self.service_of(labels)
        return service.group_name if service else UNASSIGNED

    def grant_of(self, group: str) -> GrantSpec:
        """The administrator's grant for a group; the default observes only."""
        return self.grants.get(group) or self.grants.get("*") or GrantSpec()


UNASSIGNED = "unassigned"
