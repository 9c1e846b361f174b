"""The shared graph: what is one node, what is left to the evaluator, and what survives series that come and go."""

import pytest

from pipeline.model.labels import Labels
from pipeline.promql import EvalError, Graph, Options, compile_expr
from pipeline.series import SeriesStore


def store_of(count: int = 4, scrapes: int = 5) -> SeriesStore:
    store = SeriesStore()
    for scrape in range(scrapes):
        for number in range(count):
            store.append(Labels.of(__name__="m_total", i=str(number), service="ab"[number % 2]), scrape * 1000, float(scrape * number))
    return store


def values(result) -> dict[str, float]:
    return {str(row.labels): row.value for row in result}


def test_what_two_expressions_have_in_common_is_one_node():
    graph, store = Graph(least_series=0), store_of()
    compile_expr("sum by (service) (rate(m_total[5s])) > 1", graph=graph).eval(store, 5000)
    before = len(graph)
    compile_expr("sum by (service) (rate(m_total[5s])) > 2", graph=graph).eval(store, 5000)
    assert len(graph) == before + 1  # the comparison


def test_zero_and_minus_zero_are_not_the_same():
    graph, store = Graph(least_series=0), store_of()
    plus, minus = (compile_expr(f"1 / (m_total{{i='1'}} * 0 * {sign}1)", graph=graph).eval(store, 5000) for sign in ("", "-"))
    assert [row.value for row in plus] == [float("inf")]
    assert [row.value for row in minus] == [float("-inf")]


def test_a_graph_is_about_one_store():
    graph = Graph(least_series=0)
    compiled = compile_expr("sum(m_total)", graph=graph)
    assert values(compiled.eval(store_of(), 4000)) == {"{}": 24.0}
    assert values(compiled.eval(store_of(2), 4000)) == {"{}": 4.0}  # by the evaluator
    assert values(compiled.eval(store_of(2).after(3500), 4000)) == {"{}": 4.0}


def test_an_instant_is_computed_anew_when_a_sample_came():
    graph, store = Graph(least_series=0), store_of()
    compiled = compile_expr("sum(m_total)", graph=graph)
    assert values(compiled.eval(store, 5000)) == {"{}": 24.0}
    store.append(Labels.of(__name__="m_total", i="0", service="a"), 4500, 100.0)
    assert values(compiled.eval(store, 5000)) == {"{}": 124.0}


def test_series_that_vanish_leave_nothing_behind_for_those_that_take_their_place():
    graph, store = Graph(least_series=0), store_of()
    exprs = [compile_expr(text, graph=graph) for text in ("sum_over_time(m_total[9s])", "changes(m_total[9s])", "max_over_time(m_total[9s])")]
    for compiled in exprs:
        compiled.eval(store, 4000)
    store.append(Labels.of(__name__="m_total", i="0", service="a"), 20_000, 1.0)
    store.evict(15_000)
    for number in range(5, 9):
        store.append(Labels.of(__name__="m_total", i=str(number), service="b"), 20_000, 2.0)
    for compiled in exprs:
        assert compiled.eval(store, 20_000) == compiled.evaluate(store, 20_000)
        assert len(compiled.eval(store, 20_000)) == 5


def test_errors_are_those_of_the_evaluator():
    graph, store = Graph(least_series=0), store_of()
    compiled = compile_expr("m_total / on (service) m_total", graph=graph)
    with pytest.raises(EvalError) as expected:
        compiled.evaluate(store, 4000)
    with pytest.raises(EvalError) as got:
        compiled.eval(store, 4000)
    assert str(got.value) == str(expected.value)


def test_few_series_are_left_to_the_evaluator():
    graph = Graph(least_series=10)
    compiled = compile_expr("sum(m_total)", graph=graph)
    compiled.eval(store_of(), 4000)
    assert len(graph) == 0


@pytest.mark.parametrize(
    ("expr", "reason"),
    [
        ("sum by (a) (rate(m_total[5m])) / on (a) group_left () b > 0.1", ""),
        ("predict_linear(disk_free[1h], 3600) < 0 and absent(m)", ""),
        ("histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m]))) > time() - 5", ""),
        ("max_over_time(rate(m_total[1m])[10m:1m]) > 1", "a subquery evaluates its expression at each of its steps"),
        ("quantile_over_time(0.9, m[5m]) > 1", "quantile_over_time looks at all samples of its window"),
        ("topk(3, m)", "topk sorts its elements anew each time"),
    ],
)
def test_the_cost_class_says_what_stands_in_the_way(expr, reason):
    compiled = compile_expr(expr)
    assert compiled.incremental is (reason == "")
    assert compiled.cost.reason == reason


def test_names_dropped_at_the_end_are_left_to_the_evaluator():
    compiled = compile_expr("rate(m_total[5s])", options=Options(delayed_names=True), graph=Graph(least_series=0))
    assert not compiled.incremental
    assert compiled.eval(store_of(), 4000) == compiled.evaluate(store_of(), 4000)
