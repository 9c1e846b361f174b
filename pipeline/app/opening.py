"""Opening what a configuration names: the bus, the record store, the connectors. Also for the command line, which needs one of them alone."""

from __future__ import annotations

from typing import Any

from connectors import registry
from pipeline.app.settings import Settings
from pipeline.ports.bus import Bus
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Connector
from pipeline.ports.record import RecordStore
from pipeline.record.elastic import ElasticStore
from pipeline.record.sqlite import SQLiteStore
from pipeline.rulebook.config_spec import ElasticSearch
from pipeline.runtime.clock import SystemClock
from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.sqlite_log import SqliteLog

BUS_FILE = "bus.sqlite"
STORE_FILE = "records.sqlite"


async def open_bus(settings: Settings, clock: Clock | None = None) -> Bus:
    """The configured bus, to publish and read."""
    return open_sqlite_bus(settings, clock)


def open_sqlite_bus(settings: Settings, clock: Clock | None = None) -> SqliteBus:
    """The embedded bus."""
    return SqliteBus(SqliteLog(settings.data_dir / BUS_FILE, clock or SystemClock()))


async def open_store(settings: Settings, clock: Clock | None = None) -> RecordStore:
    """The configured record store."""
    elastic = settings.config.elasticsearch
    if elastic is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        return SQLiteStore(settings.data_dir / STORE_FILE)
    return ElasticStore.connect(elastic.hosts, clock=clock or SystemClock(), prefix=elastic.prefix, **_client_options(elastic))


def open_connectors(settings: Settings, clock: Clock | None = None) -> dict[str, Connector]:
    """Every configured connector by name; nothing is sent yet."""
    time = clock or SystemClock()
    return {name: registry.build(name, one.kind, one.settings, clock=time) for name, one in settings.config.connectors.items()}


def _client_options(elastic: ElasticSearch) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if elastic.api_key is not None:
        options["api_key"] = elastic.api_key.get_secret_value()
    if elastic.username is not None and elastic.password is not None:
        options["basic_auth"] = (elastic.username, elastic.password.get_secret_value())
    if any(host.startswith("https") for host in elastic.hosts):
        options["verify_certs"] = elastic.verify_certs
        if elastic.ca_file is not None:
            options["ca_certs"] = elastic.ca_file
    return options
