"""Whatever a test file holds, reading it gives a suite or problems with a place, and running what was read ends."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.promql import Options
from pipeline.rulebook.book import RuleBook
from pipeline.rulebook.problems import SourceText
from pipeline.ruletest import Runner, read_suite
from pipeline.ruletest.judge import judge

GOOD = """rule_files: [a*.yml]
evaluation_interval: 30s
group_eval_order: [a, b]
tests:
  - name: x
    interval: 15s
    input_series: [{series: 'up{job="a"}', values: '1x4 0+1x3 _ stale -2e1'}]
    alert_rule_test: [{eval_time: 1m, alertname: Down, exp_alerts: [{exp_labels: {a: b}, exp_annotations: {c: d}}]}]
    promql_expr_test: [{expr: 'sum(up)', eval_time: 1m, exp_samples: [{labels: '{}', value: 1}]}]
    world: {"edge://route/x": {weights: {a: 1}}}
    outcomes: [{verb: scale, status: failed, times: 1}]
    grants: {x: {mode: observe}}
    action_test: [{eval_time: 1m, exp_actions: [{verb: scale, desired: {replicas: 1}}], exp_holds: [{reason: cooldown}], exp_incidents: []}]
"""
PIECES = st.sampled_from(
    [*"{}[]:,'\"-_x0157 \n\t#&*", "null", "1m", "stale", "up", "[[", "{a: b}", "- ", "? ", "!!int ", "x999999999999", "Inf", ".nan", "1e999"]
)
EDITS = st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), PIECES), min_size=1, max_size=6)


def edited(edits: list[tuple[int, int, str]]) -> str:
    text = GOOD
    for at, cut, piece in edits:
        text = text[:at] + piece + text[at + cut :]
    return text


@settings(max_examples=300, deadline=None)
@given(EDITS)
def test_a_damaged_file_gives_problems_or_a_suite_that_runs(edits: list[tuple[int, int, str]]):
    suite, problems = read_suite(SourceText("t.yml", edited(edits)))
    assert (suite is None) == any(problem.fatal for problem in problems)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
    if suite is None:
        return
    book = RuleBook("v")
    runner = Runner(suite, book)
    for case in suite.cases:
        if case.end_ms < 3_600_000 and max((test.eval_ms for test in case.actions), default=0) < 3_600_000:
            assert runner.run(case) == runner.run(case)
            assert list(judge(case, book, Options())) == list(judge(case, book, Options()))
