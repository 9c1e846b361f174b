"""What travels between the stages and what is stored: facts, proposals, grants, actions, outcomes, decisions, incidents.

Every type is a frozen `msgspec.Struct` with `schema_version`; its class name is the tag on the wire. Times are integer
Unix epoch milliseconds, 0 where it has not happened. A float of `None` means "no number": absent, NaN or infinite (JSON has neither).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from pipeline.model.labels import EMPTY, Labels
from pipeline.model.reasons import Reason, Verdict
from pipeline.model.target import Target

SCHEMA_VERSION = 1


def stable_id(*parts: object) -> str:
    """A deterministic id: the same parts always give the same 20 hex digits (80 bits), on every machine and version."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=10).hexdigest()


class Value(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="type"):
    """Base of all records."""

    schema_version: int = SCHEMA_VERSION


# --- facts: what detection says ------------------------------------------------------------------------------------------------------


class AlertState(StrEnum):
    """Prometheus' states; `RESOLVED` is its inactive-after-firing."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Ending(StrEnum):
    """How an alert ended. Only BY_VALUE is good news."""

    BY_VALUE = "resolved_by_value"
    BY_NODATA = "by_nodata"
    BY_RULE_CHANGE = "by_rule_change"


class Alert(Value, frozen=True, kw_only=True):
    """One life of one rule on one label set. `id` = stable_id(rule_id, labels, active_at_ms), so a replay finds the same."""

    id: str
    name: str
    rule_id: str
    rule_version: str = ""
    source: str = "rule"  # rule | sigma | external
    labels: Labels = EMPTY
    annotations: Mapping[str, str] = {}
    state: AlertState = AlertState.PENDING
    value: float | None = None
    track: str = "grid"  # grid | early: which evaluation made this state
    active_at_ms: int = 0
    fired_at_ms: int = 0
    resolved_at_ms: int = 0
    ended: Ending | None = None
    warming: bool = False
    confirmations: int = 0  # settled evaluations (or matches) that held so far
    evidence: tuple[str, ...] = ()  # a few matching log messages of a security alert, shortened
    revision: int = 0  # grows with every change of this life


class AlertFact(Value, frozen=True, kw_only=True):
    """An alert changed state (or confirmed it: `confirmations` grew to 2). `caused_at_ms`: event time of the newest signal that took part."""

    id: str
    group: str
    at_ms: int
    alert: Alert
    caused_at_ms: int = 0


class Truth(StrEnum):
    """Three-valued outcome of a condition. Missing is not false."""

    TRUE = "true"
    FALSE = "false"
    NODATA = "nodata"


class Measurement(Value, frozen=True, kw_only=True):
    """What a watch read at one evaluation.

    For a condition `truth` is the answer; for a value watch it is TRUE with `value`, or NODATA. `values` holds at most 20 (labels text, value) pairs.
    `silent` (value watches): how many of the series behind the value have fallen out of their own rhythm, so that it may be too small.
    """

    id: str
    group: str
    watch_id: str
    at_ms: int
    truth: Truth
    value: float | None = None
    values: tuple[tuple[str, float | None], ...] = ()
    warming: bool = False
    silent: int = 0


class Observation(Value, frozen=True, kw_only=True):
    """What a connector read of a target: sent when it changed, and every 30 s. `observed` is `Observed.value`; None: unreadable."""

    id: str
    group: str
    target: Target
    at_ms: int
    observed: Mapping[str, Any] | None
    error: str = ""


class Watch(Value, frozen=True, kw_only=True):
    """A standing expression that remediation asks detection to evaluate every `interval_ms` until `until_ms` (0: for ever).

    `anchor_ms`: only samples with a later time stamp count, the expression's windows grow from there. A watch whose `until_ms` is not after its
    `at_ms` cancels the one with the same id.
    """

    id: str
    group: str
    at_ms: int
    expr: str
    kind: str = "condition"  # condition | value
    anchor_ms: int = 0
    interval_ms: int = 1000
    until_ms: int = 0


# --- actions -------------------------------------------------------------------------------------------------------------------------


class Action(Value, frozen=True, kw_only=True):
    """One declarative, absolute change on one target. `id` = stable_id(incident, policy, step, attempt, verb, target): a replay yields the same.

    `desired` per verb: scale {replicas}; shift_traffic {weights: {backend: percent}}; roll_back {version, from}; deploy {version};
    fail_over, fail_back {sites: {site: percent}}; block {address, blocked_until_ms}; restart {restart_key}; notify, call {payload}.
    """

    id: str
    group: str
    verb: str
    target: Target
    desired: Mapping[str, Any]
    at_ms: int
    expires_at_ms: int  # TTL: not applied after this
    deadline_ms: int = 10_000  # how long one apply may take
    mode: str = "enforce"  # enforce | observe (plan only, nothing is applied)
    reason: Reason = Reason.GRANTED
    policy: str = ""
    incident_id: str = ""
    alert_id: str = ""
    step: int = 0
    attempt: int = 0
    reverts: str = ""  # id of the action that this one undoes
    expected: Mapping[str, Any] | None = None  # a revert applies only while this is still in force
    override_until_ms: int = 0  # the change expires by itself then (0: never)
    caused_at_ms: int = 0
    rulebook_version: str = ""
    identity: str = "reflexarc"  # who: the pipeline, or an operator's name


class Budget(Value, frozen=True, kw_only=True):
    """What the governor counts under `key`: distinct targets within `per_ms`, at most `targets`, and `percent` of `enabled` (floor, at least 1)."""

    key: str
    per_ms: int
    targets: int | None = None
    percent: float | None = None
    enabled: int = 0


class Proposal(Value, frozen=True, kw_only=True):
    """Asks the governor whether `action` may go. `id` is the action's id. `exempt`: counted, never refused (reverts, operators)."""

    id: str
    group: str
    at_ms: int
    action: Action
    budgets: tuple[Budget, ...] = ()
    exempt: bool = False


class Grant(Value, frozen=True, kw_only=True):
    """The governor's answer to the proposal with the same id."""

    id: str
    group: str
    at_ms: int
    granted: bool
    reason: Reason
    evidence: Mapping[str, Any] = {}


class OutcomeStatus(StrEnum):
    """How an action ended at the executor."""

    APPLIED = "applied"
    ALREADY_THERE = "already_there"
    PLANNED = "planned"  # observe: read, plan and permission were fine
    CONFLICT = "conflict"
    FAILED = "failed"
    UNKNOWN = "unknown"
    STALE = "dropped_stale"
    REFUSED = "refused"  # paused, not granted here, verb unknown to the connector


class Outcome(Value, frozen=True, kw_only=True):
    """What the executor reports, once per action id. `before`/`after` are what the connector read; the inverse is computed from them."""

    id: str
    action_id: str
    group: str
    status: OutcomeStatus
    at_ms: int
    applied_at_ms: int = 0
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    summary: str = ""
    error: str = ""
    reason: Reason | None = None
    tries: int = 1
    recovered: bool = False  # settled after a restart from the intent log


class Command(Value, frozen=True, kw_only=True):
    """An operator's order: pause, resume, release (override), act, approve, silence. `args` as the command line gave them."""

    id: str
    kind: str
    identity: str
    at_ms: int
    group: str = ""
    args: Mapping[str, Any] = {}


class Tick(Value, frozen=True, kw_only=True):
    """Time passed. Recorded like any other input so that a replay is exact."""

    at_ms: int


# --- what people read ----------------------------------------------------------------------------------------------------------------


class Decision(Value, frozen=True, kw_only=True):
    """One choice, its reason code and the values it rested on. `text` is one sentence for a person at 3 a.m."""

    id: str
    group: str
    at_ms: int
    verdict: Verdict
    reason: Reason
    text: str
    evidence: Mapping[str, Any] = {}
    incident_id: str = ""
    alert_id: str = ""
    action_id: str = ""
    policy: str = ""
    verb: str = ""
    target: Target | None = None
    mode: str = ""
    rulebook_version: str = ""


class IncidentState(StrEnum):
    """An incident's life."""

    OPEN = "open"
    ACTING = "acting"
    VERIFYING = "verifying"
    RESOLVED = "resolved"
    ESCALATED = "escalated"
    SUPPRESSED = "suppressed"


class Incident(Value, frozen=True, kw_only=True):
    """A group of related alerts with a life. `timeline` holds (at_ms, what, id) in order; the full story is in the decisions."""

    id: str
    group: str
    service: str
    title: str
    state: IncidentState
    opened_at_ms: int
    at_ms: int
    resolved_at_ms: int = 0
    severity: str = ""
    alert_ids: tuple[str, ...] = ()
    action_ids: tuple[str, ...] = ()
    timeline: tuple[tuple[int, str, str], ...] = ()
    ended: str = ""
    revision: int = 0


class Override(Value, frozen=True, kw_only=True):
    """A change of ours now in force on a target, or (`released_at_ms` set) one that was."""

    id: str  # the action's id
    group: str
    target: Target
    verb: str
    value: Mapping[str, Any]
    owner: str
    at_ms: int
    inverse: Mapping[str, Any] | None = None
    expires_at_ms: int = 0
    released_at_ms: int = 0
    incident_id: str = ""
    revision: int = 0


class Notice(Value, frozen=True, kw_only=True):
    """Something a person should be told. `to` names a receiver of the configuration."""

    id: str
    group: str
    at_ms: int
    to: str
    title: str
    text: str
    incident_id: str = ""
    severity: str = ""


class Finding(Value, frozen=True, kw_only=True):
    """A security rule matched: the rule, who wrote it, and a shortened copy of the evidence."""

    id: str
    at_ms: int
    rule_id: str
    title: str
    level: str
    labels: Labels = EMPTY
    fields: Mapping[str, Any] = {}
    author: str = ""


class LogDocument(Value, frozen=True, kw_only=True):
    """A log record on its way to the store. `id` from topic, partition and offset, so that a replay stores it once."""

    id: str
    at_ms: int
    message: str
    fields: Mapping[str, Any] = {}


class Audit(Value, frozen=True, kw_only=True):
    """Who did what by hand."""

    id: str
    at_ms: int
    identity: str
    what: str
    args: Mapping[str, Any] = {}
    result: str = ""


class DeadLetter(Value, frozen=True, kw_only=True):
    """A record that could not be read: where it was, why, and its bytes (base64 on the wire)."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    reason: str
    payload: bytes
    truncated: bool = False


Fact = AlertFact | Measurement | Observation
RemediatorInput = AlertFact | Measurement | Observation | Outcome | Grant | Command | Tick
Effect = Proposal | Action | Decision | Incident | Notice | Watch | Override
AnyRecord = (
    Alert
    | AlertFact
    | Measurement
    | Observation
    | Watch
    | Action
    | Proposal
    | Grant
    | Outcome
    | Command
    | Tick
    | Decision
    | Incident
    | Override
    | Notice
    | Finding
    | LogDocument
    | Audit
    | DeadLetter
)
