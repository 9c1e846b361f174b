"""A remediator and a governor on a table: facts go in by hand, the executor's and detector's answers are scripted, time moves when told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model.labels import Labels
from pipeline.model.records import (
    Action,
    Alert,
    AlertFact,
    AlertState,
    Command,
    Decision,
    Effect,
    Ending,
    Incident,
    Measurement,
    Notice,
    Observation,
    Outcome,
    OutcomeStatus,
    Override,
    Proposal,
    Tick,
    Truth,
    Watch,
    stable_id,
)
from pipeline.model.target import Target
from pipeline.remediate import Governor, Remediator
from pipeline.rulebook.book import AlertRule, RuleBook, RuleGroup
from pipeline.rulebook.spec import GrantSpec, PolicyFile

START_MS = 1_800_000_000_000
CHECKOUT = {
    "name": "checkout",
    "match": {"service": "checkout"},
    "route": "edge://route/checkout",
    "sites_target": "edge://sites/checkout",
    "blocklist": "edge://blocklist/checkout",
    "backends": [
        {"name": "v1", "weight": 80, "workload": "shop://workload/checkout-v1"},
        {"name": "v2", "weight": 20, "workload": "shop://workload/checkout-v2"},
    ],
    "limits": {"replicas": {"min": 1, "max": 10}},
}
BAD_RELEASE = {
    "name": "bad-release",
    "when": {"alertname": "CheckoutErrors"},
    "mode": "enforce",
    "steps": [
        {
            "shift_traffic": {"away_from": {"version": "{{ version }}"}},
            "verify": {"success": 'error_ratio{service="{{ service }}"} < 0.01', "settle": "2s", "count": 3, "within": "60s"},
            "then": "next",
        },
        {
            "roll_back": {"to": "previous"},
            "verify": {"success": 'error_ratio{service="{{ service }}"} < 0.01', "count": 2, "within": "60s"},
            "then": "next",
        },
        {"notify": {"to": "oncall", "text": "{{ version }} was rolled back"}},
    ],
    "guard": {"cooldown": "5m", "attempts": {"max": 3, "per": "1h"}, "ttl": "2m"},
}
RULES = {"checkout-errors": "CheckoutErrors"}


def book(version: str = "r1", grants: Mapping[str, Any] | None = None, for_ms: int = 5000, **sections: Any) -> RuleBook:
    sections.setdefault("services", [CHECKOUT])
    file = PolicyFile.model_validate(sections)
    rules = tuple(AlertRule(rule_id, name, "up == 0", for_ms=for_ms) for rule_id, name in RULES.items())
    return RuleBook(
        version=version,
        groups=(RuleGroup("g", "f.yaml", rules),),
        services=file.services,
        policies=file.policies,
        scalers=file.scalers,
        failovers=file.failovers,
        silences=file.silences,
        inhibitions=file.inhibitions,
        maintenance=file.maintenance,
        grants={name: GrantSpec.model_validate(grant) for name, grant in (grants or {"*": {"mode": "enforce"}}).items()},
    )


class Lab:
    """Drives the two machines; `log` keeps every effect."""

    def __init__(self, rules: RuleBook, group: str = "checkout", *, governor: bool = True) -> None:
        self.machine = Remediator(group, rules)
        self.governor = Governor() if governor else None
        self.group = group
        self.now_ms = START_MS
        self.serial = 0
        self.log: list[Effect] = []
        self.inputs: list[tuple[Any, int]] = []

    # --- feeding

    def give(self, event: Any) -> list[Effect]:
        """Feed one input and let the governor answer what it caused."""
        self.inputs.append((event, self.now_ms))
        return self.answer(list(self.machine.step(event, self.now_ms)))

    def reload(self, rules: RuleBook) -> list[Effect]:
        """Go on with other rules."""
        return self.answer(list(self.machine.reload(rules, self.now_ms)))

    def answer(self, effects: list[Effect]) -> list[Effect]:
        """Keep the effects, and have the governor answer their proposals."""
        self.log.extend(effects)
        if self.governor is not None:
            for proposal in [effect for effect in effects if isinstance(effect, Proposal)]:
                for grant in self.governor.step(proposal, self.now_ms):
                    effects += self.give(grant)
        return effects

    def tick(self) -> list[Effect]:
        return self.give(Tick(at_ms=self.now_ms))

    def wait(self, ms: int) -> list[Effect]:
        """Let time pass, ticking exactly when the machine wants to be woken."""
        end, effects = self.now_ms + ms, []
        while (due := self.machine.due_at_ms()) is not None and due <= end:
            self.now_ms = max(due, self.now_ms + 1)
            if self.now_ms > end:
                break
            effects += self.tick()
        self.now_ms = end
        return effects + self.tick()

    def id(self) -> str:
        self.serial += 1
        return f"in-{self.serial}"

    def alert(
        self, name: str = "CheckoutErrors", state: str = "firing", *, labels: Mapping[str, str] | None = None, ended: str = "", **fields: Any
    ) -> list[Effect]:
        all_labels = Labels.of({"service": "checkout", "version": "v2", "severity": "critical", **(labels or {})})
        at_ms = fields.pop("at_ms", self.now_ms)
        alert = Alert(
            id=fields.pop("id", stable_id(name, all_labels)),
            name=name,
            rule_id=fields.pop("rule_id", "checkout-errors"),
            labels=all_labels,
            state=AlertState(state),
            fired_at_ms=at_ms,
            resolved_at_ms=at_ms if state == "resolved" else 0,
            ended=Ending(ended) if ended else (Ending.BY_VALUE if state == "resolved" else None),
            revision=fields.pop("revision", self.serial + 1),
            confirmations=fields.pop("confirmations", 2),
            **fields,
        )
        return self.give(AlertFact(id=self.id(), group=self.group, at_ms=at_ms, alert=alert, caused_at_ms=at_ms - 20))

    def resolve(self, name: str = "CheckoutErrors", ended: str = "resolved_by_value", **fields: Any) -> list[Effect]:
        return self.alert(name, "resolved", ended=ended, **fields)

    def outcome(
        self,
        action: Action,
        status: str = "applied",
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> list[Effect]:
        return self.give(
            Outcome(
                id=stable_id("outcome", action.id),
                action_id=action.id,
                group=self.group,
                status=OutcomeStatus(status),
                at_ms=self.now_ms,
                applied_at_ms=self.now_ms if status == "applied" else 0,
                before=before,
                after=after if after is not None else dict(action.desired),
                **fields,
            )
        )

    def observe(self, target: str, **value: Any) -> list[Effect]:
        return self.give(Observation(id=self.id(), group=self.group, target=Target.parse(target), at_ms=self.now_ms, observed=value or None))

    def measure(
        self, truth: str = "true", value: float | None = None, *, watch: Watch | None = None, containing: str = "", **fields: Any
    ) -> list[Effect]:
        """One measurement for the newest live watch whose expression contains the text."""
        chosen = watch or [found for found in self.machine.watches() if containing in found.expr][-1]
        return self.give(
            Measurement(
                id=stable_id(chosen.id, self.now_ms),
                group=self.group,
                watch_id=chosen.id,
                at_ms=self.now_ms,
                truth=Truth(truth),
                value=value,
                **fields,
            )
        )

    def measure_for(self, seconds: int, truth: str = "true", value: float | None = None, containing: str = "") -> list[Effect]:
        effects = []
        for _ in range(seconds):
            effects += self.wait(1000)
            if any(containing in found.expr for found in self.machine.watches()):
                effects += self.measure(truth, value, containing=containing)
        return effects

    def command(self, kind: str, group: str = "", **args: Any) -> list[Effect]:
        command = Command(id=self.id(), kind=kind, identity="anna", at_ms=self.now_ms, group=group, args=args)
        if self.governor is not None:
            self.governor.step(command, self.now_ms)
        return self.give(command)

    # --- looking

    def actions(self, effects: list[Effect] | None = None, mode: str = "enforce") -> list[Action]:
        return [effect for effect in (self.log if effects is None else effects) if isinstance(effect, Action) and effect.mode == mode]

    def decisions(self, effects: list[Effect] | None = None) -> list[Decision]:
        return [effect for effect in (self.log if effects is None else effects) if isinstance(effect, Decision)]

    def reasons(self, effects: list[Effect] | None = None) -> list[str]:
        return [str(decision.reason) for decision in self.decisions(effects)]

    def notices(self) -> list[Notice]:
        return [effect for effect in self.log if isinstance(effect, Notice)]

    def overrides(self) -> list[Override]:
        return [effect for effect in self.log if isinstance(effect, Override)]

    def watches(self) -> list[Watch]:
        return [effect for effect in self.log if isinstance(effect, Watch)]

    @property
    def incident(self) -> Incident:
        return [effect for effect in self.log if isinstance(effect, Incident)][-1]
