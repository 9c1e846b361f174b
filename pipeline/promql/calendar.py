"""Calendar fields of a time, in UTC."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.model.labels import EMPTY
from pipeline.promql.plan import Cells, Frame, NameDropper, Options, VectorOp, distinct

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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
