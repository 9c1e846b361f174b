"""Which labels an expression's result can carry."""

import pytest

from pipeline.rulebook.result_labels import result_labels


@pytest.mark.parametrize(
    ("expr", "labels"),
    [
        pytest.param("sum by (a, b) (x) > 0.1", "a b", id="aggregation"),
        pytest.param("sum(x)", "", id="aggregation over all"),
        pytest.param("sum by (a) (x) / sum by (a) (y) > 1", "a", id="ratio"),
        pytest.param("histogram_quantile(0.9, sum by (le, s) (rate(x[1m]))) > 1", "s", id="quantile"),
        pytest.param("1 - (avg without (a) (sum by (a, b) (x)))", "b", id="without"),
        pytest.param("sum by (a) (x) or sum by (b) (y)", "a b", id="or"),
        pytest.param("sum by (a) (x) * on (a) group_left (team) info", "a team", id="group_left"),
        pytest.param("info * on (a) group_right () sum by (a, b) (x)", "a b", id="group_right"),
        pytest.param("x / on (a) y", "a", id="on"),
        pytest.param("round(topk(3, sum by (a) (x)))", "a", id="topk"),
    ],
)
def test_labels_are_told_where_the_text_says_them(expr: str, labels: str):
    assert result_labels(expr) == frozenset(labels.split())


@pytest.mark.parametrize(
    "expr", ["x > 1", "rate(x[1m])", 'label_replace(sum by (a) (x), "b", "$1", "a", "(.*)")', "count_values('v', x)", "x and on (a) y", "sum("]
)
def test_labels_that_come_from_the_data_are_not_guessed(expr: str):
    assert result_labels(expr) is None
