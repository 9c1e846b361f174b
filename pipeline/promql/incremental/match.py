"""Operations between two vectors. Which rows belong together is found once per pair of indexes; an evaluation only looks which of them are there.

Guarantee: where the match is not plain (a signature comes twice on a side that promised one, results that could carry equal labels), the evaluator's
operator decides, row by row, with its own errors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.promql.binary import VectorVectorOp
from pipeline.promql.incremental.block import Block, Index, Ints, Moment, Node, RowsNode, joined, names_of
from pipeline.promql.incremental.maps import CALCULATE, COMPARE
from pipeline.promql.tree import Matching
from pipeline.series import METADATA


class _Signatures:
    """Numbers the label sets by which two sides match; the same label sets have the same number on both sides."""

    def __init__(self, matching: Matching) -> None:
        self._on = matching.on
        self._labels = frozenset(matching.labels)
        self._dropped = (METRIC_NAME, *matching.labels)

    def of(self, labels: Labels) -> Labels:
        """The signature of one label set."""
        return labels.keep(self._labels) if self._on else labels.drop(*self._dropped)

    def numbered(self, one: Index, other: Index) -> tuple[Ints, Ints, int]:
        """Per row of both its signature's number, and how many there are."""
        numbers: dict[Labels, int] = {}
        columns = []
        for index in (one, other):
            signatures: list[Labels] = index.derived((self._on, self._labels), lambda index: [self.of(labels) for labels in index.labels])
            columns.append(np.array([numbers.setdefault(signature, len(numbers)) for signature in signatures], np.int64))
        return columns[0], columns[1], len(numbers)


class _Pairing(NamedTuple):
    """Of a pair of indexes: per row of the many its partner among the one (-1: none), and its place in the result's index."""

    partner: Ints
    place: Ints
    keys: Index


class PairNode(Node):
    """Arithmetic or comparison of matched rows."""

    def __init__(self, op: str, left: Node, right: Node, matching: Matching, *, return_bool: bool, exact: VectorVectorOp) -> None:
        super().__init__(names_of(left, right))
        self._left, self._right = left, right
        self._swapped = matching.group == "right"
        self._grouped = bool(matching.group)
        self._compares = op in COMPARE
        self._return_bool = return_bool
        self._apply = COMPARE[op] if self._compares else CALCULATE[op]
        self._signatures = _Signatures(matching)
        self._exact = exact
        self._fallback = RowsNode(exact, self.names)
        self._of: tuple[Index, Index] | None = None
        self._pairing: _Pairing | None = None

    def compute(self, moment: Moment) -> Block:
        left, right = self._left.block(moment), self._right.block(moment)
        many, one = (right, left) if self._swapped else (left, right)
        if self._of is None or self._of[0] is not many.keys or self._of[1] is not one.keys:
            self._pairing, self._of = self._paired(many.keys, one.keys), (many.keys, one.keys)
        pairing = self._pairing
        if pairing is None:
            return self._fallback.compute(moment)
        slot = np.full(len(one.keys) + 1, -1, np.int64)
        slot[one.places()] = np.arange(len(one.values))
        partner = slot[many.of(pairing.partner)]
        matched = partner >= 0
        mine, others = many.values[matched], one.values[partner[matched]]
        block = Block(pairing.keys, pairing.place[many.places()[matched]], mine, joined(left.notes, right.notes))
        a, b = (others, mine) if self._swapped else (mine, others)
        with np.errstate(all="ignore"):
            result = self._apply(a, b)
        if self._compares and not self._return_bool:
            return block._replace(values=a).kept(result)
        return block._replace(values=result.astype(np.float64))

    def _paired(self, many: Index, one: Index) -> _Pairing | None:
        of_many, of_one, count = self._signatures.numbered(many, one)
        by_signature = np.full(count, -1, np.int64)
        by_signature[of_one] = np.arange(len(of_one))
        twice = len(np.unique(of_one)) != len(of_one) or (not self._grouped and len(np.unique(of_many)) != len(of_many))
        if twice:
            return None
        partner = by_signature[of_many]
        able = np.flatnonzero(partner >= 0)
        labels = [
            self._exact.result_labels(many.labels[place], one.labels[other])
            for place, other in zip(able.tolist(), partner[able].tolist(), strict=True)
        ]
        if self._return_bool:
            labels = [full.drop(*METADATA) for full in labels]
        index = Index(labels)
        place = np.full(len(many), -1, np.int64)
        place[able] = np.arange(len(able))
        return _Pairing(partner, place, index) if index.unique else None


class SetNode(Node):
    """`and`, `or`, `unless`."""

    def __init__(self, op: str, left: Node, right: Node, matching: Matching) -> None:
        super().__init__(names_of(left, right))
        self._op = op
        self._left, self._right = left, right
        self._signatures = _Signatures(matching)
        self._of: tuple[Index, Index] | None = None
        self._numbers: tuple[Ints, Ints, int] = (np.empty(0, np.int64), np.empty(0, np.int64), 0)
        self._both = Index([])

    def compute(self, moment: Moment) -> Block:
        left, right = self._left.block(moment), self._right.block(moment)
        if self._of is None or self._of[0] is not left.keys or self._of[1] is not right.keys:
            self._numbers, self._of = self._signatures.numbered(left.keys, right.keys), (left.keys, right.keys)
            self._both = Index(left.keys.labels + right.keys.labels)
        of_left, of_right = left.of(self._numbers[0]), right.of(self._numbers[1])
        notes = joined(left.notes, right.notes)
        there = np.zeros(self._numbers[2], bool)
        if self._op == "or":
            there[of_left] = True
            more = right.kept(~there[of_right])
            ids = np.concatenate((left.places(), more.places() + len(left.keys)))
            return Block(self._both, ids, np.concatenate((left.values, more.values)), notes)
        there[of_right] = True
        return left.kept(there[of_left] if self._op == "and" else ~there[of_left])._replace(notes=notes)
