"""Why bytes are not signals.

ValueError
└── DecodeError   the message is refused as a whole; `reason` says what is wrong, where, and what would be right
"""

from __future__ import annotations


class DecodeError(ValueError):
    """Bytes that cannot be read as the format says. `reason` goes into the dead letter, so it never quotes more than a few characters of input."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def shown(value: object, *, limit: int = 60) -> str:
    """A short, safe rendering of something from the input for a reason."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
