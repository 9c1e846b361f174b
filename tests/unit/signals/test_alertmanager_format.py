"""Alerts of foreign systems: the webhook, the API's array, the gateway's envelope."""

import json
from typing import Any

import pytest

from pipeline.model.labels import Labels
from pipeline.signals import DecodeError, decode

NOW = 1_767_225_600_000
LABELS = {"alertname": "HighErrors", "service": "checkout", "severity": "critical"}


def events(message: Any, **more: Any) -> Any:
    return decode("alertmanager", json.dumps(message).encode(), **more).events


def test_a_webhook_says_itself_what_fires_and_what_is_over() -> None:
    webhook = {
        "version": "4",
        "groupKey": "{}",
        "status": "firing",
        "alerts": [
            {
                "status": "firing",
                "labels": LABELS,
                "annotations": {"summary": "bad"},
                "startsAt": "2025-12-31T23:59:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus/graph",
                "fingerprint": "1",
            },
            {"status": "resolved", "labels": LABELS, "annotations": {}, "startsAt": "2025-12-31T23:59:00Z", "endsAt": "2025-12-31T23:59:30.5Z"},
        ],
    }
    firing, over = events(webhook)
    assert (firing.kind, firing.labels, firing.at_ms) == ("alert", Labels.of(LABELS), NOW - 60_000)
    assert firing.fields == {
        "annotations": {"summary": "bad"},
        "starts_at_ms": NOW - 60_000,
        "ends_at_ms": 0,
        "expires_at_ms": 0,
        "generator_url": "http://prometheus/graph",
    }
    assert (over.at_ms, over.fields["ends_at_ms"]) == (NOW - 29_500, NOW - 29_500)


@pytest.mark.parametrize(
    ("ends_at", "ends_at_ms", "expires_at_ms"),
    [
        pytest.param("2026-01-01T00:04:00Z", 0, NOW + 240_000, id="fires until then"),
        pytest.param("2025-12-31T23:59:59Z", NOW - 1000, 0, id="is over"),
        pytest.param(None, 0, 0, id="fires without end"),
    ],
)
def test_in_the_apis_array_the_end_decides_against_the_moment_of_reception(ends_at: str | None, ends_at_ms: int, expires_at_ms: int) -> None:
    alert = {"labels": LABELS, "startsAt": "2025-12-31T23:58:00Z"} | ({"endsAt": ends_at} if ends_at else {})
    for message, more in (([alert], {"received_at_ms": NOW}), ({"receivedAtMs": NOW, "alerts": [alert]}, {})):
        [event] = events(message, **more)
        assert event.at_ms == NOW
        assert (event.fields["ends_at_ms"], event.fields["expires_at_ms"]) == (ends_at_ms, expires_at_ms)


def test_what_the_api_answers_can_be_read_back() -> None:
    [event] = events([{"labels": LABELS, "startsAt": "2025-12-31T23:58:00Z", "endsAt": "2026-01-01T00:04:00Z", "status": {"state": "active"}}])
    assert event.fields["ends_at_ms"] == 0


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param({}, "no alerts", id="an object without alerts"),
        pytest.param({"version": "3", "alerts": []}, "version '3'", id="another version"),
        pytest.param([5], "alert 0: it is 5", id="no object"),
        pytest.param([{"labels": {"a": "b"}}], "alert 0: no label alertname", id="no name"),
        pytest.param([{"labels": LABELS}, {"labels": LABELS, "startsAt": "x"}], "alert 1: startsAt", id="a wrong time"),
        pytest.param([{"labels": LABELS, "status": "maybe"}], "neither firing nor resolved", id="a wrong status"),
        pytest.param([{"labels": LABELS, "generatorURL": 5}], "generatorURL", id="a wrong URL"),
        pytest.param([{"labels": LABELS, "annotations": []}], "annotations", id="wrong annotations"),
    ],
)
def test_what_is_no_alert_is_refused(message: Any, words: str) -> None:
    with pytest.raises(DecodeError) as caught:
        events(message)
    assert words in caught.value.reason
