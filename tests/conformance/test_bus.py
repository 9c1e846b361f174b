"""One suite for every bus: the fake, SQLite, and Kafka."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.ports.bus import FACTS, OUTCOMES, Bus, BusRecord, OutRecord
from pipeline.runtime.clock import SystemClock
from pipeline.runtime.kafka.bus import KafkaBus
from pipeline.runtime.kafka.cluster import Cluster, prepare
from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.sqlite_log import SqliteLog
from tests.fakes.bus import FakeBus


@pytest.fixture(params=["fake", "sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    if request.param == "fake":
        made: Bus = FakeBus(SystemClock())
    elif request.param == "sqlite":
        made = SqliteBus(SqliteLog(tmp_path / "bus.sqlite", SystemClock()))
    else:
        made = await kafka_bus(request.getfixturevalue("kafka_bootstrap"), f"{request.getfixturevalue('unique')}.")
    yield made
    await made.close()


async def kafka_bus(bootstrap: str, prefix: str) -> Bus:
    cluster = Cluster(bootstrap=(bootstrap,), prefix=prefix, partitions=1)
    await prepare(cluster, (), {})
    return KafkaBus(cluster)


async def first(bus: Bus, topic: str, count: int, *, from_start: bool = True) -> list[BusRecord]:
    found: list[BusRecord] = []
    async with asyncio.timeout(20):
        async for record in bus.read(topic, from_start=from_start):
            found.append(record)
            if len(found) == count:
                break
    return found


async def test_what_was_published_is_read_in_order_with_its_key(bus: Bus):
    await bus.publish([OutRecord(FACTS, "checkout", b"one"), OutRecord(FACTS, "checkout", b"two")])
    await bus.publish([OutRecord(FACTS, "checkout", b"three")])
    found = await first(bus, FACTS, 3)
    assert [record.value for record in found] == [b"one", b"two", b"three"]
    assert {record.key for record in found} == {"checkout"}
    assert {record.topic for record in found} == {FACTS}


async def test_offsets_grow_inside_a_partition(bus: Bus):
    await bus.publish([OutRecord(FACTS, "a", str(number).encode()) for number in range(20)])
    offsets = [record.offset for record in await first(bus, FACTS, 20)]
    assert offsets == sorted(set(offsets))


async def test_topics_are_separate(bus: Bus):
    await bus.publish([OutRecord(FACTS, "a", b"fact"), OutRecord(OUTCOMES, "a", b"outcome"), OutRecord(FACTS, "a", b"fact two")])
    assert [record.value for record in await first(bus, OUTCOMES, 1)] == [b"outcome"]
    assert [record.value for record in await first(bus, FACTS, 2)] == [b"fact", b"fact two"]


async def test_a_reader_gets_records_that_come_later(bus: Bus):
    reading = asyncio.create_task(first(bus, FACTS, 2))
    await bus.publish([OutRecord(FACTS, "a", b"one")])
    await bus.publish([OutRecord(FACTS, "a", b"two")])
    assert [record.value for record in await reading] == [b"one", b"two"]


async def test_two_readers_both_get_everything(bus: Bus):
    await bus.publish([OutRecord(FACTS, "a", b"one"), OutRecord(FACTS, "b", b"two")])
    one, two = await asyncio.gather(first(bus, FACTS, 2), first(bus, FACTS, 2))
    assert sorted(record.value for record in one) == sorted(record.value for record in two) == [b"one", b"two"]


async def test_binary_values_and_any_key_survive(bus: Bus):
    value = bytes(range(256)) * 100
    await bus.publish([OutRecord(FACTS, "gruppe/ü", value)])
    [record] = await first(bus, FACTS, 1)
    assert (record.key, record.value) == ("gruppe/ü", value)


async def test_a_record_says_when_the_bus_took_it(bus: Bus):
    before = SystemClock().now_ms()
    await bus.publish([OutRecord(FACTS, "a", b"one")])
    [record] = await first(bus, FACTS, 1)
    assert before - 1000 <= record.appended_at_ms <= SystemClock().now_ms() + 1000


async def test_closing_twice_is_fine(bus: Bus):
    await bus.close()
    await bus.close()
