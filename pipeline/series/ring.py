"""`Series`: one label set and its recent samples in two flat arrays.

Guarantee: times strictly increase; a stale marker is stored (it ends the series for a reader) but never handed out as a value.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.series.stale import is_stale

METADATA: Final = (METRIC_NAME, "__type__", "__unit__")
"""Labels that say what a metric is; they go as soon as a value means something else."""


class Series:
    """Samples of one label set, oldest first. 16 bytes a sample; read through `window` and `last`, never change the arrays from outside."""

    __slots__ = ("_bare", "_stale", "first_sample_at_ms", "labels", "rising", "times", "values")

    def __init__(self, labels: Labels, first_sample_at_ms: int) -> None:
        self.labels = labels
        self.times = array("q")
        self.values = array("d")
        self.first_sample_at_ms = first_sample_at_ms
        """Time of the oldest sample ever stored here; eviction does not move it (warming is judged by it)."""
        self.rising = True
        """No kept or forgotten value was lower than the one before, and no stale marker came: a counter without a reset. Once false, it stays so."""
        self._stale = 0
        self._bare: Labels | None = None

    @property
    def bare(self) -> Labels:
        """The labels without `METADATA`, built once and shared by all who need it."""
        if self._bare is None:
            self._bare = self.labels.drop(*METADATA)
        return self._bare

    @property
    def newest_at_ms(self) -> int:
        """Time of the newest sample; a series in a store always has one."""
        return self.times[-1]

    def __len__(self) -> int:
        return len(self.times)

    def append(self, at_ms: int, value: float) -> None:
        """Add the newest sample; `at_ms` is above `newest_at_ms`."""
        values = self.values
        if self.rising and values and value < values[-1]:
            self.rising = False
        self.times.append(at_ms)
        values.append(value)
        if value != value and is_stale(value):  # noqa: PLR0124 - per sample: the cheapest test for NaN
            self._stale += 1
            self.rising = False

    def put(self, at_ms: int, value: float) -> bool:
        """Insert in order; a sample with the same time is replaced (the last one wins). True if it was."""
        index = bisect_left(self.times, at_ms)
        replaced = index < len(self.times) and self.times[index] == at_ms
        if replaced:
            self._stale -= is_stale(self.values[index])
            self.values[index] = value
        else:
            self.times.insert(index, at_ms)
            self.values.insert(index, value)
            self.first_sample_at_ms = min(self.first_sample_at_ms, at_ms)
        self._stale += is_stale(value)
        self.rising = self.rising and self._fits(index)
        return replaced

    def _fits(self, index: int) -> bool:
        """Whether the value at `index` is between its neighbours, and no stale marker."""
        values = self.values
        fell = (index > 0 and values[index] < values[index - 1]) or (index + 1 < len(values) and values[index + 1] < values[index])
        return not fell and not is_stale(values[index])

    def drop_before(self, before_ms: int) -> int:
        """Forget samples older than `before_ms`; returns how many."""
        times = self.times
        if not times or times[0] >= before_ms:
            return 0
        count = bisect_left(times, before_ms)
        if self._stale:
            self._stale -= sum(map(is_stale, self.values[:count]))
        del times[:count]
        del self.values[:count]
        return count

    def window(self, after_ms: int, until_ms: int) -> tuple[array[int], array[float]]:
        """Samples with `after_ms` < time <= `until_ms`, without stale markers. Copies: safe to keep."""
        times = self.times
        start = bisect_right(times, after_ms)
        end = len(times) if not times or times[-1] <= until_ms else bisect_right(times, until_ms, start)
        found, values = times[start:end], self.values[start:end]
        if not self._stale or not any(map(is_stale, values)):
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
        if self._stale and is_stale(value):
            return None
        return times[index], value
