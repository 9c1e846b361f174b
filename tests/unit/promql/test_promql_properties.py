"""What must hold for any samples: the order of arrival does not matter, a range query is its instants, rates against a plain restatement."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.labels import Labels
from pipeline.promql import PromQLError, compile_condition, compile_expr
from pipeline.promql.numeric import kahan_sum, mean, quantile
from pipeline.promql.plan import Window
from pipeline.promql.rates import delta, increase, rate
from pipeline.series import STALE_NAN, SeriesStore

VALUES = st.one_of(st.integers(0, 100).map(float), st.sampled_from([math.nan, math.inf, 0.1, 1e300]))
SAMPLES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40), VALUES), max_size=40, unique_by=lambda sample: sample[:2])
EXPRESSIONS = [
    "m",
    "sum(m)",
    "avg by (i) (m) > 3",
    "rate(m[10s])",
    "sum(increase(m[20s]))",
    'quantile_over_time(0.5, m{i!="b"}[15s])',
    "topk(2, m)",
    "m / on(i) (m offset 5s)",
    "max_over_time(m[10s:3s])",
    "m unless m > 5",
    "absent(m)",
    "stddev_over_time(m[10s]) or stdvar(m)",
]


def store_of(samples) -> SeriesStore:
    store = SeriesStore(allowed_lateness_ms=10**9)
    for instance, second, value in samples:
        store.append(Labels.of(__name__="m", i=instance), second * 1000, value)
    return store


def outcome(expr: str, store: SeriesStore, at_ms: int) -> str:
    """A result or an error, as text: NaN equals NaN there, and floats are exact."""
    try:
        return repr(compile_expr(expr).eval(store, at_ms))
    except PromQLError as error:
        return f"error: {error}"


@settings(max_examples=60, deadline=None)
@given(samples=SAMPLES, at=st.integers(0, 50), shuffled=st.randoms())
def test_the_order_of_arrival_does_not_matter(samples, at, shuffled):
    other = list(samples)
    shuffled.shuffle(other)
    one, two = store_of(samples), store_of(other)
    assert [outcome(expr, one, at * 1000) for expr in EXPRESSIONS] == [outcome(expr, two, at * 1000) for expr in EXPRESSIONS]


@settings(max_examples=150, deadline=None)
@given(
    samples=st.lists(
        st.tuples(st.just("a"), st.integers(0, 40), st.one_of(st.integers(0, 3).map(float), st.sampled_from([math.nan, STALE_NAN]))), max_size=40
    ),
    at=st.integers(0, 50),
    width=st.integers(1, 50),
    rising=st.booleans(),
)
def test_rates_read_from_the_edges_are_those_read_from_all_samples(samples, at, width, rising):
    if rising:
        samples = sorted(samples, key=lambda sample: (math.isnan(sample[2]), sample[2]))
        samples = [(name, second, value) for (name, _, value), second in zip(samples, sorted(second for _, second, _ in samples), strict=True)]
    store, window = store_of(samples), Window((at - width) * 1000, at * 1000, at * 1000, [])
    for series in store:
        times, values = series.window(window.start_ms, window.end_ms)
        for name, function in (("rate", rate), ("increase", increase), ("delta", delta)):
            expected = function(times, values, window, ())
            got = compile_expr(f"{name}(m[{width}s])").eval(store, at * 1000).rows
            assert [repr(row.value) for row in got] == ([] if expected is None else [repr(expected)])


@settings(max_examples=60, deadline=None)
@given(samples=SAMPLES, start=st.integers(0, 20), step=st.integers(1, 9), expr=st.sampled_from(EXPRESSIONS))
def test_a_range_query_is_its_instants(samples, start, step, expr):
    store, compiled = store_of(samples), compile_expr(expr)
    instants = range(start * 1000, 50_000, step * 1000)
    whole = {(track.labels, at): repr(value) for track in compiled.eval_range(store, start * 1000, 49_999, step * 1000) for at, value in track.points}
    assert whole == {(row.labels, at): repr(row.value) for at in instants for row in compiled.eval(store, at)}


@settings(max_examples=60, deadline=None)
@given(samples=SAMPLES, at=st.integers(0, 50), anchor=st.integers(0, 50), expr=st.sampled_from(EXPRESSIONS))
def test_an_anchored_view_reads_like_a_store_without_the_older_samples(samples, at, anchor, expr):
    if "rate" in expr or "increase" in expr or ":" in expr:
        return  # these look at the window's length too, which an anchored view shortens on purpose
    cut = store_of([sample for sample in samples if sample[1] > anchor])
    assert outcome(expr, store_of(samples).after(anchor * 1000), at * 1000) == outcome(expr, cut, at * 1000)


@settings(max_examples=100, deadline=None)
@given(samples=SAMPLES, at=st.integers(0, 50), bound=st.integers(0, 100))
def test_a_condition_never_takes_missing_for_an_answer(samples, at, bound):
    store = store_of(samples)
    rows = compile_expr("m").eval(store, at * 1000).rows
    truth = compile_condition(f"m < {bound}").eval(store, at * 1000).truth
    opposite = compile_condition(f"m >= {bound}").eval(store, at * 1000).truth
    if not rows or any(math.isnan(row.value) for row in rows):
        assert truth == opposite == "nodata"
    else:
        assert truth == ("true" if all(row.value < bound for row in rows) else "false")
        assert "nodata" not in {truth, opposite}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=30))
def test_compensated_sums_are_close_to_the_exact_sum(values):
    total = kahan_sum(values)
    if math.isfinite(total):
        exact = math.fsum(values)
        largest = max(map(abs, values))
        assert abs(total - exact) <= 1e-12 * max(abs(exact), largest)
    average = mean(values)
    assert math.isfinite(average)
    assert min(values) - 1e-9 * abs(min(values)) <= average <= max(values) + 1e-9 * abs(max(values))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(0, 1))
def test_quantiles_lie_inside_the_data_and_rise(values, q):
    assert min(values) - 1e-6 <= quantile(q, values) <= max(values) + 1e-6
    assert quantile(q / 2, values) <= quantile(q, values) + 1e-6
