"""Prometheus rule files, read as strictly as Prometheus reads them, plus our own keys.

Own keys of an alert: `resolve_expr`, `evaluation`, `settle`, and `actions:` (shorthand for a policy on exactly this alert). What Prometheus refuses
is an error here; what only promtool's lint finds (the same name and labels twice) is a warning, so every file that Prometheus runs loads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as PyMapping
from dataclasses import dataclass, field
from typing import Final

from pipeline.model.records import stable_id
from pipeline.rulebook.book import AlertRule, RecordRule, RuleGroup
from pipeline.rulebook.expressions import Expr, read_expr
from pipeline.rulebook.fields import Fields
from pipeline.rulebook.inline import inline_policy
from pipeline.rulebook.problems import Problem, SourceText, shorten
from pipeline.rulebook.spec import Policy
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, kind_of

GROUP_KEYS: Final = ("name", "interval", "limit", "query_offset", "labels", "rules")
RULE_KEYS: Final = ("record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations")
OWN_KEYS: Final = ("resolve_expr", "evaluation", "settle", "actions")
_ALERT_ONLY: Final = ("for", "keep_firing_for", "annotations", *OWN_KEYS)
_LEGACY_NAME: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_UNLIKELY: Final = re.compile(r"[\s{}\"'\\\x00-\x1f]")  # no name holds these, an expression in the wrong place does


@dataclass(slots=True)
class RuleFile:
    """What one file's `groups:` hold."""

    groups: list[RuleGroup] = field(default_factory=list)
    policies: list[tuple[Policy, Node]] = field(default_factory=list)
    exprs: list[tuple[str, Expr]] = field(default_factory=list)  # rule name, its expression


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a rule file need not say."""

    interval_ms: int = 60_000
    settle_ms: int = 200


def read_groups(source: SourceText, root: Mapping, defaults: Defaults, problems: list[Problem]) -> RuleFile:
    """The rule groups of one file. With an error among the problems noted, what is returned may be incomplete."""
    found = RuleFile()
    names: dict[str, Node] = {}
    for node in Fields(source, root, problems, "the file").items("groups"):
        if not isinstance(node, Mapping):
            problems.append(source.problem(node.at, f"a group should be a mapping, not {kind_of(node)}"))
            continue
        group = _GroupReader(source, node, found, defaults, problems).read()
        if group.name in names:
            first = names[group.name].at.line
            at = (node.get("name") or node).at
            problems.append(source.problem(at, f"group name {group.name!r} is used twice in this file, first in line {first}"))
        names.setdefault(group.name, node.get("name") or node)
        found.groups.append(group)
    return found


class _GroupReader:
    def __init__(self, source: SourceText, node: Mapping, found: RuleFile, defaults: Defaults, problems: list[Problem]) -> None:
        self.source, self.node, self.found, self.defaults, self.problems = source, node, found, defaults, problems
        self.fields = Fields(source, node, problems, "a group")
        self.seen: dict[tuple[str, str, tuple[tuple[str, str], ...]], int] = {}
        self.ids: dict[str, int] = {}

    def read(self) -> RuleGroup:
        fields = self.fields
        fields.only(GROUP_KEYS)
        name = fields.text("name")
        if not name:
            fields.wrong(fields.value("name") or self.node, "a group needs a name")
        labels = _labels(fields, "labels")
        rules = [rule for node in fields.items("rules") if (rule := self._rule(name, node, labels)) is not None]
        return RuleGroup(
            name=name,
            file=self.source.file,
            rules=tuple(rules),
            interval_ms=fields.duration_ms("interval") or self.defaults.interval_ms,
            query_offset_ms=fields.duration_ms("query_offset"),
            limit=fields.count("limit"),
            labels=labels,
        )

    def _rule(self, group: str, node: Node, group_labels: PyMapping[str, str]) -> AlertRule | RecordRule | None:
        if not isinstance(node, Mapping):
            self.problems.append(self.source.problem(node.at, f"a rule should be a mapping, not {kind_of(node)}"))
            return None
        fields = Fields(self.source, node, self.problems, "a rule")
        fields.only((*RULE_KEYS, *OWN_KEYS))
        record, alert = fields.text("record"), fields.text("alert")
        if bool(record) == bool(alert):
            what = "both record and alert are set, a rule has one of them" if record else "a rule needs record or alert"
            fields.wrong(node, what)
            return None
        expr = self._expr(fields, "expr")
        own = _labels(fields, "labels")
        self._warn_of_twins(node, "alert" if alert else "record", record or alert, own)
        if expr is not None:
            self.found.exprs.append((record or alert, expr))
        text = expr.text if expr is not None else ""  # with an error the rest is still read, for its own errors
        labels = dict(group_labels) | own
        rule_id = self._rule_id(group, record or alert, text, labels)
        where = f"{self.source.file}:{node.at.line}"
        if record:
            return self._record(fields, RecordRule(rule_id=rule_id, name=record, expr=text, labels=labels, where=where))
        return self._alert(fields, group, own, AlertRule(rule_id=rule_id, name=alert, expr=text, labels=labels, where=where))

    def _expr(self, fields: Fields, key: str) -> Expr | None:
        node = fields.value(key)
        if node is None:
            fields.wrong(fields.node, f"a rule needs {key}")
            return None
        expr = read_expr(self.source, node, key)
        if isinstance(expr, Problem):
            self.problems.append(expr)
            return None
        return expr

    def _rule_id(self, group: str, name: str, expr: str, labels: PyMapping[str, str]) -> str:
        """Repeats of the very same rule in a group get ids of their own, in order."""
        rule_id = stable_id(group, name, expr, sorted(labels.items()))
        count = self.ids[rule_id] = self.ids.get(rule_id, 0) + 1
        return rule_id if count == 1 else stable_id(rule_id, count)

    def _warn_of_twins(self, node: Mapping, kind: str, name: str, labels: PyMapping[str, str]) -> None:
        key = (kind, name, tuple(sorted(labels.items())))
        if key in self.seen:
            message = f"{kind} {shorten(name)!r} stands twice in this group with the same labels, first in line {self.seen[key]}"
            self.problems.append(self.source.problem(node.key_at(kind), message, suggestion="add a label that tells them apart", severity="warning"))
        self.seen.setdefault(key, node.at.line)

    def _record(self, fields: Fields, rule: RecordRule) -> RecordRule:
        for key in _ALERT_ONLY:
            if fields.value(key) is not None:
                at = fields.node.key_at(key)
                self.problems.append(self.source.problem(at, f"{key} is for alerts only, not for a recording rule", suggestion=f"remove {key}"))
        _check_name(fields, fields.node.entries["record"][1], rule.name, "recording rule name")
        return rule

    def _alert(self, fields: Fields, group: str, own: dict[str, str], rule: AlertRule) -> AlertRule:
        resolve = self._expr(fields, "resolve_expr") if fields.value("resolve_expr") is not None else None
        rule = AlertRule(
            rule_id=rule.rule_id,
            name=rule.name,
            expr=rule.expr,
            for_ms=fields.duration_ms("for"),
            keep_firing_for_ms=fields.duration_ms("keep_firing_for"),
            labels=rule.labels,
            annotations=_labels(fields, "annotations", what="annotation"),
            evaluation=fields.choice("evaluation", ("both", "grid")),
            settle_ms=fields.duration_ms("settle", self.defaults.settle_ms),
            where=rule.where,
            resolve_expr=resolve.text if resolve else "",
        )
        actions = fields.value("actions")
        if actions is not None:
            policy, problems = inline_policy(self.source, actions, group=group, alert=rule.name, labels=own)
            self.problems.extend(problems)
            if policy is not None:
                self.found.policies.append((policy, actions))
        return rule


def _labels(fields: Fields, key: str, *, what: str = "label") -> dict[str, str]:
    """Label or annotation names with their texts."""
    found = {}
    for name, (name_node, value) in fields.texts(key).items():
        if name == "__name__" and what == "label":
            fields.wrong(name_node, "__name__ cannot be a label of a rule", "the name of a recorded metric is `record`")
        else:
            _check_name(fields, name_node, name, f"{what} name")
        found[name] = "" if value.is_null else value.text
    return found


def _check_name(fields: Fields, node: Node, name: str, what: str) -> None:
    if not name or _UNLIKELY.search(name):
        hint = "an expression belongs under expr" if what.startswith("recording") else ""
        fields.wrong(node, f"{shorten(name)!r} is not a {what}", hint)
    elif not _LEGACY_NAME.fullmatch(name) and isinstance(node, Scalar):
        message = f"{what} {shorten(name)!r} has characters other than letters, digits and _"
        hint = f"did you mean {re.sub(r'[^A-Za-z0-9_:]', '_', name)!r}? Prometheus before 3 refuses it"
        fields.problems.append(fields.source.problem(node.at, message, suggestion=hint, severity="warning"))
