"""The settings of the Envoy connector."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from connectors.settings import DurationMs, Settings


def _hundred(shares: dict[str, int]) -> dict[str, int]:
    if shares and (sum(shares.values()) != 100 or any(not 0 <= share <= 100 for share in shares.values())):
        raise ValueError(f"shares must be whole percents that sum to 100, these sum to {sum(shares.values())}")
    return shares


Shares = Annotated[dict[str, int], AfterValidator(_hundred)]


EnvoyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
"""A name that is the same in Envoy's statistics and in a file name."""


class RouteSettings(Settings):
    """One service behind the proxy. `weights` and `sites` are where it starts; from then on the state on disk says what is in force.

    `clusters`: backend (a version, as the endpoints file names it) -> Envoy cluster. `sites`: site -> percent; a site with 0 stays a last resort.
    `never_block`: addresses that no block may cover. `client_address`: whose address a block compares: the direct peer's, or the one that Envoy
    takes from x-forwarded-for (set `use_remote_address` and `xff_num_trusted_hops` on the listener).
    """

    clusters: dict[str, EnvoyName] = Field(min_length=1)
    weights: Shares = Field(min_length=1)
    sites: Shares = Field(default_factory=dict)
    service: str = ""  # as the endpoints file names it; default: the route's own name
    route_config_name: EnvoyName = "reflexarc"
    domains: tuple[str, ...] = ("*",)
    prefix: str = "/"
    timeout_ms: DurationMs = Field(default=15_000, alias="timeout", gt=0)
    client_address: Literal["direct", "forwarded"] = "direct"
    never_block: tuple[str, ...] = ()
    max_blocked: int = Field(default=100, ge=1)

    @field_validator("never_block")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks

    @model_validator(mode="after")
    def _known_backends(self) -> RouteSettings:
        if unknown := set(self.weights) - set(self.clusters):
            raise ValueError(f"weights name {', '.join(sorted(unknown))}, clusters has {', '.join(sorted(self.clusters))}")
        return self


class EnvoySettings(Settings):
    """`dir`: where Envoy looks for moved files (`rds-<route config>.json`, `eds-<cluster>.json`); ours alone, the state is kept there too.

    `endpoints_file`: who serves what, written by whoever runs the instances; without it the clusters' endpoints are not our business.
    """

    admin: str = "http://127.0.0.1:9901"
    dir: Path
    routes: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")], RouteSettings] = Field(min_length=1)
    endpoints_file: Path | None = None
    poll_ms: DurationMs = Field(default=25, alias="poll", gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> EnvoySettings:
        places: dict[tuple[str, tuple[str, ...], str], str] = {}
        for name, route in self.routes.items():
            if route.sites and self.endpoints_file is None:
                raise ValueError(f"route {name} splits by site, which needs endpoints_file")
            other = places.setdefault((route.route_config_name, route.domains, route.prefix), name)
            if other != name:
                raise ValueError(f"routes {other} and {name} have the same domains and prefix in route config {route.route_config_name}")
        return self
