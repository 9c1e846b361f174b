"""Whole test files through the command: what passes, what fails and how that is said."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.cli.rules_test import details, run_file

CASES = Path(__file__).parents[2] / "cases" / "promtool"
RULES = """
groups:
  - name: g
    rules:
      - {record: r, expr: sum(x)}
      - {alert: High, expr: r > 1, for: 1m, labels: {severity: page}, annotations: {text: "value {{ $value }}"}}
"""
GOOD = """
rule_files: [rules.yml]
tests:
  - name: rises
    input_series: [{series: 'x{i="1"}', values: '1 2 3 4'}]
    alert_rule_test:
      - {eval_time: 1m, alertname: High}
      - {eval_time: 2m, alertname: High, exp_alerts: [{exp_labels: {severity: page}, exp_annotations: {text: value 3}}]}
    promql_expr_test: [{expr: r, eval_time: 3m, exp_samples: [{labels: r, value: 4}]}]
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yml").write_text(text)
    return folder


@pytest.mark.parametrize("file", [pytest.param(path, id=path.stem) for path in sorted(CASES.glob("*.test.yaml"))])
def test_a_case_passes(file: Path):
    report = run_file(str(file), "v3")
    assert report.passed, report
    assert report.checks > 0


def test_a_good_file_gives_exit_code_0(tmp_path: Path, capsys: Any):
    write(tmp_path, rules=RULES, a_test=GOOD)
    assert main(["rules", "test", str(tmp_path / "a_test.yml")]) == 0
    assert "ok    " in capsys.readouterr().out


def test_a_failure_names_file_line_test_and_shows_what_was_expected_and_what_came(tmp_path: Path, capsys: Any):
    write(tmp_path, rules=RULES, a_test=GOOD.replace("value 3", "value 4"))
    assert main(["rules", "test", str(tmp_path / "a_test.yml")]) == 1
    said = capsys.readouterr().out
    assert f'{tmp_path}/a_test.yml:8: test "rises": alert High at 2m' in said
    assert '  {alertname="High", severity="page"}' in said
    assert '-     text: "value 4"' in said
    assert '+     text: "value 3"' in said


def test_several_files_run_in_parallel_and_are_told_in_their_order(tmp_path: Path, capsys: Any):
    names = [f"t{number}_test" for number in range(6)]
    write(tmp_path, rules=RULES, **{name: GOOD if number % 2 else GOOD.replace("value: 4", "value: 5") for number, name in enumerate(names)})
    files = [str(tmp_path / f"{name}.yml") for name in names]
    assert main(["rules", "test", "--jobs", "3", "--json", *files]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in told["files"]] == files
    assert [one["ok"] for one in told["files"]] == [False, True] * 3
    assert told["ok"] is False


def test_junit_has_a_suite_per_file_and_a_case_per_test(tmp_path: Path):
    write(tmp_path, rules=RULES, good_test=GOOD, bad_test=GOOD.replace("value: 4", "value: 5"), broken_test="tests: 5")
    files = [str(tmp_path / f"{name}_test.yml") for name in ("good", "bad", "broken")]
    assert main(["rules", "test", "--jobs", "1", "--junit", str(tmp_path / "out.xml"), *files]) == 1
    root = ET.parse(tmp_path / "out.xml").getroot()  # noqa: S314 - written by the line above
    assert root.attrib == {"tests": "3", "failures": "2"}
    assert [(suite.attrib["name"], suite.attrib["failures"]) for suite in root] == [(files[0], "0"), (files[1], "1"), (files[2], "1")]
    failure = root[1][0][0]
    assert failure.attrib["message"] == "r at 3m"
    assert "- r 5\n+ r 4" in (failure.text or "")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"a_test": GOOD.replace("tests", "testz"), "rules": RULES}, "a_test.yml:3:1: error: unknown key 'testz'", id="test file"),
        pytest.param(
            {"a_test": GOOD, "rules": RULES.replace("expr: r >", "exprr: r >")}, "rules.yml:6:23: error: unknown key 'exprr'", id="rule file"
        ),
        pytest.param({"a_test": GOOD, "rules": RULES.replace("{{ $value }}", "{{ $valu }}")}, "annotation text of alert High", id="template"),
        pytest.param({"a_test": GOOD, "rules": "groups: ["}, "rules.yml:2:1: error: not YAML", id="broken YAML"),
    ],
)
def test_a_file_that_cannot_be_used_fails_with_the_place(tmp_path: Path, capsys: Any, files: dict[str, str], expected: str):
    write(tmp_path, **files)
    assert main(["rules", "test", str(tmp_path / "a_test.yml")]) == 1
    assert expected in capsys.readouterr().out


def test_a_folder_is_searched_for_test_files(tmp_path: Path, capsys: Any):
    (tmp_path / "deep").mkdir()
    write(tmp_path, rules=RULES, a_test=GOOD)
    write(tmp_path / "deep", b_test=GOOD.replace("rules.yml", "../rules.yml"))
    assert main(["rules", "test", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    (tmp_path / "empty").mkdir()
    assert main(["rules", "test", str(tmp_path / "empty")]) == 1
    assert "no test files there" in capsys.readouterr().err


def test_a_test_file_that_is_not_there_fails(tmp_path: Path, capsys: Any):
    assert main(["rules", "test", str(tmp_path / "none.yml")]) == 1
    assert "No such file" in capsys.readouterr().out


def test_a_glob_that_matches_nothing_is_a_warning_as_in_promtool(tmp_path: Path, capsys: Any):
    write(tmp_path, a_test="rule_files: [none*.yml]\ntests: [{promql_expr_test: [{expr: 1 + 1, eval_time: 0, exp_samples: [{value: 2}]}]}]")
    assert main(["rules", "test", str(tmp_path / "a_test.yml")]) == 0
    assert "warning: no file matches 'none*.yml'" in capsys.readouterr().out


def test_a_rule_file_matched_twice_is_loaded_once(tmp_path: Path):
    write(tmp_path, rules=RULES, a_test=GOOD.replace("[rules.yml]", "[rules.yml, 'r*.yml', ./rules.yml]"))
    assert run_file(str(tmp_path / "a_test.yml"), "v3").passed


def test_a_rule_that_fails_ends_its_test_and_no_other(tmp_path: Path):
    broken = "groups: [{name: g, rules: [{record: r, expr: 'a + on (i) b'}]}]"
    twice = "[{series: 'b{i=\"1\",j=\"1\"}', values: '1'}, {series: 'b{i=\"1\",j=\"2\"}', values: '1'}, {series: 'a{i=\"1\"}', values: '1'}]"
    once = "[{series: 'b{i=\"1\"}', values: '1'}, {series: 'a{i=\"1\"}', values: '1'}]"
    tests = "\n".join(
        f"  - {{input_series: {series}, promql_expr_test: [{{expr: r, eval_time: 0, exp_samples: [{{labels: 'r{{i=\"1\"}}', value: 2}}]}}]}}"
        for series in (twice, once)
    )
    write(tmp_path, rules=broken, a_test=f"rule_files: [rules.yml]\ntests:\n{tests}")
    first, second = run_file(str(tmp_path / "a_test.yml"), "v3").cases
    assert [failure.title for failure in first.failures] == ["rule r at 0s"]
    assert "found duplicate series" in details(first.failures[0])[0]
    assert not second.failures


def test_a_rule_cannot_record_over_an_input_series(tmp_path: Path):
    both = "[{series: x, values: 1 2}, {series: r, values: 7 7}]"
    write(tmp_path, rules=RULES, a_test=f"rule_files: [rules.yml]\ntests: [{{input_series: {both}, promql_expr_test: [{{expr: r, eval_time: 0}}]}}]")
    (failure,) = run_file(str(tmp_path / "a_test.yml"), "v3").cases[0].failures
    assert "duplicate sample for timestamp" in failure.error


def test_absurd_files_get_an_answer_in_bounded_time(tmp_path: Path):
    write(tmp_path, long_test="evaluation_interval: 1ms\ntests: [{promql_expr_test: [{expr: '1', eval_time: 100d}]}]")
    assert "evaluations, the limit is" in run_file(str(tmp_path / "long_test.yml"), "v3").cases[0].failures[0].error
    labels = ",".join(f'l{number}="x"' for number in range(5000))
    write(tmp_path, wide_test=f"tests: [{{input_series: [{{series: 'm{{{labels}}}', values: '1'}}], promql_expr_test: [{{expr: m, eval_time: 0}}]}}]")
    assert "label_count_limit" in run_file(str(tmp_path / "wide_test.yml"), "v3").cases[0].failures[0].error
