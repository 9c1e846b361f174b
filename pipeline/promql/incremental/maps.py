"""Operations on single rows: arithmetic and comparison with a number, functions of a value, absence, labels set anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from pipeline.model.labels import Labels
from pipeline.promql.incremental.block import Block, Floats, Index, Moment, Node, checked, joined, nothing
from pipeline.promql.incremental.rows import Number
from pipeline.promql.numeric import ARITHMETIC
from pipeline.promql.relabel import LabelJoinOp, LabelReplaceOp

Operation = Callable[[Any, Any], Any]

COMPARE: Final[dict[str, Operation]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}


def _one_by_one(operation: Callable[[float, float], float]) -> Operation:
    """An operation whose vector form may differ in the last bit from the scalar one."""

    def apply(left: Any, right: Any) -> Floats:
        one, other = np.broadcast_arrays(np.asarray(left, np.float64), np.asarray(right, np.float64))
        return np.array([operation(a, b) for a, b in zip(one.tolist(), other.tolist(), strict=True)], np.float64)

    return apply


CALCULATE: Final[dict[str, Operation]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": _one_by_one(ARITHMETIC["^"]),
    "atan2": _one_by_one(ARITHMETIC["atan2"]),
}


def _with(inner: Node, numbers: Sequence[Number]) -> frozenset[str] | None:
    names = inner.names
    for number in numbers:
        names = None if names is None or number.names is None else names | number.names
    return names


class ScalarSideNode(Node):
    """Each row with a number; `swapped`: the number stands on the left. A filter keeps value and name."""

    def __init__(self, op: str, vector: Node, number: Number, *, swapped: bool, return_bool: bool) -> None:
        super().__init__(_with(vector, (number,)))
        self._vector = vector
        self._number = number
        self._swapped = swapped
        self._filters = op in COMPARE and not return_bool
        self._apply = COMPARE[op] if op in COMPARE else CALCULATE[op]

    def compute(self, moment: Moment) -> Block:
        block = self._vector.block(moment)
        frame = moment.frame()
        number = self._number.number(moment, frame)
        block = block._replace(notes=joined(block.notes, frame.notes()))
        with np.errstate(all="ignore"):
            found = self._apply(number, block.values) if self._swapped else self._apply(block.values, number)
        if self._filters:
            return block.kept(found)
        return block.bare(found.astype(np.float64))


class FunctionNode(Node):
    """A function of each value and of numbers."""

    def __init__(self, inner: Node, function: Callable[..., Any], args: Sequence[Number]) -> None:
        super().__init__(_with(inner, args))
        self._inner = inner
        self._function = function
        self._args = args

    def compute(self, moment: Moment) -> Block:
        block = self._inner.block(moment)
        frame = moment.frame()
        args = [arg.number(moment, frame) for arg in self._args]
        notes = joined(block.notes, frame.notes())
        with np.errstate(all="ignore"):
            values = self._function(block.values, *args)
        return nothing(notes) if values is None else block._replace(notes=notes).bare(values)


class AbsentNode(Node):
    """One row where there is none."""

    def __init__(self, inner: Node, labels: Labels) -> None:
        super().__init__(inner.names)
        self._inner = inner
        self._index = Index([labels], unique=True)

    def compute(self, moment: Moment) -> Block:
        block = self._inner.block(moment)
        return nothing(block.notes) if len(block.values) else Block(self._index, None, np.ones(1), block.notes)


class RelabelNode(Node):
    """`label_replace`, `label_join`: new labels, found once per index."""

    def __init__(self, inner: Node, op: LabelReplaceOp | LabelJoinOp) -> None:
        super().__init__(inner.names)
        self._inner = inner
        self._op = op

    def compute(self, moment: Moment) -> Block:
        block = self._inner.block(moment)
        return checked(block._replace(keys=block.keys.derived(self, self._relabelled)))

    def _relabelled(self, index: Index) -> Index:
        return Index([self._op.relabelled(labels) for labels in index.labels])
