"""The life of an incident, as a table; nothing else changes an incident's state.

An incident opens with its first firing alert. It is `acting` while an action of it is on its way, `verifying` while an effect is measured, and
falls back to `open` when nothing of it runs and its alerts still fire. `escalated` means that a person was asked; the pipeline may still act, and
good news still resolves it. `suppressed`: everything in it is silenced, inhibited or in maintenance. A resolved incident re-opens when one of its
alerts fires again within the grace time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pipeline.model.records import IncidentState as S


class Happening(StrEnum):
    """What can happen to an incident."""

    ACT = "act"  # an action was issued
    APPLIED = "applied"  # its effect is being measured
    SETTLE = "settle"  # the run ended well, the alerts are not over yet
    ESCALATE = "escalate"
    SUPPRESS = "suppress"
    RESOLVE = "resolve"
    REOPEN = "reopen"


TRANSITIONS: Final[Mapping[tuple[S, Happening], S]] = {
    (S.OPEN, Happening.ACT): S.ACTING,
    (S.OPEN, Happening.SUPPRESS): S.SUPPRESSED,
    (S.OPEN, Happening.ESCALATE): S.ESCALATED,
    (S.OPEN, Happening.RESOLVE): S.RESOLVED,
    (S.ACTING, Happening.ACT): S.ACTING,
    (S.ACTING, Happening.APPLIED): S.VERIFYING,
    (S.ACTING, Happening.SETTLE): S.OPEN,
    (S.ACTING, Happening.ESCALATE): S.ESCALATED,
    (S.ACTING, Happening.RESOLVE): S.RESOLVED,
    (S.VERIFYING, Happening.ACT): S.ACTING,
    (S.VERIFYING, Happening.APPLIED): S.VERIFYING,
    (S.VERIFYING, Happening.SETTLE): S.OPEN,
    (S.VERIFYING, Happening.ESCALATE): S.ESCALATED,
    (S.VERIFYING, Happening.RESOLVE): S.RESOLVED,
    (S.ESCALATED, Happening.ACT): S.ACTING,
    (S.ESCALATED, Happening.APPLIED): S.VERIFYING,
    (S.ESCALATED, Happening.RESOLVE): S.RESOLVED,
    (S.SUPPRESSED, Happening.ACT): S.ACTING,
    (S.SUPPRESSED, Happening.REOPEN): S.OPEN,
    (S.SUPPRESSED, Happening.ESCALATE): S.ESCALATED,
    (S.SUPPRESSED, Happening.RESOLVE): S.RESOLVED,
    (S.RESOLVED, Happening.REOPEN): S.OPEN,
}


def next_state(state: S, happening: Happening) -> S | None:
    """The state after `happening`; None where it means nothing there."""
    return TRANSITIONS.get((state, happening))
