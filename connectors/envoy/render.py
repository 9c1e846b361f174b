"""From state and endpoints to the discovery files that Envoy reads. Pure; equal input gives equal bytes.

A file's `version_info` is a digest of its resource, so that what Envoy reports tells which file it has taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

import msgspec

from connectors.endpoints import Endpoint
from connectors.envoy.settings import EnvoySettings, RouteSettings
from connectors.envoy.state import ServiceState, State

NAMESPACE: Final = "reflexarc"  # of the metadata that the access log shows
_TYPE: Final = "type.googleapis.com/"
_RBAC: Final = "envoy.filters.http.rbac"


class Rendered(NamedTuple):
    """One file: its name in the directory, its version and its bytes."""

    name: str
    version: str
    content: bytes


def rds_name(route_config: str) -> str:
    """The file of a route configuration."""
    return f"rds-{route_config}.json"


def eds_name(cluster: str) -> str:
    """The file of a cluster's endpoints."""
    return f"eds-{cluster}.json"


def route_files(settings: EnvoySettings, state: State) -> list[Rendered]:
    """One file per route configuration."""
    configs: dict[str, list[str]] = {}
    for name, route in settings.routes.items():
        configs.setdefault(route.route_config_name, []).append(name)
    return [_file(rds_name(config), _route_config(config, names, settings, state)) for config, names in sorted(configs.items())]


def endpoint_files(settings: EnvoySettings, state: State, endpoints: Sequence[Endpoint]) -> list[Rendered]:
    """One file per cluster."""
    files = []
    for name, route in sorted(settings.routes.items()):
        for backend, cluster in sorted(route.clusters.items()):
            mine = [one for one in endpoints if one.ready and one.service == (route.service or name) and one.version == backend]
            files.append(_file(eds_name(cluster), _assignment(cluster, mine, state.services[name].sites)))
    return files


def _file(name: str, resource: Mapping[str, Any]) -> Rendered:
    version = hashlib.blake2b(msgspec.json.encode(resource, order="sorted"), digest_size=8).hexdigest()
    body = {"version_info": version, "resources": [resource]}
    return Rendered(name, version, msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n")


def _route_config(config: str, names: Iterable[str], settings: EnvoySettings, state: State) -> dict[str, Any]:
    hosts: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        hosts.setdefault(settings.routes[name].domains, []).append(name)
    return {
        "@type": f"{_TYPE}envoy.config.route.v3.RouteConfiguration",
        "name": config,
        "validate_clusters": True,
        "virtual_hosts": [_virtual_host(domains, members, settings, state) for domains, members in sorted(hosts.items())],
    }


def _virtual_host(domains: tuple[str, ...], names: list[str], settings: EnvoySettings, state: State) -> dict[str, Any]:
    longest_first = sorted(names, key=lambda name: (-len(settings.routes[name].prefix), name))
    return {
        "name": ",".join(sorted(names)),
        "domains": list(domains),
        "routes": [_route(name, settings.routes[name], state.services[name]) for name in longest_first],
    }


def _route(name: str, route: RouteSettings, service: ServiceState) -> dict[str, Any]:
    weighted = [{"name": route.clusters[backend], "weight": weight} for backend, weight in sorted(service.weights.items())]
    rendered: dict[str, Any] = {
        "name": name,
        "match": {"prefix": route.prefix},
        "metadata": {"filter_metadata": {NAMESPACE: {"service": route.service or name}}},
        "route": {"weighted_clusters": {"clusters": weighted}, "timeout": f"{route.timeout_ms / 1000:g}s"},
    }
    if service.blocked:
        rendered["typed_per_filter_config"] = {_RBAC: _deny(sorted(service.blocked), route.client_address)}
    return rendered


def _deny(addresses: Sequence[str], whose: str) -> dict[str, Any]:
    field = "direct_remote_ip" if whose == "direct" else "remote_ip"
    principals = [{field: {"address_prefix": address, "prefix_len": ip_address(address).max_prefixlen}} for address in addresses]
    policy = {"permissions": [{"any": True}], "principals": principals}
    return {
        "@type": f"{_TYPE}envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
        "rbac": {"rules": {"action": "DENY", "policies": {"blocked": policy}}},
    }


def _assignment(cluster: str, endpoints: Sequence[Endpoint], sites: Mapping[str, int]) -> dict[str, Any]:
    by_site: dict[str, list[Endpoint]] = {}
    for endpoint in sorted(endpoints):
        by_site.setdefault(endpoint.site, []).append(endpoint)
    # Sites without a share are the last resort; where only they have instances they are all there is, so they count as first.
    served = any(sites.get(site, 0) for site in by_site)
    localities = [_locality(site, members, sites, last_resort=served and not sites.get(site, 0)) for site, members in sorted(by_site.items())]
    return {"@type": f"{_TYPE}envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name": cluster, "endpoints": localities}


def _locality(site: str, endpoints: Sequence[Endpoint], sites: Mapping[str, int], *, last_resort: bool) -> dict[str, Any]:
    share = {"load_balancing_weight": sites.get(site, 0) or 1} if sites else {}
    priority = {"priority": 1} if sites and last_resort else {}
    return {"locality": {"zone": site}, **priority, **share, "lb_endpoints": [_endpoint(endpoint) for endpoint in endpoints]}


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "endpoint": {"address": {"socket_address": {"address": endpoint.address, "port_value": endpoint.port}}},
        "metadata": {"filter_metadata": {NAMESPACE: {"site": endpoint.site, "version": endpoint.version, "workload": endpoint.workload}}},
    }
