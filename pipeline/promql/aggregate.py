"""Aggregations: rows grouped by labels, one value (or the k first) per group.

Guarantee: groups come in order of first appearance, values inside a group in row order, so sums are reproducible.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.model.labels import EMPTY, METRIC_NAME, Labels
from pipeline.promql.errors import EvalError
from pipeline.promql.numeric import format_float, kahan_sum, mean, nan_lowest, quantile
from pipeline.promql.plan import Cells, Frame, LabelCache, ScalarOp, VectorOp

_INT64: Final = 1 << 63


class Grouping:
    """From a row's labels to its group's labels, remembered."""

    __slots__ = ("_cache", "_labels", "_without")

    def __init__(self, labels: Sequence[str], *, without: bool) -> None:
        self._labels = frozenset(labels)
        self._without = without
        self._cache = LabelCache()

    def of(self, labels: Labels) -> Labels:
        """The group's labels."""
        if not self._labels and not self._without:
            return EMPTY
        found = self._cache.get(labels)
        return self._cache.remember(labels, self.compute(labels)) if found is None else found

    def compute(self, labels: Labels) -> Labels:
        """As `of`, not remembered."""
        if self._without:
            return labels.drop(METRIC_NAME, *self._labels)
        return labels.keep(self._labels)


class _Aggregation(VectorOp):
    def __init__(self, inner: VectorOp, grouping: Grouping) -> None:
        self._inner = inner
        self._grouping = grouping


class ReduceOp(_Aggregation):
    """sum, avg, min, max, count, group, stddev, stdvar: values of a group to one value."""

    def __init__(self, inner: VectorOp, grouping: Grouping, reduce: Callable[[list[float]], float]) -> None:
        super().__init__(inner, grouping)
        self._reduce = reduce

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        of = self._grouping.of
        groups: dict[Labels, list[float]] = {}
        dropped: set[Labels] = set()
        for labels, value, drop in self._inner.rows(frame, at_ms):
            group = of(labels)
            members = groups.get(group)
            if members is None:
                groups[group] = [value]
            else:
                members.append(value)
            if drop:
                dropped.add(group)
        reduce = self._reduce
        return [(group, reduce(members), group in dropped) for group, members in groups.items()]


class QuantileOp(ReduceOp):
    """`quantile(q, v)`."""

    def __init__(self, inner: VectorOp, grouping: Grouping, q: ScalarOp) -> None:
        super().__init__(inner, grouping, self._quantile)
        self._q = q
        self._now = math.nan

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        self._now = self._q.number(frame, at_ms)
        warn_quantile(frame, self._now)
        return super().rows(frame, at_ms)

    def _quantile(self, members: list[float]) -> float:
        return quantile(self._now, members)


def warn_quantile(frame: Frame, q: float) -> None:
    """Note a quantile outside 0..1."""
    if not 0 <= q <= 1:
        frame.warn(f"quantile value should be between 0 and 1, got {format_float(q)}")


class _Pick(_Aggregation):
    """Keeps whole rows, at most k a group."""

    def __init__(self, inner: VectorOp, grouping: Grouping, k: ScalarOp) -> None:
        super().__init__(inner, grouping)
        self._k = k

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        k = _count(self._k.number(frame, at_ms))
        rows = self._inner.rows(frame, at_ms)
        if k < 1:
            return []
        groups: dict[Labels, list[Cells]] = {}
        for row in rows:
            groups.setdefault(self._grouping.of(row[0]), []).append(row)
        return [row for members in groups.values() for row in self._pick(members)[:k]]

    @abstractmethod
    def _pick(self, members: list[Cells]) -> list[Cells]: ...


class TopOp(_Pick):
    """`topk`: the highest values, highest first; NaN only where nothing else is left."""

    def _pick(self, members: list[Cells]) -> list[Cells]:
        return sorted(members, key=lambda row: nan_lowest(row[1]), reverse=True)


class BottomOp(_Pick):
    """`bottomk`: the lowest values, lowest first."""

    def _pick(self, members: list[Cells]) -> list[Cells]:
        return sorted(members, key=lambda row: (math.isnan(row[1]), row[1]))


class LimitOp(_Pick):
    """`limitk`: any k rows, here the first."""

    def _pick(self, members: list[Cells]) -> list[Cells]:
        return members


class CountValuesOp(_Aggregation):
    """`count_values("label", v)`: one row per distinct value."""

    def __init__(self, inner: VectorOp, grouping: Grouping, label: str) -> None:
        super().__init__(inner, grouping)
        self._label = label

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        counts: dict[Labels, int] = {}
        for labels, value, _ in self._inner.rows(frame, at_ms):
            group = self._grouping.compute(labels).set(self._label, format_float(value))
            counts[group] = counts.get(group, 0) + 1
        return [(group, float(count), False) for group, count in counts.items()]


def _count(value: float) -> int:
    if math.isnan(value):
        raise EvalError("Parameter value is NaN")
    if value <= -_INT64:
        raise EvalError(f"Scalar value {value} underflows int64")
    if value >= _INT64:
        raise EvalError(f"Scalar value {value} overflows int64")
    return int(value)


def _min(members: list[float]) -> float:
    best = members[0]
    for value in members:
        if value < best or best != best:  # noqa: PLR0124 - NaN gives way to any number
            best = value
    return best


def _max(members: list[float]) -> float:
    best = members[0]
    for value in members:
        if value > best or best != best:  # noqa: PLR0124 - NaN gives way to any number
            best = value
    return best


def _variance(members: list[float]) -> float:
    average, spread = members[0], 0.0 if math.isfinite(members[0]) else math.nan
    for count, value in enumerate(members[1:], 2):
        delta = value - average
        average += delta / count
        spread += delta * (value - average)
    return spread / len(members)


def _deviation(members: list[float]) -> float:
    value = _variance(members)
    return math.sqrt(value) if value >= 0 else math.nan


REDUCERS: Final[dict[str, Callable[[list[float]], float]]] = {
    "sum": kahan_sum,
    "avg": mean,
    "min": _min,
    "max": _max,
    "count": lambda members: float(len(members)),
    "group": lambda _members: 1.0,
    "stddev": _deviation,
    "stdvar": _variance,
}
PICKERS: Final[dict[str, type[_Pick]]] = {"topk": TopOp, "bottomk": BottomOp, "limitk": LimitOp}
