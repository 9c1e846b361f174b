"""Dwell: a target that one incident has turned twice is not turned a third time by itself: to and fro is worse than either side.

There and back is two turns at most: away, home, away again (a return that failed), or a wrong step, its undoing, the next rung. What comes after
that is for a person, or waits until the earlier moves are `DWELL_MS` old. More capacity is never held by this, nor is what an operator ordered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from pipeline.model.reasons import Reason
from pipeline.model.records import OutcomeStatus
from pipeline.model.target import Target
from pipeline.remediate.state import State
from pipeline.remediate.turn import Hold, Turn

TURNS: Final = 2
DWELL_MS: Final = 600_000
LEVELS: Final = ("weights", "sites", "replicas")


def hold(turn: Turn, *, incident_id: str, target: Target, desired: Mapping[str, Any]) -> Hold | None:
    """Why the target stays as it is in this incident; None: it may be moved to `desired`."""
    moves = list(_moves(turn.state, incident_id, target, turn.now_ms - DWELL_MS)) if incident_id else []
    if not moves:
        return None
    steps = [step for _, before, after in [*moves, (0, moves[-1][2], desired)] if (step := _direction(before, after))]
    turns = sum(1 for one, two in pairwise(steps) if one != two)
    if turns <= TURNS or steps[-1] == steps[-2]:
        return None
    text = f"{target} was turned {turns - 1} times for this incident already; it stays as it is, and a person is needed."
    evidence = {"turns": turns - 1, "limit": TURNS, "per_ms": DWELL_MS, "desired": desired}
    return Hold(Reason.DWELL, text, evidence, retry_at_ms=moves[0][0] + DWELL_MS)


def _moves(state: State, incident_id: str, target: Target, since_ms: int) -> Iterable[tuple[int, Mapping[str, Any], Mapping[str, Any]]]:
    done = [one for one in state.done.values() if one.action.incident_id == incident_id and one.action.target == target]
    for one in sorted(done, key=lambda one: one.outcome.applied_at_ms):
        if one.outcome.status is OutcomeStatus.APPLIED and one.outcome.applied_at_ms > since_ms:
            yield one.outcome.applied_at_ms, one.outcome.before or {}, {**one.action.desired, **(one.outcome.after or {})}


def _direction(before: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    """+1 or -1: which way the first part that differs went; 0: nothing to compare, or the same."""
    for name in LEVELS:
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            steps = [new.get(key, 0) - old.get(key, 0) for key in sorted({*old, *new})]
        elif old is not None and new is not None:
            steps = [new - old]
        else:
            continue
        return next((1 if step > 0 else -1 for step in steps if step), 0)
    return 0
