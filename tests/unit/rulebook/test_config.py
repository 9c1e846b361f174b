"""The configuration file: what it becomes, and that secrets never show."""

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr

from pipeline.rulebook.config import ConfigResult, load_config
from pipeline.rulebook.outline import outline
from tests.unit.rulebook.samples import CONFIG, SECRETS


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EnvoySettings(Strict):
    admin: str
    version: str = ""
    token: SecretStr | None = None


def load(text: str, secrets: dict[str, str] | None = None) -> ConfigResult:
    known = SECRETS if secrets is None else secrets
    return load_config(text, file="reflexarc.yaml", secrets=lambda _kind, name: known.get(name), connector_models={"envoy": EnvoySettings})


def test_a_whole_configuration_is_read():
    result = load(CONFIG)
    assert result.problems == ()
    config = result.config
    assert config is not None
    assert [(one.topic_name, one.source_name, one.format) for one in config.inputs] == [
        ("metrics", "metrics", "json"),
        ("file-access-json", "proxy", "envoy-access"),
    ]
    assert config.gateway is not None
    assert (config.gateway.host, config.gateway.port) == ("127.0.0.1", 8480)
    assert config.connectors["edge"].settings == {"admin": "http://127.0.0.1:19901"}
    assert config.grants["checkout"].verbs == ("shift_traffic", "roll_back", "scale")
    assert config.kafka is not None
    assert config.kafka.bootstrap == ("broker-1:9092", "broker-2:9092")
    assert config.elasticsearch is not None
    assert config.elasticsearch.api_key is not None
    assert config.elasticsearch.api_key.get_secret_value() == "key-of-elastic"
    assert config.elasticsearch.retention_ms == 30 * 86_400_000
    assert (config.defaults.evaluation_interval_ms, config.detect.settle_ms, config.observe_interval_ms) == (15_000, 100, 10_000)
    assert config.receivers["oncall"].webhook is not None
    assert config.data_dir == ".reflexarc"
    assert set(config.metrics) < set(config.known_metrics)


def test_an_empty_configuration_is_the_default():
    for text in ("", "# nothing\n", "inputs:\nkafka: ~\n"):
        result = load(text)
        assert result.problems == ()
        assert result.config is not None
        assert result.config.kafka is None


def test_a_printed_configuration_shows_no_secret():
    config = load(CONFIG).config
    for value in ("s3cr3t-token", "hunter2hunter2", "key-of-elastic"):
        assert value not in repr(config)
        assert value not in str(config)


def test_every_missing_secret_is_told_with_its_place_and_name():
    result = load(CONFIG, {})
    assert result.config is None
    messages = [problem.message for problem in result.errors]
    assert "the environment variable KAFKA_PASSWORD is not set" in messages
    assert "the file secrets/key cannot be read" in messages
    place = next(problem for problem in result.errors if "ADMIN_PORT" in problem.message)
    assert CONFIG.split("\n")[place.line - 1][place.column - 1 :].startswith("${env:ADMIN_PORT}")


def test_a_missing_secret_is_told_once_and_not_again_as_a_wrong_value():
    result = load(
        "gateway: {listen: '127.0.0.1:${env:NO}'}\nconnectors: {edge: {kind: envoy, admin: '${env:NO}'}}\ngrants: {a: {mode: '${env:NO}'}}\n"
    )
    assert [problem.message for problem in result.errors] == ["the environment variable NO is not set"] * 3


def test_the_value_of_a_secret_never_stands_in_a_problem():
    text = "receivers:\n  a: {log: {}}\ngrants: {x: {mode: '${env:TOKEN}'}}\ngateway: {listen: '${env:TOKEN}'}\nobserve_interval: ${env:TOKEN}\n"
    result = load(text)
    assert len(result.errors) == 3
    assert "s3cr3t" not in "".join(problem.pretty() + repr(problem) for problem in result.problems)


def test_a_secret_written_out_in_the_file_is_not_shown_by_the_problem_about_it():
    result = load("gateway: {token: [hunter2hunter2]}\nkafka: {bootstrap: x, security: {password: {a: hunter2hunter2}}}\n")
    assert len(result.errors) == 2
    assert "hunter2" not in "".join(problem.pretty() for problem in result.problems)


def test_two_dollars_are_one():
    config = load("data_dir: a$${b}\n").config
    assert config is not None
    assert config.data_dir == "a${b}"


def test_connector_settings_are_checked_against_the_kinds_model_and_handed_over_as_texts():
    result = load("connectors: {edge: {kind: envoy, admin: x, version: 010}}\n")
    assert result.problems == ()
    assert result.config is not None
    assert result.config.connectors["edge"].settings == {"admin": "x", "version": "010"}
    (error,) = load("connectors: {edge: {kind: envoy, admin: x, tokn: 5}}\n").errors
    assert (error.line, error.column, error.suggestion) == (1, 44, "did you mean 'token'?")


def test_kinds_whose_model_is_not_known_are_left_alone():
    text = "connectors: {edge: {kind: other, anything: [1]}}\n"
    assert load_config(text, file="f", secrets=lambda _k, _n: None, connector_models={"other": None}).problems == ()
    assert load_config(text, file="f", secrets=lambda _k, _n: None).problems == ()


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:8480", "[::1]:8480"])
def test_loopback_needs_no_token(listen: str):
    assert load(f'gateway: {{listen: "{listen}"}}\n').problems == ()


def test_beyond_loopback_a_token_is_enough():
    assert load("gateway: {listen: 0.0.0.0:8480, token: '${env:TOKEN}'}\n").problems == ()
    assert len(load("gateway: {listen: gateway.example:8480}\n").errors) == 1


def test_the_outline_tells_what_rules_are_checked_against_even_without_secrets():
    found = outline(CONFIG)
    assert found.metrics[:2] == ("http_requests_total", "envoy_*")
    assert "http_request_duration_seconds_bucket" in found.metrics  # what the format envoy-access makes
    assert found.connectors == {"edge": "envoy"}
    assert found.receivers == ("oncall", "file")
    assert outline("- x").metrics == ()
    assert outline("a: 'x").metrics == ()
