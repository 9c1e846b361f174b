"""What can be wrong with a Sigma rule.

ValueError
└── SigmaError   the rule cannot be used; `message` says why, `where` names file and line as the caller gave them
"""

from __future__ import annotations


class SigmaError(ValueError):
    """A rule that cannot be parsed or asks for something this engine does not do. Refused at compile time, never skipped silently."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.message, self.where = message, where
