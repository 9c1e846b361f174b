"""A real Envoy with the bootstrap that the connector renders, for tests."""

import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from connectors import registry
from connectors.envoy import Envoy, EnvoySettings
from connectors.envoy.bootstrap import Bootstrap, command, render_bootstrap
from pipeline.runtime.clock import SystemClock
from tests.rigs.process import Daemon, free_port

ROUTE = {"clusters": {"v1": "shop_v1", "v2": "shop_v2"}, "weights": {"v1": 80, "v2": 20}, "sites": {"a": 100, "b": 0}}


class Edge(Daemon):
    """`folder` holds everything; `port` is where it serves, `admin_port` its admin API."""

    name = "envoy"
    start_timeout_s = 20

    def __init__(self, binary: Path, folder: Path, routes: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.binary, self.folder, self.admin_port = binary, folder, free_port()
        self.settings = {
            "admin": f"http://127.0.0.1:{self.admin_port}",
            "dir": str(folder / "dynamic"),
            "endpoints_file": str(folder / "endpoints.json"),
            "routes": routes or {"shop": ROUTE},
        }
        self.access_log = folder / "access.log"

    def connector(self) -> Envoy:
        """A connector called `edge`, its files in place."""
        made = registry.build("edge", "envoy", self.settings, clock=SystemClock())
        assert isinstance(made, Envoy)
        made.prepare()
        return made

    def command(self) -> Sequence[str]:
        bootstrap = render_bootstrap(
            EnvoySettings.model_validate(self.settings), Bootstrap(listen={"reflexarc": self.port}, access_log=self.access_log)
        )
        path = self.folder / "envoy.json"
        path.write_text(json.dumps(bootstrap))
        return command(self.binary, path, concurrency=1)

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=1)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except http.client.HTTPException:
            return False
        finally:
            connection.close()
