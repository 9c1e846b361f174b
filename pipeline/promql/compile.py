"""`compile_expr`: an expression made ready to be evaluated again and again.

The full evaluator behind it is the reference; whatever evaluates incrementally must give the same results for the same samples.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from pipeline.model.labels import EMPTY, Labels
from pipeline.promql.build import build
from pipeline.promql.errors import EvalError
from pipeline.promql.incremental.graph import Cost, Graph, Program, cost_of
from pipeline.promql.parse import Expression, parse
from pipeline.promql.plan import SAME_LABELSET, Cells, Compat, Frame, MatrixOp, Op, Options, ScalarOp, VectorOp, finished
from pipeline.promql.reads import Read, reads
from pipeline.promql.tree import Kind
from pipeline.promql.values import Matrix, Result, Row, Scalar, String, Track, Vector
from pipeline.series import METADATA, SeriesStore, SeriesView


class Compiled:
    """One expression, compiled. Holds caches of label computations, no samples; evaluations do not influence each other."""

    def __init__(self, expression: Expression, options: Options, graph: Graph | None = None) -> None:
        self.expression = expression
        self.options = options
        self._graph = graph
        self._op: Op = build(expression.root, options)

    @property
    def text(self) -> str:
        """The expression in canonical spelling."""
        return self.expression.text

    @property
    def kind(self) -> Kind:
        """Static type of the result."""
        return self.expression.kind

    @cached_property
    def selectors(self) -> tuple[Read, ...]:
        """What is read, left to right."""
        return reads(self.expression.root, self.options)

    @cached_property
    def lookback_ms(self) -> int:
        """Samples older than this before the instant of evaluation do not matter (`@`: before the pinned instant)."""
        return max((read.reach_ms for read in self.selectors), default=0)

    @cached_property
    def metric_names(self) -> frozenset[str]:
        """The metrics named by an equality; a selector without one can read any (`reads_any_metric`)."""
        return frozenset(read.selector.metric_name for read in self.selectors if read.selector.metric_name is not None)

    @cached_property
    def reads_any_metric(self) -> bool:
        """Whether some selector does not fix the metric's name."""
        return any(read.selector.metric_name is None for read in self.selectors)

    @cached_property
    def cost(self) -> Cost:
        """Whether an evaluation's cost does not depend on the length of the windows, and why not."""
        return cost_of(self.expression.root, self.options)

    @property
    def incremental(self) -> bool:
        """As `cost` says."""
        return self.cost.incremental

    @cached_property
    def _program(self) -> Program | None:
        return None if self._graph is None else self._graph.program(self.expression.root, self.options)

    def _served(self, view: SeriesView) -> Program | None:
        graph = self._graph
        if graph is None or not isinstance(view, SeriesStore) or not graph.serves(view):
            return None
        return self._program if graph.pays((read.selector for read in self.selectors), view) else None

    def eval(self, view: SeriesView, at_ms: int) -> Result:
        """The value at one instant: from the graph where there is one and `view` is its store, else by the evaluator. The two agree.

        Raises:
            EvalError: the data do not fit the expression (many-to-many match, equal label sets, ...).
        """
        program = self._served(view)
        if program is not None and isinstance(view, SeriesStore):
            rows, notes = program.rows(view, at_ms)
            if self.kind is Kind.SCALAR:
                return Scalar(rows[0][1], notes)
            return Vector(rows, notes)
        return self.evaluate(view, at_ms)

    def evaluate(self, view: SeriesView, at_ms: int) -> Result:
        """As `eval`, by the evaluator.

        Raises:
            EvalError: as `eval`.
        """
        frame = Frame(view, self.options, start_ms=at_ms, end_ms=at_ms)
        op = self._op
        if isinstance(op, VectorOp):
            rows = op.rows(frame, at_ms)
            return Vector([Row(labels, value) for labels, value in finished(rows)], frame.notes())
        if isinstance(op, ScalarOp):
            return Scalar(op.number(frame, at_ms), frame.notes())
        if isinstance(op, MatrixOp):
            return self._matrix(op, frame, at_ms)
        return String(op)

    def eval_range(self, view: SeriesView, start_ms: int, end_ms: int, step_ms: int) -> Matrix:
        """The values at `start_ms`, `start_ms + step_ms`, ... up to `end_ms`.

        Raises:
            EvalError: as `eval`; or a range or string expression, a step that is not positive, too many steps.
        """
        op = self._op
        if not isinstance(op, VectorOp | ScalarOp):
            raise EvalError(f'invalid expression type "{self.kind.value}" for range query, must be Scalar or instant Vector')
        if step_ms <= 0 or (end_ms - start_ms) // step_ms >= self.options.max_steps:
            raise EvalError(f"a range query needs a positive step and at most {self.options.max_steps} steps")
        frame = Frame(view, self.options, start_ms=start_ms, end_ms=end_ms, step_ms=step_ms)
        tracks: dict[Labels, list[tuple[int, float]]] = {}
        for at_ms in range(start_ms, end_ms + 1, step_ms):
            if isinstance(op, ScalarOp):
                tracks.setdefault(EMPTY, []).append((at_ms, op.number(frame, at_ms)))
            else:
                _collect(tracks, at_ms, op.rows(frame, at_ms))
        return Matrix([Track(labels, tuple(tracks[labels])) for labels in sorted(tracks)], frame.notes())

    @staticmethod
    def _matrix(op: MatrixOp, frame: Frame, at_ms: int) -> Matrix:
        tracks: dict[Labels, Track] = {}
        for labels, drop, times, values, _ in op.window(frame, at_ms).spans:
            final = labels.drop(*METADATA) if drop else labels
            if final in tracks:
                raise EvalError(SAME_LABELSET)
            tracks[final] = Track(final, tuple(zip(times, values, strict=True)))
        return Matrix([tracks[labels] for labels in sorted(tracks)], frame.notes())


def _collect(tracks: dict[Labels, list[tuple[int, float]]], at_ms: int, rows: list[Cells]) -> None:
    for labels, value in finished(rows):
        tracks.setdefault(labels, []).append((at_ms, value))


def compile_expr(expr: str | Expression, *, compat: Compat = "v3", options: Options | None = None, graph: Graph | None = None) -> Compiled:
    """Make an expression ready to evaluate. `options` overrides everything but `compat`, which is written into it. With a `graph`, evaluations over
    its store share what expressions have in common.

    Raises:
        ExprError: not valid, or a part of the language that is not offered.
    """
    expression = parse(expr) if isinstance(expr, str) else expr
    return Compiled(expression, replace(options or Options(), compat=compat), graph)
