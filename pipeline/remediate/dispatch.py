"""From a wish to an outcome: ids, pause, arbitration, approval, the governor, flight, duplicates.

Guarantee: an action id goes out at most once; what has an outcome is never sent again; an outcome that comes before the machine got so far (it was
restored from an older state) is adopted when it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from pipeline.model.duration import format_instant
from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Action, Budget, Grant, Outcome, OutcomeStatus, Proposal, stable_id
from pipeline.model.target import Target
from pipeline.remediate import arbiter, dwell
from pipeline.remediate.state import Done, Order, Seen
from pipeline.remediate.turn import About, Hold, Launched, Refused, Settled, Turn

GRANT_WAIT_MS: Final = 2000
GRACE_MS: Final = 30_000  # the executor's own retries and its journey back
DONE_KEPT: Final = 30
ORPHANS_KEPT: Final = 100
IN_FORCE: Final = frozenset({OutcomeStatus.APPLIED, OutcomeStatus.ALREADY_THERE})
WORDS: Final[Mapping[OutcomeStatus, tuple[Verdict, Reason, str]]] = {
    OutcomeStatus.APPLIED: (Verdict.NOTE, Reason.APPLIED, "is in force"),
    OutcomeStatus.ALREADY_THERE: (Verdict.NOTE, Reason.ALREADY_THERE, "was in force already"),
    OutcomeStatus.PLANNED: (Verdict.NOTE, Reason.MODE_OBSERVE, "would have worked as far as reading, planning and permission go"),
    OutcomeStatus.CONFLICT: (Verdict.FAIL, Reason.CONFLICT, "was not applied: somebody else changed the target"),
    OutcomeStatus.FAILED: (Verdict.FAIL, Reason.APPLY_FAILED, "failed"),
    OutcomeStatus.UNKNOWN: (Verdict.FAIL, Reason.APPLY_UNKNOWN, "was sent, and nobody knows whether it is in force"),
    OutcomeStatus.STALE: (Verdict.DROP, Reason.STALE, "came too late and was not applied"),
    OutcomeStatus.REFUSED: (Verdict.HOLD, Reason.PAUSED, "was refused by the executor"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an owner wants done. The meaning of the fields is that of `Action`."""

    owner: str
    service: str
    verb: str
    target: Target
    desired: Mapping[str, Any]
    ttl_ms: int
    direction: str = ""
    mode: str = "enforce"
    policy: str = ""
    incident_id: str = ""
    alert_id: str = ""
    step: int = 0
    serial: int = 0
    reason: Reason = Reason.GRANTED
    deadline_ms: int = 10_000
    budgets: tuple[Budget, ...] = ()
    exempt: bool = False
    reverts: str = ""
    expected: Mapping[str, Any] | None = None
    override_until_ms: int = 0
    caused_at_ms: int = 0
    identity: str = "reflexarc"
    evidence: Mapping[str, Any] = field(default_factory=dict)  # the numbers that the wish rests on

    @property
    def action_id(self) -> str:
        """The same wish of the same attempt always has this id. A would-be action is another one: what was only observed may still be done."""
        root, kind = self.incident_id or self.owner, "would-be" if self.mode == "observe" else "action"
        return stable_id(kind, root, self.policy, self.step, self.serial, self.verb, self.target, self.reverts)

    @property
    def rank(self) -> arbiter.Rank:
        """Where it stands in arbitration."""
        return arbiter.rank_of(self.verb, self.direction, reverts=self.reverts, owner=self.owner)

    @property
    def claim(self) -> arbiter.Claim:
        """The draft as arbitration sees it."""
        return arbiter.Claim(self.owner, self.service, self.verb, self.target, self.direction, self.rank, in_flight=False)


def obstacle(turn: Turn, draft: Draft) -> Hold | None:
    """What stands in the way of sending it now: pause, another action, or the to and fro of the same incident."""
    if draft.mode != "enforce":
        return None
    if turn.state.paused:
        return Hold(Reason.PAUSED, f"Paused: {turn.state.paused}", {"paused": turn.state.paused})
    return arbiter.judge(turn, draft.claim) or _dwells(turn, draft)


def _dwells(turn: Turn, draft: Draft) -> Hold | None:
    if draft.direction == "up" or draft.identity != "reflexarc":
        return None
    return dwell.hold(turn, incident_id=draft.incident_id, target=draft.target, desired=draft.desired)


def submit(turn: Turn, draft: Draft) -> Hold | None:
    """Send the wish on its way; a Hold says why it could not even start. A wish that is known already starts nothing."""
    if draft.action_id in turn.state.orders or draft.action_id in turn.state.done:
        return None
    hold = obstacle(turn, draft)
    if hold is not None:
        return hold
    order = _order(turn, draft)
    if draft.mode == "propose":
        _await_approval(turn, order)
    elif draft.mode == "observe":
        _launch(turn, order)
    else:
        _propose(turn, order)
    return None


def _order(turn: Turn, draft: Draft) -> Order:
    action = Action(
        id=draft.action_id,
        group=turn.group,
        verb=draft.verb,
        target=draft.target,
        desired=draft.desired,
        at_ms=turn.now_ms,
        expires_at_ms=turn.now_ms + draft.ttl_ms,
        deadline_ms=draft.deadline_ms,
        mode="observe" if draft.mode == "observe" else "enforce",
        reason=draft.reason,
        policy=draft.policy,
        incident_id=draft.incident_id,
        alert_id=draft.alert_id,
        step=draft.step,
        attempt=draft.serial,
        reverts=draft.reverts,
        expected=draft.expected,
        override_until_ms=draft.override_until_ms,
        caused_at_ms=draft.caused_at_ms,
        rulebook_version=turn.rules.version,
        identity=draft.identity,
    )
    return Order(
        action=action,
        owner=draft.owner,
        service=draft.service,
        phase="grant",
        due_at_ms=0,
        rank=draft.rank,
        direction=draft.direction,
        budgets=draft.budgets,
        exempt=draft.exempt,
        evidence=dict(draft.evidence),
    )


def _await_approval(turn: Turn, order: Order) -> None:
    action = order.action
    order.phase, order.due_at_ms = "approval", action.expires_at_ms
    turn.state.orders[action.id] = order
    evidence = {**order.evidence, "action_id": action.id, "desired": action.desired, "expires_at_ms": action.expires_at_ms}
    text = f"{describe(action)} waits for approval: reflexarc approve {action.id}"
    turn.decide(Verdict.HOLD, Reason.MODE_PROPOSE, text, evidence, **about(action, mode="propose"))


def _propose(turn: Turn, order: Order) -> None:
    action = order.action
    order.phase, order.due_at_ms = "grant", turn.now_ms + GRANT_WAIT_MS
    turn.state.orders[action.id] = order
    turn.effects.append(Proposal(id=action.id, group=turn.group, at_ms=turn.now_ms, action=action, budgets=order.budgets, exempt=order.exempt))
    if order.exempt:  # the governor counts it, and is not waited for: an undo must not depend on it
        _launch(turn, order)


def _launch(turn: Turn, order: Order) -> None:
    action = order.action
    turn.state.orders[action.id] = order
    order.phase, order.due_at_ms = "flight", action.expires_at_ms + 2 * action.deadline_ms + GRACE_MS
    orphan = turn.state.orphans.pop(action.id, None)
    reason = Reason.MODE_OBSERVE if action.mode == "observe" else action.reason
    if orphan is None:
        turn.effects.append(action)
        would = "Would have: " if action.mode == "observe" else ""
        turn.decide(Verdict.ACT, reason, f"{would}{describe(action)}", {**order.evidence, "desired": action.desired}, **about(action))
    turn.inbox.append(Launched(order))
    if orphan is not None:
        settle(turn, orphan)


def on_grant(turn: Turn, grant: Grant) -> None:
    """The governor's answer: the action goes, or its owner hears why not. An answer to nothing that waits is a duplicate or too late."""
    order = turn.state.orders.get(grant.id)
    if order is None or order.phase != "grant":
        return
    if not grant.granted:
        retry_at_ms = grant.evidence.get("retry_at_ms", turn.now_ms + GRACE_MS)
        _refuse(turn, order, Hold(grant.reason, f"{describe(order.action)}: the governor refused ({grant.reason}).", grant.evidence, retry_at_ms))
    elif turn.state.paused:
        _refuse(turn, order, Hold(Reason.PAUSED, f"Paused: {turn.state.paused}", {"paused": turn.state.paused}))
    else:
        _launch(turn, order)


def approve(turn: Turn, action_id: str, identity: str) -> bool:
    """An operator said yes. False where nothing waits under that id."""
    order = turn.state.orders.get(action_id)
    if order is None or order.phase != "approval":
        return False
    del turn.state.orders[action_id]  # it must not collide with itself
    action = replace(order.action, identity=identity, at_ms=turn.now_ms)
    order.action = action
    claim = arbiter.Claim(order.owner, order.service, action.verb, action.target, order.direction, order.rank, in_flight=False)
    hold = Hold(Reason.PAUSED, f"Paused: {turn.state.paused}") if turn.state.paused else arbiter.judge(turn, claim)
    if hold is not None:
        turn.state.orders[action_id] = order
        turn.decide(hold.verdict, hold.reason, f"Approved, but: {hold.text}", hold.evidence, **about(action))
        return True
    _propose(turn, order)
    return True


def withdraw(turn: Turn, owner: str) -> None:
    """Drop what an owner has waiting for approval or grant; what is in flight stays."""
    for id_ in [id_ for id_, order in turn.state.orders.items() if order.owner == owner and order.phase != "flight"]:
        del turn.state.orders[id_]


def _refuse(turn: Turn, order: Order, hold: Hold) -> None:
    del turn.state.orders[order.action.id]
    turn.inbox.append(Refused(order, hold))
    turn.again = True


def settle(turn: Turn, outcome: Outcome) -> None:
    """Take an outcome, once."""
    order = turn.state.orders.get(outcome.action_id)
    if order is None:
        _unexpected(turn, outcome)
        return
    if order.phase != "flight":  # sent by an earlier life of this machine: adopt it
        turn.inbox.append(Launched(order))
    del turn.state.orders[outcome.action_id]
    _remember(turn, Done(order.action, outcome, order.owner))
    _observe(turn, order.action, outcome)
    verdict, reason, words = WORDS[outcome.status]
    text = f"{describe(order.action)} {words}{': ' + outcome.error if outcome.error else '.'}"
    evidence = {
        "before": outcome.before,
        "after": outcome.after,
        "summary": outcome.summary,
        "error": outcome.error,
        "applied_at_ms": outcome.applied_at_ms,
    }
    turn.decide(verdict, outcome.reason or reason, text, evidence, **about(order.action))
    turn.inbox.append(Settled(order, outcome))
    turn.again = True


def _unexpected(turn: Turn, outcome: Outcome) -> None:
    known = turn.state.done.get(outcome.action_id)
    if known is None:
        turn.state.orphans[outcome.action_id] = outcome
        while len(turn.state.orphans) > ORPHANS_KEPT:
            del turn.state.orphans[next(iter(turn.state.orphans))]
    elif known.outcome.tries == 0 and outcome.tries > 0:  # given up as lost, and now it came after all
        known.outcome = outcome
        _observe(turn, known.action, outcome)
        turn.decide(
            Verdict.NOTE, WORDS[outcome.status][1], f"{describe(known.action)}: its outcome came late: {outcome.status}.", {}, **about(known.action)
        )


def _remember(turn: Turn, done: Done) -> None:
    turn.state.done[done.action.id] = done
    kept = {id_ for run in turn.state.runs.values() for id_ in (*run.changed, *run.orders)} | turn.state.overrides.keys()
    for id_ in list(turn.state.done):
        if len(turn.state.done) <= DONE_KEPT:
            break
        if id_ not in kept:
            del turn.state.done[id_]


READ_BACK: Final[Mapping[str, tuple[str, ...]]] = {
    "scale": ("replicas",),
    "roll_back": ("version",),
    "deploy": ("version",),
    "shift_traffic": ("weights",),
    "fail_over": ("sites",),
    "fail_back": ("sites",),
}
BESIDES: Final = ("ready", "version", "previous_version", "replicas", "blocked")


def _observe(turn: Turn, action: Action, outcome: Outcome) -> None:
    """What the executor read back (or at least wrote) is the newest observation, until the connector says otherwise."""
    if outcome.status not in IN_FORCE:
        return
    after = outcome.after or {}
    news = {name: after.get(name, action.desired.get(name)) for name in READ_BACK.get(action.verb, ())}
    news |= {name: after[name] for name in BESIDES if name in after}
    news = {name: value for name, value in news.items() if value is not None and value != "previous"}
    known = turn.state.observed.get(str(action.target))
    at_ms = outcome.applied_at_ms or outcome.at_ms
    if news and (known is None or known.at_ms <= at_ms):
        ids = known.ids if known is not None and known.at_ms == at_ms else []
        turn.state.observed[str(action.target)] = Seen(at_ms, {**(known.value or {} if known else {}), **news}, ids=ids)


def advance(turn: Turn) -> None:
    """Let time pass: no answer means no, no approval means no, no outcome means unknown."""
    for order in [order for order in turn.state.orders.values() if order.due_at_ms <= turn.now_ms]:
        action = order.action
        if order.phase == "grant":
            text = f"{describe(action)}: no answer from the governor within {GRANT_WAIT_MS} ms, and no answer means no."
            _refuse(turn, order, Hold(Reason.NO_GRANT_ANSWER, text, {"waited_ms": GRANT_WAIT_MS}, turn.now_ms + arbiter.RETRY_MS))
        elif order.phase == "approval":
            _refuse(turn, order, Hold(Reason.EXPIRED, f"{describe(action)} was not approved in time.", {}, verdict=Verdict.DROP))
        else:
            error = "no outcome came"
            id_ = stable_id("outcome", action.id, "lost")
            lost = Outcome(id=id_, action_id=action.id, group=turn.group, status=OutcomeStatus.UNKNOWN, at_ms=turn.now_ms, error=error, tries=0)
            settle(turn, lost)


def describe(action: Action) -> str:
    """The action in a few words for a person."""
    wish = ", ".join(_wish(name, value) for name, value in action.desired.items())
    return f"{'undo: ' if action.reverts else ''}{action.verb} of {action.target} to {wish}"


def _wish(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{name} " + " ".join(f"{part}={item}" for part, item in value.items())
    if name.endswith("_until_ms") and isinstance(value, int) and value:
        return f"{name.removesuffix('_ms').replace('_', ' ')} {format_instant(value)}"
    return f"{name} {value}"


def about(action: Action, mode: str = "") -> About:
    """The fields of a decision that speak of this action."""
    return {
        "incident_id": action.incident_id,
        "alert_id": action.alert_id,
        "action_id": action.id,
        "policy": action.policy,
        "verb": action.verb,
        "target": action.target,
        "mode": mode or action.mode,
    }
