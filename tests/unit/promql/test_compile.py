"""Compiled expressions: what they say about themselves, views with a floor, ranges, options, annotations, order."""

import math

import pytest

from pipeline.model.labels import Labels
from pipeline.promql import EvalError, ExprError, Kind, Options, Row, Scalar, String, Track, compile_expr, parse
from pipeline.series import SeriesStore

MINUTE = 60_000


def series(**labels: str) -> Labels:
    return Labels.of(labels)


def counter(
    store: SeriesStore, labels: Labels, *, per_second: float, start_ms: int = 0, end_ms: int, every_ms: int = 1000, base: float = 0.0
) -> None:
    for at_ms in range(start_ms, end_ms + 1, every_ms):
        store.append(labels, at_ms, base + (at_ms - start_ms) / 1000 * per_second)


def rows(expr: str, store, at_ms: int, **options) -> list[tuple[str, float]]:
    return [(str(row.labels), row.value) for row in compile_expr(expr, options=Options(**options)).eval(store, at_ms)]


@pytest.mark.parametrize(
    ("expr", "lookback_ms"),
    [
        ("m", 5 * MINUTE),
        ("rate(m[1m])", MINUTE),
        ("rate(m[1m] offset 1h)", 61 * MINUTE),
        ("rate(m[1m] offset -1h)", 0),
        ("max_over_time(rate(m[1m])[1h:30s])", 61 * MINUTE),
        ("max_over_time(rate(m[1m])[1h:30s] offset 10m)", 71 * MINUTE),
        ("m @ 100", 5 * MINUTE),
        ("a + rate(b[10m])", 10 * MINUTE),
        ("time()", 0),
    ],
)
def test_lookback_is_how_far_back_samples_matter(expr, lookback_ms):
    assert compile_expr(expr).lookback_ms == lookback_ms


def test_selectors_tell_what_is_read_and_from_where():
    compiled = compile_expr('sum(rate(a{x="1"}[1m] offset 5m)) / max_over_time(b[10m:1m] @ 5) + {job="c"}')
    assert [(str(read.selector), read.range_ms, read.offset_ms, read.reach_ms, read.pinned) for read in compiled.selectors] == [
        ('a{x="1"}', MINUTE, 5 * MINUTE, 6 * MINUTE, False),
        ("b", 0, 0, 15 * MINUTE, True),
        ('{job="c"}', 0, 0, 5 * MINUTE, False),
    ]
    assert compiled.metric_names == {"a", "b"}
    assert compiled.reads_any_metric
    assert not compile_expr("a + b").reads_any_metric


def test_samples_older_than_the_lookback_do_not_matter():
    expr = compile_expr("max_over_time(rate(m[30s])[2m:15s] offset 10s)")
    whole, cut = SeriesStore(), SeriesStore()
    for store in (whole, cut):
        counter(store, series(__name__="m"), per_second=2.0, end_ms=600_000)
    cut.evict(600_000 - expr.lookback_ms)
    assert expr.eval(cut, 600_000) == expr.eval(whole, 600_000)


def test_a_parsed_expression_can_be_compiled_with_other_settings():
    expression = parse("count_over_time(m[10s])")
    store = SeriesStore()
    counter(store, series(__name__="m"), per_second=1.0, end_ms=20_000)
    assert compile_expr(expression).eval(store, 20_000).rows == [Row(Labels(), 10.0)]
    assert compile_expr(expression, compat="v2").eval(store, 20_000).rows == [Row(Labels(), 11.0)]


def test_results_of_each_type():
    store = SeriesStore()
    store.append(series(__name__="m", a="1"), 1000, 3.0)
    assert compile_expr("m").eval(store, 1000).rows == [Row(series(__name__="m", a="1"), 3.0)]
    assert compile_expr("m[5s]").eval(store, 1000).series == [Track(series(__name__="m", a="1"), ((1000, 3.0),))]
    assert compile_expr("2 * 3").eval(store, 1000) == Scalar(6.0)
    assert compile_expr('"text"').eval(store, 1000) == String("text")
    assert compile_expr("sum(m) > 1").kind is Kind.VECTOR


def test_rows_come_ordered_by_labels_whatever_the_order_of_arrival():
    store = SeriesStore()
    for instance in ("c", "a", "b"):
        store.append(series(__name__="m", instance=instance), 0, 1.0)
    assert [row.labels["instance"] for row in compile_expr("m").eval(store, 0)] == ["a", "b", "c"]


class TestThroughAnAnchoredView:
    def test_samples_up_to_the_anchor_do_not_exist(self):
        store = SeriesStore()
        store.append(series(__name__="m"), 1000, 3.0)
        assert rows("m", store.after(999), 2000) == [("m", 3.0)]
        assert rows("m", store.after(1000), 2000) == []
        assert rows("count_over_time(m[1m])", store.after(1000), 2000) == []

    def test_a_rate_is_per_second_of_the_time_since_the_anchor(self):
        store = SeriesStore()
        counter(store, series(__name__="errors_total"), per_second=50.0, end_ms=60_000)
        counter(store, series(__name__="errors_total"), per_second=2.0, start_ms=61_000, end_ms=70_000, base=3000.0)
        (_, before), *_ = rows("rate(errors_total[1m])", store, 70_000)
        (_, since), *_ = rows("rate(errors_total[1m])", store.after(60_000), 70_000)
        assert before > 40
        assert since == pytest.approx(2.0)
        assert rows("increase(errors_total[1m])", store.after(60_000), 70_000)[0][1] == pytest.approx(20.0)

    def test_the_window_grows_until_it_is_whole_and_then_moves(self):
        store = SeriesStore()
        counter(store, series(__name__="m"), per_second=1.0, end_ms=60_000)
        view = store.after(30_000)
        counts = [rows("count_over_time(m[10s])", view, at)[0][1] for at in (31_000, 35_000, 40_000, 50_000)]
        assert counts == [1, 5, 10, 10]

    def test_subqueries_evaluate_only_after_the_anchor(self):
        store = SeriesStore()
        counter(store, series(__name__="m"), per_second=1.0, end_ms=60_000)
        assert rows("count_over_time(m[30s:1s])", store.after(50_000), 60_000)[0][1] == 10

    def test_an_offset_does_not_reach_behind_the_anchor(self):
        store = SeriesStore()
        counter(store, series(__name__="m"), per_second=1.0, end_ms=60_000)
        assert rows("m offset 30s", store.after(50_000), 60_000) == []


class TestRangeQueries:
    def test_each_step_is_an_instant_evaluation(self):
        store = SeriesStore()
        counter(store, series(__name__="m", i="1"), per_second=1.0, end_ms=100_000)
        counter(store, series(__name__="m", i="2"), per_second=3.0, start_ms=40_000, end_ms=100_000)
        compiled = compile_expr("sum by (i) (rate(m[20s])) > 0.5")
        matrix = compiled.eval_range(store, 10_000, 90_000, 7000)
        instants = {at: {row.labels: row.value for row in compiled.eval(store, at)} for at in range(10_000, 90_001, 7000)}
        assert {(track.labels, at): value for track in matrix for at, value in track.points} == {
            (labels, at): value for at, found in instants.items() for labels, value in found.items()
        }

    def test_start_and_end_are_those_of_the_query(self):
        store = SeriesStore()
        counter(store, series(__name__="m"), per_second=1.0, end_ms=100_000)
        (track,) = compile_expr("m @ end() - m @ start()").eval_range(store, 10_000, 50_000, 20_000)
        assert track.points == ((10_000, 40.0), (30_000, 40.0), (50_000, 40.0))

    def test_a_scalar_becomes_one_series_without_labels(self):
        (track,) = compile_expr("time() * 2").eval_range(SeriesStore(), 1000, 3000, 1000)
        assert track == Track(Labels(), ((1000, 2.0), (2000, 4.0), (3000, 6.0)))

    @pytest.mark.parametrize(("expr", "step_ms"), [("m[5m]", 1000), ('"x"', 1000), ("m", 0), ("m", 1)])
    def test_what_has_no_range_is_refused(self, expr, step_ms):
        with pytest.raises(EvalError):
            compile_expr(expr).eval_range(SeriesStore(), 0, 3_600_000, step_ms)


def test_a_subquery_with_too_many_steps_is_refused():
    with pytest.raises(EvalError, match="more than 100000 steps"):
        compile_expr("max_over_time(m[365d:1s])").eval(SeriesStore(), 10**12)


def test_the_look_back_can_be_shortened():
    store = SeriesStore()
    store.append(series(__name__="m"), 0, 1.0)
    assert rows("m", store, 30_000, look_back_ms=30_000) == []
    assert rows("m", store, 29_999, look_back_ms=30_000) == [("m", 1.0)]


def test_names_are_dropped_at_once_unless_asked_otherwise():
    store = SeriesStore()
    store.append(series(__name__="m", a="1"), 0, 2.0)
    expr = 'label_replace(abs(m), "was", "$1", "__name__", "(.*)")'
    assert rows(expr, store, 0) == [('{a="1"}', 2.0)]
    assert rows(expr, store, 0, delayed_names=True) == [('{a="1", was="m"}', 2.0)]


def test_two_metrics_that_lose_their_names_collide():
    store = SeriesStore()
    for name in ("a_total", "b_total"):
        counter(store, series(__name__=name), per_second=1.0, end_ms=10_000)
    for delayed in (False, True):
        with pytest.raises(EvalError, match="same labelset"):
            rows('rate({__name__=~".*_total"}[5s])', store, 10_000, delayed_names=delayed)


def test_annotations_come_with_the_result():
    store = SeriesStore()
    counter(store, series(__name__="gauge"), per_second=1.0, end_ms=10_000)
    result = compile_expr("rate(gauge[5s])").eval(store, 10_000)
    assert result.notes.infos[0].startswith('PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "gauge"')
    assert not result.notes.warnings
    warned = compile_expr("quantile(1.5, gauge)").eval(store, 10_000)
    assert warned.notes.warnings == ("PromQL warning: quantile value should be between 0 and 1, got 1.5",)
    assert warned.rows[0].value == math.inf


def test_evaluations_do_not_influence_each_other():
    store = SeriesStore()
    counter(store, series(__name__="m", i="1"), per_second=1.0, end_ms=100_000)
    compiled = compile_expr("sum by (i) (rate(m[20s])) / on(i) group_left count by (i) (m)")
    first = compiled.eval(store, 50_000)
    counter(store, series(__name__="m", i="0"), per_second=1.0, end_ms=100_000)
    assert len(compiled.eval(store, 90_000)) == 2
    store.evict(1_000_000)
    assert len(compiled.eval(store, 90_000)) == 0
    counter(store, series(__name__="m", i="1"), per_second=1.0, end_ms=100_000)
    assert compiled.eval(store, 50_000) == first


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("limit_ratio(0.5, m)", "experimental"),
        ('label_replace(m, "d", "$1", "s", "(")', "regular expression"),
        ('label_replace(m, "", "$1", "s", ".*")', "invalid label name"),
        ('count_values("", m)', "invalid label name"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_when_compiling(expr, message):
    with pytest.raises(ExprError, match=message):
        compile_expr(expr)


@pytest.mark.parametrize(
    ("expr", "value"),
    [
        ("1 / 0", math.inf),
        ("-1 / 0", -math.inf),
        ("5 % 0", math.nan),
        ("2 ^ 5000", math.inf),
        ("(-2) ^ 0.5", math.nan),
        ("0 ^ -1", math.inf),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ^ 2", -4.0),
        ("1 == bool 2", 0.0),
        ("pi()", math.pi),
        ("scalar(vector(7))", 7.0),
        ("NaN != bool NaN", 1.0),
    ],
)
def test_arithmetic_never_raises(expr, value):
    got = compile_expr(expr).eval(SeriesStore(), 0).value
    assert got == value or (math.isnan(got) and math.isnan(value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("year", 2024),
        ("month", 2),
        ("day_of_month", 29),
        ("day_of_week", 4),
        ("day_of_year", 60),
        ("days_in_month", 29),
        ("hour", 23),
        ("minute", 59),
    ],
)
def test_calendar_functions_are_utc(name, value):
    at_ms = 1_709_251_199_000  # Thursday, 2024-02-29 23:59:59
    assert [row.value for row in compile_expr(f"{name}()").eval(SeriesStore(), at_ms)] == [value]
    assert [row.value for row in compile_expr(f"{name}(vector({at_ms // 1000}))").eval(SeriesStore(), 0)] == [value]


def test_calendar_functions_have_no_answer_for_what_is_no_time():
    assert all(math.isnan(compile_expr(f"year(vector({text}))").eval(SeriesStore(), 0).rows[0].value) for text in ("NaN", "Inf", "1e300"))
