"""`SeriesStore`: all series of one detector, found by matchers.

Guarantees:
- appends never raise because of what they contain; each gets a reason (`Appended`);
- a late sample no older than `allowed_lateness_ms` before its series' newest is inserted in order, an older one is refused;
- the same time again replaces the value (the last one wins);
- `select` is ordered by labels, whatever the order of arrival, so float sums do not depend on it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

import numpy as np

from pipeline.model.labels import Labels
from pipeline.series.columns import Columns, Ints
from pipeline.series.matchers import Selector
from pipeline.series.ring import Series
from pipeline.series.view import NO_FLOOR, AnchoredView


class Appended(Enum):
    """What became of one sample."""

    STORED = "stored"
    LATE = "late_inserted"
    REPLACED = "replaced"
    TOO_LATE = "too_late"
    SERIES_LIMIT = "series_limit"
    METRIC_LIMIT = "series_per_metric_limit"
    LABEL_COUNT = "label_count_limit"
    LABEL_LENGTH = "label_length_limit"
    TIME_RANGE = "time_out_of_range"

    @property
    def refused(self) -> bool:
        """Whether the sample was not stored."""
        return self in _REFUSED


_REFUSED: Final = frozenset(Appended) - {Appended.STORED, Appended.LATE, Appended.REPLACED}
_MAX_TIME_MS: Final = 1 << 62
_FEW: Final = 24  # rows below which arrays cost more than they save


@dataclass(frozen=True, slots=True)
class SeriesLimits:
    """What one feed may cost. Lengths are characters. `selections`: how many look-ups are kept up to date; when full, all start over."""

    series: int = 1_000_000
    series_per_metric: int = 200_000
    labels: int = 64
    label_name_length: int = 256
    label_value_length: int = 4096
    selections: int = 5000


class EvictReport(NamedTuple):
    """How much an eviction forgot; `series` are those that have no sample left and are gone."""

    samples: int
    series: int


@dataclass(frozen=True, slots=True)
class ExtendReport:
    """Outcome of a batch: counts, and the row numbers that were refused, with the reason."""

    stored: int
    late: int = 0
    replaced: int = 0
    refused: list[tuple[int, Appended]] = field(default_factory=list)


class Selection(list[Series]):
    """A standing look-up. `rows`: the numbers of its series' rows; a new array whenever a series came or went."""

    __slots__ = ("_rows",)

    def __init__(self, members: Iterable[Series]) -> None:
        super().__init__(members)
        self._rows: Ints | None = None

    @property
    def rows(self) -> Ints:
        """Row numbers in the store's columns, in order."""
        if self._rows is None:
            self._rows = np.fromiter((series.row for series in self), np.int64, len(self))
        return self._rows

    def changed(self) -> None:
        """A series came or went."""
        self._rows = None


def _key(series: Series) -> tuple[tuple[str, str], ...]:
    return series.labels.pairs


class SeriesStore:
    """In-memory series. Single-threaded; lists from `select` live on and are valid only until the next append or eviction."""

    floor_ms: Final = NO_FLOOR

    def __init__(self, *, allowed_lateness_ms: int = 0, limits: SeriesLimits | None = None) -> None:
        self.allowed_lateness_ms = allowed_lateness_ms
        self.limits = limits or SeriesLimits()
        self._by_labels: dict[Labels, Series] = {}
        self._by_name: dict[str, list[Series]] = {}
        # Standing look-ups, kept up to date when a series comes or goes: selecting costs one dictionary access.
        self._standing: dict[Selector, Selection] = {}
        self._standing_by_name: dict[str | None, list[tuple[Selector, Selection]]] = {}
        self.columns = Columns()
        self._names: dict[str, int] = {}

    def append(self, labels: Labels, at_ms: int, value: float) -> Appended:
        """Store one sample; the result says what became of it."""
        series = self._by_labels.get(labels)
        if series is None:
            made = self._create(labels, at_ms)
            if isinstance(made, Appended):
                return made
            self.columns.append(made.row, at_ms, value)
            return Appended.STORED
        if _MAX_TIME_MS > at_ms > series.newest_at_ms:
            self.columns.append(series.row, at_ms, value)
            return Appended.STORED
        return self._append_late(series, at_ms, value)

    def _append_late(self, series: Series, at_ms: int, value: float) -> Appended:
        if not -_MAX_TIME_MS < at_ms < _MAX_TIME_MS:
            return Appended.TIME_RANGE
        if at_ms < series.newest_at_ms - self.allowed_lateness_ms:
            return Appended.TOO_LATE
        replaced = self.columns.put(series.row, at_ms, value)
        series.first_sample_at_ms = min(series.first_sample_at_ms, at_ms)
        return Appended.REPLACED if replaced else Appended.LATE

    def extend(self, labels: Sequence[Labels], at_ms: Sequence[int], values: Sequence[float]) -> ExtendReport:
        """Store a columnar batch; the outcome is that of its rows one by one, in order."""
        if not len(labels) == len(at_ms) == len(values):
            raise ValueError("labels, times and values of a batch must be equally many")
        known = list(map(self._by_labels.get, labels)) if len(labels) >= _FEW else []
        numbers = [row for row, series in enumerate(known) if series is not None]
        if len(numbers) < _FEW:
            return self._one_by_one(range(len(labels)), labels, at_ms, values, 0)
        try:
            times = np.array(at_ms, np.int64)
        except OverflowError:  # a time that no store can hold is among them
            return self._one_by_one(range(len(labels)), labels, at_ms, values, 0)
        rows = np.fromiter((series.row for series in known if series is not None), np.int64, len(numbers))
        return self._in_bulk(np.array(numbers), rows, times, labels, at_ms, values)

    def _in_bulk(
        self, numbers: Ints, rows: Ints, times: Ints, labels: Sequence[Labels], at_ms: Sequence[int], values: Sequence[float]
    ) -> ExtendReport:
        """Known series with newer samples at once, the first of each, then the second, ...; everything else one by one: what one series does never
        bears on another's outcome.
        """
        order = np.argsort(rows, kind="stable")
        rows, numbers = rows[order], numbers[order]
        own, floats = times[numbers], np.array(values, np.float64)[numbers]
        begins = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
        before = np.concatenate(([0], own[:-1]))
        before[begins] = self.columns.newest[rows[begins]]
        fits = np.logical_and.reduceat((own > before) & (own < _MAX_TIME_MS), begins)
        counts = np.diff(begins, append=len(rows))
        chosen = np.empty(0, np.int64)
        for turn in range(int(counts.max())):
            picked = begins[fits & (counts > turn)] + turn
            if len(picked) < _FEW:
                break
            self.columns.append_many(rows[picked], own[picked], floats[picked])
            chosen = np.concatenate((chosen, numbers[picked]))
        if len(chosen) == len(labels):
            return ExtendReport(len(chosen))
        rest = np.ones(len(labels), bool)
        rest[chosen] = False
        return self._one_by_one(np.flatnonzero(rest).tolist(), labels, at_ms, values, len(chosen))

    def _one_by_one(self, rows: Iterable[int], labels: Sequence[Labels], at_ms: Sequence[int], values: Sequence[float], stored: int) -> ExtendReport:
        counts = {Appended.STORED: stored, Appended.LATE: 0, Appended.REPLACED: 0}
        refused: list[tuple[int, Appended]] = []
        append = self.append
        for row in rows:
            result = append(labels[row], at_ms[row], values[row])
            if result in counts:
                counts[result] += 1
            else:
                refused.append((row, result))
        return ExtendReport(counts[Appended.STORED], counts[Appended.LATE], counts[Appended.REPLACED], refused)

    def evict(self, before_ms: int, *, by_metric: Mapping[str, int] | None = None) -> EvictReport:
        """Forget samples older than `before_ms` (for a metric in `by_metric`: older than its own bound) and series left empty."""
        bounds = by_metric or {}
        samples = 0
        empty: list[Series] = []
        for name, members in self._by_name.items():
            rows = np.fromiter((series.row for series in members), np.int64, len(members))
            samples += int(self.columns.drop_before(rows, bounds.get(name, before_ms)).sum())
            empty += [members[index] for index in np.flatnonzero(self.columns.start[rows] == self.columns.end[rows]).tolist()]
        for series in empty:
            self._remove(series)
        return EvictReport(samples, len(empty))

    def changed_at(self, names: Iterable[str] | None) -> int:
        """The columns' clock at the last change of any of these metrics (None: of any at all)."""
        if names is None:
            return self.columns.clock
        touched = self.columns.touched
        return max((int(touched[number]) for name in names if (number := self._names.get(name)) is not None), default=0)

    def select(self, selector: Selector) -> Selection:
        """All series that `selector` accepts, ordered by labels."""
        found = self._standing.get(selector)
        if found is None:
            found = Selection(series for series in self._candidates(selector) if selector.accepts(series.labels))
            if selector.metric_name is None:
                found.sort(key=_key)
            if len(self._standing) >= self.limits.selections:
                self.forget_selections()
            self._standing[selector] = found
            self._standing_by_name.setdefault(selector.metric_name, []).append((selector, found))
        return found

    def after(self, anchor_ms: int) -> AnchoredView:
        """A view that shows only samples with a time above `anchor_ms`."""
        return AnchoredView(self, anchor_ms)

    def get(self, labels: Labels) -> Series | None:
        """The series with exactly these labels."""
        return self._by_labels.get(labels)

    def forget_selections(self) -> None:
        """Drop all standing look-ups (after a rule reload); the next `select` of each builds it anew."""
        self._standing.clear()
        self._standing_by_name.clear()

    @property
    def metric_names(self) -> Iterable[str]:
        """Names of the metrics that have a series now."""
        return self._by_name.keys()

    @property
    def newest_at_ms(self) -> int | None:
        """The newest sample's time over all series; None for an empty store. Costs a pass over the series."""
        return max((series.newest_at_ms for series in self._by_labels.values()), default=None)

    def __len__(self) -> int:
        return len(self._by_labels)

    def __iter__(self) -> Iterator[Series]:
        return iter(self._by_labels.values())

    def _candidates(self, selector: Selector) -> Iterable[Series]:
        if selector.metric_name is not None:
            return self._by_name.get(selector.metric_name, ())
        return self._by_labels.values()

    def _create(self, labels: Labels, at_ms: int) -> Series | Appended:
        name = labels.metric_name
        refusal = self._refusal(labels, name, at_ms)
        if refusal is not None:
            return refusal
        number = self._names.setdefault(name, len(self._names))
        series = Series(labels, at_ms, self.columns, self.columns.new_row(number))
        self._by_labels[labels] = series
        insort(self._by_name.setdefault(name, []), series, key=_key)
        for bucket in {name, None}:
            for selector, found in self._standing_by_name.get(bucket, ()):
                if selector.accepts(labels):
                    insort(found, series, key=_key)
                    found.changed()
        return series

    def _refusal(self, labels: Labels, name: str, at_ms: int) -> Appended | None:
        limits = self.limits
        if not -_MAX_TIME_MS < at_ms < _MAX_TIME_MS:
            return Appended.TIME_RANGE
        if len(labels) > limits.labels:
            return Appended.LABEL_COUNT
        if any(len(key) > limits.label_name_length or len(value) > limits.label_value_length for key, value in labels.pairs):
            return Appended.LABEL_LENGTH
        if len(self._by_labels) >= limits.series:
            return Appended.SERIES_LIMIT
        if len(self._by_name.get(name, ())) >= limits.series_per_metric:
            return Appended.METRIC_LIMIT
        return None

    def _remove(self, series: Series) -> None:
        name = series.labels.metric_name
        del self._by_labels[series.labels]
        members = self._by_name[name]
        _take_out(members, series)
        if not members:
            del self._by_name[name]
        for bucket in {name, None}:
            for _, found in self._standing_by_name.get(bucket, ()):
                if _take_out(found, series):
                    found.changed()
        self.columns.free_row(series.row)


def _take_out(members: list[Series], series: Series) -> bool:
    index = bisect_left(members, _key(series), key=_key)
    found = index < len(members) and members[index] is series
    if found:
        del members[index]
    return found
