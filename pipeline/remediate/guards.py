"""Guards: what may hold a policy back before its first step. Each is a function with its reason code; `GUARDS` is their order.

Ledgers are keyed by policy name (the group is the remediator's own), separately for observe, so that an edited policy keeps its past and a
shadow run costs a real one nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipeline.model.labels import METRIC_NAME
from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import AlertState
from pipeline.remediate.muting import muted
from pipeline.remediate.state import AlertEntry, Ledger, Want
from pipeline.remediate.turn import Hold, Turn
from pipeline.rulebook.spec import Policy, Service

MODES: Final = ("off", "observe", "propose", "enforce")
OWN_METRIC: Final = re.compile(r"\bpipeline_[a-z0-9_]+")
OWN_LABELS: Final = ("reflexarc", "reflexarc_action")
EVER: Final = frozenset({"notify"})  # telling a person needs no grant


@dataclass(frozen=True, slots=True)
class Asked:
    """A policy that would like to start for a firing alert."""

    turn: Turn
    want: Want
    policy: Policy
    entry: AlertEntry
    service: Service
    mode: str

    @property
    def ledger(self) -> Ledger:
        """The policy's past in this mode."""
        return ledger_of(self.turn, self.policy.name, self.mode)


def ledger_of(turn: Turn, policy: str, mode: str) -> Ledger:
    """The ledger of a policy; observe has its own."""
    key = f"{'observe' if mode == 'observe' else 'enforce'}:{policy}"
    return turn.state.ledgers.setdefault(key, Ledger())


def effective_mode(turn: Turn, wanted: str) -> str:
    """The lower of what the policy wants and what the administrator grants its group."""
    return min(wanted, turn.scope.grant.mode, key=MODES.index)


def granted(turn: Turn, verb: str) -> bool:
    """Whether policies of this group may use the verb."""
    verbs = turn.scope.grant.verbs
    return verbs is None or verb in verbs or verb in EVER


def _loop(asked: Asked) -> Hold | None:
    alert = asked.entry.alert
    rule = asked.turn.scope.alert_rules.get(alert.rule_id)
    own = next((name for name in OWN_LABELS if alert.labels.get(name) or alert.annotations.get(name)), "")
    if alert.labels.get(METRIC_NAME, "").startswith("pipeline_") or alert.labels.get("job") == "reflexarc":
        own = own or "its labels"
    if rule is not None and OWN_METRIC.search(rule.expr):
        own = own or rule.expr
    return (
        Hold(Reason.LOOP, f"{alert.name} speaks of the pipeline's own output ({own}), which never causes actions.", {"provenance": own})
        if own
        else None
    )


def _muting(asked: Asked) -> Hold | None:
    return muted(asked.turn, asked.entry)


def _mode(asked: Asked) -> Hold | None:
    if asked.mode == "off":
        grant = asked.turn.scope.grant.mode
        return Hold(Reason.MODE_OFF, f"Policy {asked.policy.name} is switched off here.", {"policy_mode": asked.policy.mode, "granted_mode": grant})
    return None


def _grants(asked: Asked) -> Hold | None:
    verb = next((step.verb for step in asked.policy.steps if not granted(asked.turn, step.verb)), None)
    if verb is None:
        return None
    verbs = asked.turn.scope.grant.verbs
    return Hold(Reason.NOT_GRANTED, f"Policies of {asked.turn.group} may not use {verb}.", {"verb": verb, "granted": list(verbs or ())})


def _paused(asked: Asked) -> Hold | None:
    paused = asked.turn.state.paused
    return Hold(Reason.PAUSED, f"Paused: {paused}", {"paused": paused}) if paused and asked.mode != "observe" else None


def _stale(asked: Asked) -> Hold | None:
    turn, ttl_ms = asked.turn, asked.policy.guard.ttl_ms
    due_at_ms = asked.want.due_at_ms or asked.entry.heard_at_ms
    late_ms = turn.now_ms - due_at_ms
    if late_ms <= ttl_ms:
        return None
    evidence = {"late_ms": late_ms, "ttl_ms": ttl_ms, "at_ms": due_at_ms}
    text = f"What {asked.entry.alert.name} said is {late_ms / 1000:.1f} s old, older than {ttl_ms / 1000:.0f} s: its moment has passed."
    # Should it still fire when as much time has passed again in step with the present, it is a new matter.
    return Hold(Reason.STALE, text, evidence, retry_at_ms=turn.now_ms + ttl_ms, verdict=Verdict.DROP)


def _warming(asked: Asked) -> Hold | None:
    if asked.entry.alert.warming and not asked.policy.allow_warming:
        return Hold(Reason.WARMING, f"The windows behind {asked.entry.alert.name} are not whole yet; it is shown, but causes nothing.")
    return None


def _confirmations(asked: Asked) -> Hold | None:
    alert = asked.entry.alert
    needed = asked.policy.confirmations
    if needed is None:
        rule = asked.turn.scope.alert_rules.get(alert.rule_id)
        needed = 2 if asked.mode in {"propose", "enforce"} and rule is not None and rule.for_ms == 0 else 1
    if needed <= 1 or alert.confirmations >= needed:
        return None
    evidence = {"confirmations": alert.confirmations, "needed": needed}
    return Hold(Reason.CONFIRMATIONS, f"{alert.name} held at {alert.confirmations} settled evaluation(s); {needed} are wanted.", evidence)


def _other_run(asked: Asked) -> Hold | None:
    if asked.mode == "observe":
        return None
    for run in asked.turn.state.runs.values():
        if run.incident_id != asked.want.incident_id or run.phase == "shadow" or run.policy == asked.policy.name:
            continue
        return Hold(
            Reason.OUTRANKED, f"Policy {run.policy} works on this incident already; {asked.policy.name} waits.", {"run": run.id, "phase": run.phase}
        )
    return None


def _cooldown(asked: Asked) -> Hold | None:
    last_at_ms, cooldown_ms = asked.ledger.last_at_ms, asked.policy.guard.cooldown_ms
    until_ms = last_at_ms + cooldown_ms
    if not last_at_ms or asked.turn.now_ms >= until_ms:
        return None
    evidence = {"last_at_ms": last_at_ms, "cooldown_ms": cooldown_ms, "until_ms": until_ms}
    left_s = (until_ms - asked.turn.now_ms) / 1000
    return Hold(Reason.COOLDOWN, f"Policy {asked.policy.name} acted here lately; it waits another {left_s:.0f} s.", evidence, retry_at_ms=until_ms)


def _attempts(asked: Asked) -> Hold | None:
    limit, now_ms = asked.policy.guard.attempts, asked.turn.now_ms
    asked.ledger.started_at_ms = [at_ms for at_ms in asked.ledger.started_at_ms if at_ms + limit.per_ms > now_ms][-1000:]
    recent = asked.ledger.started_at_ms
    if len(recent) < limit.max:
        return None
    free_at_ms = recent[-limit.max] + limit.per_ms
    evidence = {"attempts": len(recent), "max": limit.max, "per_ms": limit.per_ms, "free_at_ms": free_at_ms}
    text = f"Policy {asked.policy.name} was tried {len(recent)} times within {limit.per_ms / 60000:.0f} min without lasting effect."
    return Hold(Reason.ATTEMPTS_EXHAUSTED, text, evidence, retry_at_ms=free_at_ms)


GUARDS: Final[tuple[Callable[[Asked], Hold | None], ...]] = (
    _loop,
    _muting,
    _mode,
    _grants,
    _paused,
    _stale,
    _warming,
    _confirmations,
    _other_run,
    _attempts,
    _cooldown,
)


def first_hold(asked: Asked) -> Hold | None:
    """The first guard that objects; None: the policy may start."""
    return next((hold for guard in GUARDS if (hold := guard(asked)) is not None), None)


def still_fires(entry: AlertEntry | None) -> bool:
    """Whether there is still something to act on."""
    return entry is not None and entry.alert.state is AlertState.FIRING
