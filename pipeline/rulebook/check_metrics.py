"""Checks of what expressions read: a metric that nothing brings would leave a policy blind for ever, so it is an error at load.

A metric counts as known when a rule records it, a rule reads it, or the configuration lists it under `metrics:` (names or `prefix*`).
"""

from __future__ import annotations

from typing import Final

from pipeline.rulebook.book import AlertRule, RecordRule, RuleBook
from pipeline.rulebook.context import Context
from pipeline.rulebook.expressions import Expr
from pipeline.rulebook.files import LoadedFile, policy_spots
from pipeline.rulebook.matching import equalities
from pipeline.rulebook.problems import Problem, SourceText, closest
from pipeline.rulebook.yaml_values import at_offset

_MADE_HERE: Final = frozenset({"ALERTS", "ALERTS_FOR_STATE"})
_OWN_EFFECTS: Final = (
    "reflexarc_actions",
    "reflexarc_decisions",
    "reflexarc_outcomes",
    "pipeline_actions",
    "pipeline_decisions",
    "pipeline_outcomes",
)


def check_metrics(book: RuleBook, files: list[LoadedFile], context: Context, problems: list[Problem]) -> None:
    """Every metric of a policy, scaler or failover is known; rules that only a policy's own actions move are told of."""
    recorded = {rule.name for group in book.groups for rule in group.rules if isinstance(rule, RecordRule)}
    read = {name for file in files for _, expr in file.rules.exprs for name in expr.metrics}
    named = {name for name in context.known_metrics if not name.endswith("*")}
    prefixes = tuple(name.removesuffix("*") for name in context.known_metrics if name.endswith("*"))
    known = recorded | read | named | _MADE_HERE
    for file in files:
        for what, expr in file.exprs:
            missing = [name for name in expr.metrics if name not in known and not name.startswith(prefixes)]
            problems.extend(_undefined(file.source, expr, name, what, known) for name in missing)
        _unrecorded(file, recorded | named, prefixes, problems)
    _loops(book, files, problems)


def _undefined(source: SourceText, expr: Expr, name: str, what: str, known: set[str]) -> Problem:
    close = closest(name, known)
    listed = "list it under metrics: in the configuration if an input brings it"
    hint = f"did you mean {close!r}? Else {listed}" if close else listed
    return source.problem(at_offset(source, expr.node, max(expr.text.find(name), 0)), f"{what}: undefined metric {name!r}", suggestion=hint)


def _unrecorded(file: LoadedFile, recorded: set[str], prefixes: tuple[str, ...], problems: list[Problem]) -> None:
    """A rule that reads a metric whose colon says that a rule records it, when none does and one is called nearly so."""
    for rule, expr in file.rules.exprs:
        for name in expr.metrics:
            close = closest(name, {one for one in recorded if ":" in one}) if ":" in name and name not in recorded else ""
            if close and not name.startswith(prefixes):
                at = at_offset(file.source, expr.node, max(expr.text.find(name), 0))
                message = f"{rule} reads {name!r}, which no rule records"
                problems.append(file.source.problem(at, message, suggestion=f"did you mean {close!r}?", severity="warning"))


def _loops(book: RuleBook, files: list[LoadedFile], problems: list[Problem]) -> None:
    """A policy on an alert that reads nothing but what policies do: each action would be the cause of the next."""
    reads = {rule: expr.metrics for file in files for rule, expr in file.rules.exprs}
    alerts = {rule.name for group in book.groups for rule in group.rules if isinstance(rule, AlertRule)}
    for spot, _, policy in policy_spots(files, problems):
        alert = equalities(policy.when).get("alertname", "")
        metrics = reads.get(alert, ())
        if alert in alerts and metrics and all(name.startswith(_OWN_EFFECTS) for name in metrics):
            message = f"policy {policy.name!r} acts on an alert about our own actions, so it would cause itself"
            spot.note(message, "when", suggestion="let it only notify, or read a metric of the service", severity="warning")
