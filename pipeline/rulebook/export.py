"""A rule file as plain Prometheus reads it: our own keys and policies left out.

A file that has none of ours is returned as it is, comments included; any other is written anew.
"""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.rulebook.problems import SourceText
from pipeline.rulebook.prometheus import GROUP_KEYS, OWN_KEYS, RULE_KEYS
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, Sequence, read_documents
from pipeline.rulebook.yaml_values import plain


def pure_prometheus(text: str) -> str:
    """The rule groups of a valid file as a pure Prometheus file; empty when it has none."""
    documents, _ = read_documents(SourceText("", text))
    root = documents[0] if documents else None
    groups = root.get("groups") if isinstance(root, Mapping) else None
    if not isinstance(groups, Sequence) or not groups.items:
        return ""
    if isinstance(root, Mapping) and set(root.entries) == {"groups"} and not _own(groups):
        return text
    content = {"groups": [_group(group) for group in groups.items if isinstance(group, Mapping)]}
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=150)


def _own(groups: Sequence) -> bool:
    rules = [rule for group in groups.items if isinstance(group, Mapping) for rule in _rules(group)]
    return any(key in rule.entries for rule in rules for key in OWN_KEYS)


def _rules(group: Mapping) -> list[Mapping]:
    rules = group.get("rules")
    return [rule for rule in rules.items if isinstance(rule, Mapping)] if isinstance(rules, Sequence) else []


def _group(group: Mapping) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in GROUP_KEYS:
        node = group.get(key)
        if node is None:
            continue
        if key == "rules":
            found[key] = [_rule(rule) for rule in _rules(group)]
        else:
            found[key] = _texts(node) if key == "labels" else plain(node)
    return found


def _rule(rule: Mapping) -> dict[str, Any]:
    return {key: _texts(node) for key, (_, node) in rule.entries.items() if key in RULE_KEYS}


def _texts(node: Node) -> Any:
    """A scalar as its text, so that `010` does not become 8."""
    if isinstance(node, Scalar):
        return None if node.is_null else node.text
    if isinstance(node, Mapping):
        return {name: _texts(value) for name, (_, value) in node.entries.items()}
    return [_texts(item) for item in node.items]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and never an alias."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
