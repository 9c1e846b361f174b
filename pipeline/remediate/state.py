"""Everything a remediator remembers, as plain structs, so that a snapshot is exact and small.

Rule: a machine's next effects depend only on this state, the rule book, the event and `now_ms`. Collections that could grow are bounded where
they are written (`turn.remember`, `incidents.prune`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pipeline.model.labels import Labels
from pipeline.model.records import Action, Alert, Budget, Incident, Outcome, Override, Watch
from pipeline.model.target import Target

STATE_VERSION = 1
S = TypeVar("S", bound=msgspec.Struct)


class AlertEntry(msgspec.Struct):
    """An alert of this group as last heard. `heard_at_ms`: time stamp of the newest fact about it."""

    alert: Alert
    heard_at_ms: int
    caused_at_ms: int = 0
    incident_id: str = ""
    service: str = ""


class Want(msgspec.Struct):
    """A policy that speaks of a firing alert and has not (or no longer) a run for it: when to look again, and what held it last."""

    policy: str
    alert_id: str
    incident_id: str
    due_at_ms: int
    reason: str = ""


class Ledger(msgspec.Struct):
    """What guards remember per policy (and per ledger: enforce or observe). Survives every edit of the policy."""

    serial: int = 0
    last_at_ms: int = 0
    started_at_ms: list[int] = []
    escalated_at_ms: int = 0


class Order(msgspec.Struct):
    """An action on its way: waiting for approval, for the governor's grant, or in flight until its outcome."""

    action: Action
    owner: str  # "run:<id>", "scaler:<name>", "failover:<name>", "release:<override>", "operator:<command>"
    service: str
    phase: str  # approval | grant | flight
    due_at_ms: int
    rank: int
    direction: str = ""  # up | down | "" for a change of capacity
    budgets: tuple[Budget, ...] = ()
    exempt: bool = False
    evidence: dict[str, Any] = {}


class Done(msgspec.Struct):
    """An action with its outcome, kept for a while: duplicates are recognised, inverses computed."""

    action: Action
    outcome: Outcome
    owner: str


class Seen(msgspec.Struct):
    """What a connector last read of a target."""

    at_ms: int
    value: Mapping[str, Any] | None
    error: str = ""
    ids: list[str] = []  # observations taken with this very time stamp


class Reading(msgspec.Struct):
    """The parts of one measurement of a verification, as they come in: truths of its conditions, volume."""

    at_ms: int
    success: str = ""
    failure: str = ""
    volume: float | None = None
    volume_seen: bool = False
    level: float | None = None
    warming: bool = False


class Verification(msgspec.Struct):
    """One anchored measurement of an effect, with the counts of an analysis run."""

    anchor_ms: int
    until_ms: int
    watches: dict[str, str] = {}  # watch id -> success | failure | volume
    readings: dict[str, Reading] = {}
    judged_through: int = -1
    successes: int = 0
    in_a_row: int = 0
    failures: int = 0
    inconclusives: int = 0
    last_level: float | None = None


class Run(msgspec.Struct):
    """One policy working on one incident, step by step."""

    id: str
    policy: str
    service: str
    incident_id: str
    alert_id: str
    mode: str
    phase: str = "planning"  # planning | sending | held | verifying | reverting | shadow
    step: int = 0
    serial: int = 0
    identity: str = ""
    orders: dict[str, str] = {}  # action id of this step -> "" | outcome status | hold reason
    changed: list[str] = []  # ids of all applied actions of this run, oldest first
    step_changed: list[str] = []
    verification: Verification | None = None
    verified: bool = False
    failed: bool = False
    held_since_ms: int = 0
    due_at_ms: int = 0
    started_at_ms: int = 0
    shadow_at_ms: int = 0
    charged: bool = False
    baseline: float | None = None
    baseline_watch: str = ""
    applied_at_ms: int = 0


class Release(msgspec.Struct):
    """An override that should go: tried again until its inverse is valid."""

    override_id: str
    cause: str
    strict: bool
    due_at_ms: int
    bad_version: str = ""
    identity: str = "reflexarc"
    serial: int = 0
    restore: Mapping[str, Any] | None = None


class ScalerState(msgspec.Struct):
    """What the HPA algorithm remembers of one scaler."""

    watch_id: str = ""
    serial: int = 0
    recommendations: list[tuple[int, int]] = []  # (at_ms, replicas)
    up_events: list[tuple[int, int]] = []  # (at_ms, change)
    down_events: list[tuple[int, int]] = []
    floor: int = 0  # what demand needs as of the last value; a revert never goes below
    would_be: int = -1  # observe: what was planned last
    blind_at_ms: int = 0  # when it last had no value
    retry_at_ms: int = 0  # after an apply that did not work


class FailoverState(msgspec.Struct):
    """Where one failover stands; see `failover.py`."""

    phase: str = "home"
    away: str = ""  # the site that is being left
    to: str = ""
    incident_id: str = ""
    serial: int = 0
    watches: dict[str, str] = {}  # watch id -> "<unhealthy|healthy>:<site>" or "demand"
    truths: dict[str, str] = {}  # by the same key, the newest answer
    since_ms: dict[str, int] = {}  # since when it has been that
    heard_ms: dict[str, int] = {}  # event time of the newest answer
    demand: float | None = None
    order_id: str = ""  # what is on its way
    answer: str = ""  # how it ended
    needed: int = 0
    entered_at_ms: int = 0  # when the phase began
    due_at_ms: int = 0
    share: int = 0  # fail-back: the percentage in force on the site that traffic comes home to
    override_id: str = ""
    replicas_before: dict[str, int] = {}  # workload -> replicas before capacity led traffic
    verified: bool = False
    guest: bool = False  # traffic had been away from where it belongs, and goes back there because that other site is ill itself
    regret_until_ms: int = 0


class SilenceEntry(msgspec.Struct):
    """A silence that an operator set by command."""

    id: str
    match: tuple[str, ...]
    starts_at_ms: int
    ends_at_ms: int
    identity: str = ""


class State(msgspec.Struct):
    """One group's whole memory."""

    group: str
    schema_version: int = STATE_VERSION
    rules_version: str = ""
    started: bool = False
    now_ms: int = 0
    alerts: dict[str, AlertEntry] = {}
    incidents: dict[str, Incident] = {}
    wants: dict[str, Want] = {}
    runs: dict[str, Run] = {}
    orders: dict[str, Order] = {}
    done: dict[str, Done] = {}
    orphans: dict[str, Outcome] = {}
    observed: dict[str, Seen] = {}
    overrides: dict[str, Override] = {}
    releases: dict[str, Release] = {}
    ledgers: dict[str, Ledger] = {}
    scalers: dict[str, ScalerState] = {}
    failovers: dict[str, FailoverState] = {}
    watches: dict[str, Watch] = {}
    heard: dict[str, int] = {}  # watch id -> time stamp of the newest measurement taken
    silences: dict[str, SilenceEntry] = {}
    paused: str = ""
    seen: dict[str, int] = {}
    said: dict[str, str] = {}


def _enc_hook(value: Any) -> Any:
    if isinstance(value, Labels):
        return dict(value.pairs)
    if isinstance(value, Target):
        return str(value)
    raise TypeError(f"no wire form for {type(value).__name__}")


def _dec_hook(kind: type, value: Any) -> Any:
    if kind is Labels:
        return Labels.of(value)
    if kind is Target:
        return Target.parse(value)
    raise TypeError(f"no wire form for {kind.__name__}")


class StateError(ValueError):
    """A snapshot that this version cannot read; the message says why."""


class _Head(msgspec.Struct):
    schema_version: int = 0


def dump(state: msgspec.Struct) -> bytes:
    """The state as bytes; `load(dump(x))` is `x`."""
    return msgspec.json.encode(state, enc_hook=_enc_hook)


def load(kind: type[S], data: bytes) -> S:
    """A state from its bytes.

    Raises:
        StateError: written by a newer version, or not a state.
    """
    try:
        version = msgspec.json.decode(data, type=_Head).schema_version
        if version > STATE_VERSION:
            raise StateError(f"the stored state has schema version {version}; this version reads up to {STATE_VERSION}: update this worker first")
        return msgspec.json.decode(data, type=kind, dec_hook=_dec_hook)
    except msgspec.MsgspecError as error:
        raise StateError(f"not a stored state: {error}") from error
