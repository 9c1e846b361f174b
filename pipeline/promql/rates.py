"""Range functions on counters and trends: rate, increase, delta, irate, idelta, deriv, predict_linear, resets, changes, smoothing.

Each takes one span's samples and its window, and returns a value or None (no result for this series).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pipeline.promql.errors import EvalError
from pipeline.promql.numeric import NAN, divide, kahan_add
from pipeline.promql.plan import Window

RangeFunction = Callable[[Sequence[int], Sequence[float], Window, Sequence[float]], float | None]


def increase_of(values: Sequence[float]) -> float:
    """How far a counter rose: last minus first, plus what each reset lost."""
    total = values[-1] - values[0]
    previous = values[0]
    for value in values:
        if value < previous:
            total += previous
        previous = value
    return total


def extrapolation(change: float, first: float, edges: tuple[int, int], count: int, window: tuple[int, int], *, counter: bool) -> float:
    """The factor that extends a change between two samples to the window's edges, where samples come close enough to them.

    "Close enough" is 110 % of the mean distance between samples; otherwise half that distance is assumed. A counter is not
    extrapolated below zero.

    Args:
        change: how much the value rose from the first to the last sample, resets accounted for.
        first: the first sample's value.
        edges: times of the first and the last sample.
        count: number of samples, at least 2.
        window: start and end.
        counter: whether a value below zero is impossible.
    Source: Prometheus, `rate`.
    """
    to_start = (edges[0] - window[0]) / 1000
    to_end = (window[1] - edges[1]) / 1000
    covered = (edges[1] - edges[0]) / 1000
    between = covered / (count - 1)
    if to_start >= between * 1.1:
        to_start = between / 2
    if counter and change > 0 and first >= 0:
        to_start = min(to_start, covered * (first / change))
    if to_end >= between * 1.1:
        to_end = between / 2
    return (covered + to_start + to_end) / covered


def _over_window(times: Sequence[int], values: Sequence[float], window: Window, *, counter: bool, per_ms: int = 1000) -> float | None:
    if len(values) < 2:
        return None
    change = increase_of(values) if counter else values[-1] - values[0]
    factor = extrapolation(change, values[0], (times[0], times[-1]), len(values), (window.start_ms, window.end_ms), counter=counter)
    return change * (factor / (per_ms / 1000))


def rate(times: Sequence[int], values: Sequence[float], window: Window, _args: Sequence[float]) -> float | None:
    """Increase per second."""
    return _over_window(times, values, window, counter=True, per_ms=window.end_ms - window.start_ms)


def increase(times: Sequence[int], values: Sequence[float], window: Window, _args: Sequence[float]) -> float | None:
    """Increase over the window."""
    return _over_window(times, values, window, counter=True)


def delta(times: Sequence[int], values: Sequence[float], window: Window, _args: Sequence[float]) -> float | None:
    """Change of a gauge over the window."""
    return _over_window(times, values, window, counter=False)


def irate(times: Sequence[int], values: Sequence[float], _window: Window, _args: Sequence[float]) -> float | None:
    """Increase per second between the last two samples."""
    if len(values) < 2:
        return None
    change = values[-1] if values[-1] < values[-2] else values[-1] - values[-2]
    return change / ((times[-1] - times[-2]) / 1000)


def idelta(_times: Sequence[int], values: Sequence[float], _window: Window, _args: Sequence[float]) -> float | None:
    """Change between the last two samples."""
    return values[-1] - values[-2] if len(values) > 1 else None


def regression(times: Sequence[int], values: Sequence[float], origin_ms: int) -> tuple[float, float]:
    """Least squares line: slope per second, and its value at `origin_ms`."""
    first = values[0]
    if all(value == first for value in values):
        return (NAN, NAN) if math.isinf(first) else (0.0, first)
    sums = [(0.0, 0.0)] * 4
    for at_ms, value in zip(times, values, strict=True):
        x = (at_ms - origin_ms) / 1000
        sums = [kahan_add(term, *state) for term, state in zip((x, value, x * value, x * x), sums, strict=True)]
    sum_x, sum_y, sum_xy, sum_xx = (total + compensation for total, compensation in sums)
    count = len(values)
    slope = divide(sum_xy - sum_x * sum_y / count, sum_xx - sum_x * sum_x / count)
    return slope, sum_y / count - slope * sum_x / count


def deriv(times: Sequence[int], values: Sequence[float], _window: Window, _args: Sequence[float]) -> float | None:
    """Slope per second of the regression line."""
    return regression(times, values, times[0])[0] if len(values) > 1 else None


def predict_linear(times: Sequence[int], values: Sequence[float], window: Window, args: Sequence[float]) -> float | None:
    """Value of the regression line some seconds after the evaluation."""
    if len(values) < 2:
        return None
    slope, intercept = regression(times, values, window.at_ms)
    return slope * args[0] + intercept


def resets(_times: Sequence[int], values: Sequence[float], _window: Window, _args: Sequence[float]) -> float:
    """How often the value fell."""
    return float(sum(1 for index in range(1, len(values)) if values[index] < values[index - 1]))


def changes(_times: Sequence[int], values: Sequence[float], _window: Window, _args: Sequence[float]) -> float:
    """How often the value changed; NaN equals NaN here."""
    count = 0
    for index in range(1, len(values)):
        value, previous = values[index], values[index - 1]
        count += value != previous and not (math.isnan(value) and math.isnan(previous))
    return float(count)


def double_exponential_smoothing(_times: Sequence[int], values: Sequence[float], _window: Window, args: Sequence[float]) -> float | None:
    """Holt's linear method with a smoothing and a trend factor, both inside (0, 1)."""
    factor, trend_factor = args
    for name, value in (("smoothing", factor), ("trend", trend_factor)):
        if not 0 < value < 1:
            raise EvalError(f"invalid {name} factor. Expected: 0 < {name[0]}f < 1, got: {value:f}")
    if len(values) < 2:
        return None
    previous, level, trend = 0.0, values[0], values[1] - values[0]
    for index in range(1, len(values)):
        if index > 1:
            trend = trend_factor * (level - previous) + (1 - trend_factor) * trend
        previous, level = level, factor * values[index] + (1 - factor) * (level + trend)
    return level
