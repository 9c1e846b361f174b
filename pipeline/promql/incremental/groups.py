"""Aggregations over columns: sum, avg, min, max, count, group, stddev, stdvar.

Guarantee: groups come in order of first appearance among the rows that are there, and values inside a group in row order, as in the evaluator.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from pipeline.model.labels import Labels
from pipeline.promql.aggregate import REDUCERS, Grouping
from pipeline.promql.incremental import ragged
from pipeline.promql.incremental.block import Block, Floats, Index, Ints, Moment, Node, nothing

_BY_VALUE: Final = {"sum": ragged.sums, "avg": ragged.means}


class _Groups(NamedTuple):
    """The groups of an index: which one each row belongs to, and their labels."""

    of_row: Ints
    keys: Index


class _Layout(NamedTuple):
    """Rows sorted by group: their order, and per group where it begins, how many it has, and its place in the groups' index (None: all, in order)."""

    order: Ints
    first: Ints
    counts: Ints
    ids: Ints | None


class GroupNode(Node):
    """One aggregation."""

    def __init__(self, inner: Node, op: str, grouping: Grouping) -> None:
        super().__init__(inner.names)
        self._inner = inner
        self._op = op
        self._grouping = grouping

    def compute(self, moment: Moment) -> Block:
        block = self._inner.block(moment)
        if not len(block.values):
            return nothing(block.notes)
        groups: _Groups = block.keys.derived(self, self._groups)
        layout = block.keys.derived((self, "all"), lambda _index: _layout(groups, None)) if block.ids is None else _layout(groups, block.ids)
        return Block(groups.keys, layout.ids, self._reduced(block.values, layout), block.notes)

    def _groups(self, index: Index) -> _Groups:
        numbers: dict[Labels, int] = {}
        of = self._grouping.of
        of_row = np.array([numbers.setdefault(of(labels), len(numbers)) for labels in index.labels], np.int64)
        return _Groups(of_row, Index(list(numbers), unique=True))

    def _reduced(self, values: Floats, layout: _Layout) -> Floats:
        if self._op == "count":
            return layout.counts.astype(np.float64)
        if self._op == "group":
            return np.ones(len(layout.counts))
        sorted_values = values[layout.order]
        if self._op in _BY_VALUE:
            return _BY_VALUE[self._op](sorted_values, layout.first, layout.counts)
        if self._op in {"min", "max"} and not np.any(np.signbit(sorted_values) & (sorted_values == 0)):
            found = np.empty(len(layout.first))
            rising = np.argsort(layout.first)  # a stretch is taken to end where the next one begins
            found[rising] = (np.fmin if self._op == "min" else np.fmax).reduceat(sorted_values, layout.first[rising])
            return found
        return ragged.by_stretch(sorted_values, layout.first, layout.counts, REDUCERS[self._op])


def _layout(groups: _Groups, ids: Ints | None) -> _Layout:
    of_row = groups.of_row if ids is None else groups.of_row[ids]
    total = len(groups.keys)
    counts = np.bincount(of_row, minlength=total)
    order = np.argsort(of_row, kind="stable")
    first = np.cumsum(counts) - counts
    if ids is None:  # the index lists groups in order of first appearance
        return _Layout(order, first, counts, None)
    there = np.flatnonzero(counts)
    there = there[np.argsort(order[first[there]], kind="stable")]
    return _Layout(order, first[there], counts[there], there)
