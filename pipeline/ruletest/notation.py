"""Prometheus' notation for series in tests: `up{job="a"}` with `1+2x3 _ stale -5 _x4`.

Guarantee: what is not the notation is a `NotationError` that knows where; repetitions stay runs, so a test that repeats a value a billion times costs
nothing until it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from pipeline.model.labels import METRIC_NAME
from pipeline.series import STALE_NAN

Pairs = tuple[tuple[str, str], ...]

_NAME: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_STRING: Final = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`]*`")
_SPACE: Final = re.compile(r"\s*")
_NUMBER: Final = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|(?i:inf|nan)\b"
_ITEM: Final = re.compile(
    rf"(?:(?P<blank>_)|(?P<stale>stale)\b|(?P<sign>[-+])?(?P<value>{_NUMBER})(?:(?P<step_sign>[-+])(?P<step>{_NUMBER})(?=x))?)(?:x(?P<times>[0-9]+))?(?=\s|$)"
)
_WORD: Final = re.compile(r"\S+")
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)
_SIMPLE: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}
_MAX_CODE: Final = 0x10FFFF


class NotationError(ValueError):
    """Not the notation; `offset` says where in the text."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class Run(NamedTuple):
    """`times` samples, the first of `value` (None: no sample), each next one `step` more."""

    value: float | None
    step: float
    times: int


def read_metric(text: str) -> Pairs:
    """A metric's labels as written: sorted by name, empty values kept, `__name__` among them.

    Raises:
        NotationError: not a metric.
    """
    pairs, offset = _metric(text, _skip(text, 0))
    offset = _skip(text, offset)
    if offset < len(text):
        raise NotationError(f"unexpected {text[offset:][:20]!r} after the metric", offset)
    return pairs


def split_metric(text: str) -> tuple[Pairs, str]:
    """A metric's labels at the start of a line, and what follows it: `up{job="a"} 1` of the text exposition format.

    Raises:
        NotationError: the line does not start with a metric.
    """
    pairs, offset = _metric(text, _skip(text, 0))
    return pairs, text[offset:]


def read_values(text: str) -> tuple[Run, ...]:
    """The values of an input series.

    Raises:
        NotationError: not the notation.
    """
    runs = []
    for word in _WORD.finditer(text):
        item = _ITEM.fullmatch(word[0])
        if item is None:
            raise NotationError(_complaint(word[0]), word.start())
        runs.append(_run(item))
    return tuple(runs)


def expand(runs: Sequence[Run]) -> Iterator[tuple[int, float]]:
    """(index, value) of every sample, one after the other."""
    index = 0
    for run in runs:
        if run.value is None:
            index += run.times
            continue
        value = run.value
        for _ in range(run.times):
            yield index, value
            index += 1
            value += run.step  # added again and again, as Prometheus does: the rounding is part of the result


def _metric(text: str, offset: int) -> tuple[Pairs, int]:
    labels: dict[str, str] = {}
    name = _NAME.match(text, offset)
    if name:
        if name[0].lower() in {"inf", "nan"}:
            raise NotationError(f"{name[0]} is a number, not a metric", offset)
        labels[METRIC_NAME], offset = name[0], name.end()
    if text.startswith("{", offset):
        offset = _label_set(text, offset + 1, labels)
    elif not name and text.strip():
        raise NotationError(f'{text.strip()[:20]!r} is not a metric (write for example up{{job="api"}})', offset)
    return tuple(sorted(labels.items())), offset


def _label_set(text: str, offset: int, labels: dict[str, str]) -> int:
    while True:
        offset = _skip(text, offset)
        if text.startswith("}", offset):
            return offset + 1
        offset = _skip(text, _label(text, offset, labels))
        if text.startswith(",", offset):
            offset += 1
        elif not text.startswith("}", offset):
            raise NotationError("expected , or } after a label", offset)


def _label(text: str, offset: int, labels: dict[str, str]) -> int:
    quoted, plain = _STRING.match(text, offset), _NAME.match(text, offset)
    if quoted:
        name, after = unquoted(quoted[0], offset), _skip(text, quoted.end())
        if not text.startswith("=", after):  # {"a metric's name", ...}
            labels[METRIC_NAME] = name
            return after
    elif plain:
        name, after = plain[0], _skip(text, plain.end())
    else:
        raise NotationError("expected a label name or }", offset)
    if not text.startswith("=", after) or text.startswith("=~", after):
        raise NotationError('a label is written name="value"', after)
    value = _STRING.match(text, start := _skip(text, after + 1))
    if value is None:
        raise NotationError(f"the value of label {name} should be a quoted text", start)
    if labels.get(name) and name != METRIC_NAME:
        raise NotationError(f"label {name} stands twice", offset)
    labels[name] = unquoted(value[0], start)
    return value.end()


def unquoted(text: str, offset: int = 0) -> str:
    """A Go string literal's value.

    Raises:
        NotationError: an unknown escape.
    """
    if text[0] == "`":
        return text[1:-1]

    def character(found: re.Match[str]) -> str:
        code = found[1] or found[2] or found[3]
        number = int(code, 16) if code else int(found[4], 8) if found[4] else None
        if number is not None and number <= _MAX_CODE:
            return chr(number)
        if found[5] not in _SIMPLE:
            raise NotationError(f"unknown escape {found[0]!r}", offset + 1 + found.start())
        return _SIMPLE[found[5]]

    return _ESCAPE.sub(character, text[1:-1])


def _run(item: re.Match[str]) -> Run:
    times = item["times"]
    if item["blank"]:
        return Run(None, 0.0, 1 if times is None else int(times))
    if item["stale"]:
        return Run(STALE_NAN, 0.0, 1)
    step = _signed(item["step_sign"], item["step"]) if item["step"] else 0.0
    return Run(_signed(item["sign"], item["value"]), step, 1 if times is None else int(times) + 1)


def _signed(sign: str | None, digits: str) -> float:
    number = float(int(digits, 8)) if re.fullmatch(r"0[0-7]+", digits) else float(digits)  # Go reads a leading 0 as octal
    return -number if sign == "-" else number


def _complaint(word: str) -> str:
    shown = word if len(word) <= 40 else f"{word[:40]}..."
    if word.startswith("{{"):
        return "native histograms are not supported in input series"
    if word.startswith("x") and word[1:].isdigit():
        return f"{shown!r}: no space before the number of repetitions"
    return f"{shown!r} is not a value (write for example 5, -1.5e3, _, stale, 1x4, 1+2x10, _x3)"


def _skip(text: str, offset: int) -> int:
    found = _SPACE.match(text, offset)
    return found.end() if found else offset
