"""Planner for calls to a webhook connector."""

from __future__ import annotations

from pipeline.model.target import Target
from pipeline.remediate.planners.base import Case, Plan, Refusal
from pipeline.remediate.templates import render_tree
from pipeline.rulebook.spec import Call


def call(case: Case) -> tuple[Plan, ...] | Refusal:
    """POST a payload. The target is written in the policy itself: a webhook belongs to no service."""
    spec: Call = case.spec
    return (Plan(Target.parse(spec.target), {"payload": render_tree(spec.payload, case.names)}),)
