"""What may be done at all: expiry, pause and grants, checked where the work is done. Pure; every no has its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from pipeline.model.reasons import Reason
from pipeline.model.records import Action, OutcomeStatus

PIPELINE: Final = "reflexarc"
_RANK: Final = {"off": 0, "observe": 1, "propose": 2, "enforce": 3}


class Grants(Protocol):
    """What policies may do in one group: which verbs (None: all) and the highest mode."""

    @property
    def verbs(self) -> Sequence[str] | None:
        """Allowed verbs."""
        ...

    @property
    def mode(self) -> str:
        """Off | observe | propose | enforce."""
        ...


class Refusal(NamedTuple):
    """A no: how the action ends, the reason code, and a sentence."""

    status: OutcomeStatus
    reason: Reason
    text: str


def refusal(action: Action, *, now_ms: int, paused: str, grants: Grants) -> Refusal | None:
    """Why `action` must not go on now; None when it may.

    Grants bind the pipeline. An order that a person gave (or approved) carries that person's name and is not the pipeline's.
    """
    if now_ms > action.expires_at_ms:
        return Refusal(OutcomeStatus.STALE, Reason.STALE, f"expired {now_ms - action.expires_at_ms} ms ago")
    if paused and action.mode != "observe":
        return Refusal(OutcomeStatus.REFUSED, Reason.PAUSED, f"paused: {paused}")
    if action.identity != PIPELINE:
        return None
    if grants.verbs is not None and action.verb not in grants.verbs:
        allowed = ", ".join(grants.verbs) or "no verb"
        return Refusal(OutcomeStatus.REFUSED, Reason.NOT_GRANTED, f"{action.group} is granted {allowed}, not {action.verb}")
    if _RANK.get(action.mode, len(_RANK)) > _RANK.get(grants.mode, 0):
        return Refusal(OutcomeStatus.REFUSED, Reason.NOT_GRANTED, f"{action.group} is granted mode {grants.mode}, not {action.mode}")
    return None
