"""Go values as templates see them: their types, their truth, how they print.

A Go string is a str, int an int, float64 a float, map[string]... a dict, a slice a list. Samples of a query are `Sample`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.detect.gotmpl.errors import TemplateError

_EXPONENT_FROM = 6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sample:
    """One element of a query's result."""

    Labels: dict[str, str]
    Value: float


@dataclass(frozen=True, slots=True)
class Data:
    """The root data of an alert's templates."""

    Labels: dict[str, str]
    ExternalLabels: dict[str, str]
    ExternalURL: str
    Value: float


@dataclass(frozen=True, slots=True)
class Time:
    """A point in time, in nanoseconds since the epoch, UTC."""

    ns: int

    def __str__(self) -> str:
        try:
            moment = _EPOCH + timedelta(seconds=self.ns // 1_000_000_000)
        except OverflowError:
            raise TemplateError("time is out of range") from None
        fraction = f"{self.ns % 1_000_000_000:09d}".rstrip("0")
        return f"{moment:%Y-%m-%d %H:%M:%S}{'.' + fraction if fraction else ''} +0000 UTC"


@dataclass(frozen=True, slots=True)
class GoDuration:
    """A time.Duration, in nanoseconds."""

    ns: int

    def __str__(self) -> str:
        """As Go prints it: `1h2m3.5s`, `1.5ms`, `0s`."""
        if self.ns == 0:
            return "0s"
        sign, rest = ("-" if self.ns < 0 else ""), abs(self.ns)
        for unit, size in (("ns", 1), ("µs", 1000), ("ms", 1_000_000)):
            if rest < size * 1000:
                return f"{sign}{_decimal(rest, size)}{unit}"
        minutes, seconds = divmod(rest, 60_000_000_000)
        hours, minutes = divmod(minutes, 60)
        head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
        return f"{sign}{head}{_decimal(seconds, 1_000_000_000)}s"


def _decimal(amount: int, size: int) -> str:
    whole, part = divmod(amount, size)
    digits = f"{part:0{len(str(size)) - 1}d}".rstrip("0") if size > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)


def type_name(value: Any) -> str:
    """Go's name of the value's type."""
    if isinstance(value, dict) and any(key.startswith("arg") for key in value):
        return "map[string]interface {}"
    return next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), "struct")


_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (type(None), "<nil>"),
    (bool, "bool"),
    (str, "string"),
    (int, "int"),
    (float, "float64"),
    (dict, "map[string]string"),
    (list, "template.queryResult"),
    (Sample, "*template.sample"),
    (Time, "*time.Time"),
    (GoDuration, "time.Duration"),
)


def is_true(value: Any) -> bool:
    """Go's truth: not the zero value; a struct is always true."""
    return True if isinstance(value, Sample | Data | Time) else value.ns != 0 if isinstance(value, GoDuration) else bool(value)


def shortest(value: float, *, upper: bool = False) -> str:
    """A float with the fewest digits that name it, as strconv's `g` with precision -1 (an exponent below -4 and from 6)."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    mantissa, _, power = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + (int(power) if power else 0) - (len(whole + fraction) - len((whole + fraction).lstrip("0")))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0"
    exponent = point - 1
    if exponent < -4 or exponent >= _EXPONENT_FROM:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}{'E' if upper else 'e'}{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return sign + (digits.ljust(point, "0") if len(digits) <= point else f"{digits[:point]}.{digits[point:]}")


def shown(value: Any) -> str:
    """What `{{ value }}` prints (Go's %v)."""
    show = _SHOWN.get(type(value))
    return str(value) if show is None else show(value)


_SHOWN: dict[type, Callable[[Any], str]] = {
    type(None): lambda _value: "<no value>",
    bool: lambda value: "true" if value else "false",
    float: shortest,
    dict: lambda value: "map[" + " ".join(f"{key}:{shown(value[key])}" for key in sorted(value)) + "]",
    list: lambda value: "[" + " ".join(map(shown, value)) + "]",
    Sample: lambda value: f"&{{{shown(value.Labels)} {shown(value.Value)}}}",
    Data: lambda value: f"{{{shown(value.Labels)} {shown(value.ExternalLabels)} {value.ExternalURL} {shown(value.Value)}}}",
}


def to_float(value: Any) -> float:
    """Prometheus' ConvertToFloat.

    Raises:
        TemplateError: neither a number nor a text that is one.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | GoDuration):
        raise TemplateError(f"can't convert {type_name(value)} to float")
    if isinstance(value, GoDuration):
        return value.ns / 1e9
    if isinstance(value, str) and (value.strip() != value or "_" in value):
        raise TemplateError(_NOT_A_FLOAT.format(value))  # Python reads these, Go does not
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise TemplateError(_NOT_A_FLOAT.format(value)) from None


_NOT_A_FLOAT = 'strconv.ParseFloat: parsing "{}": invalid syntax'
