"""Stretches of a flat array, many at a time: sums and spreads of each in Prometheus' order of operations.

Guarantee: per stretch the operations and their order are those of `numeric.kahan_sum`, `numeric.mean` and `over_time.variance`, so are the bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from pipeline.promql.incremental.block import Floats, Ints
from pipeline.promql.numeric import mean

_CELLS: Final = 1 << 17  # of one padded matrix: it stays in the cache
_TAME: Final = 1e100  # squares of smaller values, and sums of them, stay finite


def positions(first: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """All positions of the stretches one after the other, and for each the number of its stretch."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts), owner


def _matrices(values: Floats, first: Ints, counts: Ints) -> Iterator[tuple[Ints, Floats]]:
    """Stretches of similar length as matrices, padded with zeros at the end: (which stretches, their values)."""
    order = np.argsort(-counts, kind="stable")
    done = 0
    while done < len(order):
        width = int(counts[order[done]])
        stop = min(len(order), done + max(1, _CELLS // max(width, 1)))
        ahead = counts[order[done:stop]]
        stop = done + int(np.searchsorted(-ahead, -(width // 2), side="right")) if width > 8 else stop
        chosen = order[done : max(stop, done + 1)]
        steps = np.arange(width)
        if counts[chosen[-1]] == width:  # sorted: all are as long as the first
            yield chosen, values[first[chosen, None] + steps]
            done += len(chosen)
            continue
        inside = steps < counts[chosen, None]
        where = np.where(inside, first[chosen, None] + steps, first[chosen, None])
        yield chosen, np.where(inside, values[where], 0.0)
        done += len(chosen)


def compensated(values: Floats, first: Ints, counts: Ints) -> tuple[Floats, Floats]:
    """Neumaier's sum of each stretch: total and compensation (which means nothing where the total is not finite)."""
    total, rest = np.zeros(len(counts)), np.zeros(len(counts))
    with np.errstate(all="ignore"):
        for chosen, matrix in _matrices(values, first, counts):
            totals = np.cumsum(matrix, axis=1)
            before = np.concatenate((np.zeros((len(chosen), 1)), totals[:, :-1]), axis=1)
            lost = np.where(np.abs(before) >= np.abs(matrix), (before - totals) + matrix, (matrix - totals) + before)
            total[chosen] = totals[:, -1] + 0.0
            rest[chosen] = np.cumsum(lost, axis=1)[:, -1]
    return total, rest


def sums(values: Floats, first: Ints, counts: Ints) -> Floats:
    """`kahan_sum` of each stretch."""
    total, rest = compensated(values, first, counts)
    with np.errstate(all="ignore"):
        return np.where(np.isfinite(total), total + rest, total)


def means(values: Floats, first: Ints, counts: Ints) -> Floats:
    """`mean` of each stretch; none is empty."""
    total, rest = compensated(values, first, counts)
    with np.errstate(all="ignore"):
        found: Floats = total / counts + rest / counts
    for number in np.flatnonzero(~np.isfinite(total)).tolist():
        found[number] = mean(values[first[number] : first[number] + counts[number]].tolist())
    return found


def variances(values: Floats, first: Ints, counts: Ints) -> Floats:
    """`over_time.variance` of each stretch."""
    found = np.zeros(len(counts))
    with np.errstate(all="ignore"):
        for chosen, matrix in _matrices(values, first, counts):
            found[chosen] = _welford(matrix, counts[chosen])
    return found


def _welford(matrix: Floats, counts: Ints) -> Floats:
    if not np.all(np.abs(matrix) < _TAME):
        return _wild_welford(matrix, counts)
    average, average_c, spread, spread_c = (np.zeros(len(counts)) for _ in range(4))
    whole = int(counts.min())
    for step, value in enumerate(np.ascontiguousarray(matrix.T)):
        delta = value - (average + average_c)
        new, new_c = _tame_add(delta / (step + 1), average, average_c)
        wide, wide_c = _tame_add(delta * (value - (new + new_c)), spread, spread_c)
        if step >= whole:  # some stretches have ended
            inside = counts > step
            new, new_c, wide, wide_c = (
                np.where(inside, now, before) for now, before in ((new, average), (new_c, average_c), (wide, spread), (wide_c, spread_c))
            )
        average, average_c, spread, spread_c = new, new_c, wide, wide_c
    result: Floats = (spread + spread_c) / counts
    return result


def _wild_welford(matrix: Floats, counts: Ints) -> Floats:
    """The same where infinities may come up."""
    average, average_c, spread, spread_c = (np.zeros(len(counts)) for _ in range(4))
    for step in range(matrix.shape[1]):
        inside, value = counts > step, matrix[:, step]
        delta = value - (average + average_c)
        new, new_c = _add(delta / (step + 1), average, average_c)
        average, average_c = np.where(inside, new, average), np.where(inside, new_c, average_c)
        new, new_c = _add(delta * (value - (average + average_c)), spread, spread_c)
        spread, spread_c = np.where(inside, new, spread), np.where(inside, new_c, spread_c)
    result: Floats = (spread + spread_c) / counts
    return result


def _tame_add(value: Floats, total: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """`numeric.kahan_add` of each, where no infinity and no NaN is near."""
    new = total + value
    return new, rest + np.where(np.abs(total) >= np.abs(value), (total - new) + value, (value - new) + total)


def _add(value: Floats, total: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """`numeric.kahan_add` of each."""
    new, new_c = _tame_add(value, total, rest)
    wild = new - new != 0
    return new, np.where(wild, np.where(np.isinf(new), 0.0, rest), new_c)


def by_stretch(values: Floats, first: Ints, counts: Ints, function: Callable[[list[float]], float]) -> Floats:
    """Any function of each stretch's values, one stretch at a time."""
    return np.array([function(values[at : at + n].tolist()) for at, n in zip(first.tolist(), counts.tolist(), strict=True)], np.float64)
