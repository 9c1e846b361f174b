"""The graph against the evaluator: at every tick the same rows in the same order with the same bits, or the same error, for random expressions over
random series with gaps, resets, stale markers, late samples, NaN and infinities; in v2 and v3.
"""

import math
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.labels import Labels
from pipeline.promql import Compat, Graph, PromQLError, Scalar, compile_expr
from pipeline.series import STALE_NAN, SeriesStore

NAMES = ["a_total", "b_total", "g"]
SERIES = [Labels.of(__name__=name, i=i, z=z) for name in NAMES for i in "xy" for z in ("", "1")]
BUCKETS = [Labels.of(__name__="h_bucket", i=i, le=le) for i in "xy" for le in ("0.5", "1", "+Inf")]
VALUES = st.one_of(
    st.integers(0, 5).map(float), st.sampled_from([0.1, 0.3, -0.0, -2.0, 1e300, -1e300, 2.0**53, math.nan, math.inf, -math.inf, STALE_NAN])
)

SELECTOR = st.builds(
    lambda name, matcher: f"{name}{{{matcher}}}" if name or matcher else "g",
    st.sampled_from([*NAMES, "g", "nothing"]),
    st.sampled_from(["", 'i="x"', 'i!="x"', 'z=""', 'z=~".+"']),
)
ANY_NAME = st.just('{__name__=~"a_total|g"}')
MOVE = st.sampled_from(["", "", "", " offset 3s", " offset -2s", " @ 12", " @ 12 offset 2s"])
INSTANT = st.builds(lambda selector, move: selector + move, st.one_of(SELECTOR, SELECTOR, SELECTOR, ANY_NAME), MOVE)
RANGE = st.builds(
    lambda selector, width, move: f"{selector}[{width}s]{move}", st.one_of(SELECTOR, SELECTOR, ANY_NAME), st.sampled_from([1, 4, 7, 30]), MOVE
)
RANGE_FUNCTIONS = [
    "rate", "increase", "delta", "irate", "idelta", "resets", "changes", "sum_over_time", "avg_over_time", "count_over_time", "min_over_time",
    "max_over_time", "stddev_over_time", "stdvar_over_time", "last_over_time", "first_over_time", "present_over_time", "deriv", "absent_over_time",
    "mad_over_time", "ts_of_max_over_time",
]  # fmt: skip
WINDOWED = st.one_of(
    st.builds(lambda function, window: f"{function}({window})", st.sampled_from(RANGE_FUNCTIONS), RANGE),
    st.builds(lambda window: f"predict_linear({window}, 5)", RANGE),
    st.builds(lambda window, q: f"quantile_over_time({q}, {window})", RANGE, st.sampled_from(["0.5", "2"])),
    st.builds(lambda inner: f"max_over_time(({inner})[6s:2s])", SELECTOR),
)
BY = st.sampled_from(["", " by (i)", " by (z)", " without (i)", " by (i, z)", " by (__name__)"])
NUMBER = st.sampled_from(["0", "1", "2.5", "-1", "NaN", "Inf", "time()", 'scalar(g{i="x"})', "(2 ^ 0.5)", "pi()"])
MATCHING = st.sampled_from(
    ["", " on (i)", " on (i, z)", " ignoring (z)", " on (i) group_left ()", " on (i) group_right (z)", " ignoring (z) group_left ()"]
)


def _deeper(inner):
    return st.one_of(
        st.builds(
            lambda op, by, expr: f"{op}{by} ({expr})", st.sampled_from(["sum", "avg", "count", "min", "max", "group", "stddev", "stdvar"]), BY, inner
        ),
        st.builds(lambda op, by, expr: f"{op}{by} (2, {expr})", st.sampled_from(["topk", "bottomk", "quantile"]), BY, inner),
        st.builds(
            lambda left, op, right: f"({left}) {op} {right}",
            inner,
            st.sampled_from(["+", "-", "*", "/", "%", "^", ">", "<", "==", "!=", ">= bool", "<= bool"]),
            NUMBER,
        ),
        st.builds(lambda left, op, right: f"{left} {op} ({right})", NUMBER, st.sampled_from(["-", "/", "<", "> bool"]), inner),
        st.builds(
            lambda left, op, match, right: f"({left}) {op}{match} ({right})",
            inner,
            st.sampled_from(["+", "-", "*", "/", ">", "<=", "== bool"]),
            MATCHING,
            inner,
        ),
        st.builds(
            lambda left, op, match, right: f"({left}) {op}{match} ({right})",
            inner,
            st.sampled_from(["and", "or", "unless"]),
            st.sampled_from(["", " on (i)", " ignoring (z)", " on ()"]),
            inner,
        ),
        st.builds(
            lambda function, expr: f"{function}({expr})",
            st.sampled_from(["abs", "floor", "sqrt", "-", "absent", "sort", "timestamp", "hour", "round"]),
            inner,
        ),
        st.builds(lambda expr: f'label_replace({expr}, "i", "$1", "z", "(.+)")', inner),
        st.builds(lambda expr: f'label_join({expr}, "z", "-", "i", "z")', inner),
        st.builds(lambda expr: f"clamp({expr}, 0, 2)", inner),
        st.builds(lambda expr: f"scalar({expr}) + 1", inner),
        st.builds(lambda expr: f"vector(scalar({expr}))", inner),
    )


HISTOGRAM = st.sampled_from(
    ["histogram_quantile(0.9, sum by (le) (rate(h_bucket[7s])))", "histogram_quantile(0.5, h_bucket)", "histogram_quantile(2, rate(h_bucket[30s]))"]
)
EXPRESSION = st.one_of(INSTANT, WINDOWED, HISTOGRAM, st.recursive(st.one_of(INSTANT, WINDOWED), _deeper, max_leaves=4))

# One step: which series, how far its time is from the clock (late, or ahead of it), what; and how far the clock moves.
SAMPLE = st.tuples(st.sampled_from(SERIES + BUCKETS), st.integers(-4000, 500), VALUES)
STEP = st.tuples(st.lists(SAMPLE, max_size=6), st.integers(200, 4000), st.booleans())


def outcome(evaluate, store: SeriesStore, at_ms: int) -> object:
    """Rows with the bits of their values (any NaN is one), and annotations; or the error."""
    try:
        result = evaluate(store, at_ms)
    except PromQLError as error:
        return str(error)
    rows = [("", result.value)] if isinstance(result, Scalar) else [(row.labels, row.value) for row in result]
    return [(labels, "NaN" if math.isnan(value) else struct.pack("<d", value)) for labels, value in rows], result.notes


@settings(max_examples=300, deadline=None)
@given(exprs=st.lists(EXPRESSION, min_size=1, max_size=3), steps=st.lists(STEP, max_size=12), compat=st.sampled_from(["v2", "v3"]))
def test_the_graph_gives_at_every_tick_what_the_evaluator_gives(exprs: list[str], steps, compat: Compat) -> None:
    store, graph = SeriesStore(allowed_lateness_ms=3000), Graph(least_series=0)
    compiled = []
    for expr in exprs:
        try:
            compiled.append(compile_expr(expr, compat=compat, graph=graph))
        except PromQLError:
            continue
    clock_ms = 10_000
    for samples, wait_ms, evicts in steps:
        clock_ms += wait_ms
        store.extend([labels for labels, _, _ in samples], [clock_ms + off for _, off, _ in samples], [value for _, _, value in samples])
        if evicts:
            store.evict(clock_ms - 40_000)
        for at_ms in (clock_ms // 1000 * 1000, clock_ms - 2500, clock_ms):
            for one in compiled:
                assert outcome(one.eval, store, at_ms) == outcome(one.evaluate, store, at_ms), f"{one.text} at {at_ms}"


# Few series, many samples, every function of a window: what is kept between ticks must follow every sample that comes, goes or is changed in place.
DENSE = st.lists(
    st.tuples(st.sampled_from("xyz"), st.integers(-2500, 400), st.sampled_from([0.0, -0.0, 1.0, 2.0, 2.0, 3.0, 0.1, 0.7, 2.0**52, math.nan])),
    max_size=5,
)
DENSE_EXPRESSIONS = [
    *(f"{function}(g[{width}s])" for function in RANGE_FUNCTIONS for width in (3, 9)),
    *(f"{op} by (k) (g)" for op in ("sum", "avg", "min", "max", "stddev", "count")),
    "predict_linear(g[9s], 4)",
    "sum(sum by (k) (g))",
    "avg(max by (k) (rate(g[9s])))",
    "g / on (k) group_left () max by (k) (g)",
    "g * on (k) group_right () g",
    "g > bool on (k) group_left () g",
    "g and on (k) (g > 1)",
]


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.tuples(DENSE, st.integers(300, 2500), st.integers(0, 6)), min_size=4, max_size=16), compat=st.sampled_from(["v2", "v3"]))
def test_what_is_kept_between_ticks_follows_every_sample(steps, compat: Compat) -> None:
    store, graph = SeriesStore(allowed_lateness_ms=2000), Graph(least_series=0)
    compiled = [compile_expr(expr, compat=compat, graph=graph) for expr in DENSE_EXPRESSIONS]
    labels = {i: Labels.of(__name__="g", i=i, k="2" if i == "x" else "1" if i == "y" else "2") for i in "xyz"}
    clock_ms = 10_000
    for samples, wait_ms, keep in steps:
        clock_ms += wait_ms
        for i, off, value in samples:
            store.append(labels[i], clock_ms + off, value)
        if not keep:  # now and then, less is kept than the windows want
            store.evict(clock_ms - 2500)
        for one in compiled:
            assert outcome(one.eval, store, clock_ms) == outcome(one.evaluate, store, clock_ms), f"{one.text} at {clock_ms}"
