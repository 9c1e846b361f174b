"""The detector's edges: limits, bad input, memory, what it tells of itself."""

import math

import pytest

from pipeline.detect import DetectOptions, Detector, Rejection
from pipeline.detect.state import StateError
from pipeline.model.labels import Labels
from pipeline.model.records import AlertFact, AlertState
from pipeline.model.signals import Event, LogRecord, Sample, SignalBatch
from pipeline.promql import ExprError
from pipeline.rulebook.book import RuleBook
from pipeline.series import SeriesLimits
from tests.unit.detect.timeline import START_MS, Timeline, book_of

HOT = book_of({"groups": [{"name": "g", "rules": [{"alert": "Hot", "expr": "t > 80", "settle": 0}]}]})


def batch(*rows: tuple[str, int, float], source: str = "") -> SignalBatch:
    return SignalBatch.of([Sample(Labels.of(__name__=name, i=str(at % 7)), START_MS + at, value) for name, at, value in rows], source=source)


def rejections(facts: list[object]) -> list[tuple[str, int]]:
    return [(fact.reason, fact.count) for fact in facts if isinstance(fact, Rejection)]


def test_refused_samples_are_counted_per_reason_and_batch() -> None:
    detector = Detector(HOT, DetectOptions(limits=SeriesLimits(series=2)))
    facts = detector.feed(batch(("x", 0, 1), ("x", 1, 1), ("x", 2, 1), ("x", 3, 1), ("x", 99_000_000, 1), ("x", -99_000_000, 1)), START_MS)
    assert rejections(facts) == [("future", 1), ("late", 1), ("series_limit", 2)]
    assert (detector.counts.samples, detector.counts.refused) == (2, 4)


def test_a_refused_sample_causes_no_evaluation() -> None:
    detector = Detector(HOT, DetectOptions(limits=SeriesLimits(series=1)))
    detector.feed(batch(("x", 0, 1)), START_MS)
    facts = detector.feed(batch(("t", 0, 99)), START_MS)
    assert rejections(facts) == [("series_limit", 1)]
    assert len(facts) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_are_values(value: float) -> None:
    detector = Detector(HOT)
    facts = detector.feed(batch(("t", 0, value)), START_MS)
    assert rejections(facts) == []
    fired = [fact for fact in facts if isinstance(fact, AlertFact)]
    assert len(fired) == (value == math.inf)
    assert all(fact.alert.value is None for fact in fired)


def test_a_log_record_of_the_future_is_refused() -> None:
    facts = Detector(HOT).feed(SignalBatch.of(logs=[LogRecord(START_MS + 99_000_000, "x")]), START_MS)
    assert rejections(facts) == [("future", 1)]


def test_events_that_are_no_alerts_are_ignored() -> None:
    assert Detector(HOT).feed(SignalBatch.of(events=[Event(START_MS, "deployment")]), START_MS) == []


def test_an_alert_event_of_wrong_types_is_refused() -> None:
    event = Event(START_MS, "alert", Labels.of(alertname="X"), {"annotations": "text"})
    assert rejections(Detector(HOT).feed(SignalBatch.of(events=[event]), START_MS)) == [("bad_event", 1)]


def test_what_no_window_needs_is_forgotten() -> None:
    line = Timeline(HOT, DetectOptions(min_lookback_ms=1000))
    for second in range(1000):
        line.feed(SignalBatch.of([Sample(Labels.of(__name__="t", pod=str(second)), START_MS + second * 1000, 1.0)]), START_MS + second * 1000)
    assert len(line.detector.store) < 360
    assert line.detector.lookback_ms == 330_000


def test_active_alerts_can_be_listed() -> None:
    line = Timeline(HOT)
    line.feed(batch(("t", 0, 99)), START_MS)
    assert [(alert.name, alert.state) for alert in line.detector.alerts] == [("Hot", AlertState.FIRING)]


def test_skew_is_known_per_source() -> None:
    detector = Detector(HOT)
    detector.feed(batch(("t", 0, 1), source="a"), START_MS + 40)
    detector.feed(batch(("t", 100, 1), source="b"), START_MS + 50)
    assert detector.counts.skew_ms == {"a": -40, "b": 50}


def test_a_failing_rule_is_listed_until_it_works_again() -> None:
    line = Timeline(book_of({"groups": [{"name": "g", "rules": [{"alert": "Bad", "expr": "x * on () y > 0", "evaluation": "grid"}]}]}))
    line.advance(START_MS)
    line.feed(batch(("x", 1, 1), ("x", 2, 1), ("y", 1, 1), ("y", 2, 1)), START_MS + 10)
    line.until(START_MS + 3000)
    assert [failure.count for failure in line.detector.failures.values()] == [2]
    assert len(rejections([fact for _, fact in line.seen])) == 1
    assert line.detector.counts.rule_errors == 2


def test_an_invalid_rule_is_refused_and_the_running_ones_stay() -> None:
    line = Timeline(HOT)
    line.advance(START_MS)
    with pytest.raises(ExprError):
        line.detector.reload(book_of({"groups": [{"name": "g", "rules": [{"alert": "Bad", "expr": "rate("}]}]}), START_MS)
    line.feed(batch(("t", 10, 99)), START_MS + 10)
    assert [alert.name for alert in line.detector.alerts] == ["Hot"]


def test_a_reload_reports_what_came_stayed_and_went() -> None:
    detector = Detector(HOT)
    detector.advance(START_MS)
    other = book_of({"groups": [{"name": "g", "rules": [{"alert": "Cold", "expr": "t < 0"}]}]})
    report, facts = detector.reload(other, START_MS + 100)
    (added,), (removed,) = report.added, report.removed
    assert (report.kept, facts) == ((), [])
    assert {added, removed} == {other.groups[0].rules[0].rule_id, HOT.groups[0].rules[0].rule_id}


def test_a_snapshot_of_nothing_restores_to_nothing() -> None:
    detector = Detector(RuleBook("v"))
    detector.restore(Detector(RuleBook("v")).snapshot())
    assert detector.due_at_ms() is None
    assert detector.advance(START_MS) == []


@pytest.mark.parametrize("data", [b"", b"not a state", b"\x81\xa7version\x63"])
def test_a_damaged_or_newer_state_is_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        Detector(HOT).restore(data)


def test_one_second_of_fast_input_costs_a_bounded_number_of_evaluations() -> None:
    book = book_of({"groups": [{"name": "g", "rules": [{"alert": f"Hot{n}", "expr": f"t > {80 + n}", "settle": 0} for n in range(20)]}]})
    line = Timeline(book)
    for ms in range(1000):
        line.feed(batch(("t", ms, 1.0)), START_MS + ms)
    assert line.detector.counts.early_evaluations < 2000
