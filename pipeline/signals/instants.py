"""Time stamps as senders write them, to integer Unix milliseconds.

One convention, everywhere: a JSON number is milliseconds, a string is RFC 3339 with an offset. A number that can only be another unit is refused,
because a sample that silently lands in 1970 or in the year 55000 is worse than a dead letter. 1970 and 2100 themselves are fine: whether a time
is acceptable *now* is the detector's question.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pipeline.signals.errors import DecodeError, shown

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_MAX_MS: Final = 253_402_300_799_999  # the end of the year 9999
_MIN_MS: Final = -62_135_596_800_000  # the year 1
# Read as seconds: 2001 to 2103. Read as milliseconds: five weeks in early 1970 from which no data comes.
_SECONDS: Final = range(1_000_000_000, 4_200_000_000)


def instant_ms(value: Any, where: str = "ts") -> int:
    """Milliseconds since the epoch.

    Raises:
        DecodeError: neither a number of milliseconds nor an RFC 3339 string.
    """
    if isinstance(value, str):
        return rfc3339_ms(value, where)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN is the one value unlike itself
        raise DecodeError(f"{where} is {shown(value)}: write milliseconds since 1970 as a number, or RFC 3339 as a string")
    if not _MIN_MS <= value <= _MAX_MS:
        raise DecodeError(f"{where} {shown(value)} is beyond the year 9999 in milliseconds: it looks like micro- or nanoseconds")
    return checked_ms(int(value), where)


def checked_ms(value: int, where: str = "ts") -> int:
    """An integer that should be milliseconds; refused when it can only be another unit."""
    if value in _SECONDS:
        raise DecodeError(f"{where} {value} looks like seconds: a number is milliseconds here, so multiply by 1000 (or write RFC 3339)")
    if not _MIN_MS <= value <= _MAX_MS:
        raise DecodeError(f"{where} {value} is beyond the year 9999 in milliseconds: it looks like micro- or nanoseconds")
    return value


def rfc3339_ms(text: str, where: str = "ts") -> int:
    """Milliseconds of an RFC 3339 string (fractions beyond milliseconds are cut off).

    Raises:
        DecodeError: not RFC 3339, or without an offset.
    """
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise DecodeError(f"{where} {shown(text)} is not RFC 3339 (write for example 2026-01-31T12:00:00.123Z)") from error
    if moment.tzinfo is None:
        raise DecodeError(f"{where} {shown(text)} has no offset: end it with Z or +00:00")
    return (moment - _EPOCH) // _MS
