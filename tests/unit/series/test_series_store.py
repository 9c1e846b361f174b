"""The series store: what is kept, in which order, and what is refused with which reason."""

import math
import struct

import pytest

from pipeline.model.labels import Labels
from pipeline.series import STALE_NAN, Appended, BadMatcherError, Matcher, MatchOp, Selector, SeriesLimits, SeriesStore, is_stale

A = Labels.of(__name__="requests_total", instance="a")
B = Labels.of(__name__="requests_total", instance="b")


def select(store, text_matchers):
    return [series.labels for series in store.select(Selector(text_matchers))]


def named(name):
    return Matcher("__name__", MatchOp.EQUAL, name)


def contents(store, labels):
    times, values = store.get(labels).window(-(1 << 60), 1 << 60)
    return list(zip(times, values, strict=True))


def test_samples_come_back_in_order_of_time():
    store = SeriesStore()
    assert store.append(A, 1000, 1.0) is Appended.STORED
    assert store.append(A, 2000, 2.0) is Appended.STORED
    assert contents(store, A) == [(1000, 1.0), (2000, 2.0)]
    assert store.get(A).newest_at_ms == store.newest_at_ms == 2000


def test_late_sample_inside_the_allowance_is_inserted_in_order():
    store = SeriesStore(allowed_lateness_ms=1500)
    for at_ms in (1000, 3000):
        store.append(A, at_ms, float(at_ms))
    assert store.append(A, 1500, 7.0) is Appended.LATE
    assert contents(store, A) == [(1000, 1000.0), (1500, 7.0), (3000, 3000.0)]


def test_sample_later_than_the_allowance_is_refused():
    store = SeriesStore(allowed_lateness_ms=1500)
    store.append(A, 3000, 1.0)
    assert store.append(A, 1499, 7.0) is Appended.TOO_LATE
    assert Appended.TOO_LATE.refused
    assert not Appended.LATE.refused
    assert contents(store, A) == [(3000, 1.0)]


def test_lateness_is_judged_per_series():
    store = SeriesStore(allowed_lateness_ms=0)
    store.append(A, 100_000, 1.0)
    assert store.append(B, 5, 1.0) is Appended.STORED


def test_same_time_again_replaces_the_value():
    store = SeriesStore()
    store.append(A, 1000, 1.0)
    assert store.append(A, 1000, 2.0) is Appended.REPLACED
    assert contents(store, A) == [(1000, 2.0)]


def test_late_sample_older_than_the_first_moves_the_beginning():
    store = SeriesStore(allowed_lateness_ms=5000)
    store.append(A, 3000, 1.0)
    store.append(A, 1000, 1.0)
    assert store.get(A).first_sample_at_ms == 1000


def test_batch_is_stored_row_by_row_and_refused_rows_are_named():
    store = SeriesStore(allowed_lateness_ms=100)
    report = store.extend([A, B, A, A, A, A], [1000, 1000, 2000, 1950, 2000, 5], [1.0, 1.0, 2.0, 1.5, 3.0, 9.0])
    assert (report.stored, report.late, report.replaced) == (3, 1, 1)
    assert report.refused == [(5, Appended.TOO_LATE)]
    assert contents(store, A) == [(1000, 1.0), (1950, 1.5), (2000, 3.0)]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        pytest.param(Labels.of({f"l{number}": "x" for number in range(5)}), Appended.LABEL_COUNT, id="too many labels"),
        pytest.param(Labels.of({"name_that_is_long": "x"}), Appended.LABEL_LENGTH, id="long name"),
        pytest.param(Labels.of({"a": "x" * 21}), Appended.LABEL_LENGTH, id="long value"),
        pytest.param(Labels.of({"__name__": "m", "a": "3"}), Appended.METRIC_LIMIT, id="too many series of one metric"),
    ],
)
def test_what_exceeds_a_limit_is_refused_with_the_reason(labels, reason):
    store = SeriesStore(limits=SeriesLimits(series=10, series_per_metric=2, labels=4, label_name_length=12, label_value_length=20))
    store.append(Labels.of({"__name__": "m", "a": "1"}), 0, 1.0)
    store.append(Labels.of({"__name__": "m", "a": "2"}), 0, 1.0)
    assert store.append(labels, 0, 1.0) is reason
    assert len(store) == 2


@pytest.mark.parametrize("at_ms", [1 << 62, 10**30, -(10**30)])
def test_a_time_that_no_array_holds_is_refused(at_ms):
    store = SeriesStore(allowed_lateness_ms=10**40)
    assert store.append(A, at_ms, 1.0) is Appended.TIME_RANGE
    assert store.append(B, 1000, 1.0) is Appended.STORED
    assert store.append(B, at_ms, 1.0) is Appended.TIME_RANGE
    assert store.extend([A, B], [at_ms, at_ms], [1.0, 1.0]).refused == [(0, Appended.TIME_RANGE), (1, Appended.TIME_RANGE)]
    assert [series.labels for series in store] == [B]


def test_full_store_refuses_new_series_but_serves_the_known_ones():
    store = SeriesStore(limits=SeriesLimits(series=1))
    store.append(A, 0, 1.0)
    assert store.append(B, 0, 1.0) is Appended.SERIES_LIMIT
    assert store.append(A, 1, 2.0) is Appended.STORED


def test_eviction_forgets_old_samples_and_empty_series():
    store = SeriesStore()
    for at_ms in range(0, 10_000, 1000):
        store.append(A, at_ms, 1.0)
    store.append(B, 0, 1.0)
    report = store.evict(5000)
    assert (report.samples, report.series) == (6, 1)
    assert [at for at, _ in contents(store, A)] == [5000, 6000, 7000, 8000, 9000]
    assert store.get(B) is None
    assert store.get(A).first_sample_at_ms == 0  # warming is judged by when the series began, not by what is still kept


def test_eviction_can_keep_a_metric_longer():
    store = SeriesStore()
    slow = Labels.of(__name__="slow")
    for labels in (A, slow):
        store.append(labels, 1000, 1.0)
    store.evict(5000, by_metric={"slow": 500})
    assert [series.labels for series in store] == [slow]


def test_selection_follows_the_coming_and_going_of_series():
    store = SeriesStore()
    matchers = [named("requests_total")]
    assert select(store, matchers) == []
    store.append(B, 0, 1.0)
    store.append(A, 5000, 1.0)
    assert select(store, matchers) == [A, B]  # by labels, not by arrival
    store.evict(1000)
    assert select(store, matchers) == [A]
    store.append(B, 6000, 1.0)
    assert select(store, matchers) == [A, B]


def test_selector_without_a_name_sees_every_metric():
    store = SeriesStore()
    other = Labels.of(__name__="errors_total", instance="a")
    matchers = [Matcher("instance", MatchOp.EQUAL, "a")]
    assert select(store, matchers) == []
    for labels in (A, B, other):
        store.append(labels, 0, 1.0)
    assert select(store, matchers) == [other, A]
    store.forget_selections()
    assert select(store, matchers) == [other, A]


def test_many_different_selections_do_not_pile_up():
    store = SeriesStore(limits=SeriesLimits(selections=3))
    store.append(A, 0, 1.0)
    for number in range(50):
        assert select(store, [named("requests_total"), Matcher("instance", MatchOp.NOT_EQUAL, str(number))]) == [A]
    store.append(B, 0, 1.0)
    assert select(store, [named("requests_total"), Matcher("instance", MatchOp.NOT_EQUAL, "49")]) == [A, B]
    assert len(store._standing) <= 3


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        (MatchOp.EQUAL, "a", ["a"]),
        (MatchOp.EQUAL, "", ["none"]),
        (MatchOp.NOT_EQUAL, "a", ["ab", "b", "none"]),
        (MatchOp.NOT_EQUAL, "", ["a", "ab", "b"]),
        (MatchOp.REGEX, "a|b", ["a", "b"]),
        (MatchOp.REGEX, "a.*", ["a", "ab"]),
        (MatchOp.REGEX, ".+", ["a", "ab", "b"]),
        (MatchOp.REGEX, ".*", ["a", "ab", "b", "none"]),
        (MatchOp.NOT_REGEX, "a.*", ["b", "none"]),
        (MatchOp.REGEX, "", ["none"]),
    ],
)
def test_matchers_are_anchored_and_treat_a_missing_label_as_empty(op, value, expected):
    store = SeriesStore()
    for text in ("a", "ab", "b"):
        store.append(Labels.of(__name__="m", id=text, l=text), 0, 1.0)
    store.append(Labels.of(__name__="m", id="none"), 0, 1.0)
    found = store.select(Selector([named("m"), Matcher("l", op, value)]))
    assert sorted(series.labels["id"] for series in found) == expected


def test_dot_matches_a_newline():
    assert Matcher("l", MatchOp.REGEX, "a.b").matches("a\nb")


def test_regular_expression_that_re2_refuses_is_named():
    with pytest.raises(BadMatcherError, match=r"missing \)"):
        Matcher("l", MatchOp.REGEX, "(")
    with pytest.raises(BadMatcherError):
        Matcher("l", MatchOp.REGEX, r"(a)\1")  # back references are not linear


def test_stale_marker_is_told_from_other_nans_by_its_bits():
    assert is_stale(STALE_NAN)
    assert not is_stale(math.nan)
    assert not is_stale(STALE_NAN + 1)
    assert not is_stale(1.0)
    assert struct.pack("<d", STALE_NAN) == struct.pack("<Q", 0x7FF0000000000002)


def test_stale_marker_ends_a_series_for_readers_but_not_its_window():
    store = SeriesStore()
    for at_ms, value in ((1000, 1.0), (2000, math.nan), (3000, STALE_NAN)):
        store.append(A, at_ms, value)
    series = store.get(A)
    assert series.last(0, 3000) is None
    assert series.last(0, 1500) == (1000, 1.0)
    times, values = series.window(0, 3000)
    assert list(times) == [1000, 2000]
    assert math.isnan(values[1])
    store.append(A, 4000, 4.0)
    assert series.last(0, 5000) == (4000, 4.0)
    store.evict(4000)
    assert list(series.window(0, 9000)[0]) == [4000]


def test_replacing_a_stale_marker_revives_the_series():
    store = SeriesStore()
    store.append(A, 1000, STALE_NAN)
    store.append(A, 1000, 5.0)
    assert store.get(A).last(0, 1000) == (1000, 5.0)


def test_window_is_open_on_the_left_and_closed_on_the_right():
    store = SeriesStore()
    for at_ms in (1000, 2000, 3000, 4000):
        store.append(A, at_ms, 1.0)
    assert list(store.get(A).window(1000, 3000)[0]) == [2000, 3000]
    assert list(store.get(A).window(4000, 9000)[0]) == []
    assert store.get(A).last(1000, 1000) is None


def test_anchored_view_has_a_floor_and_anchors_only_move_forward():
    store = SeriesStore()
    store.append(A, 1000, 1.0)
    view = store.after(5000)
    assert view.floor_ms == 5000
    assert list(view.select(Selector([named("requests_total")]))) == [store.get(A)]
    assert store.after(5000).floor_ms == 5000


def test_an_idle_series_costs_less_than_a_kilobyte():
    import tracemalloc

    names = [Labels.of(__name__="requests_total", instance=f"i{number}", service="checkout", code="200") for number in range(2000)]
    tracemalloc.start()
    store = SeriesStore()
    for labels in names:
        for at_ms in range(0, 15_000, 1000):
            store.append(labels, at_ms, 1.0)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / len(names) < 1000
