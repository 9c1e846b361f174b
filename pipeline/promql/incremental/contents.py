"""What depends on the samples of a window alone: kept per series with the numbers of the window's first and last sample.

A kind is either recomputed where the window changed (`full`), or moved on by the samples that came and went (`slide`), which costs the same whatever
the window's length. A row whose samples were changed in place (a late sample) has another version and is recomputed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import numpy as np

from pipeline.promql.incremental import ragged
from pipeline.promql.incremental.block import Bools, Floats, Ints
from pipeline.promql.incremental.leaves import carried
from pipeline.series.columns import Columns

_EXACT: Final = 2.0**53  # below it, sums of integers are exact in any order


Span = tuple[Ints, Ints]


class Kind(ABC):
    """One function. Its state is a matrix with a column per series."""

    width = 1

    @abstractmethod
    def full(self, columns: Columns, rows: Ints, low: Ints, high: Ints) -> Floats:
        """The state of whole windows."""

    def slide(self, _columns: Columns, rows: Ints, state: Floats, _old: Span, _new: Span, /) -> tuple[Floats, Bools]:
        """The state moved on, and where that was possible. The samples that went are still stored."""
        return state, np.zeros(len(rows), bool)

    def values(self, _columns: Columns, _rows: Ints, _low: Ints, _high: Ints, state: Floats, /) -> Floats:
        """The function's values from states."""
        first: Floats = state[0]
        return first


class Kept:
    """States per series of one selection."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._rows: Ints = np.empty(0, np.int64)
        self._low, self._high, self._version = (np.empty(0, np.int64) for _ in range(3))
        self._state: Floats = np.empty((kind.width, 0))
        self._values: Floats = np.empty(0)

    def follow(self, rows: Ints) -> None:
        """The selection is this now."""
        if rows is self._rows:
            return
        old = self._rows
        self._low, self._high = carried(old, self._low, rows, -1), carried(old, self._high, rows, -1)
        self._version = carried(old, self._version, rows, -1)
        self._values = carried(old, self._values, rows, 0)
        self._state = np.array([carried(old, line, rows, 0) for line in self._state]).reshape(self._kind.width, len(rows))
        self._rows = rows

    def values(self, columns: Columns, places: Ints, low: Ints, high: Ints) -> Floats:
        """Values of the windows at these places of the selection."""
        version = columns.version[self._rows[places]]
        known = self._version[places] == version
        changed = ~known | (self._low[places] != low) | (self._high[places] != high)
        if changed.any():
            at = places[changed]
            self._renew(columns, at, low[changed], high[changed], known[changed])
            self._low[at], self._high[at], self._version[at] = low[changed], high[changed], version[changed]
            self._values[at] = self._kind.values(columns, self._rows[at], low[changed], high[changed], self._state[:, at])
        return self._values[places]

    def _renew(self, columns: Columns, at: Ints, low: Ints, high: Ints, known: Bools) -> None:
        rows, old_low, old_high = self._rows[at], self._low[at], self._high[at]
        able = np.flatnonzero(known & (old_low <= low) & (low < old_high) & (old_high <= high) & (old_low >= columns.start[rows]))
        done = np.zeros(len(at), bool)
        if able.size:
            before, now = (old_low[able], old_high[able]), (low[able], high[able])
            state, moved = self._kind.slide(columns, rows[able], self._state[:, at[able]], before, now)
            done[able[moved]] = True
            self._state[:, at[able[moved]]] = state[:, moved]
        rest = np.flatnonzero(~done)
        if rest.size:
            self._state[:, at[rest]] = self._kind.full(columns, rows[rest], low[rest], high[rest])


class Turns(Kind):
    """How many samples differ from the one before in some way: resets, changes."""

    def __init__(self, is_turn: Callable[[Floats, Floats], Bools]) -> None:
        self._is_turn = is_turn

    def _count(self, columns: Columns, rows: Ints, after: Ints, until: Ints) -> Floats:
        """Turns at the samples `after` < number < `until`."""
        where, owner = ragged.positions(columns.origin[rows] + after + 1, np.maximum(until - after - 1, 0))
        turns = self._is_turn(columns.values[where], columns.values[where - 1])
        counts: Floats = np.bincount(owner[turns], minlength=len(rows)).astype(np.float64)
        return counts

    def full(self, columns: Columns, rows: Ints, low: Ints, high: Ints) -> Floats:
        return self._count(columns, rows, low, high)[None, :]

    def slide(self, columns: Columns, rows: Ints, state: Floats, old: Span, new: Span) -> tuple[Floats, Bools]:
        gone = self._count(columns, rows, old[0], new[0] + 1)
        came = self._count(columns, rows, old[1] - 1, new[1])
        return state - gone + came, np.ones(len(rows), bool)


class Sums(Kind):
    """sum and average. Integers are summed exactly, sample by sample; any other window anew and in order, for there the order shows in the bits."""

    width = 3  # sum and sum of magnitudes of the integers, number of samples that are none

    def __init__(self, *, average: bool) -> None:
        self._average = average

    def _added(self, columns: Columns, rows: Ints, low: Ints, high: Ints) -> Floats:
        where, owner = ragged.positions(columns.origin[rows] + low, high - low)
        values = columns.values[where]
        whole = (np.abs(values) < _EXACT) & (np.floor(values) == values)
        values = np.where(whole, values, 0.0)
        parts = (values, np.abs(values), (~whole).astype(np.float64))
        return np.array([np.bincount(owner, weights=part, minlength=len(rows)) for part in parts])

    def full(self, columns: Columns, rows: Ints, low: Ints, high: Ints) -> Floats:
        return self._added(columns, rows, low, high)

    def slide(self, columns: Columns, rows: Ints, state: Floats, old: Span, new: Span) -> tuple[Floats, Bools]:
        came = self._added(columns, rows, old[1], new[1])
        exact = state[1] + came[1] < _EXACT
        return state + came - self._added(columns, rows, old[0], new[0]), exact

    def values(self, columns: Columns, rows: Ints, low: Ints, high: Ints, state: Floats) -> Floats:
        out: Floats = state[0] / (high - low) if self._average else state[0] + 0.0
        rest = np.flatnonzero((state[2] > 0) | (state[1] >= _EXACT))
        if rest.size:
            function = ragged.means if self._average else ragged.sums
            out[rest] = function(columns.values, columns.origin[rows[rest]] + low[rest], high[rest] - low[rest])
        return out


class Extreme(Kind):
    """min and max, with the number of the last sample that has that value: only when that one goes, the window is looked at as a whole."""

    width = 3  # the value, that number, whether zeros of both signs are there (then the first one's sign counts, and nothing is moved on)
    _MOST_NEW: Final = 64

    def __init__(self, *, lowest: bool) -> None:
        self._beats = np.less if lowest else np.greater
        self._reduce = np.fmin if lowest else np.fmax

    def full(self, columns: Columns, rows: Ints, low: Ints, high: Ints) -> Floats:
        first = columns.origin[rows] + low
        where, owner = ragged.positions(first, high - low)
        values = columns.values[where]
        best = self._reduce.reduceat(values, np.cumsum(high - low) - (high - low))
        same = np.flatnonzero(values == best[owner])
        oldest, newest = first.copy(), first.copy()
        oldest[owner[same[::-1]]] = where[same[::-1]]
        newest[owner[same]] = where[same]
        found = columns.values[oldest]
        negative = np.bincount(owner[(values == 0) & np.signbit(values)], minlength=len(rows))
        mixed = (found == 0) & (negative > 0)
        return np.array([found, (newest - columns.origin[rows]).astype(np.float64), mixed.astype(np.float64)])

    def slide(self, columns: Columns, rows: Ints, state: Floats, old: Span, new: Span) -> tuple[Floats, Bools]:
        best, place = state[0].copy(), state[1].copy()
        came = new[1] - old[1]
        able = (state[1] >= new[0]) & (came <= self._MOST_NEW) & (state[2] == 0)
        for step in range(min(int(came.max()), self._MOST_NEW)):
            there = came > step
            number = np.where(there, old[1] + step, old[1] - 1)
            value = columns.values[columns.origin[rows] + number]
            better = there & (self._beats(value, best) | np.isnan(best))
            equal = there & (value == best)
            able &= ~(equal & (np.signbit(value) != np.signbit(best)))
            best = np.where(better, value, best)
            place = np.where(better | equal, number, place)
        return np.array([best, place, state[2]]), able


class Spread(Kind):
    """Standard deviation and variance: anew where the window changed."""

    def __init__(self, *, root: bool) -> None:
        self._root = root

    def full(self, columns: Columns, rows: Ints, low: Ints, high: Ints) -> Floats:
        found = ragged.variances(columns.values, columns.origin[rows] + low, high - low)
        if self._root:
            found = np.where(found >= 0, np.sqrt(np.abs(found)), math.nan)
        return found[None, :]


def _fell(value: Floats, before: Floats) -> Bools:
    fell: Bools = value < before
    return fell


def _differs(value: Floats, before: Floats) -> Bools:
    differs: Bools = (value != before) & ~(np.isnan(value) & np.isnan(before))
    return differs


KINDS: Final[dict[str, Callable[[], Kind]]] = {
    "resets": lambda: Turns(_fell),
    "changes": lambda: Turns(_differs),
    "sum_over_time": lambda: Sums(average=False),
    "avg_over_time": lambda: Sums(average=True),
    "min_over_time": lambda: Extreme(lowest=True),
    "max_over_time": lambda: Extreme(lowest=False),
    "stddev_over_time": lambda: Spread(root=True),
    "stdvar_over_time": lambda: Spread(root=False),
}
