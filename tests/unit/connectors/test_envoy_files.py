"""What the Envoy connector writes: shares, sites, blocks, and the bootstrap that fits. Pure."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.endpoints import Endpoint
from connectors.envoy.bootstrap import Bootstrap, command, render_bootstrap
from connectors.envoy.render import endpoint_files, route_files
from connectors.envoy.settings import EnvoySettings
from connectors.envoy.state import State, started, without_expired

SHOP: dict[str, Any] = {"clusters": {"v1": "shop_v1", "v2": "shop_v2"}, "weights": {"v1": 80, "v2": 20}, "sites": {"a": 100, "b": 0}}


def settings(**routes: Any) -> EnvoySettings:
    return EnvoySettings.model_validate({"dir": "/tmp/dynamic", "endpoints_file": "/tmp/endpoints.json", "routes": routes or {"shop": SHOP}})


def endpoint(site: str, version: str = "v1", *, port: int = 1000, ready: bool = True, service: str = "shop") -> Endpoint:
    return Endpoint("w", service, site, version, "127.0.0.1", port, ready)


def resource(content: bytes) -> dict[str, Any]:
    (found,) = json.loads(content)["resources"]
    return found


def assignment(state: State, *endpoints: Endpoint, config: EnvoySettings | None = None, cluster: str = "shop_v1") -> list[dict[str, Any]]:
    files = {file.name: file for file in endpoint_files(config or settings(), state, endpoints)}
    return resource(files[f"eds-{cluster}.json"].content)["endpoints"]


def test_equal_input_gives_equal_bytes_and_other_input_another_version() -> None:
    config = settings()
    state = started(State(), config)
    (first,), (again,) = route_files(config, state), route_files(config, state)
    assert first == again
    changed = state.with_service("shop", state.services["shop"].with_change("route", {"weights": {"v1": 100, "v2": 0}}, fence=1))
    (other,) = route_files(config, changed)
    assert other.version != first.version
    assert json.loads(other.content)["version_info"] == other.version


def test_weights_become_weighted_clusters() -> None:
    (file,) = route_files(settings(), started(State(), settings()))
    found = resource(file.content)
    assert found["validate_clusters"] is True
    (route,) = found["virtual_hosts"][0]["routes"]
    assert route["route"]["weighted_clusters"]["clusters"] == [{"name": "shop_v1", "weight": 80}, {"name": "shop_v2", "weight": 20}]
    assert "typed_per_filter_config" not in route


def test_longer_prefixes_come_first_and_domains_are_virtual_hosts() -> None:
    config = settings(shop=SHOP, cart=SHOP | {"prefix": "/cart"}, blog=SHOP | {"domains": ["blog.example"]})
    (file,) = route_files(config, started(State(), config))
    hosts = resource(file.content)["virtual_hosts"]
    assert [(host["domains"], [route["name"] for route in host["routes"]]) for host in hosts] == [
        (["*"], ["cart", "shop"]),
        (["blog.example"], ["blog"]),
    ]


@pytest.mark.parametrize(("whose", "field"), [("direct", "direct_remote_ip"), ("forwarded", "remote_ip")])
def test_blocked_addresses_are_denied(whose: str, field: str) -> None:
    config = settings(shop=SHOP | {"client_address": whose})
    state = started(State(), config)
    service = state.services["shop"]
    for address in ("10.0.0.1", "2001:db8::1"):
        service = service.with_change("blocklist", {"address": address, "blocked_until_ms": 9}, fence=1)
    (file,) = route_files(config, state.with_service("shop", service))
    rules = resource(file.content)["virtual_hosts"][0]["routes"][0]["typed_per_filter_config"]["envoy.filters.http.rbac"]["rbac"]["rules"]
    assert rules["action"] == "DENY"
    assert rules["policies"]["blocked"]["principals"] == [
        {field: {"address_prefix": "10.0.0.1", "prefix_len": 32}},
        {field: {"address_prefix": "2001:db8::1", "prefix_len": 128}},
    ]


def test_blocks_end() -> None:
    state = started(State(), settings())
    service = state.services["shop"].with_change("blocklist", {"address": "10.0.0.1", "blocked_until_ms": 1000}, fence=1)
    state = state.with_service("shop", service)
    assert without_expired(state, 999).services["shop"].blocked == {"10.0.0.1": 1000}
    assert without_expired(state, 1000).services["shop"].blocked == {}


def test_only_ready_endpoints_of_the_service_and_version_are_served() -> None:
    state = started(State(), settings())
    found = assignment(state, endpoint("a"), endpoint("a", "v2", port=2), endpoint("a", port=3, ready=False), endpoint("a", port=4, service="other"))
    assert [one["endpoint"]["address"]["socket_address"]["port_value"] for site in found for one in site["lb_endpoints"]] == [1000]


@pytest.mark.parametrize(
    ("shares", "served", "expected"),
    [
        pytest.param({"a": 100, "b": 0}, "ab", [("a", 0, 100), ("b", 1, 1)], id="no share: last resort"),
        pytest.param({"a": 25, "b": 75}, "ab", [("a", 0, 25), ("b", 0, 75)], id="shares side by side"),
        pytest.param({"a": 100, "b": 0}, "b", [("b", 0, 1)], id="only the last resort is left"),
        pytest.param({"a": 100, "b": 0}, "ac", [("a", 0, 100), ("c", 1, 1)], id="a site that nobody named"),
        pytest.param({"a": 100, "b": 0}, "", [], id="nobody serves"),
    ],
)
def test_sites_become_localities_with_their_share(shares: dict[str, int], served: str, expected: list[tuple[str, int, int]]) -> None:
    state = started(State(), settings())
    state = state.with_service("shop", state.services["shop"].with_change("sites", {"sites": shares}, fence=1))
    found = assignment(state, *(endpoint(site) for site in served))
    assert [(one["locality"]["zone"], one.get("priority", 0), one["load_balancing_weight"]) for one in found] == expected


def test_a_service_without_sites_has_plain_localities() -> None:
    config = settings(shop={key: value for key, value in SHOP.items() if key != "sites"})
    (found,) = assignment(started(State(), config), endpoint("a"), config=config)
    assert found.keys() == {"locality", "lb_endpoints"}


def test_what_was_in_force_stays_over_a_restart_and_what_is_gone_begins_anew() -> None:
    config = settings()
    state = started(State(), config)
    service = state.services["shop"].with_change("route", {"weights": {"v1": 0, "v2": 100}}, fence=1)
    state = state.with_service("shop", service)
    assert started(state, config).services["shop"].weights == {"v1": 0, "v2": 100}
    wider = settings(shop=SHOP | {"clusters": {"v1": "shop_v1", "v2": "shop_v2", "v3": "shop_v3"}})
    assert started(state, wider).services["shop"].weights == {"v1": 80, "v2": 20, "v3": 0}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param({"weights": {"v1": 80}}, "sum to 80", id="not a hundred"),
        pytest.param({"weights": {"v1": 120, "v2": -20}}, "whole percents", id="negative"),
        pytest.param({"weights": {"v1": 80, "v9": 20}}, "weights name v9", id="unknown backend"),
        pytest.param({"sites": {"a": 50}}, "sum to 50", id="sites not a hundred"),
        pytest.param({"never_block": ["10.0.0.300/8"]}, "does not appear to be", id="not a network"),
        pytest.param({"timeout": 5}, "with its unit", id="a duration without unit"),
        pytest.param({"clusters": {"v1": "../shop", "v2": "c"}}, "should match pattern", id="a name that is a path"),
        pytest.param({"wieghts": {}}, "Extra inputs", id="unknown key"),
    ],
)
def test_wrong_settings_are_errors(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        settings(shop=SHOP | change)


def test_two_routes_with_the_same_place_are_an_error() -> None:
    with pytest.raises(ValidationError, match="routes shop and cart have the same domains and prefix"):
        settings(shop=SHOP, cart=SHOP)


def test_sites_without_an_endpoints_file_are_an_error() -> None:
    with pytest.raises(ValidationError, match="needs endpoints_file"):
        EnvoySettings.model_validate({"dir": "/tmp/x", "routes": {"shop": SHOP}})


@pytest.mark.envoy
def test_envoy_itself_finds_the_bootstrap_valid(envoy_binary: Path, tmp_path: Path) -> None:
    config = EnvoySettings.model_validate({"dir": str(tmp_path), "endpoints_file": str(tmp_path / "e.json"), "routes": {"shop": SHOP}})
    state = started(State(), config)
    for file in [*route_files(config, state), *endpoint_files(config, state, [endpoint("a")])]:
        (tmp_path / file.name).write_bytes(file.content)
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(render_bootstrap(config, Bootstrap(listen={"reflexarc": 1}, access_log=tmp_path / "access.log", trusted_hops=1))))
    done = subprocess.run([*command(envoy_binary, path), "--mode", "validate"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
