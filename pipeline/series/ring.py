"""`Series`: one label set and its recent samples, a row of the store's columns.

Guarantee: times strictly increase; a stale marker is stored (it ends the series for a reader) but never handed out as a value.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.series.columns import Columns
from pipeline.series.stale import is_stale

METADATA: Final = (METRIC_NAME, "__type__", "__unit__")
"""Labels that say what a metric is; they go as soon as a value means something else."""


class Series:
    """Samples of one label set, oldest first. `times` and `values` are views: valid until the next append or eviction, never to be written to."""

    __slots__ = ("_bare", "_columns", "first_sample_at_ms", "labels", "row")

    def __init__(self, labels: Labels, first_sample_at_ms: int, columns: Columns, row: int) -> None:
        self.labels = labels
        self.first_sample_at_ms = first_sample_at_ms
        """Time of the oldest sample ever stored here; eviction does not move it (warming is judged by it)."""
        self.row = row
        self._columns = columns
        self._bare: Labels | None = None

    @property
    def bare(self) -> Labels:
        """The labels without `METADATA`, built once and shared by all who need it."""
        if self._bare is None:
            self._bare = self.labels.drop(*METADATA)
        return self._bare

    @property
    def times(self) -> memoryview[int]:
        """When, in ms."""
        columns, row = self._columns, self.row
        origin = columns.origin_view[row]
        return columns.time_view[origin + columns.start_view[row] : origin + columns.end_view[row]]

    @property
    def values(self) -> memoryview[float]:
        """What."""
        columns, row = self._columns, self.row
        origin = columns.origin_view[row]
        return columns.value_view[origin + columns.start_view[row] : origin + columns.end_view[row]]

    @property
    def newest_at_ms(self) -> int:
        """Time of the newest sample; a series in a store always has one."""
        return self._columns.newest_view[self.row]

    @property
    def rising(self) -> bool:
        """No kept value is lower than the one before, and none is a stale marker: a counter without a reset."""
        columns, row = self._columns, self.row
        start = columns.start_view[row]
        return columns.fell_view[row] <= start and columns.stale_view[row] < start

    @property
    def _has_stale(self) -> bool:
        return self._columns.stale_view[self.row] >= self._columns.start_view[self.row]

    def __len__(self) -> int:
        return self._columns.end_view[self.row] - self._columns.start_view[self.row]

    def window(self, after_ms: int, until_ms: int) -> tuple[array[int], array[float]]:
        """Samples with `after_ms` < time <= `until_ms`, without stale markers. Copies: safe to keep."""
        times = self.times
        start = bisect_right(times, after_ms)
        end = len(times) if not times or times[-1] <= until_ms else bisect_right(times, until_ms, start)
        found, values = array("q"), array("d")
        found.frombytes(times[start:end].tobytes())
        values.frombytes(self.values[start:end].tobytes())
        if not self._has_stale or not any(map(is_stale, values)):
            return found, values
        kept = [index for index, value in enumerate(values) if not is_stale(value)]
        return array("q", [found[index] for index in kept]), array("d", [values[index] for index in kept])

    def last(self, after_ms: int, until_ms: int) -> tuple[int, float] | None:
        """The newest sample with `after_ms` < time <= `until_ms`; None if there is none or it is a stale marker."""
        times = self.times
        index = len(times) - 1 if times and times[-1] <= until_ms else bisect_right(times, until_ms) - 1
        if index < 0 or times[index] <= after_ms:
            return None
        value = self.values[index]
        if self._has_stale and is_stale(value):
            return None
        return times[index], value
