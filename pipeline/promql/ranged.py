"""`RangeCallOp`: a range function applied to each series of a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pipeline.promql.aggregate import warn_quantile
from pipeline.promql.over_time import KEEPS_NAME, RANGE_FUNCTIONS
from pipeline.promql.plan import Cells, Frame, MatrixOp, NameDropper, Options, ScalarOp, VectorOp, distinct

_COUNTER_FUNCTIONS: Final = frozenset({"rate", "increase"})
_COUNTER_SUFFIXES: Final = ("_total", "_sum", "_count", "_bucket")


class RangeCallOp(VectorOp):
    """`rate(...)`, `avg_over_time(...)` and their like."""

    def __init__(self, name: str, matrix: MatrixOp, args: Sequence[ScalarOp], options: Options) -> None:
        self._name = name
        self._matrix = matrix
        self._args = args
        self._options = options
        self._function = RANGE_FUNCTIONS[name]
        self._keeps_name = name in KEEPS_NAME
        self._names = NameDropper(options)
        self.one_name = matrix.one_name

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        args = [arg.number(frame, at_ms) for arg in self._args]
        window = self._matrix.window(frame, at_ms)
        function, cells = self._function, self._names.cells
        share = not self._options.delayed_names
        out: list[Cells] = []
        for labels, drop, times, values, bare in window.spans:
            value = function(times, values, window, args)
            if value is None:
                continue
            if self._keeps_name:
                out.append((labels, value, drop))
            else:
                out.append((bare, value, False) if share and bare is not None else cells(labels, value))
        if window.spans:
            self._annotate(frame, window.spans[0].labels.metric_name, args)
        return out if self.one_name or self._keeps_name else distinct(out, self._options)

    def _annotate(self, frame: Frame, name: str, args: list[float]) -> None:
        if self._name == "quantile_over_time":
            warn_quantile(frame, args[0])
        elif self._name in _COUNTER_FUNCTIONS and name and not name.endswith(_COUNTER_SUFFIXES):
            frame.info(f'metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "{name}"')
