"""Whether the data behind an alert were there when it stopped holding: the difference between "fixed" and "gone dark".

A comparison is asked again without its judgement: `a > b` becomes `a - b`, which has the same elements with the same matching, whatever their
values. An element that is there and a number proves that both sides had data. `and` and `unless` need the left side's element (and `and` any
element on the right); `or` needs either. What compares nothing (a bare selector) ends when its element vanishes: that proves nothing.
`absent(...)` ends when data came back.
"""

from __future__ import annotations

import math
from dataclasses import replace

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.promql import Compiled, Expression, Options, PromQLError, Vector, compile_expr
from pipeline.promql.tree import Binary, Call, Kind, Node, unwrap
from pipeline.series import SeriesView

DEFAULTS = Options()
_COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
_SET_OPERATORS = frozenset({"and", "or", "unless"})
_ABSENT = frozenset({"absent", "absent_over_time"})


class Presence:
    """Answers for one expression; the questions are compiled once."""

    __slots__ = ("_root",)

    def __init__(self, expression: Expression, options: Options = DEFAULTS) -> None:
        self._root = _question(expression.root, options)

    def covers(self, origin: Labels, view: SeriesView, at_ms: int) -> bool:
        """Whether the inputs of the element with labels `origin` are there, as numbers, at an instant."""
        bare = origin.drop(METRIC_NAME)
        try:
            return self._root.covers(bare, view, at_ms)
        except PromQLError:
            return False  # what cannot be read now proves nothing


class _Always:
    """The end itself proves that data are there."""

    def covers(self, _origin: Labels | None, _view: SeriesView, _at_ms: int) -> bool:
        return True


class _Element:
    """An element with these labels (None: any) must be there and be a number."""

    def __init__(self, node: Node, options: Options) -> None:
        self._expr: Compiled = compile_expr(Expression("", "", node), compat=options.compat, options=options)

    def covers(self, origin: Labels | None, view: SeriesView, at_ms: int) -> bool:
        result = self._expr.eval(view, at_ms)
        if not isinstance(result, Vector):
            return True
        return any((origin is None or labels.drop(METRIC_NAME) == origin) and not math.isnan(value) for labels, value in result)


class _Both:
    """`and`: the element on the left, anything on the right."""

    def __init__(self, left: Question, right: Question) -> None:
        self._left, self._right = left, right

    def covers(self, origin: Labels | None, view: SeriesView, at_ms: int) -> bool:
        return self._left.covers(origin, view, at_ms) and self._right.covers(None, view, at_ms)


class _Either:
    """`or`: either side."""

    def __init__(self, left: Question, right: Question) -> None:
        self._left, self._right = left, right

    def covers(self, origin: Labels | None, view: SeriesView, at_ms: int) -> bool:
        return self._left.covers(origin, view, at_ms) or self._right.covers(origin, view, at_ms)


Question = _Always | _Element | _Both | _Either


def _question(node: Node, options: Options) -> Question:
    node = unwrap(node)
    if isinstance(node, Call) and node.name in _ABSENT:
        return _Always()
    if not isinstance(node, Binary):
        return _Element(node, options)
    if node.op in _COMPARISONS and node.kind is Kind.VECTOR:
        return _Element(replace(node, op="-", return_bool=False), options)
    if node.op not in _SET_OPERATORS:
        return _Element(node, options)
    left = _question(node.left, options)
    if node.op == "unless":
        return left
    return (_Both if node.op == "and" else _Either)(left, _question(node.right, options))
