"""Arbitration: what may go together in one group, and who waits.

Order (DESIGN section 5): operator > revert > add capacity or drain what is bad > move traffic > roll back > remove capacity > restart.
Guarantee: one action in flight per target; capacity is never removed while anything else of the group is on its way, being measured, or failed
over; adding capacity waits for nothing but an action in flight on the same target; leaving an ill site does not wait for a version to be judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pipeline.model.reasons import Reason
from pipeline.model.target import Target
from pipeline.remediate.state import State
from pipeline.remediate.turn import Hold, Turn

RETRY_MS: Final = 5000


class Rank(IntEnum):
    """Smaller goes first."""

    OPERATOR = 0
    REVERT = 1
    ADD_OR_DRAIN = 2
    MOVE = 3
    ROLL_BACK = 4
    REMOVE = 5
    RESTART = 6
    TELL = 7


RANKS: Final[Mapping[tuple[str, str], Rank]] = {
    ("scale", "up"): Rank.ADD_OR_DRAIN,
    ("block", ""): Rank.ADD_OR_DRAIN,
    ("shift_traffic", "drain"): Rank.ADD_OR_DRAIN,
    ("fail_over", ""): Rank.MOVE,
    ("fail_back", ""): Rank.MOVE,
    ("shift_traffic", ""): Rank.MOVE,
    ("roll_back", ""): Rank.ROLL_BACK,
    ("deploy", ""): Rank.ROLL_BACK,
    ("scale", ""): Rank.REMOVE,
    ("scale", "down"): Rank.REMOVE,
    ("restart", ""): Rank.RESTART,
    ("call", ""): Rank.TELL,
    ("notify", ""): Rank.TELL,
}
TRAFFIC: Final = frozenset({"shift_traffic", "fail_over", "fail_back"})
VERSIONS: Final = frozenset({"roll_back", "deploy"})


def rank_of(verb: str, direction: str = "", *, reverts: str = "", owner: str = "") -> Rank:
    """The rank of a wish."""
    if owner.startswith("operator:"):
        return Rank.OPERATOR
    if reverts:
        return Rank.REVERT
    return RANKS.get((verb, direction)) or RANKS.get((verb, "")) or Rank.RESTART


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that has hold of a target: an order on its way, or an effect being measured."""

    owner: str
    service: str
    verb: str
    target: Target
    direction: str
    rank: int
    in_flight: bool


def claims(state: State) -> Iterator[Claim]:
    """Everything that has hold of a target of the group now; would-be actions of observe have none."""
    for order in state.orders.values():
        if order.phase != "approval" and order.action.mode == "enforce":
            action = order.action
            yield Claim(order.owner, order.service, action.verb, action.target, order.direction, order.rank, in_flight=True)
    for run in state.runs.values():
        if run.phase in {"verifying", "reverting", "held"}:
            for done in (state.done[id_] for id_ in run.step_changed if id_ in state.done):
                action = done.action
                yield Claim(f"run:{run.id}", run.service, action.verb, action.target, "", rank_of(action.verb), in_flight=False)


def judge(turn: Turn, wish: Claim) -> Hold | None:
    """Why the wish has to wait; None: it may go."""
    for claim in claims(turn.state):
        hold = _collision(turn, wish, claim)
        if hold is not None:
            return hold
    return _failed_over(turn, wish)


def _collision(turn: Turn, wish: Claim, claim: Claim) -> Hold | None:
    about = {"other": claim.owner, "other_verb": claim.verb, "other_target": str(claim.target)}
    if claim.target == wish.target and claim.in_flight:
        return _hold(turn, Reason.IN_FLIGHT, f"{claim.verb} on {claim.target} is on its way; one action per target at a time.", about)
    if claim.owner == wish.owner or wish.rank in {Rank.OPERATOR, Rank.REVERT, Rank.TELL} or (wish.verb == "scale" and wish.direction == "up"):
        return None
    if claim.target == wish.target and wish.rank >= claim.rank:
        return _hold(turn, Reason.OUTRANKED, f"The effect of {claim.verb} on {claim.target} is being measured; {wish.verb} waits for the end.", about)
    if _contradicts(wish, claim):
        return _hold(
            turn, Reason.CONTRADICTS, f"{wish.verb} on {wish.target} contradicts {claim.verb} on {claim.target}, which is not finished.", about
        )
    return None


def _contradicts(wish: Claim, claim: Claim) -> bool:
    if wish.verb == "scale":  # a removal, or one of unknown direction: up was let through
        return claim.verb != "notify"
    if wish.service != claim.service:
        return False
    if wish.verb == "restart":
        return claim.verb not in {"notify", "call", "block"}
    if wish.verb == "fail_over" and claim.verb == "shift_traffic" and claim.target != wish.target:
        return False  # leaving a site that is ill does not wait for what is being learnt about a version: they turn different knobs
    same_matter = {wish.verb, claim.verb} <= TRAFFIC or {wish.verb, claim.verb} <= VERSIONS
    return same_matter and (claim.in_flight or wish.rank >= claim.rank)


def _failed_over(turn: Turn, wish: Claim) -> Hold | None:
    if wish.verb != "scale" or wish.direction == "up" or wish.rank in {Rank.OPERATOR, Rank.REVERT}:
        return None
    for name, failover in turn.state.failovers.items():
        if failover.phase not in {"home", "suspect"} or failover.regret_until_ms > turn.now_ms:
            about = {"failover": name, "phase": failover.phase, "regret_until_ms": failover.regret_until_ms}
            return _hold(turn, Reason.CONTRADICTS, f"No capacity is removed while fail-over {name} is in force or fresh.", about)
    return None


def _hold(turn: Turn, reason: Reason, text: str, evidence: Mapping[str, object]) -> Hold:
    return Hold(reason, text, evidence, retry_at_ms=turn.now_ms + RETRY_MS)
