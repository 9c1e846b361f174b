"""`5m` to milliseconds and back, and instants as people read them: the one converter between what users write and what the code counts.

Grammar: Prometheus durations, `1y2w3d4h5m6s7ms` in that order, each unit at most once; `0` alone is allowed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_UNITS_MS: Final = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_PATTERN: Final = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a Prometheus duration.

    Raises:
        ValueError: not a duration; the message says what would be.
    """
    if text == "0":
        return 0
    match = _PATTERN.fullmatch(text)
    if not text or match is None:
        msg = f"not a duration: {text!r} (write for example 30s, 5m, 1h30m, 200ms)"
        raise ValueError(msg)
    return sum(int(part) * unit for part, unit in zip(match.groups(), _UNITS_MS.values(), strict=True) if part)


def format_duration(ms: int) -> str:
    """The shortest Prometheus duration that means `ms`, largest unit first; `0s` for zero. Years and weeks only where exact."""
    if ms == 0:
        return "0s"
    parts, rest = [], abs(ms)
    for unit, size in _UNITS_MS.items():
        if unit in {"y", "w"} and rest % size:
            continue
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if ms < 0 else "") + "".join(parts)


def format_instant(at_ms: int) -> str:
    """An instant as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
