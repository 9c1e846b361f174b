"""What an expression reads: its selectors, and how far back from the evaluation's instant each looks."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.promql.plan import Options
from pipeline.promql.tree import At, Instant, Node, Range, Subquery, children
from pipeline.series import Selector


@dataclass(frozen=True, slots=True)
class Read:
    """One selector in its place.

    Attributes:
        selector: what is selected.
        range_ms: the window of a range selector; 0 for an instant selector.
        offset_ms: its own offset.
        reach_ms: samples up to this much older than the evaluation's instant can matter: look-back or range, offsets and every
            subquery around it together. Never negative.
        pinned: an `@` modifier fixes the instant, so `reach_ms` counts from there.
    """

    selector: Selector
    range_ms: int
    offset_ms: int
    reach_ms: int
    pinned: bool


def reads(node: Node, options: Options) -> tuple[Read, ...]:
    """All selectors below a node, left to right."""
    return tuple(_reads(node, options, 0, pinned=False))


def _reads(node: Node, options: Options, outer_ms: int, *, pinned: bool) -> list[Read]:
    match node:
        case Range(instant=instant, range_ms=range_ms):
            return [_read(instant, range_ms, range_ms, outer_ms, pinned=pinned)]
        case Instant():
            return [_read(node, 0, options.look_back_ms, outer_ms, pinned=pinned)]
        case Subquery(expr=expr, range_ms=range_ms, offset_ms=offset_ms, at=at):
            # A subquery's first step may lie up to one step before... never before its window, so range and offset are all it adds.
            start = 0 if _fixed(at) else outer_ms
            return _reads(expr, options, start + range_ms + offset_ms, pinned=pinned or _fixed(at))
        case _:
            return [read for child in children(node) for read in _reads(child, options, outer_ms, pinned=pinned)]


def _read(node: Instant, range_ms: int, depth_ms: int, outer_ms: int, *, pinned: bool) -> Read:
    start = 0 if _fixed(node.at) else outer_ms
    return Read(node.selector, range_ms, node.offset_ms, max(0, start + depth_ms + node.offset_ms), pinned or _fixed(node.at))


def _fixed(at: At | None) -> bool:
    return at is not None and at.anchor == "time"
