"""Functions of instant vectors: mathematics, sample times, absence. Names are dropped exactly where Prometheus drops them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.model.labels import EMPTY, METRIC_NAME, Labels
from pipeline.promql.plan import Cells, Frame, MatrixOp, NameDropper, Options, ScalarOp, VectorOp, distinct
from pipeline.promql.selectors import InstantOp
from pipeline.promql.tree import Instant, Node, Range, unwrap
from pipeline.series import MatchOp

FloatArray = npt.NDArray[np.float64]

MATH: Final[dict[str, Callable[[Any], Any]]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "rad": lambda values: values * math.pi / 180,
    "deg": lambda values: values * 180 / math.pi,
    "sgn": np.sign,
}


class MapOp(VectorOp):
    """A function of each value and of scalar arguments, over the whole vector at once."""

    def __init__(self, inner: VectorOp, function: Callable[..., Any], args: Sequence[ScalarOp], options: Options) -> None:
        self._inner = inner
        self._function = function
        self._args = args
        self._options = options
        self._names = NameDropper(options)
        self.one_name = inner.one_name

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        rows = self._inner.rows(frame, at_ms)
        args = [arg.number(frame, at_ms) for arg in self._args]
        with np.errstate(all="ignore"):
            values = self._function(np.array([value for _, value, _ in rows], dtype=np.float64), *args)
        if values is None:
            return []
        out = self._names.with_values(rows, values.tolist())
        return out if self.one_name else distinct(out, self._options)


def round_to(values: FloatArray, nearest: float = 1.0) -> FloatArray:
    """Nearest multiple, ties up."""
    inverse = np.float64(1.0) / np.float64(nearest)
    return np.floor(values * inverse + 0.5) / inverse


def clamp(values: FloatArray, low: float, high: float) -> FloatArray | None:
    """Values inside [low, high]; None (no rows) where the bounds are crossed. NaN bounds give NaN."""
    return None if high < low else np.maximum(low, np.minimum(high, values))


def clamp_min(values: FloatArray, low: float) -> FloatArray | None:
    """Values not below `low`."""
    return clamp(values, low, math.inf)


def clamp_max(values: FloatArray, high: float) -> FloatArray | None:
    """Values not above `high`."""
    return clamp(values, -math.inf, high)


class TimestampOp(VectorOp):
    """`timestamp(v)`: when each sample was taken; for anything but a plain selector, the evaluation's instant."""

    def __init__(self, inner: VectorOp, options: Options) -> None:
        self._inner = inner
        self._options = options
        self._names = NameDropper(options)

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        cells = self._names.cells
        if isinstance(self._inner, InstantOp):
            out = [cells(labels, taken / 1000) for labels, _, taken in self._inner.stamped(frame, at_ms)]
        else:
            out = [cells(labels, at_ms / 1000) for labels, _, _ in self._inner.rows(frame, at_ms)]
        return distinct(out, self._options)


class AbsentOp(VectorOp):
    """`absent(v)`: one row with the labels that the selector fixes, if there is no row."""

    def __init__(self, inner: VectorOp | MatrixOp, labels: Labels) -> None:
        self._inner = inner
        self._labels = labels

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        inner = self._inner
        found = inner.rows(frame, at_ms) if isinstance(inner, VectorOp) else inner.window(frame, at_ms).spans
        return [] if found else [(self._labels, 1.0, False)]


def absent_labels(node: Node) -> Labels:
    """The labels that a selector fixes by exactly one equality each, the name excepted."""
    node = unwrap(node)
    if isinstance(node, Range):
        node = node.instant
    if not isinstance(node, Instant):
        return EMPTY
    fixed: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in node.selector.matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op is MatchOp.EQUAL and matcher.name not in seen:
            fixed[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            fixed.pop(matcher.name, None)
    return Labels.of(fixed)
