"""Reading test files strictly: every mistake with its place, all of them at once."""

import pytest

from pipeline.rulebook.problems import SourceText
from pipeline.ruletest import read_suite


def problems(text: str) -> list[str]:
    suite, found = read_suite(SourceText("t.yml", text))
    assert (suite is None) == any(problem.fatal for problem in found)
    return [str(problem) for problem in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("rule_file: [a]", "t.yml:1:1: error: unknown key 'rule_file' in a test file; did you mean 'rule_files'?", id="unknown key"),
        pytest.param("tests: [{nmae: x}]", "t.yml:1:10: error: unknown key 'nmae' in a test; did you mean 'name'?", id="unknown key of a test"),
        pytest.param("tests: {}", "t.yml:1:8: error: tests should be a list, not a mapping", id="wrong type"),
        pytest.param("[]", "t.yml:1:1: error: a test file should be a mapping, not a list", id="not a mapping"),
        pytest.param("", "t.yml:1:1: error: the file is empty", id="empty"),
        pytest.param("tests: [{interval: 5}]", "did you mean 5s?", id="duration without unit"),
        pytest.param("tests:\n  - alert_rule_test: [{eval_time: 1m}]", "t.yml:2:23: error: an alert test needs alertname", id="no alertname"),
        pytest.param("tests:\n  - promql_expr_test: [{eval_time: 1m}]", "t.yml:2:24: error: an expression test needs expr", id="no expr"),
        pytest.param("tests:\n  - promql_expr_test: [{expr: 'sum(x'}]", "t.yml:2:", id="bad expr"),
        pytest.param(
            "tests:\n  - input_series: [{series: 'up{a=b}', values: '1'}]",
            "t.yml:2:35: error: series: the value of label a should be a quoted text",
            id="bad series",
        ),
        pytest.param(
            "tests:\n  - input_series:\n      - series: up\n        values: 1 2 x",
            "t.yml:4:21: error: values: 'x' is not a value",
            id="bad values",
        ),
        pytest.param(
            "tests:\n  - promql_expr_test: [{expr: x, exp_samples: [{value: '1'}]}]",
            "value should be a number, not '1'; write it without quotes",
            id="a number in quotes",
        ),
        pytest.param("tests: [{input_series: [{values: '1'}]}]", "an input series needs series", id="no series"),
        pytest.param("tests: [{input_series: [{series: '{}', values: '1'}]}]", "an input series needs a name or a label", id="empty series"),
        pytest.param("group_eval_order: [a, b, a]", "group 'a' stands twice in the evaluation order", id="order"),
        pytest.param("tests: [{start_timestamp: soon}]", "start_timestamp: 'soon' is not a time", id="start"),
        pytest.param("fuzzy_compare: maybe", "fuzzy_compare should be true or false", id="truth"),
        pytest.param(
            "tests: [{promql_expr_test: [{expr: x, exp_samples: [{histogram: '{{}}'}]}]}]", "native histograms are not supported", id="histogram"
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, expected: str):
    found = problems(text)
    assert len(found) == 1
    assert expected in found[0]


def test_all_mistakes_of_a_file_are_told_at_once():
    assert len(problems("a: 1\nb: 2\ntests: [{c: 3}, 4]")) == 4


def test_defaults_are_promtools():
    suite, _ = read_suite(SourceText("t.yml", "tests: [{}, {interval: 10s}]"))
    assert suite is not None
    assert suite.interval_ms == 60_000
    assert [case.interval_ms for case in suite.cases] == [60_000, 10_000]
    assert suite.cases[0].start_ms == 0


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "1767225600", "1767225600.0"])
def test_a_start_is_written_as_a_date_or_as_seconds(text: str):
    suite, found = read_suite(SourceText("t.yml", f"tests: [{{start_timestamp: {text!r}}}]"))
    assert suite is not None, found
    assert suite.cases[0].start_ms == 1767225600_000
