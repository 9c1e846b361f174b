"""The commands `rules` and `config`: exit codes, output for people and programs."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline.cli import main
from pipeline.rulebook.export import pure_prometheus
from pipeline.rulebook.load import load_rulebook
from pipeline.rulebook.schema import KINDS, schema
from tests.unit.rulebook.samples import POLICIES, RULES, SIGMA

INLINE = """\
groups:
  - name: g
    rules:
      - alert: Down
        expr: |
          up
            == 0
        for: 1m
        labels: {code: 010, severity: page}
        resolve_expr: up == 1
        settle: 0s
        actions: [{notify: {to: oncall}}]
policies:
  - {name: p, when: {alertname: Down}, steps: [{notify: {}}]}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "alerts.yaml").write_text(RULES)
    (tmp_path / "policies.yaml").write_text(POLICIES)
    (tmp_path / "logins.yaml").write_text(SIGMA)
    return tmp_path


def test_good_rules_are_fine(rules: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["rules", "check", str(rules)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "3 files: 0 errors, 0 warnings\n"


def test_problems_are_printed_one_a_line_as_compilers_do(rules: Path, capsys: pytest.CaptureFixture[str]):
    (rules / "policies.yaml").write_text(POLICIES.replace("on_failure", "on_failur"))
    assert main(["rules", "check", str(rules)]) == 1
    expected = f"{rules}/policies.yaml:26:9: error: policies[0].steps[0].on_failur: unknown key; did you mean 'on_failure'?\n"
    assert capsys.readouterr().out == expected


def test_problems_are_printed_as_json(rules: Path, capsys: pytest.CaptureFixture[str]):
    (rules / "alerts.yaml").write_text(RULES.replace("for: 5s", "fro: 5s"))
    assert main(["rules", "check", str(rules / "alerts.yaml"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["errors"]) == (False, 1)
    assert {"line": 12, "column": 9, "severity": "error", "suggestion": "did you mean 'for'?"}.items() <= found["problems"][0].items()


def test_warnings_count_only_when_strict(rules: Path):
    (rules / "alerts.yaml").write_text(RULES.replace("{severity: critical}", "{my-label: x, severity: critical}"))
    assert main(["rules", "check", str(rules)]) == 0
    assert main(["rules", "check", str(rules), "--strict"]) == 1


def test_a_path_that_is_not_there_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["rules", "check", str(tmp_path / "nowhere")]) == 1
    assert "No such file" in capsys.readouterr().out


def test_wrong_usage_is_exit_code_2():
    for arguments in (["rules"], ["rules", "check"], ["config", "schema", "everything"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2


def test_rules_are_checked_against_a_configuration_that_lies_beside_them(rules: Path, capsys: pytest.CaptureFixture[str]):
    config = rules / "reflexarc.yaml"
    config.write_text("connectors: {edge: {kind: envoy, admin: '${env:NOT_SET_ANYWHERE}'}, prod: {kind: process}}\nreceivers: {oncal: {log: {}}}\n")
    assert main(["rules", "check", str(rules)]) == 1
    out = capsys.readouterr().out
    assert "unknown receiver 'oncall'; did you mean 'oncal'?" in out
    assert "connector 'prod' has no targets of kind 'deployment'" in out


def test_rules_are_listed(rules: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["rules", "list", str(rules), "--json"]) == 0
    found = [(row["kind"], row["name"]) for row in json.loads(capsys.readouterr().out)]
    assert ("alert", "CheckoutErrors") in found
    assert ("sigma", "Burst of failed logins") in found
    assert ("policy", "bad-release") in found
    assert main(["rules", "list", str(rules)]) == 0
    assert "CheckoutErrors" in capsys.readouterr().out


def test_export_leaves_only_what_prometheus_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "f.yaml").write_text(INLINE)
    assert main(["rules", "export", str(tmp_path / "f.yaml")]) == 0
    text = capsys.readouterr().out
    (rule,) = yaml.safe_load(text)["groups"][0]["rules"]
    assert rule == {"alert": "Down", "expr": "up\n  == 0\n", "for": "1m", "labels": {"code": "010", "severity": "page"}}
    book = load_rulebook({"f": text}).book
    assert book is not None
    assert book.policies == ()


def test_export_returns_a_pure_file_as_it_is():
    text = "# kept\n" + RULES
    assert pure_prometheus(text) == text
    assert pure_prometheus(POLICIES) == ""


def test_export_refuses_a_bad_file(tmp_path: Path):
    (tmp_path / "f.yaml").write_text("groups: 5\n")
    assert main(["rules", "export", str(tmp_path / "f.yaml")]) == 1


def test_schemas_allow_no_unknown_key(capsys: pytest.CaptureFixture[str]):
    def closed(node: object, path: str) -> None:
        if isinstance(node, dict):
            if node.get("type") == "object" and "properties" in node and "ConnectorConfig" not in path:
                assert node.get("additionalProperties") is False, path
            for name, inner in node.items():
                closed(inner, f"{path}/{name}")
        elif isinstance(node, list):
            for index, inner in enumerate(node):
                closed(inner, f"{path}/{index}")

    for kind in KINDS:
        assert main(["config", "schema", kind]) == 0
        assert json.loads(capsys.readouterr().out) == schema(kind)
        closed(schema(kind), kind)


def test_schemas_name_keys_and_durations_as_users_write_them():
    verify = schema("policies")["$defs"]["Verify"]["properties"]
    assert {"settle", "interval", "within"} <= verify.keys()
    assert "settle_ms" not in verify
    assert verify["within"]["default"] == "2m"
    references = json.dumps(schema("rules"))
    for name in {part.split('"')[0] for part in references.split("#/$defs/")[1:]}:
        assert name in schema("rules")["$defs"]


def test_a_configuration_is_checked_with_the_rules_that_it_names(rules: Path, capsys: pytest.CaptureFixture[str]):
    config = rules / "reflexarc.yaml"
    config.write_text("rules: [.]\nreceivers: {oncall: {log: {}}}\n")
    assert main(["config", "check", str(config)]) == 1
    out = capsys.readouterr().out
    assert "policies.yaml:4:5: error: edge://route/checkout: there is no connector 'edge'" in out
    config.write_text("rules: [alerts.yaml]\n")
    assert main(["config", "check", str(config)]) == 0
    config.write_text("ruls: [alerts.yaml]\nkafka: {bootstrap: '${env:NOT_SET_ANYWHERE}'}\n")
    capsys.readouterr()
    assert main(["config", "check", "--config", str(config), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(one["line"], one["column"]) for one in found["problems"]] == [(1, 1), (2, 21)]
    assert main(["config", "check", str(rules / "nowhere.yaml")]) == 1
