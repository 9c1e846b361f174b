"""Numbers inside expressions: literals, the clock, `scalar(v)` and arithmetic of these, by the evaluator's own operators."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.promql.incremental.block import Moment
from pipeline.promql.plan import Frame, ScalarOp


class Number:
    """A scalar; vectors below it are read from the graph. `names`: the metrics below it."""

    def __init__(self, op: ScalarOp, names: Iterable[str] | None) -> None:
        self._op = op
        self.names = None if names is None else frozenset(names)

    def number(self, moment: Moment, frame: Frame) -> float:
        """The value at an instant; annotations go to the frame."""
        return self._op.number(frame, moment.at_ms)
