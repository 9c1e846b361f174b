"""Correlations: counting matches in event time, per group, once a burst."""

import pytest

from pipeline.model.labels import Labels
from pipeline.model.signals import LogRecord
from pipeline.sigma import SigmaEngine, SigmaError, SigmaMatch

FAILED = """
title: Failed login
name: failed_login
id: 00000000-0000-0000-0000-000000000001
level: low
logsource: {category: authentication}
detection:
  sel: {event.outcome: failure}
  condition: sel
"""
SUCCEEDED = """
title: Successful login
name: succeeded_login
id: 00000000-0000-0000-0000-000000000002
level: low
logsource: {category: authentication}
detection:
  sel: {event.outcome: success}
  condition: sel
"""


def burst(
    condition: str = "{gte: 3}", kind: str = "event_count", rules: str = "[failed_login]", more: str = "", group_by: str = "[source.ip]"
) -> str:
    return f"""
title: Burst
id: 00000000-0000-0000-0000-000000000009
author: Somebody
level: high
correlation:
  type: {kind}
  rules: {rules}
  group-by: {group_by}
  timespan: 10s
  condition: {condition}
{more}
"""


def failure(at_s: float, address: str = "127.0.0.2", user: str = "root", outcome: str = "failure", **labels: str) -> LogRecord:
    fields = {"event.outcome": outcome, "source.ip": address, "user.name": user}
    return LogRecord(int(at_s * 1000), f"{outcome} at {at_s}", fields, Labels.of(labels or {"service": "checkout"}))


def run(records: list[LogRecord], *sources: str) -> list[SigmaMatch]:
    engine = SigmaEngine([(text, f"r{number}.yml") for number, text in enumerate(sources)])
    return [match for record in records for match in engine.feed(record, 10**9)]


def times(matches: list[SigmaMatch]) -> list[float]:
    return [match.at_ms / 1000 for match in matches]


def test_the_count_that_is_reached_is_one_match_with_its_group_and_evidence() -> None:
    [match] = run([failure(1), failure(2), failure(3)], FAILED, burst())
    assert (match.rule_id, match.title, match.level, match.author) == ("00000000-0000-0000-0000-000000000009", "Burst", "high", "Somebody")
    assert match.labels == Labels.of(service="checkout", source_ip="127.0.0.2")
    assert (match.at_ms, match.count) == (3000, 3)
    assert match.evidence == ("failure at 1", "failure at 2", "failure at 3")


def test_groups_count_apart() -> None:
    records = [failure(1, "a"), failure(2, "b"), failure(3, "a"), failure(4, "b"), failure(5, "a")]
    assert [match.labels["source_ip"] for match in run(records, FAILED, burst())] == ["a"]


def test_a_burst_is_one_match_and_one_that_goes_on_is_one_a_timespan() -> None:
    assert times(run([failure(number / 10) for number in range(50)], FAILED, burst())) == [0.2]
    assert times(run([failure(number) for number in range(30)], FAILED, burst())) == [2.0, 12.0, 22.0]


def test_events_spread_over_more_than_the_timespan_do_not_count_together() -> None:
    assert run([failure(0), failure(5), failure(10), failure(15)], FAILED, burst()) == []
    assert times(run([failure(0.001), failure(5), failure(10)], FAILED, burst())) == [10.0]


def test_order_of_arrival_does_not_matter_inside_the_window() -> None:
    assert times(run([failure(3), failure(1), failure(2)], FAILED, burst())) == [3.0]


def test_what_is_older_than_the_window_is_dropped() -> None:
    assert run([failure(30), failure(29), failure(5)], FAILED, burst()) == []


def test_a_clock_that_runs_ahead_does_not_empty_the_window() -> None:
    engine = SigmaEngine([(FAILED, "a"), (burst(), "b")])
    assert engine.feed(failure(1), 1000) == []
    assert engine.feed(failure(4_000_000), 1000) == []
    engine.feed(failure(2), 2000)
    assert len(engine.feed(failure(3), 3000)) == 1


@pytest.mark.parametrize(("condition", "needed"), [("{gte: 3}", 3), ("{gt: 3}", 4), ("{eq: 3}", 3)])
def test_the_conditions_that_a_growing_count_can_make_true(condition: str, needed: int) -> None:
    records = [failure(number / 10) for number in range(needed)]
    assert run(records[:-1], FAILED, burst(condition)) == []
    assert len(run(records, FAILED, burst(condition))) == 1


@pytest.mark.parametrize("more", ["", "generate: false"])
def test_counted_rules_say_nothing_themselves_unless_asked(more: str) -> None:
    assert len(run([failure(1), failure(2)], FAILED, burst() + more)) == 0


def test_with_generate_the_counted_rule_speaks_too() -> None:
    matches = run([failure(1), failure(2), failure(3)], FAILED, burst(more="  generate: true"))
    assert [match.title for match in matches] == ["Failed login", "Failed login", "Failed login", "Burst"]


def test_a_record_without_the_groups_field_belongs_to_no_group() -> None:
    records = [LogRecord(number, "", {"event.outcome": "failure"}) for number in range(9)]
    assert run(records, FAILED, burst()) == []


def test_without_group_by_everything_is_one_group() -> None:
    assert len(run([failure(number, str(number)) for number in range(3)], FAILED, burst(group_by="[]"))) == 1


def test_labels_on_which_the_records_disagree_are_left_out() -> None:
    records = [failure(1, service="checkout", site="a"), failure(2, service="checkout", site="b"), failure(3, service="checkout", site="a")]
    assert run(records, FAILED, burst())[0].labels == Labels.of(service="checkout", source_ip="127.0.0.2")


def test_aliases_name_a_field_differently_in_each_rule() -> None:
    other = FAILED.replace("failed_login", "denied").replace("000001", "000003").replace("event.outcome: failure", "verdict: deny")
    more = "  aliases:\n    address: {failed_login: source.ip, denied: client}"
    records = [failure(1, "x"), LogRecord(2000, "", {"verdict": "deny", "client": "x"}), failure(3, "x")]
    [match] = run(records, FAILED, other, burst(rules="[failed_login, denied]", group_by="[address]", more=more))
    assert match.labels["address"] == "x"


def test_value_count_counts_distinct_values() -> None:
    text = burst("{gte: 3, field: user.name}", "value_count")
    assert run([failure(number, user=["a", "b"][number % 2]) for number in range(8)], FAILED, text) == []
    assert times(run([failure(1, user="a"), failure(2, user="a"), failure(3, user="b"), failure(4, user="c")], FAILED, text)) == [4.0]
    assert run([failure(0, user="a"), failure(8, user="b"), failure(11, user="c")], FAILED, text) == []


def test_temporal_wants_every_rule_in_any_order() -> None:
    text = burst(kind="temporal", rules="[failed_login, succeeded_login]").replace("  condition: {gte: 3}\n", "")
    assert run([failure(1), failure(2)], FAILED, SUCCEEDED, text) == []
    assert times(run([failure(1, outcome="success"), failure(2)], FAILED, SUCCEEDED, text)) == [2.0]
    assert run([failure(1, outcome="success"), failure(12)], FAILED, SUCCEEDED, text) == []


def test_a_correlation_can_be_counted_by_another() -> None:
    twice = (
        burst("{gte: 2}", rules="[00000000-0000-0000-0000-000000000009]")
        .replace("000009\nauthor", "000010\nauthor")
        .replace("timespan: 10s", "timespan: 1m")
    )
    matches = run([failure(number) for number in range(30)], FAILED, burst(), twice)
    assert [(match.rule_id[-2:], match.at_ms) for match in matches] == [("10", 12_000)]


def test_rules_may_stand_in_one_file_or_in_any_order_of_files() -> None:
    records = [failure(1), failure(2), failure(3)]
    assert len(run(records, FAILED + "---" + burst())) == 1
    assert len(run(records, burst(), FAILED)) == 1


def test_memory_is_bounded_and_the_least_recent_group_goes_first() -> None:
    engine = SigmaEngine([(FAILED, "a"), (burst(), "b")], max_groups=2)
    for address in ("x", "y", "z", "x", "x"):
        engine.feed(failure(1, address), 10**9)
    [windows] = engine._windows.values()
    assert (len(windows), windows.forgotten) == (2, 2)
    for number in range(1000):
        engine.feed(failure(2 + number / 1000, "x"), 10**9)
    assert max(len(group.entries) for group in windows._groups.values()) <= 3


def test_the_lookback_is_the_longest_timespan() -> None:
    assert SigmaEngine([(FAILED, "a"), (burst(), "b")]).lookback_ms == 10_000
    assert SigmaEngine([(FAILED, "a")]).lookback_ms == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(burst("{lt: 3}"), "not supported", id="lt"),
        pytest.param(burst("{gte: 0}"), "between", id="zero"),
        pytest.param(burst("{gte: 2.5}"), "whole number", id="a fraction"),
        pytest.param(burst("{gte: 3, field: x}", "value_sum"), "value_sum", id="another type"),
        pytest.param(burst(rules="[nobody]"), "nobody", id="an unknown rule"),
        pytest.param(burst().replace("10s", "soon"), "soon", id="a wrong timespan"),
    ],
)
def test_what_is_not_supported_is_refused_when_compiled(text: str, words: str) -> None:
    with pytest.raises(SigmaError) as caught:
        SigmaEngine([(FAILED, "a.yml"), (text, "b.yml")])
    assert caught.value.where == "b.yml"
    assert words in caught.value.message


def test_the_same_records_give_the_same_matches() -> None:
    records = [failure(number * 0.7 % 13, address=str(number % 3)) for number in range(200)]
    assert run(records, FAILED, burst()) == run(records, FAILED, burst())
