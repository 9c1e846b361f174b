"""Planners turn a step into absolute wishes on the catalogue's targets, or say why not."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.remediate.planners import PLANNERS, Case, Refusal
from pipeline.remediate.state import Seen
from pipeline.rulebook.spec import Service, Step
from tests.unit.remediate.lab import CHECKOUT

NAMES = {"service": "checkout", "version": "v2", "site": "a", "source_ip": "192.0.2.7"}
SITES = {
    "name": "shop",
    "match": {"service": "shop"},
    "sites_target": "edge://sites/shop",
    "sites": [{"name": "a", "workload": "p://w/a"}, {"name": "b", "workload": "p://w/b"}, {"name": "c", "workload": "p://w/c"}],
    "limits": {"replicas": {"min": 2, "max": 5}},
}


def plan(
    step: dict[str, Any],
    observed: dict[str, dict[str, Any]] | None = None,
    service: dict[str, Any] | None = None,
    names: dict[str, str] | None = None,
):
    parsed = Step.model_validate(step)
    seen = {target: Seen(0, value) for target, value in (observed or {}).items()}
    case = Case(
        Service.model_validate(service or CHECKOUT), getattr(parsed, parsed.verb), NAMES if names is None else names, seen, 1_000_000, "key-1"
    )
    found = PLANNERS[parsed.verb](case)
    return str(found.reason) if isinstance(found, Refusal) else [(str(one.target), dict(one.desired)) for one in found]


ROUTE = "edge://route/checkout"
AWAY = {"shift_traffic": {"away_from": {"version": "{{ version }}"}}}
THREE = {**CHECKOUT, "backends": [{"name": "v1", "weight": 60}, {"name": "v2", "weight": 10}, {"name": "v3", "weight": 30}]}


@pytest.mark.parametrize(
    ("step", "observed", "service", "expected"),
    [
        pytest.param(AWAY, {}, None, [(ROUTE, {"weights": {"v1": 100, "v2": 0}})], id="catalogue-weights-while-nothing-was-read"),
        pytest.param(
            AWAY,
            {ROUTE: {"weights": {"v1": 50, "v2": 30, "v3": 20}}},
            THREE,
            [(ROUTE, {"weights": {"v1": 71, "v2": 0, "v3": 29}})],
            id="in-proportion-to-what-is-in-force",
        ),
        pytest.param(
            AWAY,
            {ROUTE: {"weights": {"v1": 0, "v2": 100, "v3": 0}}},
            THREE,
            [(ROUTE, {"weights": {"v1": 67, "v2": 0, "v3": 33}})],
            id="to-the-catalogues-weights-when-the-rest-has-none",
        ),
        pytest.param(AWAY, {ROUTE: {"weights": {"v1": 100, "v2": 0}}}, None, "already_there", id="already-away"),
        pytest.param(AWAY, {"shop://workload/checkout-v1": {"ready": 0}}, None, "no_headroom", id="never-onto-the-dead"),
        pytest.param(
            {"shift_traffic": {"away_from": {"version": "{{ version }}"}, "to_percent": 5}},
            {},
            None,
            [(ROUTE, {"weights": {"v1": 95, "v2": 5}})],
            id="a-rest-stays",
        ),
        pytest.param(
            {"shift_traffic": {"away_from": {"version": "{{ version }}"}, "to_percent": 50}},
            {},
            None,
            "already_there",
            id="a-rest-is-never-more-than-before",
        ),
        pytest.param(
            {"shift_traffic": {"away_from": {"version": "v7"}}},
            {"shop://workload/checkout-v2": {"version": "v7"}},
            None,
            [(ROUTE, {"weights": {"v1": 100, "v2": 0}})],
            id="by-the-version-that-a-workload-runs",
        ),
        pytest.param({"shift_traffic": {"away_from": {"backend": "v9"}}}, {}, None, "unknown_target", id="no-such-backend"),
        pytest.param({"shift_traffic": {"weights": {"v1": 30, "v2": 70}}}, {}, None, [(ROUTE, {"weights": {"v1": 30, "v2": 70}})], id="outright"),
        pytest.param({"shift_traffic": {"weights": {"v1": 30, "v9": 70}}}, {}, None, "unknown_target", id="outright-to-nobody"),
        pytest.param(
            {"shift_traffic": {"weights": {"v1": 100}, "target": "edge://route/other"}}, {}, None, "unknown_target", id="target-outside-the-catalogue"
        ),
        pytest.param(AWAY, {}, {**CHECKOUT, "route": None}, "unknown_target", id="no-route"),
    ],
)
def test_shift_traffic(step, observed, service, expected):
    assert plan(step, observed, service) == expected


V1, V2 = "shop://workload/checkout-v1", "shop://workload/checkout-v2"


@pytest.mark.parametrize(
    ("step", "observed", "service", "expected"),
    [
        pytest.param({"roll_back": {}}, {}, None, [(V2, {"version": "previous", "from": "v2"})], id="the-backends-own-workload"),
        pytest.param(
            {"roll_back": {}},
            {V2: {"version": "v2", "previous_version": "v1"}},
            None,
            [(V2, {"version": "v1", "from": "v2"})],
            id="the-previous-version-by-name",
        ),
        pytest.param({"roll_back": {"to": "v0"}}, {}, None, [(V2, {"version": "v0", "from": "v2"})], id="to-a-named-version"),
        pytest.param({"roll_back": {"to": "v2"}}, {}, None, "limit", id="to-itself"),
        pytest.param(
            {"roll_back": {}},
            {"p://w/b": {"version": "v2"}, "p://w/a": {"version": "v1"}},
            SITES,
            [("p://w/b", {"version": "previous", "from": "v2"})],
            id="only-where-it-runs",
        ),
        pytest.param({"roll_back": {"target": V1}}, {}, None, [(V1, {"version": "previous", "from": "v2"})], id="named-target"),
        pytest.param(
            {"deploy": {"version": "v3"}},
            {},
            SITES,
            [("p://w/a", {"version": "v3"}), ("p://w/b", {"version": "v3"}), ("p://w/c", {"version": "v3"})],
            id="deploy-everywhere",
        ),
        pytest.param({"scale": {"replicas": 4}}, {"p://w/a": {"replicas": 2}}, SITES, [("p://w/a", {"replicas": 4})], id="scale-the-alerts-site"),
        pytest.param(
            {"scale": {"replicas": 4, "site": "b"}}, {"p://w/b": {"replicas": 2}}, SITES, [("p://w/b", {"replicas": 4})], id="scale-a-named-site"
        ),
        pytest.param({"scale": {"replicas": 50}}, {"p://w/a": {"replicas": 2}}, SITES, [("p://w/a", {"replicas": 5})], id="never-above-max"),
        pytest.param({"scale": {"replicas": 0}}, {"p://w/a": {"replicas": 4}}, SITES, [("p://w/a", {"replicas": 2})], id="never-below-min"),
        pytest.param({"scale": {"replicas": 50}}, {"p://w/a": {"replicas": 5}}, SITES, "limit", id="at-the-limit-already"),
        pytest.param({"scale": {"replicas": 4}}, {"p://w/a": {"replicas": 4}}, SITES, "already_there", id="as-wished-already"),
        pytest.param({"scale": {"replicas": 4}}, {}, SITES, "no_data", id="not-without-knowing-how-many-there-are"),
        pytest.param({"scale": {"replicas": 4, "site": "z"}}, {}, SITES, "unknown_target", id="no-such-site"),
        pytest.param({"restart": {}}, {}, SITES, [("p://w/a", {"restart_key": "key-1"})], id="restart-carries-its-key"),
    ],
)
def test_versions_and_capacity(step, observed, service, expected):
    assert plan(step, observed, service) == expected


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        pytest.param(
            {"edge://sites/shop": {"sites": {"a": 60, "b": 20, "c": 20}}},
            [("edge://sites/shop", {"sites": {"a": 0, "b": 50, "c": 50}})],
            id="the-rest-in-proportion",
        ),
        pytest.param({"p://w/b": {"ready": 0}}, [("edge://sites/shop", {"sites": {"a": 0, "b": 0, "c": 100}})], id="not-to-a-dead-site"),
        pytest.param({"p://w/b": {"ready": 0}, "p://w/c": {"ready": 0}}, "no_headroom", id="nowhere-to-go"),
        pytest.param({"edge://sites/shop": {"sites": {"a": 0, "b": 100, "c": 0}}}, "already_there", id="away-already"),
    ],
)
def test_fail_over(observed, expected):
    assert plan({"fail_over": {}}, observed, SITES) == expected


BLOCKLIST = "edge://blocklist/checkout"


@pytest.mark.parametrize(
    ("spec", "address", "blocked", "expected"),
    [
        pytest.param({}, "192.0.2.7", {}, [(BLOCKLIST, {"address": "192.0.2.7", "blocked_until_ms": 1_900_000})], id="fifteen-minutes-by-default"),
        pytest.param(
            {"for": "1m"}, "2001:DB8::1", {}, [(BLOCKLIST, {"address": "2001:db8::1", "blocked_until_ms": 1_060_000})], id="ipv6-in-one-spelling"
        ),
        pytest.param({}, "localhost", {}, "template", id="no-address"),
        pytest.param({"never_block": ("192.0.2.0/24",)}, "192.0.2.7", {}, "never_block", id="protected"),
        pytest.param({"never_block": ("192.0.2.0/24",)}, "::ffff:192.0.2.7", {}, "never_block", id="protected-in-disguise"),
        pytest.param({"never_block": ("nonsense",)}, "192.0.2.7", {}, "never_block", id="an-unreadable-protection-protects"),
        pytest.param(
            {"never_block": ("2001:db8::/32",)},
            "192.0.2.7",
            {},
            [(BLOCKLIST, {"address": "192.0.2.7", "blocked_until_ms": 1_900_000})],
            id="other-family",
        ),
        pytest.param({}, "192.0.2.7", {"192.0.2.7": 1_800_000}, "already_there", id="blocked-already"),
        pytest.param(
            {},
            "192.0.2.7",
            {"192.0.2.7": 1_100_000},
            [(BLOCKLIST, {"address": "192.0.2.7", "blocked_until_ms": 1_900_000})],
            id="renewed-near-its-end",
        ),
        pytest.param({"max_blocked": 1}, "192.0.2.7", {"192.0.2.8": 1_100_000}, "limit", id="as-many-as-may-be"),
        pytest.param(
            {"max_blocked": 1},
            "192.0.2.7",
            {"192.0.2.8": 900_000},
            [(BLOCKLIST, {"address": "192.0.2.7", "blocked_until_ms": 1_900_000})],
            id="expired-ones-do-not-count",
        ),
    ],
)
def test_block(spec, address, blocked, expected):
    assert plan({"block": spec}, {BLOCKLIST: {"blocked": blocked}}, names={"source_ip": address}) == expected


def test_call_fills_in_its_payload():
    assert plan({"call": {"target": "hook://url/chat", "payload": {"text": ["{{ service }} is ill"]}}}) == [
        ("hook://url/chat", {"payload": {"text": ["checkout is ill"]}})
    ]
