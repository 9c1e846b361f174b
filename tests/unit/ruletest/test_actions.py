"""Action tests: what is compared, how a difference is shown, how the world answers, and how mistakes in them are told."""

from pathlib import Path

import pytest

from pipeline.cli.rules_test import run_file
from pipeline.rulebook.problems import SourceText
from pipeline.ruletest import FileReport, read_suite

RULES = """
groups:
  - name: g
    rules:
      - {alert: Down, expr: 'up{service="shop"} == 0', for: 10s, labels: {severity: page}}
services:
  - name: shop
    match: {service: shop}
    sites: [{name: a, workload: "prod://deployment/shop"}]
    limits: {replicas: {min: 2, max: 4}}
policies:
  - name: more
    when: {alertname: Down}
    mode: enforce
    steps: [{scale: {replicas: 3}}]
    guard: {cooldown: 1m, ttl: 2m}
"""
SERIES = "[{series: 'up{service=\"shop\"}', values: '1x10 0x200'}]"
TARGET = "prod://deployment/shop"


def run(folder: Path, *tests: str, case: str = "") -> FileReport:
    (folder / "rules.yml").write_text(RULES)
    lines = "\n".join(f"      - {test}" for test in tests)
    extra = f"    {case}\n" if case else ""
    (folder / "a_test.yml").write_text(
        f"rule_files: [rules.yml]\nevaluation_interval: 5s\ntests:\n  - interval: 1s\n    input_series: {SERIES}\n{extra}    action_test:\n{lines}\n"
    )
    return run_file(str(folder / "a_test.yml"), "v3")


def failures(report: FileReport) -> list[str]:
    assert not report.problems, report.problems
    return ["\n".join([one.title, one.error, *one.diff]) for case in report.cases for one in case.failures]


def test_an_action_that_was_expected_passes_whatever_of_it_is_named(tmp_path: Path):
    report = run(
        tmp_path,
        "{eval_time: 10s, exp_actions: [], exp_holds: [], exp_incidents: []}",
        "{eval_time: 30s, exp_actions: [{verb: scale}], exp_incidents: [{state: open}]}",
        f'{{eval_time: 40s, exp_actions: [{{verb: scale, target: "{TARGET}", desired: {{replicas: 3}}, policy: more, reverts: false}}]}}',
        "{eval_time: 40s, exp_holds: [{policy: more, reason: cooldown}]}",
    )
    assert report.checks == 4
    assert failures(report) == []


def test_an_action_that_nobody_expected_fails_and_is_shown_with_its_time(tmp_path: Path):
    (said,) = failures(run(tmp_path, "{eval_time: 1m, exp_actions: []}"))
    assert said.startswith("actions by 1m\n")
    assert f'+ {{verb: scale, target: {TARGET}, desired: {{"replicas": 3}}, policy: more, mode: enforce}}  # at 2' in said


def test_a_wrong_wish_and_a_missing_hold_and_a_wrong_state_are_told(tmp_path: Path):
    said = failures(
        run(
            tmp_path,
            "{eval_time: 1m, exp_actions: [{verb: scale, desired: {replicas: 4}}], exp_holds: [{policy: more, reason: silenced}], exp_incidents: [{state: resolved}]}",
        )
    )
    assert [one.split("\n")[0] for one in said] == ["actions by 1m", "incidents at 1m", "holds by 1m"]
    assert '- {verb: scale, desired: {"replicas": 4}}' in said[0]
    assert "- {policy: more, reason: silenced}" in said[2]
    assert "reason: cooldown" in said[2]


@pytest.mark.parametrize(
    ("case", "test"),
    [
        pytest.param("outcomes: [{verb: scale, status: failed}]", "exp_holds: [{reason: apply_failed, verb: scale}]", id="a failure"),
        pytest.param("outcomes: [{target: 'prod://deployment/other', status: failed}]", "exp_holds: [{reason: applied}]", id="a failure of others"),
        pytest.param("outcomes: [{delay: 10m}]", "exp_incidents: [{state: acting}]", id="an answer that takes its time"),
        pytest.param('world: {"prod://deployment/shop": {replicas: 3}}', "exp_actions: []", id="what is there already"),
        pytest.param('world: {"prod://deployment/shop": {replicas: 3}}', "exp_holds: [{reason: already_there}]", id="and why nothing was done"),
        pytest.param("grants: {shop: {mode: observe}}", "exp_actions: [{verb: scale, mode: observe}]", id="a grant to look only"),
        pytest.param("grants: {shop: {mode: enforce, verbs: [restart]}}", "exp_actions: []", id="a grant for another verb"),
    ],
)
def test_the_world_is_as_the_test_says(tmp_path: Path, case: str, test: str):
    assert failures(run(tmp_path, f"{{eval_time: 1m, {test}}}", case=case)) == []


def test_a_failure_that_happens_once_is_over_the_next_time(tmp_path: Path):
    report = run(
        tmp_path,
        "{eval_time: 1m, exp_holds: [{reason: apply_failed}]}",
        "{eval_time: 3m, exp_actions: [{verb: scale}, {verb: scale}], exp_holds: [{reason: applied}]}",
        case="outcomes: [{verb: scale, status: failed, times: 1}]",
    )
    assert failures(report) == []


def test_the_same_file_gives_the_same_report(tmp_path: Path):
    tests = ("{eval_time: 3m, exp_actions: [], exp_holds: [{reason: silenced}], exp_incidents: []}",)
    assert run(tmp_path, *tests) == run(tmp_path, *tests)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("action_test: [{eval_tme: 1m}]", "unknown key 'eval_tme' in an action test; did you mean 'eval_time'?", id="key"),
        pytest.param("action_test: [{exp_actions: [{verb: scael}]}]", "verb: there is no 'scael'; did you mean 'scale'?", id="verb"),
        pytest.param("action_test: [{exp_holds: [{reason: cool_down}]}]", "reason: there is no 'cool_down'; did you mean 'cooldown'?", id="reason"),
        pytest.param("action_test: [{exp_incidents: [{state: closed}]}]", "state: there is no 'closed'", id="state"),
        pytest.param("action_test: [{exp_actions: [{target: shop}]}]", "not a target: 'shop'", id="target"),
        pytest.param("action_test: [{exp_actions: [{desired: 5}]}]", "desired should be a mapping", id="desired"),
        pytest.param("outcomes: [{status: fine}]", "status: there is no 'fine'", id="status"),
        pytest.param("world: {shop: {}}", "not a target: 'shop'", id="world"),
        pytest.param("grants: {shop: {mode: all}}", "grants of shop: Input should be", id="grant"),
    ],
)
def test_a_mistake_is_told_with_what_was_meant(text: str, expected: str):
    suite, problems = read_suite(SourceText("t.yml", f"tests: [{{{text}}}]"))
    assert suite is None
    assert len(problems) == 1
    assert expected in str(problems[0])
