"""The `*_over_time` functions: one value from the samples of a window. NaN handling and summation order are Prometheus'."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from pipeline.promql import rates
from pipeline.promql.numeric import kahan_add, kahan_sum, mean, quantile
from pipeline.promql.plan import Window
from pipeline.promql.rates import RangeFunction


def _max(values: Sequence[float]) -> tuple[float, int]:
    best, where = values[0], 0
    for index, value in enumerate(values):
        if value > best or best != best:  # noqa: PLR0124 - NaN gives way to any number
            best, where = value, index
    return best, where


def _last_extreme(values: Sequence[float], sign: float) -> int:
    """Index of the last highest (sign 1) or lowest (sign -1) value."""
    best, where = values[0], 0
    for index, value in enumerate(values):
        if value * sign >= best * sign or math.isnan(best):
            best, where = value, index
    return where


def variance(values: Sequence[float]) -> float:
    """Population variance by Welford's method with compensated sums."""
    average = average_c = spread = spread_c = 0.0
    for count, value in enumerate(values, 1):
        delta = value - (average + average_c)
        average, average_c = kahan_add(delta / count, average, average_c)
        spread, spread_c = kahan_add(delta * (value - (average + average_c)), spread, spread_c)
    return (spread + spread_c) / len(values)


def _minimum(values: Sequence[float]) -> float:
    best = values[0]
    for value in values:
        if value < best or best != best:  # noqa: PLR0124 - NaN gives way to any number
            best = value
    return best


def _mad(values: Sequence[float]) -> float:
    if any(map(math.isnan, values)):
        return math.nan
    median = quantile(0.5, values)
    return quantile(0.5, [abs(value - median) for value in values])


def _deviation(value: float) -> float:
    return math.sqrt(value) if value >= 0 else math.nan


RANGE_FUNCTIONS: Final[dict[str, RangeFunction]] = {
    "rate": rates.rate,
    "increase": rates.increase,
    "delta": rates.delta,
    "irate": rates.irate,
    "idelta": rates.idelta,
    "deriv": rates.deriv,
    "predict_linear": rates.predict_linear,
    "resets": rates.resets,
    "changes": rates.changes,
    "double_exponential_smoothing": rates.double_exponential_smoothing,
    "holt_winters": rates.double_exponential_smoothing,
    "avg_over_time": lambda _t, values, _w, _a: mean(values),
    "sum_over_time": lambda _t, values, _w, _a: kahan_sum(values),
    "count_over_time": lambda _t, values, _w, _a: float(len(values)),
    "min_over_time": lambda _t, values, _w, _a: _minimum(values),
    "max_over_time": lambda _t, values, _w, _a: _max(values)[0],
    "last_over_time": lambda _t, values, _w, _a: values[-1],
    "first_over_time": lambda _t, values, _w, _a: values[0],
    "present_over_time": lambda _t, _v, _w, _a: 1.0,
    "stdvar_over_time": lambda _t, values, _w, _a: variance(values),
    "stddev_over_time": lambda _t, values, _w, _a: _deviation(variance(values)),
    "quantile_over_time": lambda _t, values, _w, args: quantile(args[0], values),
    "mad_over_time": lambda _t, values, _w, _a: _mad(values),
    "ts_of_first_over_time": lambda times, _v, _w, _a: times[0] / 1000,
    "ts_of_last_over_time": lambda times, _v, _w, _a: times[-1] / 1000,
    "ts_of_max_over_time": lambda times, values, _w, _a: times[_last_extreme(values, 1.0)] / 1000,
    "ts_of_min_over_time": lambda times, values, _w, _a: times[_last_extreme(values, -1.0)] / 1000,
}
"""By name: a function of (times, values, window, scalar arguments)."""

KEEPS_NAME: Final = frozenset({"last_over_time", "first_over_time"})

__all__ = ["KEEPS_NAME", "RANGE_FUNCTIONS", "Window", "variance"]
