"""What an evaluation returns: vectors, scalars, strings, matrices, with the annotations (warnings and infos) met on the way.

Guarantee: rows of a vector have distinct label sets; their order is deterministic (by labels unless the expression sorts).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.model.labels import Labels


class Row(NamedTuple):
    """One element of an instant vector."""

    labels: Labels
    value: float


class Track(NamedTuple):
    """One series of a matrix: `points` are (ms, value), times increasing."""

    labels: Labels
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Notes:
    """Annotations, each text once, in order of appearance."""

    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.warnings or self.infos)


@dataclass(frozen=True, slots=True)
class Vector:
    """An instant vector."""

    rows: list[Row]
    notes: Notes = field(default_factory=Notes)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single number without labels."""

    value: float
    notes: Notes = field(default_factory=Notes)


@dataclass(frozen=True, slots=True)
class String:
    """A string literal's value."""

    value: str
    notes: Notes = field(default_factory=Notes)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Series over time: the result of a range query, or of a range selector at an instant. Ordered by labels."""

    series: list[Track]
    notes: Notes = field(default_factory=Notes)

    def __iter__(self) -> Iterator[Track]:
        return iter(self.series)

    def __len__(self) -> int:
        return len(self.series)


Result = Vector | Scalar | String | Matrix
