"""`Turn`: one step of the fold: the state, the rules, the one `now_ms`, and the effects so far.

Guarantee: ids of what it emits depend only on what happened, so the same input gives the same ids; and a choice that stays the same is
said once (`decide_once`), not at every tick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Decision, Effect, Notice, Outcome, Override, Watch, stable_id
from pipeline.model.target import Target
from pipeline.remediate.catalogue import Scope
from pipeline.remediate.state import Order, State
from pipeline.rulebook.book import RuleBook

SEEN_KEPT = 1000


class About(TypedDict, total=False):
    """What a decision speaks of."""

    incident_id: str
    alert_id: str
    action_id: str
    policy: str
    verb: str
    target: Target | None
    mode: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Something forbids it now. `retry_at_ms` 0: not before something changes; `verdict` DROP: it will not be done any more."""

    reason: Reason
    text: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    retry_at_ms: int = 0
    verdict: Verdict = Verdict.HOLD


@dataclass(frozen=True, slots=True)
class Launched:
    """An order went out as an action."""

    order: Order


@dataclass(frozen=True, slots=True)
class Refused:
    """An order will not go out: refused by the governor, expired, or held on the way."""

    order: Order
    hold: Hold


@dataclass(frozen=True, slots=True)
class Settled:
    """An action has its outcome."""

    order: Order
    outcome: Outcome


@dataclass(slots=True)
class Turn:
    """One step. `cause` is the id of the input, the root of all ids made here."""

    state: State
    scope: Scope
    now_ms: int
    cause: str
    effects: list[Effect] = field(default_factory=list)
    touched: dict[str, None] = field(default_factory=dict)  # incidents to be emitted at the end of the step
    inbox: list[Launched | Refused | Settled] = field(default_factory=list)
    again: bool = False  # something ended: look again at what waited for an end
    afresh: bool = False  # the rules changed: look at everything again

    @property
    def rules(self) -> RuleBook:
        """The rule book in force."""
        return self.scope.rules

    @property
    def group(self) -> str:
        """The group of this remediator."""
        return self.state.group

    def decide(self, verdict: Verdict, reason: Reason, text: str, evidence: Mapping[str, Any] | None = None, **about: Unpack[About]) -> None:
        """Record one choice."""
        subject = [about.get(name, "") for name in ("alert_id", "incident_id", "action_id", "policy", "verb", "target")]
        decision = Decision(
            id=stable_id("decision", self.group, self.cause, verdict, reason, *subject),
            group=self.group,
            at_ms=self.now_ms,
            verdict=verdict,
            reason=reason,
            text=text,
            evidence=dict(evidence or {}),
            rulebook_version=self.rules.version,
            **about,
        )
        if decision not in self.effects:
            self.effects.append(decision)

    def decide_once(self, subject: str, hold: Hold, **about: Unpack[About]) -> None:
        """Record a hold, unless the last one about `subject` had the same reason."""
        if self.state.said.get(subject) != hold.reason:
            self.state.said[subject] = hold.reason
            self.decide(hold.verdict, hold.reason, hold.text, hold.evidence, **about)

    def forget(self, subject: str) -> None:
        """The next hold about `subject` is news again."""
        self.state.said.pop(subject, None)

    def notice(self, title: str, text: str, *, to: str = "default", incident_id: str = "", severity: str = "") -> None:
        """Tell a person."""
        id_ = stable_id("notice", self.group, self.cause, incident_id, to, title)
        self.effects.append(
            Notice(id=id_, group=self.group, at_ms=self.now_ms, to=to, title=title, text=text, incident_id=incident_id, severity=severity)
        )

    def watch(self, watch: Watch) -> None:
        """Ask detection for a standing expression and remember it, so that it can be asked for again."""
        self.state.watches[watch.id] = watch
        self.effects.append(watch)

    def unwatch(self, watch_id: str) -> None:
        """Cancel a standing expression."""
        watch = self.state.watches.pop(watch_id, None)
        self.state.heard.pop(watch_id, None)
        if watch is not None and (watch.until_ms == 0 or watch.until_ms > self.now_ms):
            cancel = Watch(
                id=watch.id,
                group=self.group,
                at_ms=max(self.now_ms, 1),
                expr=watch.expr,
                kind=watch.kind,
                anchor_ms=watch.anchor_ms,
                interval_ms=watch.interval_ms,
                until_ms=max(self.now_ms, 1),
            )
            self.effects.append(cancel)

    def override(self, override: Override) -> None:
        """Record a change of ours that came into force, or that ended."""
        if override.released_at_ms:
            self.state.overrides.pop(override.id, None)
        else:
            self.state.overrides[override.id] = override
        self.effects.append(override)

    def first_sight(self, id_: str) -> bool:
        """Whether this input was not taken before; remembers the newest ids."""
        seen = self.state.seen
        if id_ in seen:
            return False
        seen[id_] = self.now_ms
        if len(seen) > SEEN_KEPT:
            for old in list(seen)[: SEEN_KEPT // 4]:
                del seen[old]
        return True
