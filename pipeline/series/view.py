"""What an evaluator reads: the `SeriesView` protocol, and the view that begins at an anchor.

Guarantee: an anchored view shows nothing at or before its anchor, so what is measured through it is only the time after an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from pipeline.series.matchers import Selector
from pipeline.series.ring import Series

NO_FLOOR: Final = -(1 << 62)


class SeriesView(Protocol):
    """Read access to series. Samples at or before `floor_ms` do not exist for the reader."""

    @property
    def floor_ms(self) -> int:
        """Readers must not look at samples with time <= this."""
        ...

    def select(self, selector: Selector) -> Sequence[Series]:
        """All series that the selector accepts, ordered by labels. Valid until the next append or eviction."""
        ...


class AnchoredView:
    """A store seen from `anchor_ms` on: only samples with a later time count."""

    __slots__ = ("_base", "floor_ms")

    def __init__(self, base: SeriesView, anchor_ms: int) -> None:
        self._base = base
        self.floor_ms = max(base.floor_ms, anchor_ms)

    def select(self, selector: Selector) -> Sequence[Series]:
        """As the base's; the floor hides what is older."""
        return self._base.select(selector)
