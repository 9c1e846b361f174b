"""Conditions: an expression read as a three-valued statement, where missing data is never "false" and never "good".

PromQL's comparison filters: `error_ratio < 0.01` is empty both when the ratio is high and when there is no ratio. A condition therefore
looks at the two sides before the filter. The rules, by the outermost operator (parentheses do not count):

=====================  ===================================================================================================================
`L op R`               (op a comparison) The pairs that Prometheus would compare. No pair, or a NaN on either side of any pair: nodata. Every
                       pair satisfies op: true. Otherwise: false.
`L op bool R`          The same, but one pair that satisfies op is enough for true.
`A and B`, `A or B`    Three-valued (Kleene) logic of the two conditions; labels do not matter between them. `and`: false if one is false,
                       else nodata if one is nodata. `or`: true if one is true, else nodata if one is nodata.
`absent(v)`,           True where v has no data, false where it has: never nodata.
`absent_over_time(v)`
anything else          Empty, or a NaN among the values: nodata. Any value other than zero: true. Otherwise: false.
=====================  ===================================================================================================================

An evaluation error (many-to-many match and the like) is nodata, with the error as the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

from pipeline.model.labels import EMPTY, Labels
from pipeline.model.records import Truth
from pipeline.promql.binary import VectorVectorOp
from pipeline.promql.build import build
from pipeline.promql.compile import Compiled, compile_expr
from pipeline.promql.errors import EvalError, ExprError
from pipeline.promql.numeric import COMPARE
from pipeline.promql.parse import Expression
from pipeline.promql.plan import Compat, Frame, Op, Options, ScalarOp, VectorOp
from pipeline.promql.tree import COMPARISONS, Binary, Call, Kind, Node, unwrap
from pipeline.series import SeriesView

MAX_COMPARED: Final = 100


class Compared(NamedTuple):
    """One value that the answer rests on. `op` and `bound` are what it was compared with; empty and None for a plain value."""

    labels: Labels
    value: float
    op: str
    bound: float | None
    holds: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer and what it rests on.

    Attributes:
        truth: true, false or nodata.
        compared: at most `MAX_COMPARED` of the values looked at, those that decided first.
        count: how many values there were.
        reason: a sentence for the record, e.g. why there is no answer.
    """

    truth: Truth
    compared: tuple[Compared, ...] = ()
    count: int = 0
    reason: str = ""


class Condition:
    """A compiled condition. `selectors`, `lookback_ms`, `metric_names` and the like are those of `compiled`."""

    def __init__(self, compiled: Compiled) -> None:
        if compiled.kind not in {Kind.VECTOR, Kind.SCALAR}:
            raise ExprError(f"a condition must be an instant vector or a scalar, this is a {compiled.kind.value}")
        self.compiled = compiled
        self._options = compiled.options
        self._judge = _judge(compiled.expression.root, compiled.options)

    @property
    def text(self) -> str:
        """The expression in canonical spelling."""
        return self.compiled.text

    def eval(self, view: SeriesView, at_ms: int) -> Judgement:
        """The answer at one instant. Never raises for what the data are."""
        frame = Frame(view, self._options, start_ms=at_ms, end_ms=at_ms)
        try:
            judgement = self._judge(frame, at_ms)
        except EvalError as error:
            return Judgement(Truth.NODATA, reason=str(error))
        return replace(judgement, compared=judgement.compared[:MAX_COMPARED])


def compile_condition(expr: str | Expression, *, compat: Compat = "v3", options: Options | None = None) -> Condition:
    """Make a condition ready to evaluate.

    Raises:
        ExprError: not valid, or neither a vector nor a scalar.
    """
    return Condition(compile_expr(expr, compat=compat, options=options))


_Judge = Callable[[Frame, int], Judgement]


class _Logic(Protocol):
    def __call__(self, left: Truth, right: Truth) -> Truth: ...


def _judge(node: Node, options: Options) -> _Judge:
    node = unwrap(node)
    if isinstance(node, Binary) and node.op in {"and", "or"}:
        return _combined(_judge(node.left, options), _judge(node.right, options), _both if node.op == "and" else _either)
    if isinstance(node, Binary) and node.op in COMPARISONS:
        return _comparison(node, options)
    if isinstance(node, Call) and node.name in {"absent", "absent_over_time"}:
        return _absence(node, options)
    return _plain(node, options)


def _both(left: Truth, right: Truth) -> Truth:
    if Truth.FALSE in {left, right}:
        return Truth.FALSE
    return Truth.NODATA if Truth.NODATA in {left, right} else Truth.TRUE


def _either(left: Truth, right: Truth) -> Truth:
    if Truth.TRUE in {left, right}:
        return Truth.TRUE
    return Truth.NODATA if Truth.NODATA in {left, right} else Truth.FALSE


def _combined(left: _Judge, right: _Judge, logic: _Logic) -> _Judge:
    def judge(frame: Frame, at_ms: int) -> Judgement:
        one, other = left(frame, at_ms), right(frame, at_ms)
        truth = logic(one.truth, other.truth)
        deciding = [part for part in (one, other) if part.truth is truth]
        rest = [part for part in (one, other) if part.truth is not truth]
        compared = tuple(row for part in deciding + rest for row in part.compared)
        return Judgement(truth, compared, one.count + other.count, "; ".join(part.reason for part in deciding if part.reason))

    return judge


def _absence(node: Call, options: Options) -> _Judge:
    op = build(node, options)

    def judge(frame: Frame, at_ms: int) -> Judgement:
        rows = op.rows(frame, at_ms) if isinstance(op, VectorOp) else []
        return Judgement(Truth.TRUE if rows else Truth.FALSE, reason="no data, as the condition asks" if rows else "there is data")

    return judge


def _plain(node: Node, options: Options) -> _Judge:
    op = build(node, options)

    def judge(frame: Frame, at_ms: int) -> Judgement:
        return _verdict([Compared(labels, value, "", None, value != 0) for labels, value in _side(op, frame, at_ms)], any)

    return judge


def _comparison(node: Binary, options: Options) -> _Judge:
    pairs = _pairs(node, options)
    holds = COMPARE[node.op]
    quantifier = any if node.return_bool else all

    def judge(frame: Frame, at_ms: int) -> Judgement:
        rows = [Compared(labels, left, node.op, right, holds(left, right)) for labels, left, right in pairs(frame, at_ms)]
        return _verdict(rows, quantifier)

    return judge


def _pairs(node: Binary, options: Options) -> Callable[[Frame, int], list[tuple[Labels, float, float]]]:
    """What would be compared: result labels, left and right value."""
    left, right = build(node.left, options), build(node.right, options)
    if isinstance(left, VectorOp) and isinstance(right, VectorOp):
        return VectorVectorOp(node.op, left, right, node.matching, options, return_bool=False).pairs

    def pairs(frame: Frame, at_ms: int) -> list[tuple[Labels, float, float]]:
        one, other = _side(left, frame, at_ms), _side(right, frame, at_ms)
        if isinstance(left, VectorOp):
            return [(labels, value, other[0][1]) for labels, value in one]
        return [(labels, one[0][1], value) for labels, value in other]

    return pairs


def _side(op: Op, frame: Frame, at_ms: int) -> list[tuple[Labels, float]]:
    if isinstance(op, ScalarOp):
        return [(EMPTY, op.number(frame, at_ms))]
    return [(labels, value) for labels, value, _ in op.rows(frame, at_ms)] if isinstance(op, VectorOp) else []


def _verdict(rows: list[Compared], quantifier: Callable[[list[bool]], bool]) -> Judgement:
    if not rows:
        return Judgement(Truth.NODATA, reason="no data")
    unknown = [row for row in rows if math.isnan(row.value) or (row.bound is not None and math.isnan(row.bound))]
    if unknown:
        known = [row for row in rows if row not in unknown]
        return Judgement(Truth.NODATA, tuple(unknown + known), len(rows), f"{len(unknown)} of {len(rows)} values are NaN")
    answer = quantifier([row.holds for row in rows])
    deciding = sorted(rows, key=lambda row: row.holds is not answer)  # stable: those that decided come first
    return Judgement(Truth.TRUE if answer else Truth.FALSE, tuple(deciding), len(rows))
