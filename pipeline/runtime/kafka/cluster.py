"""Where the brokers are and which topics there must be. Creates what is missing; refuses what cannot work, with the reason."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2

from pipeline.ports import bus
from pipeline.runtime.parts import CannotStartError
from pipeline.runtime.topics import NOTICES, OWN

INTENTS: Final = "intents"
MAX_BYTES: Final = 16 << 20
_LOOKS: Final = 100
_LOOK_S: Final = 0.1
_HOUR_MS: Final = 3_600_000
_KEEP_OWN: Final = {"retention.ms": str(7 * 24 * _HOUR_MS), "max.message.bytes": str(MAX_BYTES)}
_COMPACT: Final = {
    "cleanup.policy": "compact",
    "max.message.bytes": str(MAX_BYTES),
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": str(_HOUR_MS),
}


class ClusterError(CannotStartError):
    """The brokers hold something that this configuration cannot work with."""


@dataclass(frozen=True)
class Cluster:
    """How to reach the brokers, and our names there. `partitions` is that of our own topics keyed by group."""

    bootstrap: tuple[str, ...]
    prefix: str = "reflexarc."
    partitions: int = 4
    replication: int = 1
    instance_id: str = "reflexarc"
    security: Mapping[str, Any] = field(default_factory=dict)

    def topic(self, name: str) -> str:
        """The name on the broker: ours carry the prefix, inputs are as they are."""
        return f"{self.prefix}{name}" if name in OWN or name == INTENTS else name

    def bare(self, topic: str) -> str:
        """The opposite."""
        name = topic.removeprefix(self.prefix)
        return name if name in OWN or name == INTENTS else topic

    def group(self, role: str) -> str:
        """The consumer group of a role."""
        return f"{self.prefix}{role}"

    def client(self) -> dict[str, Any]:
        """Arguments that every client of aiokafka takes."""
        return {"bootstrap_servers": list(self.bootstrap), **self.security}


def security_of(
    protocol: str, mechanism: str | None, credentials: tuple[str, str] | None, files: tuple[str | None, str | None, str | None]
) -> dict[str, Any]:
    """Aiokafka's arguments for a guarded broker. `files`: authority, certificate, key."""
    found: dict[str, Any] = {"security_protocol": protocol}
    if credentials is not None:
        found |= {"sasl_mechanism": mechanism, "sasl_plain_username": credentials[0], "sasl_plain_password": credentials[1]}
    if protocol.endswith("SSL"):
        authority, certificate, key = files
        context = ssl.create_default_context(cafile=authority)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        found["ssl_context"] = context
    return found


def partition_of(key: str, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


async def prepare(cluster: Cluster, inputs: tuple[str, ...], tables: Mapping[str, str]) -> int:
    """Make sure that every topic is there; the number of partitions of the inputs.

    Inputs that exist must agree in their partitions, because a detector owns partition p of all of them; missing ones are made with as many (1 when
    none exists). `tables`: changelog topic to the family of its stage (`inputs`, `groups`, `single`).

    Raises:
        ClusterError: inputs that do not agree, or a topic of ours with another number of partitions than configured.
    """
    admin = AIOKafkaAdminClient(**cluster.client())
    await admin.start()
    try:
        existing = await _partitions(admin)
        counts = {topic: existing[topic] for topic in inputs if topic in existing}
        if len(set(counts.values())) > 1:
            raise ClusterError(
                f"inputs must have the same number of partitions, but they have {counts}; repartition them, or give them a role of their own"
            )
        width = next(iter(counts.values()), 1)
        wanted = _wanted(cluster, inputs, tables, width)
        await _create(admin, [topic for name, topic in wanted.items() if name not in existing])
        await _check(admin, wanted)
    finally:
        await admin.close()
    return width


def _wanted(cluster: Cluster, inputs: tuple[str, ...], tables: Mapping[str, str], width: int) -> dict[str, NewTopic]:
    widths = {"inputs": width, "groups": cluster.partitions, "single": 1}
    grouped = (bus.FACTS, bus.GRANTS, bus.ACTIONS, bus.OUTCOMES, bus.COMMANDS, bus.RECORDS)
    plain = dict.fromkeys(inputs, width) | {cluster.topic(name): cluster.partitions for name in grouped}
    plain |= {cluster.topic(name): 1 for name in (bus.PROPOSALS, bus.DEAD_LETTERS, NOTICES)} | {cluster.topic(bus.WATCHES): width}
    found = {name: _topic(cluster, name, count, {} if name in inputs else _KEEP_OWN) for name, count in plain.items()}
    found |= {name: _topic(cluster, name, widths[family], _COMPACT) for name, family in tables.items()}
    found[cluster.topic(INTENTS)] = _topic(cluster, cluster.topic(INTENTS), cluster.partitions, _COMPACT)
    return found


def _topic(cluster: Cluster, name: str, partitions: int, configs: Mapping[str, str]) -> NewTopic:
    return NewTopic(name, num_partitions=partitions, replication_factor=cluster.replication, topic_configs=dict(configs))


async def _check(admin: AIOKafkaAdminClient, wanted: Mapping[str, NewTopic]) -> None:
    """Wait until every topic is known to the broker, and compare: a topic may have been there under our name, made by another worker or by hand."""
    for _ in range(_LOOKS):
        existing = await _partitions(admin)
        if wanted.keys() <= existing.keys():
            break
        await asyncio.sleep(_LOOK_S)
    for name, topic in wanted.items():
        there = existing.get(name, 0)
        if there != topic.num_partitions:
            raise ClusterError(f"topic {name} has {there} partitions, but {topic.num_partitions} are needed; change kafka.partitions, or remake it")


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> None:
    if not topics:
        return
    answer = await admin.create_topics(topics)
    for topic, code, *rest in answer.topic_errors:
        if code not in {0, TopicAlreadyExistsError.errno}:  # another worker may have been faster
            raise ClusterError(f"topic {topic} cannot be made: {for_code(code).__name__} {rest[0] if rest else ''}")
