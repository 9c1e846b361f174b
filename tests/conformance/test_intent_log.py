"""One suite for every intent log: SQLite and Kafka. `Rig.reopen` is what a new life of the process finds."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.model import wire
from pipeline.model.records import Outcome, OutcomeStatus
from pipeline.ports.bus import OUTCOMES, Bus
from pipeline.ports.execution import IntentLog
from pipeline.runtime.clock import SystemClock
from pipeline.runtime.intents import SqliteIntents
from pipeline.runtime.kafka.bus import KafkaBus
from pipeline.runtime.kafka.cluster import Cluster, prepare
from pipeline.runtime.kafka.intents import KafkaIntents
from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.sqlite_log import SqliteLog
from tests.fakes.machines import action


class SqliteRig:
    def __init__(self, path: Path) -> None:
        self.bus: Bus = SqliteBus(SqliteLog(path, SystemClock()))
        self._path = path

    async def reopen(self) -> IntentLog:
        await self.bus.close()
        bus = SqliteBus(SqliteLog(self._path, SystemClock()))
        self.bus = bus
        return SqliteIntents(bus, SystemClock())


class KafkaRig:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kafka = KafkaBus(cluster)
        self.bus: Bus = self._kafka

    async def reopen(self) -> IntentLog:
        await self._kafka.publish([])
        intents = KafkaIntents(self._cluster, self._kafka.producer, SystemClock())
        await intents.read_back(range(self._cluster.partitions))
        return intents


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteRig | KafkaRig]:
    if request.param == "sqlite":
        made: SqliteRig | KafkaRig = SqliteRig(tmp_path / "bus.sqlite")
    else:
        cluster = Cluster(bootstrap=(request.getfixturevalue("kafka_bootstrap"),), prefix=f"{request.getfixturevalue('unique')}.", partitions=2)
        await prepare(cluster, (), {})
        made = KafkaRig(cluster)
    yield made
    await made.bus.close()


def outcome(action_id: str, group: str = "checkout", id_: str = "o") -> Outcome:
    return Outcome(id=f"{id_}-{action_id}", action_id=action_id, group=group, status=OutcomeStatus.APPLIED, at_ms=1)


async def published(bus: Bus, count: int) -> list[Outcome]:
    found: list[Outcome] = []
    async with asyncio.timeout(20):
        async for record in bus.read(OUTCOMES):
            found.append(wire.decode_as(Outcome, record.value))
            if len(found) == count:
                break
    return found


async def test_an_action_id_is_accepted_once_finished_or_not_in_this_life_and_the_next(rig: SqliteRig | KafkaRig):
    intents = await rig.reopen()
    one, two = action("a", "checkout", 1), action("b", "cart", 1)
    assert await intents.accept(one)
    assert await intents.accept(two)
    assert not await intents.accept(one)
    await intents.finish(outcome(one.id))
    assert not await intents.accept(one)
    intents = await rig.reopen()
    assert not await intents.accept(one)
    assert not await intents.accept(two)


async def test_the_next_life_finds_what_is_unfinished_with_its_plan_oldest_first(rig: SqliteRig | KafkaRig):
    intents = await rig.reopen()
    for name in ("b", "a", "c"):
        await intents.accept(action(name, f"group-{name}", 1))
        await asyncio.sleep(0.002)  # the order is that of acceptance by the wall clock
    change = {"before": {"replicas": 1}, "after": {"replicas": 3}}
    await intents.planned("action-a", change)
    await intents.finish(outcome("action-c", "group-c"))
    left = await (await rig.reopen()).unfinished()
    assert [(one.action.id, one.change) for one in left] == [("action-b", None), ("action-a", change)]
    assert left[0].action == action("b", "group-b", 1)


async def test_an_outcome_is_published_once_with_the_closing(rig: SqliteRig | KafkaRig):
    intents = await rig.reopen()
    for name in ("a", "b"):
        await intents.accept(action(name, "checkout", 1))
    await intents.finish(outcome("action-a"))
    await intents.finish(outcome("action-a", id_="second"))
    intents = await rig.reopen()
    await intents.finish(outcome("action-a", id_="third"))
    await intents.finish(outcome("action-b"))
    assert await published(rig.bus, 2) == [outcome("action-a"), outcome("action-b")]
