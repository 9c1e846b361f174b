"""Reading series: instant selectors, range selectors and subqueries.

Guarantee: nothing at or before the view's floor is read; a window that would begin before the floor begins at the floor, so a rate
seen through an anchored view is per second of the time it really covers.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

from pipeline.model.labels import Labels
from pipeline.promql.errors import EvalError
from pipeline.promql.plan import SAME_LABELSET, Cells, Frame, MatrixOp, Options, Span, VectorOp, Window
from pipeline.promql.tree import At, Instant, Range, Subquery
from pipeline.series import is_stale

_FAR: Final = 1 << 62


def moved(frame: Frame, at_ms: int, *, at: At | None, offset_ms: int) -> int:
    """The instant that a selector means: `@` first, then the offset."""
    return (at_ms if at is None else at.resolve(frame.start_ms, frame.end_ms)) - offset_ms


class InstantOp(VectorOp):
    """`metric{...}`: the newest sample of each series inside the look-back."""

    def __init__(self, node: Instant, options: Options) -> None:
        self.selector = node.selector
        self.at = node.at
        self.offset_ms = node.offset_ms
        self.one_name = node.selector.metric_name is not None
        self._reach_ms = options.look_back_ms + (options.compat == "v2")

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        return [(labels, value, False) for labels, value, _ in self.stamped(frame, at_ms)]

    def stamped(self, frame: Frame, at_ms: int) -> list[tuple[Labels, float, int]]:
        """Labels, value and sample time of each series."""
        until = moved(frame, at_ms, at=self.at, offset_ms=self.offset_ms)
        after = max(until - self._reach_ms, frame.floor_ms)
        out = []
        for series in frame.view.select(self.selector):
            index, taken = -1, series.newest_at_ms
            if taken > until:
                times = series.times
                index = bisect_right(times, until) - 1
                if index < 0:
                    continue
                taken = times[index]
            if taken <= after:
                continue
            value = series.values[index]
            if value != value and is_stale(value):  # noqa: PLR0124 - per row: the cheapest test for NaN
                continue
            out.append((series.labels, value, taken))
        return out


class RangeOp(MatrixOp):
    """`metric{...}[5m]`."""

    def __init__(self, node: Range, options: Options) -> None:
        self.selector = node.instant.selector
        self.one_name = node.instant.selector.metric_name is not None
        self._at = node.instant.at
        self._offset_ms = node.instant.offset_ms
        self._range_ms = node.range_ms
        self._closed = options.compat == "v2"

    def bounds(self, frame: Frame, at_ms: int) -> tuple[int, int, int]:
        """Where the window starts and ends, and the time after which samples belong to it (one before the start if that is closed)."""
        until = moved(frame, at_ms, at=self._at, offset_ms=self._offset_ms)
        start = max(until - self._range_ms, frame.floor_ms)
        return start, until, start - 1 if self._closed and start > frame.floor_ms else start

    def window(self, frame: Frame, at_ms: int) -> Window:
        start, until, after = self.bounds(frame, at_ms)
        spans = []
        for series in frame.view.select(self.selector):
            if series.newest_at_ms <= after:
                continue
            times, values = series.window(after, until)
            if times:
                spans.append(Span(series.labels, False, times, values, series.bare))
        return Window(start, until, at_ms, spans)


class SubqueryOp(MatrixOp):
    """`expr[1h:1m]`: the expression at every multiple of the step inside the window."""

    def __init__(self, node: Subquery, inner: VectorOp, options: Options) -> None:
        self._inner = inner
        self.one_name = inner.one_name
        self._range_ms = node.range_ms
        self._step_ms = node.step_ms or options.default_step_ms
        self._offset_ms = node.offset_ms
        self._at = node.at
        self._closed = options.compat == "v2"

    def window(self, frame: Frame, at_ms: int) -> Window:
        until = moved(frame, at_ms, at=self._at, offset_ms=self._offset_ms)
        start = max(until - self._range_ms, frame.floor_ms)
        step = self._step_ms
        first = start // step * step
        if first < start or (first == start and not self._closed):
            first += step
        if (until - first) // step >= frame.options.max_subquery_steps:
            raise EvalError(f"subquery has more than {frame.options.max_subquery_steps} steps")
        gathered: dict[Labels, Span] = {}
        for instant in range(first, until + 1, step):
            for labels, value, drop in self._inner.rows(frame, instant):
                span = gathered.get(labels)
                if span is None:
                    span = gathered[labels] = Span(labels, drop, array("q"), array("d"))
                elif span.times[-1] == instant:
                    raise EvalError(SAME_LABELSET)
                span.times.append(instant)
                span.values.append(value)
        return Window(start, until, at_ms, list(gathered.values()))
