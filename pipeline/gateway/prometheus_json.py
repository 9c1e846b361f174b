"""Results and parameters of PromQL queries in the spelling of Prometheus' HTTP API. Pure.

Guarantee: numbers are the texts that Prometheus writes (shortest digits, an exponent below 1e-6 and from 1e21), instants are seconds with at most
three decimals.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from pipeline.model.duration import parse_duration_ms
from pipeline.model.labels import Labels
from pipeline.promql import Matrix, Result, Scalar, String, Vector
from pipeline.promql.numeric import format_float

_MAX_SECONDS: Final = 1e11
_SMALL, _LARGE = 1e-6, 1e21
_PLAIN: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def number_text(value: float) -> str:
    """A sample's value."""
    size = abs(value)
    return exponent_text(value) if size and math.isfinite(value) and not _SMALL <= size < _LARGE else format_float(value)


def exponent_text(value: float) -> str:
    """A value in Go's `e` format with the shortest exact digits, as alerts show it: `1e+00`."""
    if not math.isfinite(value):
        return format_float(value)
    sign, digits, power = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    exponent = len(digits) - 1 + int(power) if value else 0
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{'-' if sign else ''}{text[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def seconds(at_ms: int) -> float | int:
    """An instant as a JSON number."""
    return at_ms // 1000 if at_ms % 1000 == 0 else at_ms / 1000


def iso(at_ms: int) -> str:
    """An instant as RFC 3339 text."""
    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def rendered(result: Result, at_ms: int) -> dict[str, Any]:
    """The `data` of an answer. `at_ms` is the instant of the evaluation."""
    match result:
        case Vector():
            rows = [{"metric": plain(row.labels), "value": [seconds(at_ms), number_text(row.value)]} for row in result]
            return {"resultType": "vector", "result": rows}
        case Scalar():
            return {"resultType": "scalar", "result": [seconds(at_ms), number_text(result.value)]}
        case String():
            return {"resultType": "string", "result": [seconds(at_ms), result.value]}
        case Matrix():
            series = [{"metric": plain(one.labels), "values": [[seconds(at), number_text(value)] for at, value in one.points]} for one in result]
            return {"resultType": "matrix", "result": series}


def plain(labels: Labels) -> dict[str, str]:
    """Labels as a JSON object."""
    return dict(labels.pairs)


def success(data: Any, result: Result | None = None) -> dict[str, Any]:
    """A whole answer, with the annotations of the evaluation."""
    answer: dict[str, Any] = {"status": "success", "data": data}
    if result is not None and result.notes.warnings:
        answer["warnings"] = list(result.notes.warnings)
    if result is not None and result.notes.infos:
        answer["infos"] = list(result.notes.infos)
    return answer


def instant_ms(text: str) -> int:
    """An instant: RFC 3339, or seconds since 1970 with a fraction.

    Raises:
        ValueError: neither.
    """
    if _PLAIN.fullmatch(text):
        number = float(text)
    else:
        try:
            moment = datetime.fromisoformat(text.upper())
        except ValueError:
            raise ValueError(f'cannot parse "{text[:60]}" to a valid timestamp') from None
        number = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not abs(number) < _MAX_SECONDS:
        raise ValueError(f'cannot parse "{text[:60]}" to a valid timestamp. It overflows int64')
    return round(number * 1000)


def step_ms(text: str) -> int:
    """A width: seconds as a number, or a duration.

    Raises:
        ValueError: neither, or not above zero.
    """
    if _PLAIN.fullmatch(text):
        number = float(text)
        width = round(number * 1000) if abs(number) < _MAX_SECONDS else 0
    else:
        try:
            width = parse_duration_ms(text)
        except ValueError:
            raise ValueError(f'cannot parse "{text[:60]}" to a valid duration') from None
    if width <= 0:
        raise ValueError("zero or negative query resolution step widths are not accepted. Try a positive integer")
    return width
