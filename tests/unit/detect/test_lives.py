"""The two tracks of one rule, step by step."""

from pipeline.detect.lives import Element, Life, Lives
from pipeline.model.labels import Labels
from pipeline.model.records import AlertState, Ending

A, B = Labels.of(alertname="X", i="a"), Labels.of(alertname="X", i="b")


def held(*labels: Labels, value: float = 1.0) -> dict[Labels, Element]:
    return {one: Element(one, value) for one in labels}


def grid(lives: Lives, at_ms: int, *labels: Labels, ending: Ending = Ending.BY_VALUE, warming: bool = False) -> list[tuple[str, str]]:
    return told(lives.on_grid(at_ms, held(*labels), judge=lambda _: ending, warming=lambda _: warming))


def early(lives: Lives, at_ms: int, *labels: Labels) -> list[tuple[str, str]]:
    return told(lives.on_early(at_ms, held(*labels), warming=lambda _: False))


def told(lives: list[Life]) -> list[tuple[str, str]]:
    return [(life.labels["i"], life.state.value) for life in lives]


def test_each_track_counts_its_own_for() -> None:
    lives = Lives(for_ms=1000)
    assert grid(lives, 1000, A) == [("a", "pending")]
    assert early(lives, 1500, A) == []
    assert early(lives, 2400, A) == []
    assert grid(lives, 2000, A) == [("a", "firing")]


def test_the_early_track_fires_first_when_its_time_is_over_first() -> None:
    lives = Lives(for_ms=1000)
    early(lives, 500, A)
    assert grid(lives, 1000, A) == [("a", "pending")]
    assert early(lives, 1500, A) == [("a", "firing")]
    assert lives.by_labels[A].track == "early"
    assert [life.grid_firing for life in lives.grid] == [False]


def test_a_tick_between_that_does_not_hold_clears_the_early_timer_too() -> None:
    lives = Lives(for_ms=1000)
    early(lives, 500, A)
    assert grid(lives, 1000) == []
    early(lives, 1600, A)
    assert early(lives, 2500, A) == []
    assert early(lives, 2600, A) == [("a", "firing")]


def test_a_false_early_evaluation_does_not_resolve() -> None:
    lives = Lives()
    assert early(lives, 100, A) == [("a", "firing")]
    assert early(lives, 200) == []
    assert grid(lives, 1000) == [("a", "resolved")]


def test_a_tick_at_the_instant_of_the_early_evaluation_has_the_last_word() -> None:
    lives = Lives()
    early(lives, 1000, A)
    assert grid(lives, 1000) == [("a", "resolved")]


def test_confirmations_start_anew_after_a_false_early_evaluation() -> None:
    lives = Lives()
    early(lives, 100, A)
    early(lives, 200)
    assert early(lives, 300, A) == []
    assert lives.by_labels[A].confirmations == 1
    assert early(lives, 400, A) == [("a", "firing")]


def test_the_same_instant_twice_confirms_nothing() -> None:
    lives = Lives()
    early(lives, 100, A)
    assert early(lives, 100, A) == []
    assert lives.by_labels[A].confirmations == 1


def test_kept_alerts_stay_as_they_were_and_count_for_the_limit() -> None:
    lives = Lives(keep_firing_for_ms=2000)
    grid(lives, 0, A)
    grid(lives, 1000, A)
    assert lives.active_with(2000, held(B)) == 2
    assert grid(lives, 2000) == []
    assert grid(lives, 3000) == []
    assert lives.active_with(4000, held()) == 0
    assert grid(lives, 4000) == [("a", "resolved")]


def test_an_alert_that_stops_warming_says_so() -> None:
    lives = Lives()
    grid(lives, 0, A, warming=True)
    grid(lives, 1000, A, warming=True)
    assert grid(lives, 2000, A, warming=False) == [("a", "firing")]
    assert grid(lives, 3000, A, warming=False) == []


def test_the_ending_is_what_the_judge_says() -> None:
    lives = Lives()
    grid(lives, 0, A)
    life = lives.by_labels[A]
    grid(lives, 1000, ending=Ending.BY_NODATA)
    assert (life.state, life.ended, life.resolved_at_ms) == (AlertState.RESOLVED, Ending.BY_NODATA, 1000)
    assert not lives.by_labels


def test_end_all_tells_of_those_that_were_told_of() -> None:
    lives = Lives(for_ms=1000)
    grid(lives, 0, A)
    early(lives, 100, A, B)
    assert told(lives.end_all(500, Ending.BY_RULE_CHANGE)) == [("a", "resolved")]
