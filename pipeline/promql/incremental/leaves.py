"""Reading the store's columns: newest samples and windows of all selected series at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.promql.incremental.block import Block, Bools, Index, Ints, Moment, Node, Shared, checked
from pipeline.promql.plan import Options
from pipeline.promql.selectors import moved
from pipeline.promql.tree import Instant, Range
from pipeline.series import Selector, Series
from pipeline.series.columns import STALE_BITS

N = TypeVar("N", np.int64, np.float64)


class Selected(Shared):
    """The series of one selector, shared by all who read them. `rows` and `index` are new objects whenever a series came or went."""

    def __init__(self, selector: Selector) -> None:
        super().__init__(None if selector.metric_name is None else {selector.metric_name})
        self._selector = selector
        self.one_name = selector.metric_name is not None
        self.series: Sequence[Series] = ()
        self.rows: Ints = np.empty(0, np.int64)
        self.keys = Index([], unique=True)

    def look(self, moment: Moment) -> None:
        """Bring it up to date."""
        selection = moment.store.select(self._selector)
        if selection is not self.series or selection.rows is not self.rows:
            self.series, self.rows = selection, selection.rows
            self.keys = Index([one.labels for one in selection], unique=True)

    def bare(self) -> Index:
        """The index without metric names."""
        index = self.keys.bare(self.series)
        if self.one_name:
            index.assume_unique()
        return index


def at_most(moment: Moment, rows: Ints, until_ms: int) -> Ints:
    """Per row the number of its first sample later than `until_ms`."""
    columns = moment.store.columns
    end = columns.end[rows]
    late = np.flatnonzero(columns.newest[rows] > until_ms)
    if late.size:
        end[late] = columns.seek(rows[late], until_ms, end[late])
    return end


class InstantNode(Node):
    """`metric{...}`. `stamps`: the samples' times (in seconds) in place of their values, names dropped: `timestamp(metric)`."""

    def __init__(self, node: Instant, selected: Selected, options: Options, *, stamps: bool = False) -> None:
        super().__init__(selected.names)
        self._node = node
        self._selected = selected
        self._reach_ms = options.look_back_ms + (options.compat == "v2")
        self._stamps = stamps

    def compute(self, moment: Moment) -> Block:
        self._selected.look(moment)
        rows, columns = self._selected.rows, moment.store.columns
        until_ms = moved(moment.frame(), moment.at_ms, at=self._node.at, offset_ms=self._node.offset_ms)
        last = at_most(moment, rows, until_ms) - 1
        place = columns.origin[rows] + last
        taken, values = columns.times[place], columns.values[place]
        there = (taken > until_ms - self._reach_ms) & (last >= columns.start[rows]) & (values.view(np.int64) != STALE_BITS)
        if self._stamps:
            return checked(Block(self._selected.bare(), None, taken / 1000).kept(there))
        return Block(self._selected.keys, None, values).kept(there)


class Cut(NamedTuple):
    """The windows of all selected series: samples `low` <= number < `high` of each row. `odd`: a stale marker may be among them."""

    rows: Ints
    low: Ints
    high: Ints
    odd: Bools
    start_ms: int
    end_ms: int
    after_ms: int


class Stretch(Shared):
    """`metric{...}[5m]`, shared by all functions of it."""

    def __init__(self, node: Range, selected: Selected, options: Options) -> None:
        super().__init__(selected.names)
        self.selected = selected
        self._node = node
        self._closed = options.compat == "v2"
        self._hint_rows: Ints = np.empty(0, np.int64)
        self._hint: Ints = np.empty(0, np.int64)
        self._cut: Cut | None = None

    def cut(self, moment: Moment) -> Cut:
        """The windows at an instant."""
        if self._cut is None or not self.is_fresh(moment):
            self._cut = self._compute(moment)
            self.computed(moment)
        return self._cut

    def _compute(self, moment: Moment) -> Cut:
        self.selected.look(moment)
        rows, columns, instant = self.selected.rows, moment.store.columns, self._node.instant
        until_ms = moved(moment.frame(), moment.at_ms, at=instant.at, offset_ms=instant.offset_ms)
        start_ms = until_ms - self._node.range_ms
        after_ms = start_ms - self._closed
        if rows is not self._hint_rows:
            self._hint, self._hint_rows = carried(self._hint_rows, self._hint, rows, 0), rows
        low = columns.seek(rows, after_ms, self._hint)
        self._hint = low
        return Cut(rows, low, at_most(moment, rows, until_ms), columns.stale[rows] >= low, start_ms, until_ms, after_ms)


def carried(old_rows: Ints, column: npt.NDArray[N], rows: Ints, missing: int) -> npt.NDArray[N]:
    """A column over `old_rows` brought to the order of `rows`."""
    out = np.full(len(rows), missing, column.dtype)
    if len(old_rows) and len(rows):
        order = np.argsort(old_rows)
        place = np.minimum(np.searchsorted(old_rows, rows, sorter=order), len(order) - 1)
        source = order[place]
        same = old_rows[source] == rows
        out[same] = column[source[same]]
    return out
