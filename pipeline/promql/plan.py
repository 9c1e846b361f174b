"""What the operators of a compiled expression share: options, the frame of one evaluation, and the three kinds of operator.

Rows travel as plain tuples `(labels, value, drop_name)`; `drop_name` is only ever true with delayed name removal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from pipeline.model.labels import Labels
from pipeline.promql.errors import EvalError
from pipeline.promql.values import Notes
from pipeline.series import METADATA, SeriesView

Compat = Literal["v3", "v2"]
Cells = tuple[Labels, float, bool]

SAME_LABELSET: Final = "vector cannot contain metrics with the same labelset"
_MAX_CACHE: Final = 100_000


@dataclass(frozen=True, slots=True)
class Options:
    """How to evaluate.

    Attributes:
        compat: v3 windows are left-open, v2 windows are closed on both sides.
        look_back_ms: how old a sample may be for an instant selector.
        delayed_names: metric names are dropped at the very end (Prometheus' feature flag `promql-delayed-name-removal`), not at once.
        default_step_ms: the step of a subquery that names none.
        max_steps: most steps of a range query.
        max_subquery_steps: most steps of a subquery.
    """

    compat: Compat = "v3"
    look_back_ms: int = 300_000
    delayed_names: bool = False
    default_step_ms: int = 60_000
    max_steps: int = 11_000
    max_subquery_steps: int = 100_000


class Frame:
    """One evaluation: what is read, the query's range, and the annotations met."""

    __slots__ = ("_infos", "_warnings", "end_ms", "floor_ms", "is_range", "options", "start_ms", "step_ms", "view")

    def __init__(self, view: SeriesView, options: Options, *, start_ms: int, end_ms: int, step_ms: int = 0) -> None:
        self.view = view
        self.floor_ms = view.floor_ms
        self.options = options
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.step_ms = step_ms
        self.is_range = step_ms > 0
        self._warnings: dict[str, None] = {}
        self._infos: dict[str, None] = {}

    def warn(self, text: str) -> None:
        """Note a warning once."""
        self._warnings[f"PromQL warning: {text}"] = None

    def info(self, text: str) -> None:
        """Note an information once."""
        self._infos[f"PromQL info: {text}"] = None

    def note(self, notes: Notes) -> None:
        """Take over annotations of a part evaluated elsewhere."""
        self._warnings.update(dict.fromkeys(notes.warnings))
        self._infos.update(dict.fromkeys(notes.infos))

    def notes(self) -> Notes:
        """All annotations so far."""
        return Notes(tuple(self._warnings), tuple(self._infos)) if self._warnings or self._infos else _NO_NOTES


_NO_NOTES: Final = Notes()


class Span(NamedTuple):
    """Samples of one series inside a window; never empty. `bare`: the labels without `METADATA` where they are at hand."""

    labels: Labels
    drop_name: bool
    times: array[int]
    values: array[float]
    bare: Labels | None = None


class Window(NamedTuple):
    """The spans of a range vector, and the window they were cut from: `start_ms` < t <= `end_ms`. `at_ms` is the evaluation's instant."""

    start_ms: int
    end_ms: int
    at_ms: int
    spans: list[Span]


class VectorOp(ABC):
    """Yields an instant vector. `one_name`: all rows carry the same metric name, so dropping it keeps label sets distinct."""

    one_name = False

    @abstractmethod
    def rows(self, frame: Frame, at_ms: int, /) -> list[Cells]:
        """The rows at an instant. The caller owns the list."""


class ScalarOp(ABC):
    """Yields a number."""

    @abstractmethod
    def number(self, frame: Frame, at_ms: int, /) -> float:
        """The number at an instant."""


class MatrixOp(ABC):
    """Yields a range vector."""

    one_name = False

    @abstractmethod
    def window(self, frame: Frame, at_ms: int, /) -> Window:
        """The window that ends at an instant (moved by offset and `@`)."""


Op = VectorOp | ScalarOp | MatrixOp | str


class LabelCache(dict[Labels, Labels]):
    """Memo of a pure function from labels to labels; starts over when full, so that churning series cannot fill the memory.

    Equal results are one object: cheap to keep, and cheap to look up.
    """

    __slots__ = ("_results",)

    def __init__(self) -> None:
        super().__init__()
        self._results: dict[Labels, Labels] = {}

    def remember(self, source: Labels, result: Labels) -> Labels:
        """Store and return."""
        if len(self) >= _MAX_CACHE:
            self.clear()
            self._results.clear()
        self[source] = result = self._results.setdefault(result, result)
        return result


class NameDropper:
    """Removes metric names as the options say: at once, or by a mark."""

    __slots__ = ("_bare", "_delayed")

    def __init__(self, options: Options) -> None:
        self._delayed = options.delayed_names
        self._bare = LabelCache()

    def cells(self, labels: Labels, value: float) -> Cells:
        """A row whose metric name is gone or marked."""
        if self._delayed:
            return labels, value, True
        bare = self._bare.get(labels)
        if bare is None:
            bare = self._bare.remember(labels, labels.drop(*METADATA))
        return bare, value, False

    def with_values(self, rows: list[Cells], values: Iterable[float]) -> list[Cells]:
        """The rows with new values and without their names."""
        if self._delayed:
            return [(labels, value, True) for (labels, _, _), value in zip(rows, values, strict=True)]
        cells = self.cells
        return [cells(labels, value) for (labels, _, _), value in zip(rows, values, strict=True)]


def distinct(rows: list[Cells], options: Options) -> list[Cells]:
    """The rows, or an EvalError where two carry the same labels (with delayed names that is checked at the end)."""
    if not options.delayed_names and len(rows) > 1 and len({labels for labels, _, _ in rows}) != len(rows):
        raise EvalError(SAME_LABELSET)
    return rows


def finished(rows: Sequence[Cells]) -> list[tuple[Labels, float]]:
    """The rows as a result: marked names dropped, label sets distinct."""
    out = [(labels.drop(*METADATA) if drop else labels, value) for labels, value, drop in rows]
    if len(out) > 1 and len({labels for labels, _ in out}) != len(out):
        raise EvalError(SAME_LABELSET)
    return out
