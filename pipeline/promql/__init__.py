"""PromQL: parse, compile and evaluate over a `SeriesView`.

Owns: the whole stable language as a full (reference) evaluator, and three-valued conditions. Pure: the instant of evaluation is an
argument, and the same samples give the same result.
"""

from pipeline.promql.compile import Compiled, compile_expr
from pipeline.promql.condition import Compared, Condition, Judgement, compile_condition
from pipeline.promql.errors import EvalError, ExprError, PromQLError
from pipeline.promql.incremental import Cost, Graph
from pipeline.promql.parse import Expression, parse
from pipeline.promql.plan import Compat, Options
from pipeline.promql.reads import Read
from pipeline.promql.tree import Kind
from pipeline.promql.values import Matrix, Notes, Result, Row, Scalar, String, Track, Vector

__all__ = [
    "Compared",
    "Compat",
    "Compiled",
    "Condition",
    "Cost",
    "EvalError",
    "ExprError",
    "Expression",
    "Graph",
    "Judgement",
    "Kind",
    "Matrix",
    "Notes",
    "Options",
    "PromQLError",
    "Read",
    "Result",
    "Row",
    "Scalar",
    "String",
    "Track",
    "Vector",
    "compile_condition",
    "compile_expr",
    "parse",
]
