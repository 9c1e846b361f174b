"""How an action ended, as the one `Outcome` record it gets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pipeline.execute.permits import Refusal
from pipeline.model.reasons import Reason
from pipeline.model.records import Action, Outcome, OutcomeStatus, stable_id
from pipeline.ports.connector import Change, Observed

_REASONS: Final = {
    OutcomeStatus.APPLIED: Reason.APPLIED,
    OutcomeStatus.ALREADY_THERE: Reason.ALREADY_THERE,
    OutcomeStatus.PLANNED: Reason.MODE_OBSERVE,
    OutcomeStatus.CONFLICT: Reason.CONFLICT,
    OutcomeStatus.FAILED: Reason.APPLY_FAILED,
    OutcomeStatus.UNKNOWN: Reason.APPLY_UNKNOWN,
    OutcomeStatus.STALE: Reason.STALE,
}


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an action; `outcome` makes the record."""

    status: OutcomeStatus
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    summary: str = ""
    error: str = ""
    reason: Reason | None = None
    tries: int = 1


def outcome_id(action_id: str) -> str:
    """The same for every copy of the same outcome."""
    return stable_id(action_id, "outcome")


def outcome(action: Action, ending: Ending, *, now_ms: int, recovered: bool) -> Outcome:
    """The record."""
    return Outcome(
        id=outcome_id(action.id),
        action_id=action.id,
        group=action.group,
        status=ending.status,
        at_ms=now_ms,
        applied_at_ms=now_ms if ending.status is OutcomeStatus.APPLIED else 0,
        before=ending.before,
        after=ending.after,
        summary=ending.summary,
        error=ending.error,
        reason=ending.reason or _REASONS.get(ending.status),
        tries=ending.tries,
        recovered=recovered,
    )


def refused(refusal: Refusal) -> Ending:
    """The ending of an action that must not go on."""
    return Ending(status=refusal.status, reason=refusal.reason, error=refusal.text)


def failed(error: object, *, tries: int = 1) -> Ending:
    """The ending of an action that does not work."""
    return Ending(status=OutcomeStatus.FAILED, error=str(error), tries=tries)


def conflicted(text: object, observed: Mapping[str, Any] | None, *, tries: int = 1) -> Ending:
    """The ending of an action on something that somebody else changed; `after` is what is there."""
    return Ending(status=OutcomeStatus.CONFLICT, error=str(text), after=observed, tries=tries)


def applied(change: Change, *, tries: int) -> Ending:
    """The ending of an action whose change is in force. `before` and `after` speak the vocabulary of the verb, concrete values only."""
    return Ending(status=OutcomeStatus.APPLIED, before=change.before, after=change.after, summary=change.summary, tries=tries)


def planned(change: Change) -> Ending:
    """The ending of an action that only had to be looked at."""
    return Ending(status=OutcomeStatus.PLANNED, before=change.before, after=change.after, summary=change.summary)


def already_there(observed: Observed) -> Ending:
    """The ending of an action with nothing to do; what was read is both before and after."""
    return Ending(status=OutcomeStatus.ALREADY_THERE, before=observed.value, after=observed.value, summary="already there")
