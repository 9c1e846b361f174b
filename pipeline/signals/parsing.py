"""JSON text to plain values, with every refusal turned into a `DecodeError`; lines, numbers, label values, flattening."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from pipeline.signals.errors import DecodeError, shown
from pipeline.signals.options import Context, Limits, check_size

_STALE: Final[float] = struct.unpack("<d", struct.pack("<Q", 0x7FF0_0000_0000_0002))[0]  # Prometheus' stale marker: this series ended here
_WORDS: Final = {
    "nan": math.nan,
    "stale": _STALE,
    **dict.fromkeys(("inf", "+inf", "infinity", "+infinity"), math.inf),
    **dict.fromkeys(("-inf", "-infinity"), -math.inf),
}


def explained(data: bytes, error: Exception) -> DecodeError:
    """The reason why `data` is not JSON, with a hint for what Python and JavaScript writers get wrong."""
    if isinstance(error, RecursionError):
        return DecodeError("JSON is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return DecodeError("a JSON string is not UTF-8")
    if not data.strip():
        return DecodeError("empty message")
    hint = ' (JSON has no NaN or Infinity: write "NaN", "+Inf", "-Inf" as strings)' if b"NaN" in data or b"Infinity" in data else ""
    return DecodeError(f"{error}{hint}")


def parse(data: bytes) -> Any:
    """Any JSON value.

    Raises:
        DecodeError: not JSON.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise explained(data, error) from error


def parse_object(data: bytes, limits: Limits) -> dict[str, Any]:
    """One JSON object of at most `max_message_bytes`.

    Raises:
        DecodeError: not JSON, too long, or not an object.
    """
    check_size(data, limits.max_message_bytes, "max_message_bytes")
    return as_object(parse(data))


def as_object(value: Any, what: str = "message") -> dict[str, Any]:
    """`value`, if it is a JSON object."""
    if not isinstance(value, dict):
        hint = " (arrays are read by the format json-batch)" if isinstance(value, list) and what == "message" else ""
        raise DecodeError(f"{what} is {shown(value)}, not a JSON object{hint}")
    return value


def lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Non-empty lines with their number, from 1."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        text = line.strip()
        if text:
            yield number, text


def objects(data: bytes, context: Context) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a message that is one object, one a line, or an array, each with its place ("", "line 3", "element 2").

    Raises:
        DecodeError: with the place of what is wrong.
    """
    limits = context.options.limits
    check_size(data, limits.max_batch_bytes, "max_batch_bytes")
    text = data.strip()
    if not text:
        raise DecodeError("empty message")
    if text.startswith(b"["):
        for index, item in enumerate(parse(text)):
            yield f"element {index}", as_object(item, f"element {index}")
    elif b"\n" not in text:
        yield "", parse_object(text, limits)
    else:
        yield from _objects_by_line(text, limits)


def _objects_by_line(text: bytes, limits: Limits) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        whole = msgspec.json.decode(text)  # one object, printed over several lines
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        whole = None
    if isinstance(whole, dict):
        check_size(text, limits.max_message_bytes, "max_message_bytes")
        yield "", whole
        return
    for position, line in lines(text):
        with placed(f"line {position}"):
            item = parse_object(line, limits)
        yield f"line {position}", item


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Put the place in front of a refusal's reason."""
    try:
        yield
    except DecodeError as error:
        raise DecodeError(f"{where}: {error.reason}" if where else error.reason) from error


def number(value: Any, where: str = "value") -> float:
    """A sample's value: a JSON number, or a string for what JSON cannot write ("NaN", "+Inf"; "stale": the series ends here) or decimal text.

    Raises:
        DecodeError: anything else; null too, because missing is not zero.
    """
    if value is None:
        raise DecodeError(f"{where} is null: leave the sample out (missing is not zero)")
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    spelled = isinstance(value, str) and value.isascii() and "_" not in value and value == value.strip()
    if spelled or (isinstance(value, int | float) and not isinstance(value, bool)):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise DecodeError(f'{where} {shown(value)} is not a number (numbers, or the strings "NaN", "+Inf", "-Inf", "stale")')


def label_pairs(value: Any, where: str = "labels") -> tuple[tuple[str, str], ...]:
    """Pairs from a JSON object of scalars; null means absent.

    Raises:
        DecodeError: not an object, or a value that is an object or array.
    """
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise DecodeError(f"{where} is {shown(value)}, not an object")
    return tuple((name, scalar_text(item, f"{where}.{name}")) for name, item in value.items() if item is not None)


def scalar_text(value: Any, where: str) -> str:
    """A scalar as label value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)
    raise DecodeError(f"{where} is {shown(value)}: a label value is a string")


def flatten(source: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Nested objects to dotted names; lists stay as they are.

    Raises:
        DecodeError: deeper than `max_nesting` or more than `max_fields`.
    """
    flat: dict[str, Any] = {}
    pending: list[tuple[str, Mapping[str, Any], int]] = [("", source, 1)]
    while pending:
        prefix, node, depth = pending.pop()
        if depth > limits.max_nesting:
            raise DecodeError(f"fields are nested deeper than max_nesting = {limits.max_nesting}")
        for name, value in node.items():
            if isinstance(value, dict):
                pending.append((f"{prefix}{name}.", value, depth + 1))
            else:
                flat[f"{prefix}{name}"] = value
        if len(flat) > limits.max_fields:
            raise DecodeError(f"more fields than max_fields = {limits.max_fields}")
    return flat
