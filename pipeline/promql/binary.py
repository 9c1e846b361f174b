"""Binary operations: between scalars, a vector and a scalar, two vectors (matched one-to-one, many-to-one), and the set operators.

Guarantee: a many-to-many match is an EvalError with Prometheus' text, never a silent choice.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.promql.errors import EvalError
from pipeline.promql.numeric import ARITHMETIC, COMPARE
from pipeline.promql.plan import Cells, Frame, LabelCache, NameDropper, Options, ScalarOp, VectorOp, distinct
from pipeline.promql.tree import Matching
from pipeline.series import METADATA


class ScalarBinaryOp(ScalarOp):
    """Two numbers to one; a comparison gives 1 or 0."""

    def __init__(self, op: str, left: ScalarOp, right: ScalarOp) -> None:
        self._left = left
        self._right = right
        self._apply: Callable[[float, float], float] = ARITHMETIC[op] if op in ARITHMETIC else COMPARE[op]

    def number(self, frame: Frame, at_ms: int) -> float:
        return float(self._apply(self._left.number(frame, at_ms), self._right.number(frame, at_ms)))


class VectorScalarOp(VectorOp):
    """Each row with a number. `swapped`: the number stands on the left. A filter keeps the row's value and name."""

    def __init__(self, op: str, vector: VectorOp, scalar: ScalarOp, options: Options, *, swapped: bool, return_bool: bool) -> None:
        self._vector = vector
        self._scalar = scalar
        self._swapped = swapped
        self._return_bool = return_bool
        self._arithmetic = ARITHMETIC.get(op)
        self._compare = COMPARE.get(op)
        self._options = options
        self._names = NameDropper(options)
        self.one_name = vector.one_name

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        rows = self._vector.rows(frame, at_ms)
        number = self._scalar.number(frame, at_ms)
        apply: Callable[[float, float], float] | None = self._arithmetic or self._compare
        if apply is None:
            raise EvalError("operator not allowed between a vector and a scalar")
        results = [apply(number, value) for _, value, _ in rows] if self._swapped else [apply(value, number) for _, value, _ in rows]
        if self._compare is not None and not self._return_bool:
            return [row for row, kept in zip(rows, results, strict=True) if kept]
        out = self._names.with_values(rows, map(float, results))
        return out if self.one_name else distinct(out, self._options)


class NegateScalarOp(ScalarOp):
    """Unary minus of a number."""

    def __init__(self, inner: ScalarOp) -> None:
        self._inner = inner

    def number(self, frame: Frame, at_ms: int) -> float:
        return -self._inner.number(frame, at_ms)


class NegateOp(VectorOp):
    """Unary minus of each row; drops the name."""

    def __init__(self, inner: VectorOp, options: Options) -> None:
        self._inner = inner
        self._options = options
        self._names = NameDropper(options)

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        rows = self._inner.rows(frame, at_ms)
        out = self._names.with_values(rows, [-value for _, value, _ in rows])
        return out if self._inner.one_name else distinct(out, self._options)


class _Signature:
    """The labels by which two sides match, remembered."""

    __slots__ = ("_cache", "_names", "_on")

    def __init__(self, matching: Matching) -> None:
        self._on = matching.on
        self._names = frozenset(matching.labels)
        self._cache = LabelCache()

    def of(self, labels: Labels) -> Labels:
        found = self._cache.get(labels)
        if found is None:
            found = labels.keep(self._names) if self._on else labels.drop(METRIC_NAME, *self._names)
            self._cache.remember(labels, found)
        return found


class SetOp(VectorOp):
    """`and`, `or`, `unless`."""

    def __init__(self, op: str, left: VectorOp, right: VectorOp, matching: Matching, options: Options) -> None:
        self._op = op
        self._left = left
        self._right = right
        self._signature = _Signature(matching)
        self._options = options

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        left, right = self._left.rows(frame, at_ms), self._right.rows(frame, at_ms)
        of = self._signature.of
        if self._op == "or":
            taken = {of(row[0]) for row in left}
            return distinct(left + [row for row in right if of(row[0]) not in taken], self._options)
        present = {of(row[0]) for row in right}
        wanted = self._op == "and"
        return [row for row in left if (of(row[0]) in present) is wanted]


class VectorVectorOp(VectorOp):
    """Arithmetic and comparison between matched rows."""

    def __init__(self, op: str, left: VectorOp, right: VectorOp, matching: Matching, options: Options, *, return_bool: bool) -> None:
        self._swapped = matching.group == "right"
        self._left = left
        self._right = right
        self._matching = matching
        self._signature = _Signature(matching)
        self._arithmetic = ARITHMETIC.get(op)
        self._compare = COMPARE.get(op)
        self._return_bool = return_bool
        self._options = options
        self._results: dict[tuple[Labels, Labels], Labels] = {}

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        out: list[Cells] = []
        for many, one, labels in self._matches(frame, at_ms):
            left, right = (one[1], many[1]) if self._swapped else (many[1], one[1])
            if self._arithmetic is not None:
                out.append((labels, self._arithmetic(left, right), many[2]))
                continue
            kept = self._compare is not None and self._compare(left, right)
            if self._return_bool:
                bare = labels if self._options.delayed_names else labels.drop(*METADATA)
                out.append((bare, float(kept), self._options.delayed_names))
            elif kept:
                out.append((labels, left, many[2]))
        return distinct(out, self._options)

    def pairs(self, frame: Frame, at_ms: int) -> list[tuple[Labels, float, float]]:
        """The matched rows before the operation: result labels, left value, right value."""
        found = self._matches(frame, at_ms)
        return [(labels, one[1], many[1]) if self._swapped else (labels, many[1], one[1]) for many, one, labels in found]

    def _matches(self, frame: Frame, at_ms: int) -> list[tuple[Cells, Cells, Labels]]:
        """Rows of both sides that belong together, with the labels of their result."""
        left, right = self._left.rows(frame, at_ms), self._right.rows(frame, at_ms)
        many, one = (right, left) if self._swapped else (left, right)
        matching = self._matching
        # As in Prometheus 3.14, the fill values do not change sides with group_right: `fill_left` is for a missing row of the many.
        fill_many, fill_one = matching.fill_left, matching.fill_right
        if (not one and fill_one is None) or (not many and fill_many is None):
            return []  # nothing can match, so duplicates on the other side are no error, as in Prometheus
        by_signature = self._index(one)
        of = self._signature.of
        taken: dict[Labels, set[Labels]] = {}
        found: list[tuple[Cells, Cells, Labels]] = []
        for row in many:
            signature = of(row[0])
            partner = by_signature.get(signature)
            if partner is None:
                if fill_one is None:
                    continue
                partner = (signature, fill_one, False)
            found.append((row, partner, self._claim(signature, row, partner, taken)))
        if fill_many is not None:
            for signature, partner in by_signature.items():
                if signature not in taken:
                    row = (signature, fill_many, False)
                    found.append((row, partner, self._claim(signature, row, partner, taken)))
        return found

    def _index(self, one: list[Cells]) -> dict[Labels, Cells]:
        of = self._signature.of
        found: dict[Labels, Cells] = {}
        for row in one:
            signature = of(row[0])
            other = found.get(signature)
            if other is not None:
                raise EvalError(self._duplicate(signature, row[0], other[0]))
            found[signature] = row
        return found

    def _duplicate(self, signature: Labels, *rows: Labels) -> str:
        side = "left" if self._swapped else "right"
        shown = ", ".join(_braced(labels) for labels in sorted(rows))
        return (
            f"found duplicate series for the match group {_braced(signature)} on the {side} hand-side of the operation: [{shown}]"
            ";many-to-many matching not allowed: matching labels must be unique on one side"
        )

    def _claim(self, signature: Labels, many: Cells, one: Cells, taken: dict[Labels, set[Labels]]) -> Labels:
        """The result's labels; refuses a second result where the matching promised one."""
        labels = self._labels(many[0], one[0])
        seen = taken.get(signature)
        if seen is None:
            taken[signature] = {labels}
        elif not self._matching.group:
            raise EvalError("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)")
        elif labels in seen:
            raise EvalError("multiple matches for labels: grouping labels must ensure unique matches")
        else:
            seen.add(labels)
        return labels

    def _labels(self, many: Labels, one: Labels) -> Labels:
        key = (many, one)
        found = self._results.get(key)
        if found is None:
            if len(self._results) >= 100_000:
                self._results.clear()
            found = self._results[key] = self.result_labels(many, one)
        return found

    def result_labels(self, many: Labels, one: Labels) -> Labels:
        """The labels of a matched pair's result, before `bool` drops the name."""
        matching = self._matching
        labels = many.drop(*METADATA) if self._arithmetic is not None else many
        if not matching.group:
            labels = labels.keep(matching.labels) if matching.on else labels.drop(*matching.labels)
        if matching.include:
            merged = dict(labels.pairs)
            merged.update({name: one.get(name, "") for name in matching.include})
            labels = Labels.of(merged)
        return labels


def _braced(labels: Labels) -> str:
    """Labels as Prometheus' errors show them: the name is a label like the others."""
    inner = ", ".join(f'{name}="{value}"' for name, value in labels.pairs)
    return f"{{{inner}}}"
