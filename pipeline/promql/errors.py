"""What can go wrong with an expression.

PromQLError
├── ExprError   the text is not a valid expression (raised by `parse` and `compile_expr`)
└── EvalError   the expression is fine but these data are not (raised by `eval`): many-to-many matching, duplicate label sets, ...
"""

from __future__ import annotations


class PromQLError(ValueError):
    """Base of all errors of this package."""


class ExprError(PromQLError):
    """The expression cannot be used. `line` and `column` (1-based, inside the expression) where they are known."""

    def __init__(self, message: str, *, line: int | None = None, column: int | None = None) -> None:
        super().__init__(f"{message} (at {line}:{column})" if line is not None else message)
        self.message = message
        self.line = line
        self.column = column


class EvalError(PromQLError):
    """Evaluation failed on the data at hand; the message is Prometheus' own where it has one."""
