"""`ElasticsearchServer`: one real Elasticsearch node, from Elastic's own stripped distribution on Maven Central (no ILM, scripts, ingest, data streams).

It refuses to run as root, so as root it runs as nobody. `GET /` is not part of that distribution: clients must not need it.
"""

import json
import os
import shutil
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.rigs.cache import fetch, maven, world_readable_cache_dir
from tests.rigs.java import java_home
from tests.rigs.process import Daemon
from tests.rigs.require import Unavailable

VERSION = "9.5.3"
_ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"

_SETTINGS = """\
cluster.name: reflexarc-tests
node.name: one
path.data: {data}/data
path.logs: {data}/logs
network.host: 127.0.0.1
http.port: {port}
transport.port: 0
discovery.type: single-node
node.processors: 2
xpack.security.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
"""


def _fetch_distribution() -> Path:
    def build(folder: Path) -> None:
        maven("dependency:copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={folder}", "-Dmdep.overWriteSnapshots=false")
        archives = list(folder.glob("*.zip"))
        if not archives:
            raise Unavailable("mvn copied no Elasticsearch archive")
        with zipfile.ZipFile(archives[0]) as archive:
            archive.extractall(folder)
        archives[0].unlink()
        for script in (folder / f"elasticsearch-{VERSION}" / "bin").iterdir():
            script.chmod(0o755)  # zipfile drops the mode

    return fetch(world_readable_cache_dir() / f"elasticsearch-{VERSION}", build) / f"elasticsearch-{VERSION}"


class ElasticsearchServer(Daemon):
    """A node of its own: `ElasticsearchServer()`, `start()`, `url`, `kill()`, `start()`, ..., `close()`.

    Raises:
        Unavailable: Java 21 or the distribution cannot be had.
    """

    name = "elasticsearch"
    drop_root = True
    start_timeout_s = 180.0

    def __init__(self) -> None:
        self._java_home = java_home(21)
        self._home = _fetch_distribution()
        super().__init__()
        config = self.data_dir / "config"
        shutil.copytree(self._home / "config", config)
        (config / "elasticsearch.yml").write_text(_SETTINGS.format(data=self.data_dir, port=self.port))
        options = config / "jvm.options"
        options.write_text(options.read_text().replace("-XX:+UseG1GC", "-XX:+UseSerialGC"))
        heap = os.environ.get("REFLEXARC_TEST_ELASTICSEARCH_HEAP", "512m")
        (config / "jvm.options.d").mkdir(exist_ok=True)
        (config / "jvm.options.d" / "heap.options").write_text(f"-Xms{heap}\n-Xmx{heap}\n")
        (self.data_dir / "tmp").mkdir()
        if os.geteuid() == 0:
            for path in (self.data_dir, *self.data_dir.rglob("*")):
                shutil.chown(path, 65534, 65534)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def command(self) -> Sequence[str]:
        return (str(self._home / "bin" / "elasticsearch"),)

    def environment(self) -> Mapping[str, str]:
        return {
            "ES_JAVA_HOME": str(self._java_home),
            "ES_PATH_CONF": str(self.data_dir / "config"),
            "ES_TMPDIR": str(self.data_dir / "tmp"),
            "HOME": str(self.data_dir),
            "CLI_JAVA_OPTS": f"-Djava.io.tmpdir={self.data_dir / 'tmp'}",
        }

    def is_ready(self) -> bool:
        """The node has elected itself and recovered its indices far enough to serve (yellow)."""
        status = self.call("GET", "/_cluster/health")["status"]
        return status in {"yellow", "green"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request past any client, for arranging and checking: returns the decoded answer. Raises OSError (HTTPError) otherwise."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            content = answer.read()
        return json.loads(content) if content else None
