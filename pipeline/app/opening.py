"""Opening what a configuration names: the bus, the record store, the connectors. Also for the command line, which needs one of them alone."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from connectors import registry
from pipeline.app.settings import Settings
from pipeline.model.records import stable_id
from pipeline.ports.bus import Bus
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Connector
from pipeline.ports.record import RecordStore
from pipeline.record.sqlite import SQLiteStore
from pipeline.rulebook.config_spec import ElasticSearch
from pipeline.runtime.clock import SystemClock
from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.sqlite_log import SqliteLog

if TYPE_CHECKING:  # the clients of Kafka and Elasticsearch are loaded only where they are configured: the command line should start fast
    from pipeline.runtime.kafka.cluster import Cluster

BUS_FILE = "bus.sqlite"
STORE_FILE = "records.sqlite"


async def open_bus(settings: Settings, clock: Clock | None = None) -> Bus:
    """The configured bus, to publish and read."""
    cluster = cluster_of(settings)
    if cluster is None:
        return open_sqlite_bus(settings, clock)
    from pipeline.runtime.kafka.bus import KafkaBus

    return KafkaBus(cluster)


def cluster_of(settings: Settings) -> Cluster | None:
    """The configured brokers; None: embedded."""
    config = settings.config.kafka
    if config is None:
        return None
    from pipeline.runtime.kafka.cluster import Cluster, security_of

    guard = config.security
    credentials = None if guard.username is None or guard.password is None else (guard.username, guard.password.get_secret_value())
    return Cluster(
        bootstrap=config.bootstrap,
        prefix=config.prefix,
        partitions=config.partitions,
        replication=config.replication,
        instance_id=config.instance_id or f"{socket.gethostname()}-{stable_id(settings.data_dir.resolve())[:8]}",
        security=security_of(guard.protocol, guard.sasl_mechanism, credentials, (guard.ca_file, guard.cert_file, guard.key_file)),
    )


def open_sqlite_bus(settings: Settings, clock: Clock | None = None) -> SqliteBus:
    """The embedded bus."""
    return SqliteBus(SqliteLog(settings.data_dir / BUS_FILE, clock or SystemClock(), durability=settings.config.durability))


async def open_store(settings: Settings, clock: Clock | None = None) -> RecordStore:
    """The configured record store."""
    elastic = settings.config.elasticsearch
    if elastic is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        return SQLiteStore(settings.data_dir / STORE_FILE)
    from pipeline.record.elastic import ElasticStore

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
