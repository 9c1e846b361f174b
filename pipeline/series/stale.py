"""Stale markers: the NaN by which Prometheus says "this series ended here", told apart from every other NaN by its bits.

Guarantee: `is_stale` is true for that one bit pattern only; arithmetic on a marker gives an ordinary NaN, so a marker never
survives a calculation.
"""

from __future__ import annotations

import struct
from typing import Final

_PACK: Final = struct.Struct("<d").pack
_STALE_BYTES: Final = struct.pack("<Q", 0x7FF0_0000_0000_0002)

STALE_NAN: Final[float] = struct.unpack("<d", _STALE_BYTES)[0]
"""The marker itself. Never compare with it: use `is_stale`."""


def is_stale(value: float) -> bool:
    """Whether `value` is the stale marker (an ordinary NaN is not)."""
    return value != value and _PACK(value) == _STALE_BYTES  # noqa: PLR0124 - the cheapest test for NaN, and this runs per sample
