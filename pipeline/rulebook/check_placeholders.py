"""Placeholders against the names that will have a value: a policy that names another would be held for ever.

Policies: the alert's labels (where the rule's expression says which there are) and fields of the service. Scalers and failovers: the service's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pipeline.rulebook.book import AlertRule, RuleBook
from pipeline.rulebook.expressions import PLACEHOLDER
from pipeline.rulebook.files import LoadedFile, Spot, policy_spots, spots
from pipeline.rulebook.matching import equalities
from pipeline.rulebook.policies import scalars
from pipeline.rulebook.problems import Problem, Severity, did_you_mean
from pipeline.rulebook.result_labels import result_labels
from pipeline.rulebook.spec import Failover, Scaler, Spec
from pipeline.rulebook.yaml_values import at_offset

_ALWAYS: Final = frozenset({"service", "group", "service.name", "alertname"})


def check_placeholders(book: RuleBook, files: list[LoadedFile], problems: list[Problem]) -> None:
    """All placeholders of policies, scalers and failovers."""
    for spot, one in (*spots(files, "scalers", problems), *spots(files, "failovers", problems)):
        _controller(spot, one, book)
    for _, steps, policy in policy_spots(files, problems):
        names = _alert_labels(equalities(policy.when).get("alertname", ""), book)
        if names is not None:
            _unknown(steps, names | _ALWAYS, "the alert has no label", severity="warning")


def _controller(spot: Spot, one: Spec, book: RuleBook) -> None:
    if not isinstance(one, Scaler | Failover):
        return
    match = next((service.match for service in book.services if service.name == one.service), {})
    names = {"service", *match}
    if isinstance(one, Scaler):
        _unknown(spot, names | ({"site"} if one.site else set()), "nothing here is called")
        return
    for key in ("unhealthy", "healthy", "demand"):
        _unknown(spot.under(key), names | ({"site"} if key != "demand" else set()), "nothing here is called")


def _alert_labels(name: str, book: RuleBook) -> frozenset[str] | None:
    """The labels that alerts of a name can carry; None where that is not known."""
    rules = [rule for group in book.groups for rule in group.rules if isinstance(rule, AlertRule) and rule.name == name]
    known = [result_labels(rule.expr) for rule in rules]
    if not rules or any(labels is None for labels in known):
        return None
    return frozenset(label for labels in known for label in labels or ()) | {label for rule in rules for label in rule.labels}


def _unknown(spot: Spot, names: Iterable[str], message: str, *, severity: Severity = "error") -> None:
    known = set(names)
    for scalar in scalars(spot.node):
        for found in PLACEHOLDER.finditer(scalar.text):
            if found[1] not in known:
                at = at_offset(spot.source, scalar, found.start(1))
                hint = did_you_mean(found[1], known, what="there are")
                spot.problems.append(spot.source.problem(at, f"{found[0]}: {message} {found[1]!r}", suggestion=hint, severity=severity))
