"""Functions of instant vectors and scalars: mathematics, clock and calendar, labels, sorting, absence.

Guarantee: names are dropped exactly where Prometheus drops them; label functions refuse results with equal label sets.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.model.labels import EMPTY, METRIC_NAME, Labels
from pipeline.promql.errors import EvalError
from pipeline.promql.numeric import nan_lowest
from pipeline.promql.plan import SAME_LABELSET, Cells, Frame, MatrixOp, NameDropper, Options, ScalarOp, VectorOp, distinct
from pipeline.promql.selectors import InstantOp
from pipeline.promql.tree import Instant, Node, Range, unwrap
from pipeline.series import MatchOp
from pipeline.series.matchers import anchored_regex

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FloatArray = npt.NDArray[np.float64]

MATH: Final[dict[str, Callable[[Any], Any]]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "rad": lambda values: values * math.pi / 180,
    "deg": lambda values: values * 180 / math.pi,
    "sgn": np.sign,
}


class MapOp(VectorOp):
    """A function of each value and of scalar arguments, over the whole vector at once."""

    def __init__(self, inner: VectorOp, function: Callable[..., Any], args: Sequence[ScalarOp], options: Options) -> None:
        self._inner = inner
        self._function = function
        self._args = args
        self._options = options
        self._names = NameDropper(options)
        self.one_name = inner.one_name

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        rows = self._inner.rows(frame, at_ms)
        args = [arg.number(frame, at_ms) for arg in self._args]
        with np.errstate(all="ignore"):
            values = self._function(np.array([value for _, value, _ in rows], dtype=np.float64), *args)
        if values is None:
            return []
        out = self._names.with_values(rows, values.tolist())
        return out if self.one_name else distinct(out, self._options)


def round_to(values: FloatArray, nearest: float = 1.0) -> FloatArray:
    """Nearest multiple, ties up."""
    inverse = np.float64(1.0) / np.float64(nearest)
    return np.floor(values * inverse + 0.5) / inverse


def clamp(values: FloatArray, low: float, high: float) -> FloatArray | None:
    """Values inside [low, high]; None (no rows) where the bounds are crossed. NaN bounds give NaN."""
    return None if high < low else np.maximum(low, np.minimum(high, values))


def clamp_min(values: FloatArray, low: float) -> FloatArray | None:
    """Values not below `low`."""
    return clamp(values, low, math.inf)


def clamp_max(values: FloatArray, high: float) -> FloatArray | None:
    """Values not above `high`."""
    return clamp(values, -math.inf, high)


class ScalarOfOp(ScalarOp):
    """`scalar(v)`: the value of the only row, else NaN."""

    def __init__(self, inner: VectorOp) -> None:
        self._inner = inner

    def number(self, frame: Frame, at_ms: int) -> float:
        rows = self._inner.rows(frame, at_ms)
        return rows[0][1] if len(rows) == 1 else math.nan


class VectorOfOp(VectorOp):
    """`vector(s)`: one row without labels."""

    one_name = True

    def __init__(self, inner: ScalarOp) -> None:
        self._inner = inner

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        return [(EMPTY, self._inner.number(frame, at_ms), False)]


class TimeOp(ScalarOp):
    """`time()`: the evaluation's instant in seconds."""

    def number(self, _frame: Frame, at_ms: int) -> float:
        return at_ms / 1000


class ConstantOp(ScalarOp):
    """A number that does not change."""

    def __init__(self, value: float) -> None:
        self._value = value

    def number(self, _frame: Frame, _at_ms: int) -> float:
        return self._value


class TimestampOp(VectorOp):
    """`timestamp(v)`: when each sample was taken; for anything but a plain selector, the evaluation's instant."""

    def __init__(self, inner: VectorOp, options: Options) -> None:
        self._inner = inner
        self._options = options
        self._names = NameDropper(options)

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        cells = self._names.cells
        if isinstance(self._inner, InstantOp):
            out = [cells(labels, taken / 1000) for labels, _, taken in self._inner.stamped(frame, at_ms)]
        else:
            out = [cells(labels, at_ms / 1000) for labels, _, _ in self._inner.rows(frame, at_ms)]
        return distinct(out, self._options)


def _days_in_month(when: datetime) -> int:
    following = when.replace(day=28) + timedelta(days=4)
    return (following - timedelta(days=following.day)).day


CALENDAR: Final[dict[str, Callable[[datetime], int]]] = {
    "days_in_month": _days_in_month,
    "day_of_month": lambda when: when.day,
    "day_of_week": lambda when: when.isoweekday() % 7,
    "day_of_year": lambda when: when.timetuple().tm_yday,
    "hour": lambda when: when.hour,
    "minute": lambda when: when.minute,
    "month": lambda when: when.month,
    "year": lambda when: when.year,
}


class CalendarOp(VectorOp):
    """A calendar field (UTC) of each value as seconds since 1970; without an argument, of the evaluation's instant."""

    def __init__(self, inner: VectorOp | None, field: Callable[[datetime], int], options: Options) -> None:
        self._inner = inner
        self._field = field
        self._options = options
        self._names = NameDropper(options)

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        if self._inner is None:
            return [(EMPTY, self._value(at_ms / 1000), False)]
        rows = self._inner.rows(frame, at_ms)
        return distinct(self._names.with_values(rows, [self._value(value) for _, value, _ in rows]), self._options)

    def _value(self, seconds: float) -> float:
        try:
            return float(self._field(_EPOCH + timedelta(seconds=math.trunc(seconds))))
        except (OverflowError, ValueError):  # NaN, an infinity, or a year that a calendar does not have
            return math.nan


class AbsentOp(VectorOp):
    """`absent(v)`: one row with the labels that the selector fixes, if there is no row."""

    def __init__(self, inner: VectorOp | MatrixOp, labels: Labels) -> None:
        self._inner = inner
        self._labels = labels

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        inner = self._inner
        found = inner.rows(frame, at_ms) if isinstance(inner, VectorOp) else inner.window(frame, at_ms).spans
        return [] if found else [(self._labels, 1.0, False)]


def absent_labels(node: Node) -> Labels:
    """The labels that a selector fixes by exactly one equality each, the name excepted."""
    node = unwrap(node)
    if isinstance(node, Range):
        node = node.instant
    if not isinstance(node, Instant):
        return EMPTY
    fixed: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in node.selector.matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op is MatchOp.EQUAL and matcher.name not in seen:
            fixed[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            fixed.pop(matcher.name, None)
    return Labels.of(fixed)


class SortOp(VectorOp):
    """`sort`, `sort_desc`: by value, NaN last. Without effect in a range query, whose result is ordered by labels."""

    def __init__(self, inner: VectorOp, name: str) -> None:
        self._inner = inner
        self._name = name
        self._descending = name.endswith("_desc")
        self.one_name = inner.one_name

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        rows = self._inner.rows(frame, at_ms)
        if frame.is_range:
            frame.warn(f"{self._name} is ineffective for range queries since results are always ordered by labels")
            return rows
        if self._descending:
            return sorted(rows, key=lambda row: nan_lowest(row[1]), reverse=True)
        return sorted(rows, key=lambda row: (math.isnan(row[1]), row[1]))


class SortByLabelOp(VectorOp):
    """`sort_by_label`, `sort_by_label_desc`: by label values in natural order, then by all labels."""

    def __init__(self, inner: VectorOp, labels: Sequence[str], *, descending: bool) -> None:
        self._inner = inner
        self._labels = labels
        self._descending = descending
        self.one_name = inner.one_name

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        return sorted(self._inner.rows(frame, at_ms), key=self._key, reverse=self._descending)

    def _key(self, row: Cells) -> tuple[Any, ...]:
        return (*(_natural(row[0].get(name, "")) for name in self._labels), row[0].pairs)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Digits compare as numbers, the rest as text; digits before text."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


class _RelabelOp(VectorOp):
    """Sets one label of each row, remembered per label set."""

    def __init__(self, inner: VectorOp, target: str) -> None:
        self._inner = inner
        self._target = target
        self._cache: dict[Labels, Labels] = {}

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        named = self._target == METRIC_NAME
        out = []
        for labels, value, drop in self._inner.rows(frame, at_ms):
            changed = self._changed(labels)
            out.append((labels, value, drop) if changed is None else (changed, value, drop and not named))
        if len({labels for labels, _, _ in out}) != len(out):
            raise EvalError(SAME_LABELSET)
        return out

    def _changed(self, labels: Labels) -> Labels | None:
        new = self._value(labels)
        return None if new is None else labels.set(self._target, new)

    @abstractmethod
    def _value(self, labels: Labels) -> str | None:
        """The new value, or None to leave the row as it is."""


class LabelReplaceOp(_RelabelOp):
    """`label_replace`."""

    def __init__(self, inner: VectorOp, target: str, template: str, source: str, pattern: str) -> None:
        super().__init__(inner, target)
        self._source = source
        self._regex = anchored_regex(pattern)
        self._template = _template(template, self._regex)

    def _value(self, labels: Labels) -> str | None:
        match = self._regex.fullmatch(labels.get(self._source, ""))
        if match is None:
            return None
        return "".join(part if isinstance(part, str) else match.group(part[0]) or "" for part in self._template)


class LabelJoinOp(_RelabelOp):
    """`label_join`."""

    def __init__(self, inner: VectorOp, target: str, separator: str, sources: Sequence[str]) -> None:
        super().__init__(inner, target)
        self._separator = separator
        self._sources = sources

    def _value(self, labels: Labels) -> str | None:
        return self._separator.join(labels.get(name, "") for name in self._sources)


def _template(text: str, regex: Any) -> list[str | tuple[int]]:
    """Go's expansion template: `$1`, `$name`, `${1}`, `$$`; a group that does not exist is empty."""
    parts: list[str | tuple[int]] = []
    end = 0
    for match in re.finditer(r"\$(?:(\$)|\{(\w+)\}|(\w+))", text):
        parts.append(text[end : match.start()])
        end = match.end()
        if match[1]:
            parts.append("$")
            continue
        name = match[2] or match[3]
        number = int(name) if name.isdecimal() else regex.groupindex.get(name, -1)
        if 0 <= number <= regex.groups:
            parts.append((number,))
    parts.append(text[end:])
    return parts
