"""Functions of windows. Three kinds: those that look at a window's edges only; those that depend on nothing but the samples in it, kept per
series and moved on by the samples that came and went; and all others, computed by the evaluator's own function per series.

Guarantee: windows with a stale marker, and whatever has no columnar form, are computed by the evaluator's function, so they agree by construction.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from pipeline.promql.aggregate import warn_quantile
from pipeline.promql.incremental import contents, ragged
from pipeline.promql.incremental.block import Block, Bools, Floats, Ints, Moment, Node, checked
from pipeline.promql.incremental.leaves import Cut, Stretch
from pipeline.promql.incremental.rows import Number
from pipeline.promql.over_time import KEEPS_NAME, RANGE_FUNCTIONS
from pipeline.promql.plan import Window
from pipeline.promql.ranged import hint_not_a_counter
from pipeline.series.columns import Columns

_LINES: Final = frozenset({"deriv", "predict_linear"})
_HINTED: Final = frozenset({"rate", "increase"})


class WindowNode(Node):
    """A function of a range selector."""

    def __init__(self, name: str, stretch: Stretch, args: Sequence[Number]) -> None:
        super().__init__(_names(stretch, args))
        self._name = name
        self._stretch = stretch
        self._args = args
        self._function = RANGE_FUNCTIONS[name]
        self._keeps_name = name in KEEPS_NAME

    def compute(self, moment: Moment) -> Block:
        frame = moment.frame()
        args = [arg.number(moment, frame) for arg in self._args]
        cut = self._stretch.cut(moment)
        selected = self._stretch.selected
        some = cut.high > cut.low
        values = np.zeros(len(cut.rows))
        there = some.copy()
        regular = np.flatnonzero(some & ~cut.odd)
        if regular.size:
            with np.errstate(all="ignore"):
                values[regular], there[regular] = self.regular(moment, cut, regular, args)
        first = int(regular[0]) if regular.size else len(cut.rows)
        for place in np.flatnonzero(some & cut.odd).tolist():
            times, samples = selected.series[place].window(cut.after_ms, cut.end_ms)
            value = None
            if times:
                first = min(first, place)
                value = self._function(times, samples, Window(cut.start_ms, cut.end_ms, moment.at_ms, []), args)
            there[place] = value is not None
            values[place] = 0.0 if value is None else value
        if first < len(cut.rows):
            if self._name == "quantile_over_time":
                warn_quantile(frame, args[0])
            elif self._name in _HINTED:
                hint_not_a_counter(frame, selected.series[first].labels.metric_name)
        index = selected.keys if self._keeps_name else selected.bare()
        block = Block(index, None, values, frame.notes()).kept(there)
        return block if self._keeps_name else checked(block)

    @abstractmethod
    def regular(self, moment: Moment, cut: Cut, places: Ints, args: Sequence[float], /) -> tuple[Floats, Bools]:
        """Values of the windows at these places, none of them empty, and whether there is one."""


def _names(stretch: Stretch, args: Sequence[Number]) -> frozenset[str] | None:
    names = stretch.names
    for arg in args:
        names = None if names is None or arg.names is None else names | arg.names
    return names


class EdgeNode(WindowNode):
    """rate, increase, delta, irate, idelta and the like: the first and the last two samples of each window, and where a counter fell between them."""

    def regular(self, moment: Moment, cut: Cut, places: Ints, _args: Sequence[float], /) -> tuple[Floats, Bools]:
        columns = moment.store.columns
        rows, low, high = cut.rows[places], cut.low[places], cut.high[places]
        return _EDGES[self._name](columns, rows, low, high, cut)


Edge = Callable[[Columns, Ints, Ints, Ints, Cut], tuple[Floats, Bools]]


def _risen(columns: Columns, rows: Ints, low: Ints, high: Ints) -> Floats:
    """How far counters rose: last minus first, plus what each reset lost, in order."""
    base, values = columns.origin[rows], columns.values
    change: Floats = values[base + high - 1] - values[base + low]
    for place in np.flatnonzero(columns.fell[rows] > low).tolist():
        samples = values[base[place] + low[place] : base[place] + high[place]]
        total = float(change[place])
        for lost in samples[:-1][samples[1:] < samples[:-1]].tolist():
            total += lost
        change[place] = total
    return change


def _over_window(*, counter: bool, per_second: bool) -> Edge:
    def edge(columns: Columns, rows: Ints, low: Ints, high: Ints, cut: Cut) -> tuple[Floats, Bools]:
        base, count = columns.origin[rows], high - low
        begin, end = columns.times[base + low], columns.times[base + high - 1]
        first = columns.values[base + low]
        change = _risen(columns, rows, low, high) if counter else columns.values[base + high - 1] - first
        to_start, to_end, covered = (begin - cut.start_ms) / 1000, (cut.end_ms - end) / 1000, (end - begin) / 1000
        between = covered / (count - 1)
        to_start = np.where(to_start >= between * 1.1, between / 2, to_start)
        if counter:
            to_zero = covered * (first / change)
            to_start = np.where((change > 0) & (first >= 0) & (to_zero < to_start), to_zero, to_start)
        to_end = np.where(to_end >= between * 1.1, between / 2, to_end)
        factor = (covered + to_start + to_end) / covered
        return change * (factor / ((cut.end_ms - cut.start_ms) / 1000 if per_second else 1.0)), count > 1

    return edge


def _last_two(columns: Columns, rows: Ints, low: Ints, high: Ints) -> tuple[Floats, Floats, Ints, Bools]:
    last = columns.origin[rows] + high - 1
    enough = high - low > 1
    before = np.where(enough, last - 1, last)
    return columns.values[last], columns.values[before], columns.times[last] - columns.times[before], enough


def _irate(columns: Columns, rows: Ints, low: Ints, high: Ints, _cut: Cut) -> tuple[Floats, Bools]:
    last, before, apart_ms, enough = _last_two(columns, rows, low, high)
    return np.where(last < before, last, last - before) / (apart_ms / 1000), enough


def _idelta(columns: Columns, rows: Ints, low: Ints, high: Ints, _cut: Cut) -> tuple[Floats, Bools]:
    last, before, _, enough = _last_two(columns, rows, low, high)
    return last - before, enough


def _sample(*, newest: bool, when: bool) -> Edge:
    def edge(columns: Columns, rows: Ints, low: Ints, high: Ints, _cut: Cut) -> tuple[Floats, Bools]:
        place = columns.origin[rows] + (high - 1 if newest else low)
        return columns.times[place] / 1000 if when else columns.values[place], np.ones(len(rows), bool)

    return edge


_EDGES: Final[dict[str, Edge]] = {
    "rate": _over_window(counter=True, per_second=True),
    "increase": _over_window(counter=True, per_second=False),
    "delta": _over_window(counter=False, per_second=False),
    "irate": _irate,
    "idelta": _idelta,
    "last_over_time": _sample(newest=True, when=False),
    "first_over_time": _sample(newest=False, when=False),
    "ts_of_last_over_time": _sample(newest=True, when=True),
    "ts_of_first_over_time": _sample(newest=False, when=True),
    "count_over_time": lambda _columns, _rows, low, high, _cut: ((high - low).astype(np.float64), high > low),
    "present_over_time": lambda _columns, _rows, low, high, _cut: (np.ones(len(low)), high > low),
}


class ContentNode(WindowNode):
    """A function of nothing but the samples of a window: kept while they are the same, moved on where some came and went."""

    def __init__(self, name: str, stretch: Stretch, args: Sequence[Number]) -> None:
        super().__init__(name, stretch, args)
        self._kept = contents.Kept(contents.KINDS[name]())

    def regular(self, moment: Moment, cut: Cut, places: Ints, _args: Sequence[float], /) -> tuple[Floats, Bools]:
        self._kept.follow(cut.rows)
        values = self._kept.values(moment.store.columns, places, cut.low[places], cut.high[places])
        return values, np.ones(len(places), bool)


class LineNode(WindowNode):
    """`deriv` and `predict_linear`: the least squares line through all samples of a window, all series at once."""

    def regular(self, moment: Moment, cut: Cut, places: Ints, args: Sequence[float], /) -> tuple[Floats, Bools]:
        columns = moment.store.columns
        rows, low, high = cut.rows[places], cut.low[places], cut.high[places]
        base, count = columns.origin[rows] + low, high - low
        origin = columns.times[base] if self._name == "deriv" else np.full(len(rows), moment.at_ms)
        where, owner = ragged.positions(base, count)
        x, y = (columns.times[where] - origin[owner]) / 1000, columns.values[where]
        begins = np.cumsum(count) - count
        sum_x, sum_y, sum_xy, sum_xx = (ragged.sums(part, begins, count) for part in (x, y, x * y, x * x))
        slope = (sum_xy - sum_x * sum_y / count) / (sum_xx - sum_x * sum_x / count)
        intercept = sum_y / count - slope * sum_x / count
        first = columns.values[base]
        level = np.logical_and.reduceat(y == first[owner], begins)
        slope = np.where(level, np.where(np.isinf(first), np.nan, 0.0), slope)
        intercept = np.where(level, np.where(np.isinf(first), np.nan, first), intercept)
        return slope if self._name == "deriv" else slope * args[0] + intercept, count > 1


class EachNode(WindowNode):
    """The evaluator's function per series; kept where the samples and the arguments are the same."""

    def __init__(self, name: str, stretch: Stretch, args: Sequence[Number]) -> None:
        super().__init__(name, stretch, args)
        self._kept: dict[int, tuple[tuple[object, ...], float | None]] = {}

    def regular(self, moment: Moment, cut: Cut, places: Ints, args: Sequence[float], /) -> tuple[Floats, Bools]:
        version = moment.store.columns.version
        window = Window(cut.start_ms, cut.end_ms, moment.at_ms, [])
        found: list[float | None] = []
        kept: dict[int, tuple[tuple[object, ...], float | None]] = {}
        for place, row in zip(places.tolist(), cut.rows[places].tolist(), strict=True):
            key = (int(cut.low[place]), int(cut.high[place]), int(version[row]), *map(repr, args))
            known = self._kept.get(row)
            if known is None or known[0] != key:
                times, samples = self._stretch.selected.series[place].window(cut.after_ms, cut.end_ms)
                known = key, self._function(times, samples, window, args)
            kept[row] = known
            found.append(known[1])
        self._kept = kept
        return np.array([0.0 if one is None else one for one in found], np.float64), np.array([one is not None for one in found], bool)


def window_node(name: str, stretch: Stretch, args: Sequence[Number]) -> WindowNode:
    """The node of a range function."""
    kind = EdgeNode if name in _EDGES else ContentNode if name in contents.KINDS else LineNode if name in _LINES else EachNode
    return kind(name, stretch, args)


def is_incremental(name: str) -> bool:
    """Whether a range function has a columnar form."""
    return name in _EDGES or name in contents.KINDS or name in _LINES
