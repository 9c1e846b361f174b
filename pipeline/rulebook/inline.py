"""`actions:` inside an alert: shorthand for a policy on exactly that alert."""

from __future__ import annotations

from collections.abc import Mapping as PyMapping
from typing import Any

from pydantic import Field

from pipeline.rulebook.problems import Problem, SourceText
from pipeline.rulebook.shape import shaped
from pipeline.rulebook.spec import Guard, Mode, Policy, Spec, Step
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, Sequence, kind_of


class InlineActions(Spec):
    """The long form: steps with a mode and a guard. The short form is the list of steps alone."""

    steps: tuple[Step, ...] = Field(min_length=1)
    mode: Mode = "observe"
    guard: Guard = Guard()
    confirmations: int | None = Field(default=None, ge=1)
    allow_warming: bool = False
    priority: int = 0
    service: str | None = None


def inline_policy(source: SourceText, node: Node, *, group: str, alert: str, labels: PyMapping[str, str]) -> tuple[Policy | None, list[Problem]]:
    """The policy that an `actions:` block means: named `<group>/<alert>`, on the alert's name and its labels without templates."""
    if isinstance(node, Sequence):
        node = Mapping({"steps": (Scalar("steps", node.at), node)}, node.at, node.size + 1)
    if not isinstance(node, Mapping):
        return None, [source.problem(node.at, f"actions should be a list of steps or a mapping with steps, not {kind_of(node)}")]
    actions, problems = shaped(InlineActions, node, source)
    if actions is None:
        return None, problems
    when: dict[str, str] = {"alertname": alert} | {name: value for name, value in labels.items() if value and "{{" not in value}
    values: dict[str, Any] = {name: getattr(actions, name) for name in InlineActions.model_fields}
    return Policy(name=f"{group}/{alert}", when=when, **values), []


def steps_of(node: Node) -> Node:
    """The steps of an `actions:` block, whichever form it has."""
    return (node.get("steps") or node) if isinstance(node, Mapping) else node
