"""The expression tree: frozen nodes, independent of the parser library, in base units (milliseconds).

This is the seam: the reference evaluator (`compile`) and any incremental one read the same tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pipeline.series import Selector

COMPARISONS: Final = frozenset({"==", "!=", ">", "<", ">=", "<="})
SET_OPERATORS: Final = frozenset({"and", "or", "unless"})


class Kind(Enum):
    """Static type of an expression."""

    VECTOR = "instant vector"
    SCALAR = "scalar"
    MATRIX = "range vector"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class At:
    """The `@` modifier: a fixed instant, or the start or end of the query range."""

    anchor: str  # "time", "start" or "end"
    at_ms: int = 0

    def resolve(self, start_ms: int, end_ms: int) -> int:
        """The instant meant, for a query over this range."""
        return {"time": self.at_ms, "start": start_ms, "end": end_ms}[self.anchor]


@dataclass(frozen=True, slots=True)
class Number:
    """A number literal."""

    value: float
    kind = Kind.SCALAR


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal."""

    value: str
    kind = Kind.STRING


@dataclass(frozen=True, slots=True)
class Instant:
    """An instant vector selector."""

    selector: Selector
    offset_ms: int = 0
    at: At | None = None
    kind = Kind.VECTOR


@dataclass(frozen=True, slots=True)
class Range:
    """A range vector selector: `metric[5m]`."""

    instant: Instant
    range_ms: int
    kind = Kind.MATRIX


@dataclass(frozen=True, slots=True)
class Subquery:
    """`expr[1h:1m]`; without a step the evaluation interval is used."""

    expr: Node
    range_ms: int
    step_ms: int | None = None
    offset_ms: int = 0
    at: At | None = None
    kind = Kind.MATRIX


@dataclass(frozen=True, slots=True)
class Call:
    """A function call."""

    name: str
    args: tuple[Node, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Aggregation:
    """`sum by (a) (expr)`; `without` says how `labels` is meant."""

    op: str
    expr: Node
    param: Node | None = None
    labels: tuple[str, ...] = ()
    without: bool = False
    kind = Kind.VECTOR


@dataclass(frozen=True, slots=True)
class Matching:
    """How the two sides of a binary operation between vectors find each other."""

    on: bool = False
    labels: tuple[str, ...] = ()
    group: str = ""  # "", "left" or "right": the side with many
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """A binary operation."""

    op: str
    left: Node
    right: Node
    matching: Matching
    return_bool: bool
    kind: Kind


@dataclass(frozen=True, slots=True)
class Negation:
    """Unary minus."""

    expr: Node
    kind: Kind


@dataclass(frozen=True, slots=True)
class Paren:
    """A parenthesis: kept, because some rules of the language look at it."""

    expr: Node
    kind: Kind


Node = Number | Text | Instant | Range | Subquery | Call | Aggregation | Binary | Negation | Paren


def children(node: Node) -> tuple[Node, ...]:
    """The direct sub-expressions, left to right."""
    match node:
        case Call(args=args):
            return args
        case Binary(left=left, right=right):
            return (left, right)
        case Aggregation(expr=expr, param=param):
            return (expr,) if param is None else (param, expr)
        case Subquery(expr=expr) | Negation(expr=expr) | Paren(expr=expr):
            return (expr,)
        case Range(instant=instant):
            return (instant,)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, parents first."""
    yield node
    for child in children(node):
        yield from walk(child)


def unwrap(node: Node) -> Node:
    """The node without the parentheses around it."""
    while isinstance(node, Paren):
        node = node.expr
    return node
