"""Float arithmetic as Go does it: no exceptions, IEEE results; and the compensated sums that Prometheus uses.

Guarantee: the same order of operations as Prometheus, so results agree to the last bits where its own do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

NAN: Final = math.nan
INF: Final = math.inf


def kahan_add(value: float, total: float, compensation: float) -> tuple[float, float]:
    """One step of Neumaier's sum: the new total and compensation."""
    new = total + value
    if new - new != 0:  # an infinity or NaN has no rounding error worth keeping
        return new, 0.0 if math.isinf(new) else compensation
    if abs(total) >= abs(value):
        return new, compensation + ((total - new) + value)
    return new, compensation + ((value - new) + total)


def _compensated(values: Sequence[float]) -> tuple[float, float]:
    """Neumaier's sum in the given order: total and compensation. The compensation means nothing unless the total is finite."""
    total = compensation = 0.0
    for value in values:
        new = total + value
        if abs(total) >= abs(value):
            compensation += (total - new) + value
        else:
            compensation += (value - new) + total
        total = new
    return total, compensation


def kahan_sum(values: Sequence[float]) -> float:
    """Compensated sum in the given order."""
    total, compensation = _compensated(values)
    return total + compensation if math.isfinite(total) else total


def mean(values: Sequence[float]) -> float:
    """Average: the compensated sum divided, or, where the sum overflows, an incremental mean from there on."""
    total, compensation = _compensated(values)
    if math.isfinite(total):
        return total / len(values) + compensation / len(values)
    return _careful_mean(values)


def _careful_mean(values: Sequence[float]) -> float:
    total, compensation, average = values[0], 0.0, 0.0
    incremental = False
    for count, value in enumerate(values[1:], 2):
        if not incremental:
            new, new_compensation = kahan_add(value, total, compensation)
            if not math.isinf(new):
                total, compensation = new, new_compensation
                continue
            incremental = True
            average = total / (count - 1)
            compensation /= count - 1
        share = (count - 1) / count
        average, compensation = kahan_add(value / count, share * average, share * compensation)
    return average + compensation if incremental else total / len(values) + compensation / len(values)


def quantile(q: float, values: Sequence[float]) -> float:
    """Linear interpolation between the closest ranks; NaN sorts lowest. Outside 0..1 an infinity."""
    if not values or math.isnan(q):
        return NAN
    if q < 0:
        return -INF
    if q > 1:
        return INF
    ordered = sorted(values, key=nan_lowest)
    rank = q * (len(ordered) - 1)
    lower = max(0, math.floor(rank))
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - math.floor(rank)
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def nan_lowest(value: float) -> tuple[bool, float]:
    """Sort key: NaN before everything."""
    return (False, 0.0) if math.isnan(value) else (True, value)


def divide(left: float, right: float) -> float:
    """IEEE division."""
    if right == 0:
        if left == 0 or math.isnan(left):
            return NAN
        return math.copysign(INF, left) * math.copysign(1.0, right)
    return left / right


def modulo(left: float, right: float) -> float:
    """C's fmod; NaN where it is undefined."""
    try:
        return math.fmod(left, right)
    except ValueError:
        return NAN


def power(left: float, right: float) -> float:
    """IEEE pow."""
    try:
        return math.pow(left, right)
    except OverflowError:
        odd = right == math.floor(right) and math.fmod(right, 2) != 0
        return -INF if left < 0 and odd else INF
    except ValueError:
        if left == 0:
            odd = right == math.floor(right) and math.fmod(right, 2) != 0
            return math.copysign(INF, left) if odd else INF
        return NAN


ARITHMETIC: Final[dict[str, Callable[[float, float], float]]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": divide,
    "%": modulo,
    "^": power,
    "atan2": math.atan2,
}
COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    ">": lambda left, right: left > right,
    "<": lambda left, right: left < right,
    ">=": lambda left, right: left >= right,
    "<=": lambda left, right: left <= right,
}


def format_float(value: float) -> str:
    """A float as Go's 'f' format with the shortest exact digits: no exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = format(Decimal(repr(value)), "f")
    return text.removesuffix(".0")
