"""Whole loads: what a good set of files becomes, and that an error refuses all of them."""

import os
from pathlib import Path

import pytest

from pipeline.rulebook.book import AlertRule, RecordRule
from pipeline.rulebook.load import load_rulebook
from pipeline.rulebook.spec import GrantSpec
from tests.unit.rulebook.samples import POLICIES, RULES, SIGMA

FILES = {"rules/b.yaml": RULES, "rules/a.yaml": POLICIES, "rules/c.yaml": SIGMA}


def alert(**keys: object) -> str:
    import json

    rule = {"alert": "Down", "expr": "up == 0"} | keys
    return json.dumps({"groups": [{"name": "g", "rules": [rule]}]})


def test_a_good_set_of_files_becomes_one_book():
    result = load_rulebook(FILES)
    assert result.problems == ()
    book = result.book
    assert book is not None
    (group,) = book.groups
    record, alert = group.rules
    assert isinstance(record, RecordRule)
    assert isinstance(alert, AlertRule)
    assert (group.name, group.interval_ms, group.file) == ("checkout", 1000, "rules/b.yaml")
    assert (alert.for_ms, alert.keep_firing_for_ms, alert.where) == (5000, 10_000, "rules/b.yaml:8")
    assert alert.labels == {"team": "shop", "severity": "critical"}
    assert [policy.name for policy in book.policies] == ["bad-release"]
    assert [rule.where for rule in book.sigma] == ["rules/c.yaml"]
    assert book.scalers[0].metric.target_average == 50


def test_an_error_in_one_file_refuses_all_and_names_every_error():
    result = load_rulebook(FILES | {"rules/d.yaml": "grups: []\n", "rules/e.yaml": "a: 'x\n"})
    assert result.book is None
    assert [problem.file for problem in result.errors] == ["rules/d.yaml", "rules/e.yaml"]


def test_no_files_are_an_empty_book():
    book = load_rulebook({}).book
    assert book is not None
    assert book.groups == ()
    assert load_rulebook({"a.yaml": "# nothing yet\n", "b.yaml": "groups:\n"}).book is not None


def test_the_version_follows_the_content_not_the_place():
    assert _version(FILES) == _version({f"/etc/{name}": text for name, text in FILES.items()})
    assert _version(FILES) != _version(FILES | {"rules/b.yaml": RULES.replace("0.05", "0.06")})
    granted = load_rulebook(FILES, grants={"*": GrantSpec(mode="enforce")}).book
    assert granted is not None
    assert granted.version != _version(FILES)


def _version(files: dict[str, str]) -> str:
    book = load_rulebook(files).book
    assert book is not None
    return book.version


def test_rule_ids_survive_a_reload_and_change_with_the_expression():
    first, again = load_rulebook(FILES).book, load_rulebook({"x.yaml": "# moved\n" + RULES}).book
    other = load_rulebook({"x.yaml": RULES.replace("0.05", "0.06")}).book
    assert first
    assert again
    assert other
    ids = [[rule.rule_id for rule in book.groups[0].rules] for book in (first, again, other)]
    assert ids[0] == ids[1]
    assert ids[0][0] == ids[2][0]
    assert ids[0][1] != ids[2][1]


def test_the_same_rule_twice_is_a_warning_and_keeps_two_identities():
    text = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up == 0}\n  - {alert: A, expr: up == 0}\n"
    result = load_rulebook({"f.yaml": text})
    assert [(p.line, p.column, p.severity) for p in result.problems] == [(5, 6, "warning")]
    assert result.book is not None
    assert len({rule.rule_id for rule in result.book.groups[0].rules}) == 2


def test_a_group_without_interval_takes_the_default_and_an_alert_the_default_settle():
    result = load_rulebook({"f.yaml": alert()}, default_interval_ms=15_000, default_settle_ms=50)
    assert result.book is not None
    group = result.book.groups[0]
    assert group.interval_ms == 15_000
    assert isinstance(group.rules[0], AlertRule)
    assert group.rules[0].settle_ms == 50


def test_labels_keep_the_text_that_was_written():
    text = "groups:\n- name: g\n  limit: 0x10\n  rules:\n  - {alert: A, expr: 1, for: 0, labels: {a: 010, b: on, c: 1.10, d: ~}}\n"
    result = load_rulebook({"f.yaml": text})
    assert result.book is not None
    group = result.book.groups[0]
    assert group.limit == 16
    assert dict(group.rules[0].labels) == {"a": "010", "b": "on", "c": "1.10", "d": ""}


def test_texts_in_policies_keep_what_was_written_too():
    text = POLICIES.replace("match: {service: checkout}", "match: {service: checkout, tier: 010}")
    book = load_rulebook({"p.yaml": text, "r.yaml": RULES}).book
    assert book is not None
    assert book.services[0].match == {"service": "checkout", "tier": "010"}


def test_own_keys_of_an_alert_are_read():
    result = load_rulebook({"f.yaml": alert(resolve_expr="up == 1", evaluation="grid", settle="0s", keep_firing_for="1m")})
    assert result.book is not None
    rule = result.book.groups[0].rules[0]
    assert isinstance(rule, AlertRule)
    assert (rule.resolve_expr, rule.evaluation, rule.settle_ms) == ("up == 1", "grid", 0)


@pytest.mark.parametrize("steps", [[{"notify": {"to": "x"}}], {"steps": [{"notify": {"to": "x"}}], "mode": "propose", "guard": {"ttl": "5s"}}])
def test_inline_actions_become_a_policy_on_exactly_that_alert(steps: object):
    result = load_rulebook({"f.yaml": alert(actions=steps, labels={"severity": "page", "host": "{{ $labels.x }}"})})
    assert result.book is not None, result.problems
    (policy,) = result.book.policies
    assert policy.name == "g/Down"
    assert policy.when == {"alertname": "Down", "severity": "page"}
    assert policy.mode == ("propose" if isinstance(steps, dict) else "observe")


def test_policies_may_stand_beside_groups_in_one_file():
    book = load_rulebook({"f.yaml": RULES + POLICIES}).book
    assert book is not None
    assert (len(book.groups), len(book.policies)) == (1, 1)


def test_a_metric_may_be_recorded_read_by_a_rule_or_listed():
    text = POLICIES.replace("demand: sum(rate(http_requests_total[1m]))", "demand: sum(rate(envoy_requests[1m]))")
    assert load_rulebook({"p.yaml": text, "r.yaml": RULES}).book is None
    assert load_rulebook({"p.yaml": text, "r.yaml": RULES}, known_metrics=["envoy_*"]).book is not None
    assert load_rulebook({"p.yaml": text, "r.yaml": RULES}, known_metrics=["envoy_requests"]).book is not None


def test_a_metric_is_told_where_it_stands_in_a_folded_expression():
    text = POLICIES.replace("demand: sum(rate(http_requests_total[1m]))", "demand: >-\n      sum(\n        rate(nobody_knows[1m]))")
    (error,) = load_rulebook({"p.yaml": text, "r.yaml": RULES}).errors
    assert error.excerpt.split("\n")[0].strip() == "rate(nobody_knows[1m]))"
    assert "undefined metric 'nobody_knows'" in error.message


def test_grants_that_hold_a_policy_back_are_warned_of():
    grants = {"*": GrantSpec(mode="observe"), "checkout": GrantSpec(mode="observe", verbs=("roll_back",))}
    result = load_rulebook(FILES, grants=grants)
    assert result.book is not None
    assert [p.message for p in result.problems] == [
        "policy 'bad-release' wants to enforce, the grants allow observe only",
        "the grants do not allow shift_traffic",
    ]


def test_a_policy_for_an_alert_that_no_rule_raises_is_a_warning_with_the_likely_name():
    result = load_rulebook(FILES | {"rules/a.yaml": POLICIES.replace("alertname: CheckoutErrors", "alertname: CheckoutError")})
    assert result.book is not None
    assert [(p.severity, p.suggestion) for p in result.problems] == [("warning", "did you mean 'CheckoutErrors'?")]


def test_a_policy_may_wait_for_a_sigma_rule():
    policy = 'policies:\n- name: p\n  when: [alertname="BurstOfFailedLogins"]\n  steps: [{notify: {}}]\n'
    assert load_rulebook({"s.yaml": SIGMA, "p.yaml": policy}).problems == ()


def test_a_policy_that_can_only_cause_itself_is_warned_of():
    rules = 'groups:\n- name: g\n  rules: [{alert: Busy, expr: "rate(reflexarc_actions_total[1m]) > 1"}]\n'
    policy = "policies:\n- name: p\n  when: {alertname: Busy}\n  steps: [{notify: {}}]\n"
    result = load_rulebook({"r.yaml": rules, "p.yaml": policy})
    assert ["it would cause itself" in p.message for p in result.problems] == [True]


def test_a_recorded_metric_with_a_typing_error_in_a_rule_is_warned_of():
    rules = "groups:\n- name: g\n  rules:\n  - {record: job:up:sum, expr: sum by (job) (up)}\n  - {alert: A, expr: 'job:up:smu == 0'}\n"
    (problem,) = load_rulebook({"r.yaml": rules}).problems
    assert (problem.severity, problem.suggestion) == ("warning", "did you mean 'job:up:sum'?")


def test_one_target_in_two_groups_is_an_error_and_in_one_group_fine():
    second = '  - name: cart\n    match: {service: cart}\n    route: "edge://route/checkout"\n'
    text = POLICIES.replace("policies:\n", second + "policies:\n", 1)
    assert "is in another group" in load_rulebook({"p.yaml": text, "r.yaml": RULES}).errors[0].message
    shared = text.replace("match: {service: cart}", "match: {service: cart}\n    group: checkout")
    assert load_rulebook({"p.yaml": shared, "r.yaml": RULES}).errors == ()


def test_names_that_only_prometheus_3_takes_are_a_warning():
    result = load_rulebook({"f.yaml": alert(labels={"my-team": "x"})})
    assert result.book is not None
    assert [p.suggestion for p in result.problems] == ["did you mean 'my_team'? Prometheus before 3 refuses it"]


EXAMPLES = os.environ.get("REFLEXARC_PROMTOOL_EXAMPLES", "")


@pytest.mark.skipif(not EXAMPLES, reason="REFLEXARC_PROMTOOL_EXAMPLES is not set: the folder of promtool examples (rule files) is NOT TESTED")
def test_rule_files_that_promtool_takes_load_and_those_it_refuses_do_not():
    good = sorted(Path(EXAMPLES).glob("*.rules.yml"))
    assert len(good) >= 13
    for path in good:
        assert load_rulebook({path.name: path.read_text()}).problems == (), path
    refused = load_rulebook({"bad": (Path(EXAMPLES) / "must-fail" / "bad-field-rules.yml").read_text()})
    assert [str(p) for p in refused.errors] == ["bad:6:9: error: unknown key 'fro' in a rule; did you mean 'for'?"]


def test_a_placeholder_that_the_alert_cannot_fill_is_warned_of():
    rules = RULES.replace("error_ratio\n            > 0.05", "sum by (service, version) (errors)\n            > 0.05")
    result = load_rulebook({"p.yaml": POLICIES.replace('"{{ version }}"', '"{{ verison }}"'), "r.yaml": rules})
    assert result.book is not None
    (problem,) = result.problems
    assert problem.suggestion == "did you mean 'version'?"
    assert problem.excerpt.split("\n")[0][problem.excerpt.split("\n")[1].index("^") :].startswith("verison")


def test_a_placeholder_that_a_scaler_or_failover_cannot_fill_is_an_error():
    text = POLICIES.replace('unhealthy: error_ratio{site="{{ site }}"}', 'unhealthy: error_ratio{site="{{ zone }}"}')
    text = text.replace("demand: sum(rate(http_requests_total[1m]))", "demand: sum(rate(http_requests_total{site='{{ site }}'}[1m]))")
    result = load_rulebook({"p.yaml": text, "r.yaml": RULES})
    assert [problem.message for problem in result.errors] == [
        "{{ zone }}: nothing here is called 'zone'",
        "{{ site }}: nothing here is called 'site'",
    ]


def test_thousands_of_errors_end_the_search_and_thousands_of_warnings_do_not():
    errors = load_rulebook({"f.yaml": "groups:\n- name: g\n  rules:\n" + "  - {alert: A, expr: up, fro: 1}\n" * 3000})
    assert errors.book is None
    assert len(errors.problems) == 101
    assert errors.problems[-1].message == "more than 100 problems here: mend these first"
    warnings = load_rulebook({"f.yaml": "groups:\n- name: g\n  rules:\n" + "  - {alert: A, expr: up}\n" * 300})
    assert warnings.book is not None
    assert len(warnings.problems) == 100
