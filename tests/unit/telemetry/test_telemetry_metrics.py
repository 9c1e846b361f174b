"""The metrics' names are public: a golden file holds them. And what records say about the speed of the way."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.model.labels import Labels
from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import (
    Action,
    Alert,
    AlertFact,
    AlertState,
    DeadLetter,
    Decision,
    Finding,
    Measurement,
    Outcome,
    OutcomeStatus,
    Tick,
    Truth,
)
from pipeline.model.target import Target
from pipeline.telemetry import RecordTelemetry, Telemetry
from pipeline.telemetry.metrics import MAX_VALUES
from tests.fakes.clock import FakeClock

GOLDEN = Path(__file__).with_name("metrics.golden.txt")


def exposed(telemetry: Telemetry) -> dict[str, float]:
    return {
        f"{sample.name}{Labels.of(sample.labels)}": sample.value
        for family in text_string_to_metric_families(telemetry.exposition().decode())
        for sample in family.samples
    }


def everything() -> Telemetry:
    telemetry = Telemetry(version="1.2.3")
    telemetry.signals("metrics", samples=2, logs=1, events=1)
    telemetry.late("metrics")
    telemetry.dead_letter("metrics", "decode")
    telemetry.lag("metrics", 0, 5)
    telemetry.watermark("metrics", behind_ms=1500, skew_ms=-20)
    telemetry.series(7)
    telemetry.evaluations("grid", 10, seconds=0.5)
    telemetry.fact("alert", "firing")
    telemetry.decision("act", "granted")
    telemetry.action("scale", "applied")
    telemetry.finding("high")
    telemetry.reaction("cause_to_firing", 12)
    telemetry.incidents("open", 1)
    telemetry.paused(True)
    telemetry.connector_call("edge", "apply", "ok", 0.01)
    telemetry.store_write("decisions", written=3, rejected=1)
    telemetry.store_wrote(0.02)
    telemetry.gateway_request("/api/v1/write", 204, 0.001)
    telemetry.reload("ok", alerts=5, policies=2)
    return telemetry


def test_names_types_and_labels_are_as_published() -> None:
    families = text_string_to_metric_families(everything().exposition().decode())
    lines = []
    for family in families:
        labels = sorted({name for sample in family.samples for name in sample.labels} - {"le"})
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines.append(f"{family.type} {name}{{{', '.join(labels)}}}")
    assert "\n".join(sorted(lines)) + "\n" == GOLDEN.read_text()


def test_every_name_follows_the_convention() -> None:
    for line in GOLDEN.read_text().splitlines():
        assert re.fullmatch(r"(counter|gauge|histogram) pipeline_[a-z]+(_[a-z]+)*\{[a-z, ]*\}", line), line
        assert ("_total{" in line) == line.startswith("counter"), line


def test_values_are_in_base_units() -> None:
    values = exposed(everything())
    assert values['pipeline_signals_total{input="metrics", kind="sample"}'] == 2
    assert values['pipeline_watermark_lag_seconds{input="metrics"}'] == 1.5
    assert values['pipeline_source_skew_seconds{input="metrics"}'] == -0.02
    assert values['pipeline_reaction_seconds_sum{stage="cause_to_firing"}'] == 0.012
    assert values['pipeline_rules{kind="alerts"}'] == 5
    assert values["pipeline_paused{}"] == 1


def test_two_telemetries_know_nothing_of_each_other() -> None:
    everything()
    assert not any(name.startswith("pipeline_signals_total") for name in exposed(Telemetry()))


def test_what_input_names_cannot_blow_up_our_own_metrics() -> None:
    telemetry = Telemetry()
    for number in range(MAX_VALUES + 50):
        telemetry.dead_letter("metrics", f"reason {chr(0x4E00 + number)}")
        telemetry.signals(f"topic-{number}", samples=1)
    values = exposed(telemetry)
    assert values['pipeline_dead_letters_total{input="metrics", reason="other"}'] == 50
    assert values['pipeline_signals_total{input="other", kind="sample"}'] == 51  # "metrics" is one of the first 200 inputs


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("line 3: value is null: leave the sample out", "value is null"),
        ("ts 1767225600 looks like seconds: multiply", "ts N looks like seconds"),
        ("unknown key 'host' in a sample: labels stand", "unknown key N in a sample"),
        ("decode", "decode"),
    ],
)
def test_a_dead_letters_reason_is_shortened_to_what_repeats(reason: str, short: str) -> None:
    telemetry = Telemetry()
    telemetry.dead_letter("metrics", reason)
    assert exposed(telemetry)[f'pipeline_dead_letters_total{{input="metrics", reason="{short}"}}'] == 1


def test_a_timed_call_counts_by_how_it_ended() -> None:
    telemetry, clock = Telemetry(), FakeClock()
    with telemetry.timed_call("edge", "read", clock):
        clock.advance(250)
    with pytest.raises(KeyError), telemetry.timed_call("edge", "read", clock):
        raise KeyError
    values = exposed(telemetry)
    assert values['pipeline_connector_call_seconds_sum{call="read", connector="edge", result="ok"}'] == 0.25
    assert values['pipeline_connector_call_seconds_count{call="read", connector="edge", result="KeyError"}'] == 1


# --- records -------------------------------------------------------------------------------------------------------------------------

ALERT = Alert(id="alert", name="A", rule_id="r", state=AlertState.FIRING)
ACTION = Action(
    id="act", group="g", verb="scale", target=Target("c", "k", "p"), desired={}, at_ms=1100, expires_at_ms=9000, alert_id="alert", caused_at_ms=1000
)


def fact(at_ms: int = 1050, caused_at_ms: int = 1000, **alert: Any) -> AlertFact:
    return AlertFact(
        id="f",
        group="g",
        at_ms=at_ms,
        alert=Alert(id="alert", name="A", rule_id="r", **({"state": AlertState.FIRING} | alert)),
        caused_at_ms=caused_at_ms,
    )


def outcome(status: OutcomeStatus = OutcomeStatus.APPLIED, action_id: str = "act") -> Outcome:
    return Outcome(id="o", action_id=action_id, group="g", status=status, at_ms=1250, applied_at_ms=1200)


def verified() -> Decision:
    return Decision(id="d", group="g", at_ms=4200, verdict=Verdict.NOTE, reason=Reason.VERIFIED, text="", action_id="act")


def observed(*records: Any, capacity: int = 100) -> dict[str, float]:
    telemetry = Telemetry()
    watcher = RecordTelemetry(telemetry, capacity=capacity)
    for record in records:
        watcher.observe(record)
    return exposed(telemetry)


def test_the_way_from_cause_to_verified_is_measured() -> None:
    values = observed(fact(), ACTION, outcome(), verified())
    sums = {
        stage: values[f'pipeline_reaction_seconds_sum{{stage="{stage}"}}']
        for stage in ("cause_to_firing", "firing_to_applied", "cause_to_applied", "applied_to_verified")
    }
    assert sums == {"cause_to_firing": 0.05, "firing_to_applied": 0.15, "cause_to_applied": 0.2, "applied_to_verified": 3.0}
    assert values['pipeline_actions_total{outcome="applied", verb="scale"}'] == 1
    assert values['pipeline_decisions_total{reason="verified", verdict="note"}'] == 1


def test_confirmations_and_repeated_outcomes_are_not_measured_twice() -> None:
    values = observed(fact(), fact(2000, confirmations=2), ACTION, outcome(), outcome())
    assert values['pipeline_reaction_seconds_count{stage="cause_to_firing"}'] == 1
    assert values['pipeline_reaction_seconds_count{stage="firing_to_applied"}'] == 1


def test_with_a_clock_firing_is_when_it_was_known() -> None:
    telemetry, clock = Telemetry(), FakeClock(1080)
    watcher = RecordTelemetry(telemetry, clock=clock)
    for one in (fact(1000), ACTION, outcome()):
        watcher.observe(one)
    values = exposed(telemetry)
    assert values['pipeline_reaction_seconds_sum{stage="cause_to_firing"}'] == 0.08
    assert values['pipeline_reaction_seconds_sum{stage="firing_to_applied"}'] == 0.12


def test_what_was_not_applied_or_is_not_known_has_no_latency() -> None:
    values = observed(ACTION, outcome(OutcomeStatus.FAILED), outcome(action_id="other"), verified())
    assert not any(name.startswith("pipeline_reaction_seconds_count") for name in values)
    assert values['pipeline_actions_total{outcome="failed", verb="scale"}'] == 1
    assert values['pipeline_actions_total{outcome="applied", verb="unknown"}'] == 1


def test_it_remembers_no_more_than_its_capacity() -> None:
    others = [AlertFact(id=str(n), group="g", at_ms=1, alert=Alert(id=str(n), name="A", rule_id="r", state=AlertState.FIRING)) for n in range(5)]
    values = observed(fact(), *others, ACTION, outcome(), capacity=3)
    assert 'pipeline_reaction_seconds_count{stage="firing_to_applied"}' not in values


def test_other_records_are_counted_or_passed_over() -> None:
    values = observed(
        Measurement(id="m", group="g", watch_id="w", at_ms=1, truth=Truth.NODATA),
        Finding(id="f", at_ms=1, rule_id="r", title="t", level="high"),
        DeadLetter(topic="metrics", partition=0, offset=1, at_ms=1, reason="not JSON: x", payload=b""),
        Tick(at_ms=1),
    )
    assert values['pipeline_facts_total{state="nodata", type="measurement"}'] == 1
    assert values['pipeline_findings_total{level="high"}'] == 1
    assert values['pipeline_dead_letters_total{input="metrics", reason="not JSON"}'] == 1
