"""`RangeCallOp`: a range function applied to each series of a window."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from pipeline.promql.aggregate import warn_quantile
from pipeline.promql.over_time import KEEPS_NAME, RANGE_FUNCTIONS
from pipeline.promql.plan import Cells, Frame, MatrixOp, NameDropper, Options, ScalarOp, VectorOp, distinct
from pipeline.promql.rates import extrapolation, increase_of
from pipeline.promql.selectors import RangeOp
from pipeline.series import Series

EDGE_FUNCTIONS: Final = frozenset({"rate", "increase", "delta"})
_COUNTER_FUNCTIONS: Final = frozenset({"rate", "increase"})
_COUNTER_SUFFIXES: Final = ("_total", "_sum", "_count", "_bucket")


def hint_not_a_counter(frame: Frame, name: str) -> None:
    """Note a rate of what does not look like a counter."""
    if name and not name.endswith(_COUNTER_SUFFIXES):
        frame.info(f'metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "{name}"')


class RateOp(VectorOp):
    """`rate`, `increase` and `delta` of a plain range selector, without copying samples: only the window's edges are looked at
    while a counter has never been reset. Gives what `RangeCallOp` gives.
    """

    def __init__(self, name: str, matrix: RangeOp, options: Options) -> None:
        self._counter = name != "delta"
        self._per_second = name == "rate"
        self._hint = name in _COUNTER_FUNCTIONS
        self._matrix = matrix
        self._options = options
        self.one_name = matrix.one_name

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        start, until, after = self._matrix.bounds(frame, at_ms)
        divisor = (until - start) / 1000 if self._per_second else 1.0
        delayed = self._options.delayed_names
        out: list[Cells] = []
        seen: Series | None = None
        for series in frame.view.select(self._matrix.selector):
            if series.newest_at_ms <= after:
                continue
            times, values, low, high = _stretch(series, after, until)
            if seen is None and high > low:
                seen = series
            if high - low < 2:
                continue
            if self._counter and not series.rising:
                change = increase_of(values)
            else:
                change = values[high - 1] - values[low]
            edges = times[low], times[high - 1]
            factor = extrapolation(change, values[low], edges, high - low, (start, until), counter=self._counter)
            value = change * (factor / divisor)
            out.append((series.labels, value, True) if delayed else (series.bare, value, False))
        if seen is not None and self._hint:
            hint_not_a_counter(frame, seen.labels.metric_name)
        return out if self.one_name else distinct(out, self._options)


def _stretch(series: Series, after_ms: int, until_ms: int) -> tuple[Sequence[int], Sequence[float], int, int]:
    """The arrays that hold a window, and its first and last index + 1 in them: the series' own arrays while it is rising, else a copy."""
    if not series.rising:
        found, values = series.window(after_ms, until_ms)
        return found, values, 0, len(found)
    times = series.times
    low = bisect_right(times, after_ms)
    high = len(times) if times[-1] <= until_ms else bisect_right(times, until_ms, low)
    return times, series.values, low, high


class RangeCallOp(VectorOp):
    """`rate(...)`, `avg_over_time(...)` and their like."""

    def __init__(self, name: str, matrix: MatrixOp, args: Sequence[ScalarOp], options: Options) -> None:
        self._name = name
        self._matrix = matrix
        self._args = args
        self._options = options
        self._function = RANGE_FUNCTIONS[name]
        self._keeps_name = name in KEEPS_NAME
        self._names = NameDropper(options)
        self.one_name = matrix.one_name

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        args = [arg.number(frame, at_ms) for arg in self._args]
        window = self._matrix.window(frame, at_ms)
        function, cells = self._function, self._names.cells
        share = not self._options.delayed_names
        out: list[Cells] = []
        for labels, drop, times, values, bare in window.spans:
            value = function(times, values, window, args)
            if value is None:
                continue
            if self._keeps_name:
                out.append((labels, value, drop))
            else:
                out.append((bare, value, False) if share and bare is not None else cells(labels, value))
        if window.spans:
            self._annotate(frame, window.spans[0].labels.metric_name, args)
        return out if self.one_name or self._keeps_name else distinct(out, self._options)

    def _annotate(self, frame: Frame, name: str, args: list[float]) -> None:
        if self._name == "quantile_over_time":
            warn_quantile(frame, args[0])
        elif self._name in _COUNTER_FUNCTIONS:
            hint_not_a_counter(frame, name)
