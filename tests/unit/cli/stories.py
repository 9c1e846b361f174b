"""A small history in a real store: a bad release that was healed, an alert that nothing was done about, and one that was held back."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pipeline.model.labels import Labels
from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Action, Alert, AlertState, AnyRecord, Decision, Ending, Incident, IncidentState, Outcome, OutcomeStatus, Override
from pipeline.model.target import Target
from pipeline.record.documents import document_of
from pipeline.record.sqlite import SQLiteStore

START_MS = 1_700_000_000_000
ROUTE = Target.parse("edge://route/checkout")

FIRED = Alert(
    id="alert-1",
    name="CheckoutErrors",
    rule_id="rule-1",
    labels=Labels.of(alertname="CheckoutErrors", service="checkout", version="v2"),
    annotations={"summary": "v2 of checkout answers 38% of its requests with an error"},
    state=AlertState.RESOLVED,
    value=0.38123456,
    active_at_ms=START_MS,
    fired_at_ms=START_MS + 120,
    resolved_at_ms=START_MS + 8_000,
    ended=Ending.BY_VALUE,
    revision=3,
)
IGNORED = Alert(
    id="alert-2", name="DiskFull", rule_id="rule-2", labels=Labels.of(alertname="DiskFull", service="search"), active_at_ms=START_MS, revision=1
)
INCIDENT = Incident(
    id="incident-1",
    group="checkout",
    service="checkout",
    title="checkout: CheckoutErrors",
    state=IncidentState.RESOLVED,
    opened_at_ms=START_MS + 120,
    at_ms=START_MS + 8_000,
    resolved_at_ms=START_MS + 8_000,
    alert_ids=("alert-1",),
    action_ids=("action-1",),
    timeline=((START_MS + 120, "CheckoutErrors fires", "alert-1"), (START_MS + 140, "shift_traffic edge://route/checkout", "action-1")),
    ended="verified",
    revision=4,
)
SHIFT = Action(
    id="action-1",
    group="checkout",
    verb="shift_traffic",
    target=ROUTE,
    desired={"weights": {"v1": 100, "v2": 0}},
    at_ms=START_MS + 125,
    expires_at_ms=START_MS + 30_125,
    policy="bad-release",
    incident_id="incident-1",
    alert_id="alert-1",
    caused_at_ms=START_MS + 100,
)
APPLIED = Outcome(
    id="outcome-1",
    action_id="action-1",
    group="checkout",
    status=OutcomeStatus.APPLIED,
    at_ms=START_MS + 145,
    applied_at_ms=START_MS + 140,
    summary="weights v1 80 -> 100, v2 20 -> 0",
)
WEIGHT = Override(
    id="action-1",
    group="checkout",
    target=ROUTE,
    verb="shift_traffic",
    value={"weights": {"v1": 100, "v2": 0}},
    owner="bad-release",
    at_ms=START_MS + 140,
    revision=1,
)


def decision(number: int, at_ms: int, verdict: Verdict, reason: Reason, text: str, **more) -> Decision:
    """A decision of this history."""
    return Decision(id=f"decision-{number}", group="checkout", at_ms=START_MS + at_ms, verdict=verdict, reason=reason, text=text, **more)


DECISIONS = (
    decision(
        1, 125, Verdict.ACT, Reason.GRANTED, "shift traffic away from v2", incident_id="incident-1", alert_id="alert-1", action_id="action-1", policy="bad-release",
        verb="shift_traffic", target=ROUTE, evidence={"value": 0.38123456, "confirmations": 2, "budget": {"targets": 1, "per_ms": 600_000}},
    ),
    *(
        decision(2 + n, 1000 * (1 + n), Verdict.HOLD, Reason.COOLDOWN, f"bad-release waits {299 - n} s more", incident_id="incident-1", policy="bad-release",
                 evidence={"until_at_ms": START_MS + 300_000, "left_ms": 299_000 - 1000 * n})
        for n in range(3)
    ),
    decision(9, 6000, Verdict.NOTE, Reason.VERIFIED, "error ratio stayed under 2 % for three measurements", incident_id="incident-1", action_id="action-1", policy="bad-release"),
    Decision(
        id="decision-20", group="search", at_ms=START_MS + 5000, verdict=Verdict.HOLD, reason=Reason.NO_DATA, text="nothing is scaled down while nothing is known",
        policy="search-demand", evidence={"waiting_for": ["a"] * 30},
    ),
    Decision(
        id="decision-21", group="search", at_ms=START_MS + 100, verdict=Verdict.NOTE, reason=Reason.NO_POLICY, text="no policy matches DiskFull", alert_id="alert-2"
    ),
)  # fmt: skip
HISTORY: Sequence[AnyRecord] = (FIRED, IGNORED, INCIDENT, SHIFT, APPLIED, WEIGHT, *DECISIONS)


def tell(folder: Path, records: Sequence[AnyRecord] = HISTORY) -> Path:
    """Write a configuration and its store; the configuration's path."""
    (folder / "data").mkdir(exist_ok=True)
    config = folder / "reflexarc.yaml"
    config.write_text("data_dir: data\nconnectors: {local: {kind: file, dir: documents, documents: {d1: {replicas: 1, ready: 1}}}}\n")

    async def write() -> None:
        store = SQLiteStore(folder / "data" / "records.sqlite")
        documents = [document for document in map(document_of, records) if document is not None]
        assert await store.write(documents) == []
        await store.close()

    asyncio.run(write())
    return config
