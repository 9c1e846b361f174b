"""`Columns`: the samples of all series of a store in two flat arrays, so that a batch is stored and read with a few array operations.

A series is a row. Its samples lie side by side; sample number `seq` of row r is at `origin[r] + seq`, and `start[r] <= seq < end[r]` are
kept. Numbers stay valid when a row moves; a sample put in between others renumbers those behind it, and then `version[r]` changes.

Guarantee: times of a row strictly increase. Cost of an append does not grow with the number of samples kept (amortised).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.series.stale import STALE_NAN

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

STALE_BITS: Final = int(np.array([STALE_NAN]).view(np.int64)[0])
_ROW_COLUMNS: Final = ("origin", "limit", "cells", "start", "end", "newest", "fell", "stale", "version", "name")
_FIRST_CELLS: Final = 4
_STEPS: Final = 3  # how far a search walks from where it was last time before it halves


class Columns:
    """Storage of rows. `fell`: number of the newest sample that is lower than the one before it; `stale`: of the newest stale marker; -1: none."""

    def __init__(self) -> None:
        self.times: Ints = np.empty(16, np.int64)
        self.values: Floats = np.empty(16, np.float64)
        self.origin, self.limit, self.cells, self.start, self.end = (np.zeros(4, np.int64) for _ in range(5))
        self.newest, self.fell, self.stale, self.version, self.name = (np.zeros(4, np.int64) for _ in range(5))
        self.touched: Ints = np.zeros(4, np.int64)
        """By number of a metric name: `clock` of its last change."""
        self.clock = 0
        self._used = 0  # cells of the two arrays that are given out
        self._rows = 0
        self._free: list[int] = []
        self._views()
        self._row_views()

    def _views(self) -> None:
        """Memory views: reading one element through them is much cheaper than through the array."""
        self.time_view: memoryview[int] = _view(self.times)
        self.value_view: memoryview[float] = _view(self.values)

    def _row_views(self) -> None:
        self.origin_view: memoryview[int] = _view(self.origin)
        self.limit_view: memoryview[int] = _view(self.limit)
        self.cells_view: memoryview[int] = _view(self.cells)
        self.start_view: memoryview[int] = _view(self.start)
        self.end_view: memoryview[int] = _view(self.end)
        self.newest_view: memoryview[int] = _view(self.newest)
        self.fell_view: memoryview[int] = _view(self.fell)
        self.stale_view: memoryview[int] = _view(self.stale)
        self.name_view: memoryview[int] = _view(self.name)
        self.version_view: memoryview[int] = _view(self.version)
        self.touched_view: memoryview[int] = _view(self.touched)

    @property
    def nbytes(self) -> int:
        """Memory held by the arrays."""
        return int(self.times.nbytes + self.values.nbytes + sum(getattr(self, column).nbytes for column in _ROW_COLUMNS))

    def new_row(self, name: int) -> int:
        """A row without samples; the caller appends at once."""
        if self._free:
            row = self._free.pop()
        else:
            row = self._rows
            self._rows += 1
            if self._rows > len(self.origin):
                for column in _ROW_COLUMNS:
                    setattr(self, column, _grown(getattr(self, column), self._rows))
                self._row_views()
        if name >= len(self.touched):
            self.touched = _grown(self.touched, name + 1)
            self._row_views()
        base = self._allocate(_FIRST_CELLS)
        self.origin_view[row], self.limit_view[row], self.cells_view[row] = base, base + _FIRST_CELLS, _FIRST_CELLS
        self.start_view[row] = self.end_view[row] = self.newest_view[row] = 0
        self.fell_view[row] = self.stale_view[row] = -1
        self.name_view[row] = name
        self._changed(row)
        return row

    def free_row(self, row: int) -> None:
        """Forget a row; its number is given out again."""
        self._changed(row)
        self.cells_view[row] = 0
        self.start_view[row] = self.end_view[row] = 0
        self._free.append(row)

    def append(self, row: int, at_ms: int, value: float) -> None:
        """Add the newest sample of a row."""
        end = self.end_view[row]
        position = self.origin_view[row] + end
        if position >= self.limit_view[row]:
            self._make_room(np.array([row]))
            position = self.origin_view[row] + end
        values = self.value_view
        self.time_view[position] = at_ms
        values[position] = value
        if value != value:  # noqa: PLR0124 - per sample: the cheapest test for NaN
            if self.values.view(np.int64)[position] == STALE_BITS:
                self.stale_view[row] = end
        elif end > self.start_view[row] and value < values[position - 1]:
            self.fell_view[row] = end
        self.end_view[row] = end + 1
        self.newest_view[row] = at_ms
        self._touch(row)

    def append_many(self, rows: Ints, at_ms: Ints, values: Floats) -> None:
        """Add the newest sample of many rows, each named once."""
        end = self.end[rows]
        position = self.origin[rows] + end
        full = position >= self.limit[rows]
        if full.any():
            self._make_room(rows[full])
            position = self.origin[rows] + end
        fell = (values < self.values[position - 1]) & (end > self.start[rows])
        self.times[position] = at_ms
        self.values[position] = values
        if fell.any():
            self.fell[rows[fell]] = end[fell]
        stale = values.view(np.int64) == STALE_BITS
        if stale.any():
            self.stale[rows[stale]] = end[stale]
        self.end[rows] = end + 1
        self.newest[rows] = at_ms
        self.clock += 1
        self.touched[self.name[rows]] = self.clock

    def put(self, row: int, at_ms: int, value: float) -> bool:
        """Insert in order; a sample with the same time is replaced. True if it was."""
        low, high = self.origin_view[row] + self.start_view[row], self.origin_view[row] + self.end_view[row]
        position = low + int(np.searchsorted(self.times[low:high], at_ms))
        replaced = position < high and self.time_view[position] == at_ms
        if replaced:
            self.value_view[position] = value
        else:
            if high >= self.limit_view[row]:
                ahead = high - position
                self._make_room(np.array([row]))
                high = self.origin_view[row] + self.end_view[row]
                position = high - ahead
            self.times[position + 1 : high + 1] = self.times[position:high]
            self.values[position + 1 : high + 1] = self.values[position:high]
            self.time_view[position], self.value_view[position] = at_ms, value
            self.end_view[row] += 1
        self._judge(row)
        self._changed(row)
        return replaced

    def drop_before(self, rows: Ints, before_ms: int) -> Ints:
        """Forget samples older than an instant; returns how many, per row."""
        start = self.seek(rows, before_ms - 1, self.start[rows])
        count: Ints = start - self.start[rows]
        if count.any():
            self.start[rows] = start
            self.clock += 1
            self.touched[self.name[rows]] = self.clock
        return count

    def seek(self, rows: Ints, after_ms: int, hint: Ints) -> Ints:
        """Per row the number of its first sample later than `after_ms`; its end if there is none. A good `hint` is cheap, a bad one harmless."""
        times, base = self.times, self.origin[rows]
        low, high = self.start[rows], self.end[rows]
        found: Ints = np.minimum(np.maximum(hint, low), high)
        todo = np.flatnonzero((found < high) & (times[base + np.minimum(found, high - 1)] <= after_ms))
        behind = np.flatnonzero((found > low) & (times[base + np.maximum(found - 1, low)] > after_ms))
        for _ in range(_STEPS):
            if not todo.size:
                break
            found[todo] += 1
            at, end = found[todo], high[todo]
            todo = todo[(at < end) & (times[base[todo] + np.minimum(at, end - 1)] <= after_ms)]
        if todo.size or behind.size:
            rest = np.concatenate((todo, behind))
            found[rest] = _halving(times, base[rest], low[rest], high[rest], after_ms)
        return found

    def _allocate(self, cells: int) -> int:
        if self._used + cells > len(self.times):
            self._renew(cells)
        base = self._used
        self._used += cells
        return base

    def _renew(self, wanted: int) -> None:
        """Larger arrays, without the cells that nobody owns."""
        rows = np.flatnonzero(self.cells[: self._rows] > 0)
        live = int(self.cells[rows].sum())
        size = live + wanted + max(16, live // 16)
        times, values = np.empty(size, np.int64), np.empty(size, np.float64)
        bases = np.cumsum(self.cells[rows]) - self.cells[rows]
        self._move(rows, bases, times, values)
        self._used = live
        self.times, self.values = times, values
        self.limit[rows] = bases + self.cells[rows]
        self._views()

    def _move(self, rows: Ints, bases: Ints, times: Ints, values: Floats) -> None:
        """Copy the kept samples of rows to new places."""
        count = self.end[rows] - self.start[rows]
        step = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        source = np.repeat(self.origin[rows] + self.start[rows], count) + step
        target = np.repeat(bases, count) + step
        times[target], values[target] = self.times[source], self.values[source]
        self.origin[rows] = bases - self.start[rows]

    def _make_room(self, rows: Ints) -> None:
        """Room for one more sample at the end of each row: by moving to the row's own front where enough was forgotten there, else by more cells."""
        base = self.limit[rows] - self.cells[rows]
        forgotten = self.origin[rows] + self.start[rows] - base
        enough = forgotten >= 2 + self.cells[rows] // 8
        stay, grow = rows[enough], rows[~enough]
        if stay.size:
            self._move(stay, base[enough], self.times, self.values)
        if not grow.size:
            return
        old = self.cells[grow]
        cells = np.where(old < 12, old + old // 2, old + old // 4)
        total = int(cells.sum())
        self.cells[grow] = cells
        if self._used + total > len(self.times):
            self._renew(0)
            return
        bases = self._used + np.cumsum(cells) - cells
        self._move(grow, bases, self.times, self.values)
        self._used += total
        self.limit[grow] = bases + cells

    def _judge(self, row: int) -> None:
        """Find anew where the row last fell and last was stale."""
        start, end = self.start_view[row], self.end_view[row]
        values = self.values[self.origin_view[row] + start : self.origin_view[row] + end]
        fell = np.flatnonzero(values[1:] < values[:-1])
        stale = np.flatnonzero(values.view(np.int64) == STALE_BITS)
        self.fell_view[row] = start + 1 + int(fell[-1]) if fell.size else -1
        self.stale_view[row] = start + int(stale[-1]) if stale.size else -1

    def _touch(self, row: int) -> None:
        self.clock += 1
        self.touched_view[self.name_view[row]] = self.clock

    def _changed(self, row: int) -> None:
        self._touch(row)
        self.version_view[row] = self.clock


def _view(column: Any) -> Any:
    return memoryview(column)


def _grown(column: npt.NDArray[Any], least: int) -> npt.NDArray[Any]:
    out = np.zeros(least + max(4, least // 8), column.dtype)
    out[: len(column)] = column
    return out


def _halving(times: Ints, base: Ints, low: Ints, high: Ints, after_ms: int) -> Ints:
    while (open_ := low < high).any():
        middle = (low + high) >> 1
        right = open_ & (times[base + np.where(open_, middle, low - 1)] <= after_ms)
        low = np.where(right, middle + 1, low)
        high = np.where(open_ & ~right, middle, high)
    return low
