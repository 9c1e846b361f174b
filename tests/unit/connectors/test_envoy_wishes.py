"""Wishes on routes, sites and block lists: complete, or refused with the reason."""

from typing import Any

import pytest

from connectors.envoy.settings import RouteSettings
from connectors.envoy.wishes import wish
from pipeline.model.target import Target
from pipeline.ports.connector import Permanent

ROUTE = RouteSettings.model_validate(
    {"clusters": {"v1": "c1", "v2": "c2"}, "weights": {"v1": 100}, "never_block": ["10.0.0.0/8", "::1/128"], "max_blocked": 2}
)
OBSERVED = {
    "route": {"weights": {"v1": 100, "v2": 0}},
    "sites": {"sites": {"a": 100, "b": 0}},
    "blocklist": {"blocked": {"192.0.2.1": 500}},
}


def wished(kind: str, desired: dict[str, Any], observed: dict[str, Any] | None = None) -> Any:
    return wish(Target("edge", kind, "shop"), ROUTE, observed or OBSERVED[kind], desired)


@pytest.mark.parametrize(
    ("kind", "desired", "after", "summary"),
    [
        pytest.param("route", {"weights": {"v2": 100}}, {"weights": {"v1": 0, "v2": 100}}, "weights v1 100 -> 0, v2 0 -> 100", id="absent is 0"),
        pytest.param("sites", {"sites": {"a": 0, "b": 100}}, {"sites": {"a": 0, "b": 100}}, "sites a 100 -> 0, b 0 -> 100", id="fail over"),
        pytest.param(
            "blocklist",
            {"address": "2001:DB8::0001", "blocked_until_ms": 9},
            {"address": "2001:db8::1", "blocked_until_ms": 9},
            "block 2001:db8::1 until 1970-01-01T00:00:00Z",
            id="an address has one spelling",
        ),
        pytest.param(
            "blocklist",
            {"address": "192.0.2.1", "blocked_until_ms": 900},
            {"address": "192.0.2.1", "blocked_until_ms": 900},
            "block 192.0.2.1 until 1970-01-01T00:00:00Z",
            id="longer",
        ),
        pytest.param(
            "blocklist",
            {"address": "192.0.2.1", "blocked_until_ms": 0},
            {"address": "192.0.2.1", "blocked_until_ms": 0},
            "unblock 192.0.2.1",
            id="unblock",
        ),
    ],
)
def test_a_wish_is_made_complete(kind: str, desired: dict[str, Any], after: dict[str, Any], summary: str) -> None:
    before, wanted, text = wished(kind, desired)
    assert (wanted, text) == (after, summary)
    assert before.keys() == wanted.keys()


@pytest.mark.parametrize(
    ("kind", "desired"),
    [
        ("route", {"weights": {"v1": 100}}),
        ("sites", {"sites": {"a": 100}}),
        ("blocklist", {"address": "192.0.2.1", "blocked_until_ms": 500}),
        ("blocklist", {"address": "192.0.2.9", "blocked_until_ms": 0}),
    ],
)
def test_what_is_there_already_needs_nothing(kind: str, desired: dict[str, Any]) -> None:
    assert wished(kind, desired) is None


@pytest.mark.parametrize(
    ("kind", "desired", "text"),
    [
        ("route", {}, "needs weights"),
        ("route", {"weights": {}}, "needs weights"),
        ("route", {"weights": {"v1": 99}}, "sum to 99"),
        ("route", {"weights": {"v3": 100}}, "unknown in weights: v3; there are: v1, v2"),
        ("route", {"weights": {"v1": 100.0}}, "whole percent"),
        ("route", {"weights": {"v1": True, "v2": 99}}, "whole percent"),
        ("route", {"weights": {"v1": 150, "v2": -50}}, "whole percent"),
        ("sites", {"sites": {"c": 100}}, "unknown in sites: c"),
        ("blocklist", {"address": "localhost", "blocked_until_ms": 9}, "not an address"),
        ("blocklist", {"address": "192.0.2.0/24", "blocked_until_ms": 9}, "not an address"),
        ("blocklist", {"blocked_until_ms": 9}, "not an address"),
        ("blocklist", {"address": "192.0.2.5"}, "blocked_until_ms"),
        ("blocklist", {"address": "192.0.2.5", "blocked_until_ms": -1}, "blocked_until_ms"),
        ("blocklist", {"address": "10.2.3.4", "blocked_until_ms": 9}, "is in never_block"),
        ("blocklist", {"address": "::1", "blocked_until_ms": 9}, "is in never_block"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(kind: str, desired: dict[str, Any], text: str) -> None:
    with pytest.raises(Permanent, match=text):
        wished(kind, desired)


def test_there_is_a_limit_to_blocks_but_not_to_changing_or_ending_them() -> None:
    full = {"blocked": {"192.0.2.1": 500, "192.0.2.2": 500}}
    with pytest.raises(Permanent, match="max_blocked"):
        wished("blocklist", {"address": "192.0.2.3", "blocked_until_ms": 9}, full)
    assert wished("blocklist", {"address": "192.0.2.2", "blocked_until_ms": 9}, full) is not None
    assert wished("blocklist", {"address": "192.0.2.2", "blocked_until_ms": 0}, full) is not None
