"""Sigma rule files: recognised, checked for what can be told without compiling them, and kept as text for `pipeline.sigma`."""

from __future__ import annotations

import re
from collections.abc import Sequence as PySequence
from typing import Final

from pipeline.rulebook.fields import Fields
from pipeline.rulebook.problems import Problem, SourceText, closest
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, Sequence, kind_of

KNOWN_KEYS: Final = frozenset(
    {
        "title",
        "id",
        "name",
        "related",
        "taxonomy",
        "status",
        "description",
        "license",
        "author",
        "date",
        "modified",
        "references",
        "tags",
        "logsource",
        "detection",
        "correlation",
        "fields",
        "falsepositives",
        "level",
        "scope",
        "generate",
        "action",
        "filter",
    }
)
_WORDS: Final = re.compile(r"[A-Za-z0-9]+")
LEVELS: Final = ("informational", "low", "medium", "high", "critical")
STATUSES: Final = ("stable", "test", "experimental", "deprecated", "unsupported")


def is_sigma(node: Node) -> bool:
    """Whether a document is a Sigma rule, correlation or filter: a `title` and something to detect."""
    return isinstance(node, Mapping) and "title" in node.entries and bool({"detection", "correlation", "filter", "logsource"} & node.entries.keys())


def alert_name(title: str) -> str:
    """A rule's title as the name of its alerts: `Failed logins (burst)` -> `FailedLoginsBurst`."""
    return "".join(word[0].upper() + word[1:] for word in _WORDS.findall(title)) or "SecurityRule"


def titles(documents: PySequence[Node]) -> list[str]:
    """The titles of the rules."""
    found = [node.get("title") for node in documents if isinstance(node, Mapping)]
    return [title.text for title in found if isinstance(title, Scalar)]


def check_sigma(source: SourceText, documents: PySequence[Node]) -> list[Problem]:
    """What is wrong with the documents of a Sigma file."""
    problems: list[Problem] = []
    for node in documents:
        if not is_sigma(node) or not isinstance(node, Mapping):
            problems.append(source.problem(node.at, "not a Sigma rule, but others in this file are", suggestion="put it into a file of its own"))
            continue
        _check_rule(source, node, problems)
    return problems


def _check_rule(source: SourceText, node: Mapping, problems: list[Problem]) -> None:
    fields = Fields(source, node, problems, "a Sigma rule")
    for name, (key, _) in node.entries.items():
        # Sigma allows keys of one's own, so only a near miss can be called wrong.
        meant = closest(name, KNOWN_KEYS) if name not in KNOWN_KEYS else ""
        if meant and meant not in node.entries:
            problems.append(source.problem(key.at, f"unknown key {name!r} in a Sigma rule", suggestion=f"did you mean {meant!r}?"))
    if fields.value("title") is None:
        fields.wrong(node, "a Sigma rule needs a title")
    fields.text("title")
    if fields.value("level") is not None:
        fields.choice("level", LEVELS)
    if fields.value("status") is not None:
        fields.choice("status", STATUSES)
    if "correlation" in node.entries:
        _correlation(fields, node)
    elif "detection" in node.entries:
        _detection(fields, node)
    elif "filter" not in node.entries:
        fields.wrong(node, "a Sigma rule needs a detection")


def _detection(fields: Fields, node: Mapping) -> None:
    if fields.value("logsource") is None:
        fields.wrong(node, "a Sigma rule needs a logsource", "for example logsource: {category: authentication}")
    detection = fields.value("detection")
    if not isinstance(detection, Mapping):
        fields.wrong(detection or node, "detection should be a mapping of searches and a condition")
        return
    condition = detection.get("condition")
    if condition is None:
        fields.wrong(detection, "detection needs a condition", "for example condition: selection")
    elif isinstance(condition, Scalar):
        _condition_names(fields, detection, condition)


def _condition_names(fields: Fields, detection: Mapping, condition: Scalar) -> None:
    """Names in the condition that no search has. Wildcards and aggregation pipes are left to the compiler."""
    searches = detection.entries.keys() - {"condition", "timeframe"}
    if "|" in condition.text:
        return
    for word in condition.text.replace("(", " ").replace(")", " ").split():
        if word.lower() in {"and", "or", "not", "of", "them", "all", "any"} or word.isdigit() or "*" in word or word in searches:
            continue
        meant = closest(word, searches)
        fields.wrong(condition, f"the condition names {word!r}, which is no search of this rule", f"did you mean {meant!r}?" if meant else "")


def _correlation(fields: Fields, node: Mapping) -> None:
    correlation = fields.value("correlation")
    if not isinstance(correlation, Mapping):
        fields.wrong(correlation or node, "correlation should be a mapping")
        return
    inner = Fields(fields.source, correlation, fields.problems, "a correlation")
    inner.only(("type", "rules", "group-by", "timespan", "condition", "aliases", "generate"))
    for key in ("type", "timespan"):
        if inner.value(key) is None:
            inner.wrong(correlation, f"a correlation needs {key}")
        else:
            inner.text(key)
    rules = correlation.get("rules")
    for named in rules.items if isinstance(rules, Sequence) else [rules] if rules is not None else []:
        if not isinstance(named, Scalar) or named.is_null:
            inner.wrong(named, f"rules should name rules by id or name, not {kind_of(named)}")
