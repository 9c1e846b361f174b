"""Sorting of an instant vector. A range query's result is ordered by labels, so there sorting only earns a warning."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from pipeline.promql.numeric import nan_lowest
from pipeline.promql.plan import Cells, Frame, VectorOp


class SortOp(VectorOp):
    """`sort`, `sort_desc`: by value, NaN last. Without effect in a range query, whose result is ordered by labels."""

    def __init__(self, inner: VectorOp, name: str) -> None:
        self._inner = inner
        self._name = name
        self._descending = name.endswith("_desc")
        self.one_name = inner.one_name

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        rows = self._inner.rows(frame, at_ms)
        if frame.is_range:
            frame.warn(f"{self._name} is ineffective for range queries since results are always ordered by labels")
            return rows
        if self._descending:
            return sorted(rows, key=lambda row: nan_lowest(row[1]), reverse=True)
        return sorted(rows, key=lambda row: (math.isnan(row[1]), row[1]))


class SortByLabelOp(VectorOp):
    """`sort_by_label`, `sort_by_label_desc`: by label values in natural order, then by all labels."""

    def __init__(self, inner: VectorOp, labels: Sequence[str], *, descending: bool) -> None:
        self._inner = inner
        self._labels = labels
        self._descending = descending
        self.one_name = inner.one_name

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        rows = self._inner.rows(frame, at_ms)
        if frame.is_range:
            frame.warn(f"sort_by_label{'_desc' * self._descending} is ineffective for range queries since results are always ordered by labels")
            return rows
        return sorted(rows, key=self._key, reverse=self._descending)

    def _key(self, row: Cells) -> tuple[Any, ...]:
        return (*(_natural(row[0].get(name, "")) for name in self._labels), row[0].pairs)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Digits compare as numbers, the rest as text; digits before text."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]
