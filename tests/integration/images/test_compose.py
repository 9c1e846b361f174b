"""`docker-compose.yml` as far as it can be checked without an engine: what it publishes, and that the files inside it are right."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from connectors import registry
from pipeline.rulebook.config import load_config
from pipeline.rulebook.load import load_rulebook
from pipeline.runtime.rule_files import read_rule_files

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def content(compose, name):
    """An inline file as a container sees it: Compose turns `$$` into `$`, and nothing else in it is a variable."""
    text = compose["configs"][name]["content"]
    assert not re.search(r"(?<!\$)\$(?!\$)", text)
    return text.replace("$$", "$")


def test_every_port_is_published_on_loopback_only(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) >= 6
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_value_holds_a_dollar_that_compose_would_choke_on(compose):
    outside = yaml.safe_dump(compose["services"])
    assert set(re.findall(r"\$.", outside)) == {"${"}


def test_every_image_has_a_version(compose):
    images = [service["image"] for service in compose["services"].values()]
    assert all(":" in image and "latest" not in image for image in images)


def test_every_service_can_say_whether_it_is_well(compose):
    silent = {name for name, service in compose["services"].items() if "healthcheck" not in service}
    assert silent == {"reflexarc"}
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_what_services_refer_to_is_there(compose):
    for service in compose["services"].values():
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(compose["volumes"])
        assert {config["source"] for config in service.get("configs", [])} <= set(compose["configs"])
        assert set(service.get("depends_on", {})) <= set(compose["services"])


def test_the_configuration_and_the_rules_inside_it_load(compose, tmp_path):
    (tmp_path / "rules").mkdir()
    for name in ("alerts", "policies"):
        (tmp_path / "rules" / f"{name}.yaml").write_text(content(compose, name))
    secrets = {"REFLEXARC_TOKEN": "a long secret", "REFLEXARC_MODE": "enforce"}
    models = {"envoy": registry.info("envoy").config_model}
    read = load_config(content(compose, "reflexarc"), file="reflexarc.yaml", secrets=lambda kind, name: secrets.get(name), connector_models=models)
    assert [str(problem) for problem in read.problems] == []
    config = read.config
    rules = load_rulebook(
        read_rule_files([tmp_path / "rules"]),
        grants=config.grants,
        connectors={name: registry.info(one.kind).verbs for name, one in config.connectors.items()},
        receivers=["default"],
        known_metrics=config.metrics,
    )
    assert [str(problem) for problem in rules.problems] == []
    assert config.kafka.bootstrap == ("kafka:19092",)


def test_the_image_holds_what_the_package_needs():
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name in ("pyproject.toml", "pipeline", "connectors", "rules"):
        assert name in dockerfile
    assert "USER reflexarc" in dockerfile


@pytest.mark.envoy
def test_envoy_takes_its_configuration(compose, envoy_binary, tmp_path):
    text = content(compose, "envoy").replace("/var/lib/envoy", str(tmp_path)).replace("/var/log/envoy", str(tmp_path))
    (tmp_path / "envoy.yaml").write_text(text)
    route = {"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "reflexarc", "virtual_hosts": []}
    (tmp_path / "rds-reflexarc.json").write_text(json.dumps({"version_info": "1", "resources": [route]}))
    done = subprocess.run(
        [envoy_binary, "--mode", "validate", "-c", tmp_path / "envoy.yaml"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
