"""The configuration file and its rules, as every command loads them."""

from pathlib import Path

import pytest

from pipeline.app import SettingsError, load_config, load_rules

RULES = "groups: [{name: g, rules: [{alert: A, expr: up == 0}]}]\n"


def write(folder: Path, text: str, rules: str = RULES) -> Path:
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "rules" / "alerts.yaml").write_text(rules)
    path = folder / "reflexarc.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path):
    settings = load_config(write(tmp_path, "rules: [rules/]\ndata_dir: state\nmetrics: [up]\n"))
    assert settings.data_dir == tmp_path / "state"
    assert settings.rule_paths == [tmp_path / "rules"]
    assert [rule.name for group in load_rules(settings).groups for rule in group.rules] == ["A"]


def test_secrets_come_from_the_given_environment(tmp_path: Path):
    path = write(tmp_path, "data_dir: ${env:PLACE}\n")
    assert load_config(path, environment={"PLACE": "there"}).config.data_dir == "there"
    with pytest.raises(SettingsError, match="PLACE is not set"):
        load_config(path, environment={})


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_wrong_key_is_an_error_with_its_place(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"reflexarc\.yaml:1"):
        load_config(write(tmp_path, "inpts: []\n"))


def test_a_rule_with_a_bad_expression_is_an_error_with_its_place(tmp_path: Path):
    settings = load_config(write(tmp_path, "rules: [rules/]\n", RULES.replace("up == 0", "sum(")))
    with pytest.raises(SettingsError, match=r"alerts\.yaml:1"):
        load_rules(settings)


def test_rules_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises(SettingsError, match="elsewhere"):
        load_rules(load_config(write(tmp_path, "rules: [elsewhere/]\n")))


def test_an_input_that_is_our_own_topic_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="reflexarc itself writes"):
        load_config(write(tmp_path, "inputs: [{topic: facts, format: json}]\n"))
