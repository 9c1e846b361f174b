"""`Graph`: from expression trees to shared nodes. Equal sub-expressions of all expressions are one node (hash-consing), so that a rate which ten
rules use is computed once per instant.

What has no columnar form is an operator of the evaluator that reads the nodes below it; a subquery is the evaluator's altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, cast

import numpy as np

from pipeline.model.labels import EMPTY
from pipeline.promql import functions as fn
from pipeline.promql.aggregate import PICKERS, REDUCERS, Grouping
from pipeline.promql.binary import VectorVectorOp
from pipeline.promql.build import Ready, build
from pipeline.promql.incremental.block import Given, Moment, Node, RowsNode, checked
from pipeline.promql.incremental.groups import GroupNode
from pipeline.promql.incremental.leaves import InstantNode, Selected, Stretch
from pipeline.promql.incremental.maps import AbsentNode, FunctionNode, RelabelNode, ScalarSideNode
from pipeline.promql.incremental.match import PairNode, SetNode
from pipeline.promql.incremental.rows import Number
from pipeline.promql.incremental.windows import is_incremental, window_node
from pipeline.promql.over_time import RANGE_FUNCTIONS
from pipeline.promql.plan import Options, ScalarOp, VectorOp
from pipeline.promql.relabel import LabelJoinOp, LabelReplaceOp
from pipeline.promql.tree import SET_OPERATORS, Aggregation, Binary, Call, Instant, Kind, Negation, Paren, Range, Subquery, unwrap, walk
from pipeline.promql.tree import Node as Tree
from pipeline.promql.values import Notes, Row
from pipeline.series import Selector, SeriesStore, SeriesView

LEAST_SERIES: Final = 40

_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **fn.MATH,
    "round": fn.round_to,
    "clamp": fn.clamp,
    "clamp_min": fn.clamp_min,
    "clamp_max": fn.clamp_max,
}


class Cost(NamedTuple):
    """What an evaluation costs: `incremental` if no more than its series, whatever the length of the windows; else why not."""

    incremental: bool
    reason: str = ""


def cost_of(root: Tree, options: Options) -> Cost:
    """The cost class of an expression."""
    if root.kind not in {Kind.VECTOR, Kind.SCALAR}:
        return Cost(incremental=False, reason=f"the result is a {root.kind.value}")
    if options.delayed_names:
        return Cost(incremental=False, reason="metric names are dropped at the end")
    reason = next((why for node in walk(root) if (why := _obstacle(node))), "")
    return Cost(not reason, reason)


def _obstacle(node: Tree) -> str:
    match node:
        case Subquery():
            return "a subquery evaluates its expression at each of its steps"
        case Call(name=name) if name in RANGE_FUNCTIONS and not is_incremental(name):
            return f"{name} looks at all samples of its window"
        case Call(name="info"):
            return "info joins series anew each time"
        case Aggregation(op=op) if op in PICKERS or op in {"quantile", "count_values"}:
            return f"{op} sorts its elements anew each time"
        case _:
            return ""


@dataclass(frozen=True, slots=True)
class Program:
    """One expression in the graph."""

    node: Node | Number
    options: Options

    def rows(self, store: SeriesStore, at_ms: int) -> tuple[list[Row], Notes]:
        """The rows at an instant; of a number, one without labels.

        Raises:
            EvalError: the data do not fit the expression.
        """
        moment = Moment(store, at_ms, self.options)
        if isinstance(self.node, Number):
            frame = moment.frame()
            return [Row(EMPTY, self.node.number(moment, frame))], frame.notes()
        block = checked(self.node.block(moment))
        return list(map(Row, block.labels(), block.values.tolist())), block.notes


class Graph:
    """All nodes over one store. Bound to the first store that is asked about. Expressions over fewer than `least_series` series are left to the
    evaluator, which is faster there.
    """

    def __init__(self, *, least_series: int = LEAST_SERIES) -> None:
        self._least_series = least_series
        self._store: SeriesStore | None = None
        self._nodes: dict[tuple[Options, Tree, str], Node] = {}
        self._stretches: dict[tuple[Options, Range], Stretch] = {}
        self._selected: dict[Selector, Selected] = {}

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self._nodes) + len(self._stretches) + len(self._selected)

    def serves(self, view: SeriesView) -> bool:
        """Whether this view is the graph's store."""
        if self._store is None and isinstance(view, SeriesStore):
            self._store = view
        return view is self._store

    def pays(self, selectors: Iterable[Selector], store: SeriesStore) -> bool:
        """Whether so many series are selected that the columns are faster than the evaluator."""
        return sum(len(store.select(selector)) for selector in selectors) >= self._least_series

    def program(self, root: Tree, options: Options) -> Program | None:
        """The expression's node, or None where the evaluator is the only one to have it."""
        if options.delayed_names or root.kind not in {Kind.VECTOR, Kind.SCALAR}:
            return None
        return Program(self._number(root, options) if root.kind is Kind.SCALAR else self.node(root, options), options)

    def node(self, tree: Tree, options: Options) -> Node:
        """The node of a vector."""
        tree = unwrap(tree)
        key = (options, tree, repr(tree))  # the text tells 0 from -0
        found = self._nodes.get(key)
        if found is None:
            found = self._nodes[key] = self._made(tree, options)
        return found

    def _made(self, tree: Tree, options: Options) -> Node:
        match tree:
            case Instant():
                return InstantNode(tree, self._select(tree.selector), options)
            case Aggregation(op=op) if op in REDUCERS:
                return GroupNode(self.node(tree.expr, options), op, Grouping(tree.labels, without=tree.without))
            case Negation():
                return FunctionNode(self.node(tree.expr, options), np.negative, ())
            case Binary():
                return self._binary(tree, options)
            case Call():
                return self._call(tree, options)
            case _:
                return self._by_rows(tree, options)

    def _binary(self, tree: Binary, options: Options) -> Node:
        scalars = tree.left.kind is Kind.SCALAR, tree.right.kind is Kind.SCALAR
        if any(scalars):
            vector, number = (tree.right, tree.left) if scalars[0] else (tree.left, tree.right)
            return ScalarSideNode(
                tree.op, self.node(vector, options), self._number(number, options), swapped=scalars[0], return_bool=tree.return_bool
            )
        left, right, matching = self.node(tree.left, options), self.node(tree.right, options), tree.matching
        if tree.op in SET_OPERATORS:
            return SetNode(tree.op, left, right, matching)
        if matching.fill_left is not None or matching.fill_right is not None:
            return self._by_rows(tree, options)
        exact = VectorVectorOp(tree.op, Given(left, options), Given(right, options), matching, options, return_bool=tree.return_bool)
        return PairNode(tree.op, left, right, matching, return_bool=tree.return_bool, exact=exact)

    def _call(self, tree: Call, options: Options) -> Node:
        name, first = tree.name, unwrap(tree.args[0]) if tree.args else None
        if name in RANGE_FUNCTIONS:
            return self._windowed(tree, options)
        if name in _FUNCTIONS:
            return FunctionNode(self.node(tree.args[0], options), _FUNCTIONS[name], [self._number(arg, options) for arg in tree.args[1:]])
        if name in {"absent", "absent_over_time"} and first is not None and not isinstance(first, Subquery):
            inner = window_node("last_over_time", self._stretch(first, options), ()) if isinstance(first, Range) else self.node(first, options)
            return AbsentNode(inner, fn.absent_labels(tree.args[0]))
        if name == "timestamp" and isinstance(first, Instant):
            return InstantNode(first, self._select(first.selector), options, stamps=True)
        if name in {"label_replace", "label_join"}:
            op = build(tree, options)
            if isinstance(op, LabelReplaceOp | LabelJoinOp):
                return RelabelNode(self.node(tree.args[0], options), op)
        return self._by_rows(tree, options)

    def _windowed(self, tree: Call, options: Options) -> Node:
        matrix = next(unwrap(arg) for arg in tree.args if arg.kind is Kind.MATRIX)
        if not isinstance(matrix, Range):
            return RowsNode(cast("VectorOp", build(tree, options)), metrics_of(tree))
        args = [self._number(arg, options) for arg in tree.args if arg.kind is Kind.SCALAR]
        return window_node(tree.name, self._stretch(matrix, options), args)

    def _by_rows(self, tree: Tree, options: Options) -> Node:
        """An operator of the evaluator over nodes."""
        whole = isinstance(tree, Call) and tree.name == "info"
        return RowsNode(cast("VectorOp", build(tree if whole else self._ready(tree, options), options)), metrics_of(tree))

    def _number(self, tree: Tree, options: Options) -> Number:
        return Number(cast("ScalarOp", build(self._ready(tree, options), options)), metrics_of(tree))

    def _ready(self, tree: Tree, options: Options) -> Tree:
        """The tree with nodes in place of the vectors below its top."""

        def part(child: Tree) -> Tree:
            if child.kind is Kind.VECTOR:
                return cast("Tree", Ready(Given(self.node(child, options), options)))
            return self._ready(child, options) if child.kind is Kind.SCALAR else child

        match tree:
            case Call(args=args):
                return replace(tree, args=tuple(part(arg) for arg in args))
            case Binary(left=left, right=right):
                return replace(tree, left=part(left), right=part(right))
            case Aggregation(expr=expr, param=param):
                return replace(tree, expr=part(expr), param=None if param is None else part(param))
            case Negation(expr=expr) | Paren(expr=expr):
                return replace(tree, expr=part(expr))
            case _:
                return tree

    def _select(self, selector: Selector) -> Selected:
        found = self._selected.get(selector)
        if found is None:
            found = self._selected[selector] = Selected(selector)
        return found

    def _stretch(self, tree: Range, options: Options) -> Stretch:
        key = (options, tree)
        found = self._stretches.get(key)
        if found is None:
            found = self._stretches[key] = Stretch(tree, self._select(tree.instant.selector), options)
        return found


def metrics_of(tree: Tree) -> Sequence[str] | None:
    """The metrics below a tree; None if it can read any."""
    selectors = [node.selector for node in walk(tree) if isinstance(node, Instant)]
    names = [selector.metric_name for selector in selectors if selector.metric_name is not None]
    reads_any = len(names) < len(selectors) or any(isinstance(node, Call) and node.name == "info" for node in walk(tree))
    return None if reads_any else names
