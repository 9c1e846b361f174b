"""Scalars: literals, the clock, the query's own bounds, and the way between scalars and vectors."""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.model.labels import EMPTY
from pipeline.promql.plan import Cells, Frame, ScalarOp, VectorOp


class ScalarOfOp(ScalarOp):
    """`scalar(v)`: the value of the only row, else NaN."""

    def __init__(self, inner: VectorOp) -> None:
        self._inner = inner

    def number(self, frame: Frame, at_ms: int) -> float:
        rows = self._inner.rows(frame, at_ms)
        return rows[0][1] if len(rows) == 1 else math.nan


class VectorOfOp(VectorOp):
    """`vector(s)`: one row without labels."""

    one_name = True

    def __init__(self, inner: ScalarOp) -> None:
        self._inner = inner

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        return [(EMPTY, self._inner.number(frame, at_ms), False)]


class TimeOp(ScalarOp):
    """`time()`: the evaluation's instant in seconds."""

    def number(self, _frame: Frame, at_ms: int) -> float:
        return at_ms / 1000


class QueryOp(ScalarOp):
    """`start()`, `end()`, `step()`, `range()` of the query (experimental in Prometheus)."""

    def __init__(self, name: str) -> None:
        self._name = name

    def number(self, frame: Frame, _at_ms: int) -> float:
        if self._name == "step":
            return frame.step_ms / 1000
        if self._name == "range":
            return (frame.end_ms - frame.start_ms) / 1000
        return (frame.start_ms if self._name == "start" else frame.end_ms) / 1000


class ExtremeOp(ScalarOp):
    """`min_of(a, b)`, `max_of(a, b)`; NaN if one is."""

    def __init__(self, pick: Callable[[float, float], float], left: ScalarOp, right: ScalarOp) -> None:
        self._pick = pick
        self._left = left
        self._right = right

    def number(self, frame: Frame, at_ms: int) -> float:
        left, right = self._left.number(frame, at_ms), self._right.number(frame, at_ms)
        return math.nan if math.isnan(left) or math.isnan(right) else self._pick(left, right)


class ConstantOp(ScalarOp):
    """A number that does not change."""

    def __init__(self, value: float) -> None:
        self._value = value

    def number(self, _frame: Frame, _at_ms: int) -> float:
        return self._value
