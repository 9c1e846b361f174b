"""Index names, ECS fields and templates of what goes into Elasticsearch."""

import json

import pytest

from pipeline.model import records
from pipeline.model.labels import Labels
from pipeline.model.target import Target
from pipeline.ports.record import Document
from pipeline.record import mapping
from pipeline.record.documents import checked, document_of
from pipeline.record.kinds import KINDS

T0 = 1_790_000_000_123


def source(record):
    good, bad = checked([document_of(record)])
    assert bad == []
    return json.loads(mapping.source(good[0]))


def test_an_immutable_document_lives_in_the_index_of_its_day():
    assert mapping.index("reflexarc", "logs", T0) == "reflexarc-logs-2026.09.21"
    assert mapping.day_end_ms("reflexarc", "logs", "reflexarc-logs-2026.09.21") == 1_790_035_200_000


def test_a_document_with_revisions_lives_in_one_index_whatever_its_time():
    assert mapping.index("reflexarc", "incidents", T0) == mapping.index("reflexarc", "incidents", 0) == "reflexarc-incidents-all"


@pytest.mark.parametrize("name", ["reflexarc-logs-all", "reflexarc-logs-2026.13.01", "other-logs-2026.09.21", "reflexarc-logs"])
def test_an_index_that_is_not_of_a_day_has_no_end(name):
    assert mapping.day_end_ms("reflexarc", "logs", name) is None


def test_an_alert_says_rule_service_and_labels_in_ecs():
    alert = records.Alert(
        id="a1", name="CheckoutErrors", rule_id="r1", labels=Labels.of(service="checkout", version="v2"), annotations={"summary": "too many errors"},
        state=records.AlertState.FIRING, active_at_ms=T0, fired_at_ms=T0 + 5000, revision=2, value=float("nan"),
    )  # fmt: skip
    found = source(alert)
    assert found["@timestamp"] == "2026-09-21T14:13:20.123Z"
    assert found["event.kind"] == "alert"
    assert found["event.action"] == "firing"
    assert found["event.start"] == "2026-09-21T14:13:25.123Z"
    assert "event.end" not in found
    assert (found["rule.id"], found["rule.name"], found["service.name"]) == ("r1", "CheckoutErrors", "checkout")
    assert found["labels"] == {"service": "checkout", "version": "v2"}
    assert found["message"] == "too many errors"
    assert found["reflexarc"]["revision"] == 2
    assert found["reflexarc"]["body"]["value"] is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("applied", "success"),
        ("already_there", "success"),
        ("planned", "success"),
        ("unknown", "unknown"),
        ("failed", "failure"),
        ("dropped_stale", "failure"),
    ],
)
def test_an_outcome_speaks_ecs(status, expected):
    outcome = records.Outcome(id="o", action_id="a", group="g", status=records.OutcomeStatus(status), at_ms=T0)
    assert source(outcome)["event.outcome"] == expected


def test_a_finding_lifts_the_fields_of_its_evidence_and_ranks_its_level():
    finding = records.Finding(
        id="f",
        at_ms=T0,
        rule_id="s1",
        title="Brute force",
        level="high",
        author="someone",
        fields={"source.ip": "127.0.0.2", "user.name": "root", "my.own": 1},
    )
    found = source(finding)
    assert (found["source.ip"], found["user.name"], found["event.severity"], found["rule.author"]) == ("127.0.0.2", "root", 73, "someone")
    assert "my.own" not in found
    assert found["reflexarc"]["body"]["fields"]["my.own"] == 1


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("source.ip", "10.0.0.1", "10.0.0.1"),
        ("source.ip", "::ffff:1.2.3.4", "::ffff:1.2.3.4"),
        ("source.ip", "fe80::1%eth0", None),
        ("source.ip", "unknown", None),
        ("source.ip", ["10.0.0.1", "x"], ["10.0.0.1"]),
        ("source.port", "443", 443),
        ("source.port", True, None),
        ("source.port", 1.5, None),
        ("source.port", 2**70, None),
        ("user.name", 7, "7"),
        ("user.name", "", None),
        ("user.name", {"a": 1}, None),
        ("user.name", [["a"], "b"], ["b"]),
        ("user.name", [], None),
        ("event.start", T0, "2026-09-21T14:13:20.123Z"),
        ("event.start", 10**18, None),
        ("not.ecs", "x", None),
    ],
)
def test_only_values_that_fit_their_field_are_lifted(name, value, expected):
    assert mapping.ecs_fields("logs", {"fields": {name: value}}).get(name) == expected


def test_a_log_whose_fields_are_not_a_mapping_is_still_a_log():
    assert mapping.ecs_fields("logs", {"message": "m", "fields": "broken", "labels": 3})["message"] == "m"


@pytest.mark.parametrize("kind", KINDS)
def test_every_ecs_field_of_a_kind_has_a_type_in_its_template(kind):
    properties = mapping.template("p", kind)["template"]["mappings"]["properties"]
    assert set(KINDS[kind].ecs) | set(KINDS[kind].constants) <= set(properties)


@pytest.mark.parametrize(
    ("record", "kind", "at_ms", "revision"),
    [
        (
            records.Incident(id="x", group="g", service="s", title="t", state=records.IncidentState.OPEN, opened_at_ms=1, at_ms=9, revision=4),
            "incidents",
            1,
            4,
        ),
        (
            records.AlertFact(id="fact", group="g", at_ms=9, alert=records.Alert(id="x", name="n", rule_id="r", active_at_ms=2, revision=3)),
            "alerts",
            2,
            3,
        ),
        (records.Alert(id="x", name="n", rule_id="r", active_at_ms=2), "alerts", 2, 0),
        (records.Notice(id="x", group="g", at_ms=5, to="oncall", title="t", text="x"), "notices", 5, 0),
        (
            records.Override(id="x", group="g", target=Target("edge", "route", "c"), verb="v", value={}, owner="o", at_ms=6, revision=1),
            "overrides",
            6,
            1,
        ),
        (records.Audit(id="x", at_ms=7, identity="me", what="pause"), "audit", 7, 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_records_become_documents(record, kind, at_ms, revision):
    document = document_of(record)
    assert (document.kind, document.id, document.at_ms, document.revision) == (kind, "x", at_ms, revision)


def test_what_is_not_stored_becomes_no_document():
    assert document_of(records.Tick(at_ms=1)) is None


def test_a_target_is_stored_as_its_address():
    action = records.Action(
        id="x", group="g", verb="scale", target=Target.parse("prod://deployment/shop"), desired={"replicas": 3}, at_ms=1, expires_at_ms=2
    )
    assert document_of(action).body["target"] == "prod://deployment/shop"
    assert isinstance(document_of(action), Document)
