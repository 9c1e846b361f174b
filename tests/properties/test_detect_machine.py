"""The detector as a machine: the same inputs give the same facts, a restart in the middle changes nothing, early is never later than grid."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detect import Detected
from pipeline.model.labels import Labels
from pipeline.model.records import AlertFact, AlertState, Watch
from pipeline.model.signals import Sample, SignalBatch
from pipeline.rulebook.book import AlertRule, RuleBook, RuleGroup
from tests.unit.detect.timeline import START_MS, Timeline, book_of

BOOK = book_of(
    {
        "groups": [
            {
                "name": "fast",
                "rules": [
                    {"record": "ratio", "expr": "rate(errors[3s]) / rate(requests[3s])"},
                    {"alert": "Ratio", "expr": "ratio > 0.3", "for": "1s", "settle": 0},
                    {"alert": "Mean", "expr": "avg_over_time(ratio[2s]) > 0.3", "keep_firing_for": "2s"},
                    {"alert": "Errors", "expr": "sum by (pod) (rate(errors[2s])) > 3", "annotations": {"v": "{{ $value | humanize }}"}},
                    {"alert": "Firing", "expr": 'ALERTS{alertstate="firing", alertname!="Firing"}'},
                ],
            },
            {
                "name": "slow",
                "interval": "3s",
                "rules": [{"alert": "Gone", "expr": "absent(requests)", "for": "3s"}, {"alert": "Hot", "expr": "errors > 20", "for": "2s"}],
            },
        ]
    }
)

# One step: how long after the one before (ms), which pod, how far its clock is off, growth of errors and requests (None: that one is missing).
STEP = st.tuples(st.integers(1, 1500), st.sampled_from("ab"), st.integers(-300, 50), st.none() | st.integers(0, 10), st.none() | st.integers(0, 10))
STEPS = st.lists(STEP, max_size=12)


def batches(steps: list[tuple[int, str, int, int | None, int | None]]) -> list[tuple[int, SignalBatch]]:
    now_ms, totals, found = START_MS, {}, []
    for wait, pod, skew, errors, requests in steps:
        now_ms += wait
        samples = []
        for name, grown in (("errors", errors), ("requests", requests)):
            if grown is not None:
                totals[name, pod] = totals.get((name, pod), 0) + grown
                samples.append(Sample(Labels.of(__name__=name, pod=pod), now_ms + skew, float(totals[name, pod])))
        found.append((now_ms, SignalBatch.of(samples)))
    return found


def play(inputs: list[tuple[int, SignalBatch]], rules: RuleBook = BOOK, restart_after: int | None = None) -> list[tuple[int, Detected]]:
    line = Timeline(rules)
    line.advance(START_MS)
    line.detector.watch(Watch(id="w", group="g", at_ms=START_MS, expr="sum(rate(errors[3s])) < 2", interval_ms=700), START_MS)
    for number, (now_ms, batch) in enumerate(inputs):
        line.feed(batch, now_ms)
        if number == restart_after:
            line.restart()
    line.until((inputs[-1][0] if inputs else START_MS) + 7_000)
    return line.seen


@given(steps=STEPS)
@settings(max_examples=20, deadline=None)
def test_the_same_feeds_and_advances_give_the_same_facts(steps: list[tuple[int, str, int, int | None, int | None]]) -> None:
    inputs = batches(steps)
    assert play(inputs) == play(inputs)


@given(steps=STEPS, restart_after=st.integers(0, 11))
@settings(max_examples=40, deadline=None)
def test_a_restart_in_the_middle_changes_no_fact(steps: list[tuple[int, str, int, int | None, int | None]], restart_after: int) -> None:
    inputs = batches(steps)
    assert play(inputs, restart_after=restart_after) == play(inputs)


def graded(mode: str) -> RuleBook:
    group = BOOK.groups[0]
    rules = tuple(
        replace(rule, evaluation=mode) if isinstance(rule, AlertRule) and rule.name in {"Ratio", "Errors"} else rule for rule in group.rules
    )
    return replace(BOOK, groups=(RuleGroup(group.name, group.file, rules, interval_ms=1000), BOOK.groups[1]))


@given(steps=STEPS)
@settings(max_examples=30, deadline=None)
def test_the_early_track_never_makes_an_alert_fire_later(steps: list[tuple[int, str, int, int | None, int | None]]) -> None:
    inputs = batches(steps)
    early, grid = play(inputs, graded("both")), play(inputs, graded("grid"))
    for now_ms, fact in fired(grid):
        lives = [(at_ms, other) for at_ms, other in fired(early) if other.alert.labels == fact.alert.labels and at_ms <= now_ms]
        assert lives, f"{fact.alert.labels} fired on the grid at {now_ms - START_MS} and not earlier with both tracks"


def fired(facts: list[tuple[int, Detected]]) -> list[tuple[int, AlertFact]]:
    return [(now_ms, fact) for now_ms, fact in facts if isinstance(fact, AlertFact) and fact.alert.state is AlertState.FIRING]


@given(steps=STEPS)
@settings(max_examples=25, deadline=None)
def test_every_id_is_said_once_and_states_follow_each_other(steps: list[tuple[int, str, int, int | None, int | None]]) -> None:
    ids: set[str] = set()
    last: dict[str, tuple[int, AlertState]] = {}
    order = {AlertState.PENDING: 0, AlertState.FIRING: 1, AlertState.RESOLVED: 2}
    for _, fact in play(batches(steps)):
        assert getattr(fact, "id", "") not in ids or not hasattr(fact, "id")
        ids.add(getattr(fact, "id", ""))
        if isinstance(fact, AlertFact):
            revision, state = last.get(fact.alert.id, (0, AlertState.PENDING))
            assert fact.alert.revision == revision + 1
            assert order[fact.alert.state] >= order[state]
            last[fact.alert.id] = (fact.alert.revision, fact.alert.state)
