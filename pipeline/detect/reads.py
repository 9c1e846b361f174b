"""What a compiled expression reads, as the tracks need it: metrics, windows, how far its inputs have come.

Guarantee: answers come from the expression and from what is stored; nothing is evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.promql import Compiled, Read
from pipeline.series import Series, SeriesView, is_stale

LATE_BEATS: Final = 2.5  # one sample may be lost or on its way


@dataclass(frozen=True, slots=True)
class Reads:
    """All selectors of one expression. `window_ms`: the longest past that a range wants; 0 where only newest samples count."""

    items: tuple[Read, ...]
    look_back_ms: int
    window_ms: int

    @classmethod
    def of(cls, compiled: Compiled) -> Reads:
        """Collect them."""
        look_back_ms = compiled.options.look_back_ms
        windows = [item.reach_ms - (0 if item.range_ms else look_back_ms) for item in compiled.selectors if not item.pinned]
        return cls(compiled.selectors, look_back_ms, max(windows, default=0))

    @property
    def metric_names(self) -> frozenset[str]:
        """Metrics named outright."""
        return frozenset(item.selector.metric_name for item in self.items if item.selector.metric_name)

    @property
    def past_of(self) -> frozenset[str]:
        """Metrics of which more than the newest sample is looked at."""
        return frozenset(item.selector.metric_name for item in self.items if item.selector.metric_name and self._is_past(item))

    def series(self, view: SeriesView) -> list[Series]:
        """Everything selected now; a series selected twice comes twice."""
        return [series for item in self.items for series in view.select(item.selector)]

    def count(self, view: SeriesView) -> int:
        """How many series are selected now."""
        return sum(len(view.select(item.selector)) for item in self.items)

    def has_settled(self, view: SeriesView, at_ms: int) -> bool:
        """Whether every active series has delivered up to an instant, and there is one.

        Active: neither ended by a stale marker nor silent for the look-back.
        """
        active = False
        for item in self.items:
            until_ms = at_ms - max(item.offset_ms, 0)
            for series in view.select(item.selector):
                newest = series.times[-1]
                if newest >= until_ms:
                    active = True
                elif newest > until_ms - self.look_back_ms and not is_stale(series.values[-1]):
                    return False
        return active

    def silent(self, view: SeriesView, at_ms: int) -> int:
        """How many series should have spoken again by an instant and did not: neither ended by a stale marker nor silent for the look-back.

        Each is held to its own rhythm, the distance of its last two samples: more than `LATE_BEATS` of it is silence.
        """
        count = 0
        for item in self.items:
            until_ms = at_ms - max(item.offset_ms, 0)
            for series in () if item.pinned else view.select(item.selector):
                newest, beat_ms = series.times[-1], series.times[-1] - series.times[-2] if len(series.times) > 1 else until_ms
                late_ms = until_ms - newest
                count += LATE_BEATS * beat_ms < late_ms < self.look_back_ms and not is_stale(series.values[-1])
        return int(count)

    def first_sample_at_ms(self, view: SeriesView, origin: Labels, at_ms: int) -> int | None:
        """When the inputs of the element `origin` began: the first sample of the oldest series that agrees with its labels, up to `at_ms`."""
        firsts = [series.first_sample_at_ms for series in self.series(view) if _agree(series.labels, origin)]
        return min((first for first in firsts if first <= at_ms), default=None)

    def _is_past(self, item: Read) -> bool:
        return bool(item.range_ms or item.offset_ms or item.pinned or item.reach_ms > self.look_back_ms)


def _agree(series: Labels, origin: Labels) -> bool:
    """The metric's name does not count: an element of a recorded metric carries that one's."""
    return all(series.get(name, value) == value for name, value in origin.pairs if name != METRIC_NAME)
