"""`Block`: an instant vector as columns. The labels stand in an `Index` that lives as long as the selected series stay the same, so what is derived
from labels (groups, matches, names dropped) is found once per index and not once per evaluation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.model.labels import Labels
from pipeline.promql.errors import EvalError
from pipeline.promql.plan import SAME_LABELSET, Cells, Frame, Options, VectorOp
from pipeline.promql.values import Notes
from pipeline.series import METADATA, Series, SeriesStore

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T")

NO_NOTES: Final = Notes()


class Index:
    """Label sets in a fixed order. `derived` keeps what was computed from them, by who asked."""

    __slots__ = ("_derived", "_unique", "labels")

    def __init__(self, labels: list[Labels], *, unique: bool | None = None) -> None:
        self.labels = labels
        self._unique = unique
        self._derived: dict[Hashable, object] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def unique(self) -> bool:
        """Whether no label set comes twice."""
        if self._unique is None:
            self._unique = len(set(self.labels)) == len(self.labels)
        return self._unique

    def assume_unique(self) -> None:
        """It is known that no label set comes twice."""
        self._unique = True

    def derived(self, key: Hashable, make: Callable[[Index], T]) -> T:
        """What `make` gives for this index, computed once."""
        if key not in self._derived:
            self._derived[key] = make(self)
        return self._derived[key]  # type: ignore[return-value]  # each key belongs to one maker

    def bare(self, series: Sequence[Series] | None = None) -> Index:
        """The same rows without the labels that name the metric."""
        if series is not None and len(series) == len(self.labels):
            return self.derived("bare", lambda _index: Index([one.bare for one in series]))
        return self.derived("bare", lambda index: Index([labels.drop(*METADATA) for labels in index.labels]))


EMPTY_INDEX: Final = Index([], unique=True)
_NO_VALUES: Final = np.empty(0, np.float64)


class Block(NamedTuple):
    """Rows of an index with values: row i is `index.labels[ids[i]]`; `ids` of None: all rows, in order."""

    keys: Index
    ids: Ints | None
    values: Floats
    notes: Notes = NO_NOTES

    def places(self) -> Ints:
        """The rows' places in the index."""
        return np.arange(len(self.keys)) if self.ids is None else self.ids

    def of(self, column: npt.NDArray[np.int64]) -> Ints:
        """A column of the index, for the rows that are there."""
        return column if self.ids is None else column[self.ids]

    def labels(self) -> list[Labels]:
        """The rows' label sets."""
        labels = self.keys.labels
        return labels if self.ids is None else [labels[place] for place in self.ids.tolist()]

    def kept(self, mask: Bools) -> Block:
        """Only the rows where the mask is true."""
        if mask.all():
            return self
        chosen = np.flatnonzero(mask)
        return self._replace(ids=chosen if self.ids is None else self.ids[chosen], values=self.values[chosen])

    def bare(self, values: Floats) -> Block:
        """The rows with new values and without metric names.

        Raises:
            EvalError: two rows have the same labels then.
        """
        return checked(Block(self.keys.bare(), self.ids, values, self.notes))


def nothing(notes: Notes = NO_NOTES) -> Block:
    """No rows."""
    return Block(EMPTY_INDEX, None, _NO_VALUES, notes)


def checked(block: Block) -> Block:
    """The block, or an EvalError where two of its rows carry the same labels."""
    if not block.keys.unique and len(set(block.labels())) != len(block.values):
        raise EvalError(SAME_LABELSET)
    return block


def joined(*notes: Notes) -> Notes:
    """Annotations of several parts, each text once."""
    some = [one for one in notes if one]
    if not some:
        return NO_NOTES
    if len(some) == 1:
        return some[0]
    return Notes(
        tuple(dict.fromkeys(text for one in some for text in one.warnings)), tuple(dict.fromkeys(text for one in some for text in one.infos))
    )


class Moment(NamedTuple):
    """What an evaluation reads, and when."""

    store: SeriesStore
    at_ms: int
    options: Options

    def frame(self) -> Frame:
        """For an operator of the evaluator."""
        return Frame(self.store, self.options, start_ms=self.at_ms, end_ms=self.at_ms)


class Shared:
    """Something computed at most once per instant, as long as the metrics below it did not change. `names` of None: it reads any metric."""

    def __init__(self, names: Iterable[str] | None) -> None:
        self.names = None if names is None else frozenset(names)
        self._at_ms: int | None = None
        self._clock = -1

    def is_fresh(self, moment: Moment) -> bool:
        """Whether what was computed last still holds; if not, it is assumed to be computed right now."""
        if self._at_ms == moment.at_ms and moment.store.changed_at(self.names) <= self._clock:
            return True
        self._at_ms = None
        return False

    def computed(self, moment: Moment) -> None:
        """It was computed."""
        self._at_ms, self._clock = moment.at_ms, moment.store.columns.clock


class Node(Shared, ABC):
    """Yields a block."""

    def __init__(self, names: Iterable[str] | None) -> None:
        super().__init__(names)
        self._block = nothing()

    def block(self, moment: Moment) -> Block:
        """The rows at an instant.

        Raises:
            EvalError: the data do not fit the expression.
        """
        if not self.is_fresh(moment):
            self._block = self.compute(moment)
            self.computed(moment)
        return self._block

    @abstractmethod
    def compute(self, moment: Moment) -> Block:
        """As `block`, anew."""


def names_of(*parts: Shared) -> frozenset[str] | None:
    """The metrics below several parts."""
    found: frozenset[str] = frozenset()
    for part in parts:
        if part.names is None:
            return None
        found |= part.names
    return found


class Given(VectorOp):
    """A node as an operator of the evaluator: how operators without a columnar form read columns."""

    def __init__(self, node: Node, options: Options) -> None:
        self.node = node
        self._options = options

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        block = self.node.block(Moment(frame.view, at_ms, self._options))  # type: ignore[arg-type]  # a graph's frames are over its store
        frame.note(block.notes)
        return [(labels, value, False) for labels, value in zip(block.labels(), block.values.tolist(), strict=True)]


class RowsNode(Node):
    """An operator of the evaluator as a node."""

    def __init__(self, op: VectorOp, names: Iterable[str] | None) -> None:
        super().__init__(names)
        self._op = op
        self._index = EMPTY_INDEX

    def compute(self, moment: Moment) -> Block:
        frame = moment.frame()
        rows = self._op.rows(frame, moment.at_ms)
        labels = [row[0] for row in rows]
        if labels != self._index.labels:
            self._index = Index(labels)
        return Block(self._index, None, np.array([row[1] for row in rows], np.float64), frame.notes())
