"""What can go wrong with a template.

TemplateError   it cannot be parsed, or not carried out on these data; the message is Go's or Prometheus' own where they have one
"""

from __future__ import annotations


class TemplateError(ValueError):
    """A template that gives no text. `line` counts from 1 where it is known."""

    def __init__(self, message: str, *, line: int = 0) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
