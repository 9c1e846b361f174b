"""Quantiles and fractions of classic histograms (`le` buckets).

Guarantee: buckets that are not monotonic are repaired as Prometheus repairs them, and the repair is noted.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.promql.aggregate import warn_quantile
from pipeline.promql.numeric import INF, NAN, divide, format_float
from pipeline.promql.plan import Cells, Frame, LabelCache, NameDropper, Options, ScalarOp, VectorOp, distinct

_LE: Final = "le"
_TOLERANCE: Final = 1e-12


@dataclass(slots=True)
class _Histogram:
    """The buckets of one series group: upper bounds and cumulative counts."""

    drop_name: bool
    buckets: list[tuple[float, float]] = field(default_factory=list)


class _HistogramOp(VectorOp):
    def __init__(self, inner: VectorOp, options: Options) -> None:
        self._inner = inner
        self._options = options
        self._names = NameDropper(options)
        self._without_le = LabelCache()

    def _histograms(self, frame: Frame, at_ms: int) -> dict[Labels, _Histogram]:
        found: dict[Labels, _Histogram] = {}
        for labels, value, drop in self._inner.rows(frame, at_ms):
            text = labels.get(_LE, "")
            bound = _bound(text)
            if bound is None:
                name = labels.get(METRIC_NAME, "")
                frame.warn(f'bucket label "le" is missing or has a malformed value of "{text}" for metric name "{name}"')
                continue
            key = self._without_le.get(labels)
            if key is None:
                key = self._without_le.remember(labels, labels.drop(_LE))
            found.setdefault(key, _Histogram(drop)).buckets.append((bound, value))
        return found


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


class HistogramQuantileOp(_HistogramOp):
    """`histogram_quantile(q, v)`."""

    def __init__(self, q: ScalarOp, inner: VectorOp, options: Options) -> None:
        super().__init__(inner, options)
        self._q = q

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        q = self._q.number(frame, at_ms)
        warn_quantile(frame, q)
        out = [self._names.cells(labels, _noted(frame, q, labels, found)) for labels, found in self._histograms(frame, at_ms).items()]
        return distinct(out, self._options)


class HistogramQuantilesOp(_HistogramOp):
    """`histogram_quantiles(v, "label", q, ...)`: several quantiles at once, told apart by a label (experimental in Prometheus)."""

    def __init__(self, qs: Sequence[ScalarOp], inner: VectorOp, label: str, options: Options) -> None:
        super().__init__(inner, options)
        self._qs = qs
        self._label = label

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        qs = [q.number(frame, at_ms) for q in self._qs]
        for q in qs:
            warn_quantile(frame, q)
        out = [
            self._names.cells(labels.set(self._label, _open_metrics(q)), _noted(frame, q, labels, found))
            for labels, found in self._histograms(frame, at_ms).items()
            for q in qs
        ]
        return distinct(out, self._options)


def _noted(frame: Frame, q: float, labels: Labels, histogram: _Histogram) -> float:
    value, repaired = bucket_quantile(q, histogram.buckets)
    if repaired:
        frame.info(f'input to histogram_quantile needed to be fixed for monotonicity for metric name "{labels.get(METRIC_NAME, "")}"')
    return value


def _open_metrics(value: float) -> str:
    """A number as OpenMetrics writes it: always with a point."""
    text = format_float(value)
    return text if not text.lstrip("-").isdecimal() else f"{text}.0"


class HistogramFractionOp(_HistogramOp):
    """`histogram_fraction(lower, upper, v)`."""

    def __init__(self, lower: ScalarOp, upper: ScalarOp, inner: VectorOp, options: Options) -> None:
        super().__init__(inner, options)
        self._lower = lower
        self._upper = upper

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        lower, upper = self._lower.number(frame, at_ms), self._upper.number(frame, at_ms)
        cells = self._names.cells
        out = [cells(labels, bucket_fraction(lower, upper, found.buckets)) for labels, found in self._histograms(frame, at_ms).items()]
        return distinct(out, self._options)


def _whole(buckets: list[tuple[float, float]]) -> tuple[list[float], list[float], bool] | None:
    """Bounds and monotonic counts, sorted and merged; None unless the last bound is +Inf. The flag: counts had to be raised."""
    merged: dict[float, float] = {}
    for bound, count in sorted(buckets, key=lambda bucket: bucket[0]):
        merged[bound] = merged.get(bound, 0.0) + count
    bounds, counts = list(merged), list(merged.values())
    if not bounds or bounds[-1] != INF:
        return None
    return bounds, *_monotonic(counts)


def _monotonic(counts: list[float]) -> tuple[list[float], bool]:
    """Counts that never fall. Differences inside the float tolerance are rounding, not a fault of the data."""
    previous = counts[0]
    smooth = [previous]
    for count in counts[1:]:
        if count != previous and abs(divide(abs(count - previous), count)) > _TOLERANCE:
            previous = count
        smooth.append(previous)
    repaired, highest = False, smooth[0]
    for index, count in enumerate(smooth):
        if count > highest:
            highest = count
        elif count < highest:
            smooth[index] = highest
            repaired = True
    return smooth, repaired


def bucket_quantile(q: float, buckets: list[tuple[float, float]]) -> tuple[float, bool]:
    """The q-quantile by linear interpolation inside a bucket, and whether the counts had to be repaired.

    The lowest bucket begins at 0 if its bound is positive; a quantile inside the +Inf bucket gives the highest finite bound. NaN
    without observations, without a +Inf bucket, or with fewer than two buckets.
    """
    if not 0 <= q <= 1:
        return _outside(q), False
    whole = _whole(buckets)
    if whole is None:
        return NAN, False
    bounds, counts, repaired = whole
    if len(bounds) < 2 or counts[-1] == 0 or math.isnan(counts[-1]):
        return NAN, repaired and len(bounds) > 1
    rank = q * counts[-1]
    index = bisect_left(counts, rank, 0, len(counts) - 1)
    if index == len(counts) - 1:
        return bounds[-2], repaired
    if index == 0 and bounds[0] <= 0:
        return bounds[0], repaired
    start, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    return start + (bounds[index] - start) * divide(rank - below, counts[index] - below), repaired


def _outside(q: float) -> float:
    if math.isnan(q):
        return NAN
    return -INF if q < 0 else INF


def bucket_fraction(lower: float, upper: float, buckets: list[tuple[float, float]]) -> float:
    """The share of observations between two values, interpolated inside buckets."""
    whole = _whole(buckets)
    if whole is None or math.isnan(lower) or math.isnan(upper):
        return NAN
    bounds, counts, _ = whole
    total = counts[-1]
    if total == 0 or math.isnan(total):
        return NAN
    return 0.0 if lower >= upper else (_rank(upper, bounds, counts) - _rank(lower, bounds, counts)) / total


def _rank(value: float, bounds: list[float], counts: list[float]) -> float:
    """How many observations count as at most `value`. The first bucket begins at 0 if its bound is positive, else it has no beginning."""
    start, below = (0.0 if bounds[0] > 0 else -INF), 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if value <= start:
            break
        if value < bound:
            return _inside(value, start, bound, below, count)
        start, below = bound, count
    return below


def _inside(value: float, start: float, bound: float, below: float, count: float) -> float:
    if math.isinf(start):
        return count
    return below if math.isinf(bound) else below + (count - below) * (value - start) / (bound - start)
