"""A complete Envoy bootstrap that fits the connector's settings: listeners, routes and endpoints from moved files, JSON access log, admin.

For the demo and for getting going; a user with a bootstrap of their own points `rds` and `eds_cluster_config` at the connector's directory.
Retries are off: what a user of the service sees is what is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field

from connectors.envoy.render import NAMESPACE, eds_name, rds_name
from connectors.envoy.settings import EnvoySettings, RouteSettings
from connectors.settings import Settings

_TYPE: Final = "type.googleapis.com/envoy.extensions."
ACCESS_LOG_FORMAT: Final[Mapping[str, str]] = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "authority": "%REQ(:AUTHORITY)%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
    "client_address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "route": "%ROUTE_NAME%",
    "service": f"%METADATA(ROUTE:{NAMESPACE}:service)%",
    "version": f"%METADATA(CLUSTER:{NAMESPACE}:version)%",
    "site": f"%METADATA(UPSTREAM_HOST:{NAMESPACE}:site)%",
}
"""The keys that the decoder `envoy-access` knows."""


class Bootstrap(Settings):
    """What the bootstrap needs beyond the connector's settings. `listen`: route config -> port."""

    listen: dict[str, int] = Field(min_length=1)
    access_log: Path
    address: str = "127.0.0.1"
    node: str = "edge"
    trusted_hops: int = Field(default=0, ge=0)


def render_bootstrap(config: EnvoySettings, bootstrap: Bootstrap) -> dict[str, Any]:
    """The bootstrap as JSON-ready data: write it to a file and start Envoy with `command`.

    The connector's files must be there first: `Envoy.prepare`.
    """
    admin = urlsplit(config.admin)
    return {
        "node": {"id": bootstrap.node, "cluster": bootstrap.node},
        "admin": {"address": _address(admin.hostname or "127.0.0.1", admin.port or 9901)},
        "stats_flush_interval": "1s",
        "layered_runtime": {"layers": [{"name": "admin_layer_0", "admin_layer": {}}]},
        "static_resources": {
            "listeners": [_listener(name, port, config, bootstrap) for name, port in sorted(bootstrap.listen.items())],
            "clusters": [
                _cluster(route.service or name, backend, cluster, route, config)
                for name, route in sorted(config.routes.items())
                for backend, cluster in sorted(route.clusters.items())
            ],
        },
    }


def command(binary: Path, bootstrap_file: Path, *, concurrency: int = 2) -> list[str]:
    """How to start it. The access log is written out every 20 ms (Envoy's own default is 10 s, which would make every reaction slow)."""
    options = ["--concurrency", str(concurrency), "--file-flush-interval-msec", "20", "--disable-hot-restart", "--log-level", "warning"]
    return [str(binary), "-c", str(bootstrap_file), *options]


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _source(config: EnvoySettings, name: str) -> dict[str, Any]:
    folder = config.dir.absolute()
    return {"resource_api_version": "V3", "path_config_source": {"path": str(folder / name), "watched_directory": {"path": str(folder)}}}


def _listener(route_config: str, port: int, config: EnvoySettings, bootstrap: Bootstrap) -> dict[str, Any]:
    access_log = {
        "@type": f"{_TYPE}access_loggers.file.v3.FileAccessLog",
        "path": str(bootstrap.access_log.absolute()),
        "log_format": {"json_format": dict(ACCESS_LOG_FORMAT)},
    }
    manager = {
        "@type": f"{_TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": route_config,
        "use_remote_address": True,
        "xff_num_trusted_hops": bootstrap.trusted_hops,
        "rds": {"route_config_name": route_config, "config_source": _source(config, rds_name(route_config))},
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": access_log}],
        "http_filters": [
            {"name": "envoy.filters.http.rbac", "typed_config": {"@type": f"{_TYPE}filters.http.rbac.v3.RBAC"}},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPE}filters.http.router.v3.Router"}},
        ],
    }
    return {
        "name": route_config,
        "address": _address(bootstrap.address, port),
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    }


def _cluster(service: str, backend: str, cluster: str, route: RouteSettings, config: EnvoySettings) -> dict[str, Any]:
    by_site: dict[str, Any] = {"locality_weighted_lb_config": {}} if route.sites else {}
    return {
        "name": cluster,
        "type": "EDS",
        "connect_timeout": "0.5s",
        "lb_policy": "ROUND_ROBIN",
        "eds_cluster_config": {"eds_config": _source(config, eds_name(cluster))},
        # Envoy's default merges changes of shares within a second; a fail-over does not wait.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s", **by_site},
        "metadata": {"filter_metadata": {NAMESPACE: {"service": service, "version": backend}}},
    }
