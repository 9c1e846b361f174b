"""PromQL inside files: does it parse, where is it wrong, and which metrics does it read.

A policy's expression may hold placeholders (`{{ service }}`); they are filled with text of the same length before parsing, so places stay right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pipeline.model.labels import METRIC_NAME
from pipeline.promql.errors import ExprError
from pipeline.promql.parse import parse
from pipeline.promql.tree import Instant, walk
from pipeline.rulebook.problems import Problem, SourceText
from pipeline.rulebook.yaml_source import Node, Scalar, kind_of
from pipeline.rulebook.yaml_values import inside
from pipeline.series import MatchOp

PLACEHOLDER: Final = re.compile(r"\{\{\s*\.?(?:labels\.)?([A-Za-z_][A-Za-z0-9_.]*)\s*\}\}")  # as remediation fills them
_QUOTED: Final = re.compile(r"\"[^\"]*\"|'[^']*'")
_MATCHERS: Final = re.compile(r"\{[^{}]*\}?")
_BRACES: Final = re.compile(r"\{\{|\}\}")


@dataclass(frozen=True, slots=True)
class Expr:
    """A good expression: its node and text, and the metrics it reads."""

    node: Scalar
    metrics: tuple[str, ...]

    @property
    def text(self) -> str:
        """As written."""
        return self.node.text


def read_expr(source: SourceText, node: Node, what: str, *, templated: bool = False) -> Expr | Problem:
    """The expression in a scalar, or why it is none."""
    if not isinstance(node, Scalar) or not node.text.strip():
        return source.problem(node.at, f"{what} should be a PromQL expression, not {kind_of(node)}")
    error: ExprError | None = None
    for text in fillings(node.text) if templated else (node.text,):
        try:
            return Expr(node, _metrics(text))
        except ExprError as failure:
            error = error or failure
    assert error is not None  # noqa: S101 - `fillings` gives at least one text
    at = inside(source, node, error.line, error.column or 1) if error.line is not None else node.at
    return source.problem(at, f"{what}: {error.message}", suggestion=_hint(node.text))


def fillings(text: str) -> tuple[str, ...]:
    """The text with its placeholders filled: as numbers, and as names (inside quotes both are fine)."""
    if not PLACEHOLDER.search(text):
        return (text,)
    return (PLACEHOLDER.sub(lambda match: "1" * len(match[0]), text), PLACEHOLDER.sub(lambda match: "x" * len(match[0]), text))


def bad_placeholder(text: str) -> tuple[int, str] | None:
    """The offset of the first `{{` or `}}` that belongs to no placeholder, and what is wrong with it."""
    rest = PLACEHOLDER.sub(lambda match: " " * len(match[0]), text)
    match = _BRACES.search(rest)
    if match is None:
        return None
    if match[0] == "}}":
        return match.start(), "}} without {{"
    end = rest.find("}}", match.end())
    if end < 0:
        return match.start(), "{{ without }}"
    return match.start(), f"{{{{{rest[match.end() : end]}}}}} is not a placeholder"


def _metrics(text: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for node in walk(parse(text).root):
        if isinstance(node, Instant):
            for matcher in node.selector.matchers:
                if matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL and matcher.value:
                    found[matcher.value] = None
    return tuple(found)


def _hint(text: str) -> str:
    bare = _MATCHERS.sub("", _QUOTED.sub("", PLACEHOLDER.sub("x", text)))
    if re.search(r"(?<![=!<>~])=(?![=~])", bare):
        return "did you mean == (comparison)?"
    if "&&" in bare or "||" in bare:
        return "did you mean and / or?"
    return ""
