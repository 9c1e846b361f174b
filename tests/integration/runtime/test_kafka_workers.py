"""Two workers on a real broker: they share the groups, and when one is gone the other takes over with the states as they were."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.model import wire
from pipeline.model.records import Proposal
from pipeline.ports import bus
from pipeline.ports.bus import OutRecord
from pipeline.runtime.clock import SystemClock
from pipeline.runtime.kafka.bus import KafkaBus
from pipeline.runtime.kafka.cluster import Cluster, ClusterError, partition_of, prepare
from pipeline.runtime.kafka.runtime import KafkaRuntime
from pipeline.runtime.stages import RemediateStage
from tests.fakes.machines import FakeRemediator, fact

pytestmark = pytest.mark.kafka
GROUPS = [f"service-{number}" for number in range(12)]
PARTITIONS = 4


class Book:
    """No service: groups come up as they are heard of."""

    services = ()


class Seen(FakeRemediator):
    """Proposes under an id that tells how many facts its group has seen, so that a lost state shows."""

    def step(self, event: Any, now_ms: int) -> list[Any]:
        effects = super().step(event, now_ms)
        count = self.seen.count("AlertFact")
        return [Proposal(id=f"{self.group}/{count}", group=one.group, at_ms=one.at_ms, action=one.action) for one in effects]


def worker(cluster: Cluster, folder: Path) -> KafkaRuntime:
    runtime = KafkaRuntime(cluster, SystemClock(), fault=lambda _name: None, data_dir=folder, inputs=())
    runtime.add_stage(lambda owns: RemediateStage(Seen, Book(), owns=owns))
    return runtime


def cluster(bootstrap: str, prefix: str, name: str) -> Cluster:
    return Cluster(bootstrap=(bootstrap,), prefix=f"{prefix}.", partitions=PARTITIONS, instance_id=name)


def lanes(runtime: KafkaRuntime) -> int:
    return sum(len(one.lanes) for one in runtime._workers.values())


async def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.fixture
async def two(kafka_bootstrap: str, unique: str, tmp_path: Path) -> AsyncIterator[list[KafkaRuntime]]:
    runtimes = [worker(cluster(kafka_bootstrap, unique, name), tmp_path / name) for name in ("one", "two")]
    for runtime in runtimes:
        await runtime.start()
    yield runtimes
    for runtime in runtimes:
        await runtime.stop()


async def proposals(runtime: KafkaRuntime, wanted: set[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    async with asyncio.timeout(60):
        async for one in runtime.bus.read(bus.PROPOSALS):
            found[json.loads(one.value)["id"]] += 1
            if wanted <= set(found):
                break
    return found


async def say(runtime: KafkaRuntime, name: str) -> None:
    await runtime.bus.publish([OutRecord(bus.FACTS, group, wire.encode(fact(f"{name}-{group}", 1, group))) for group in GROUPS])


async def test_groups_are_shared_and_a_dead_workers_groups_go_on_where_they_were(two: list[KafkaRuntime]):
    one, other = two
    await until(lambda: lanes(one) + lanes(other) == PARTITIONS and lanes(one) > 0 and lanes(other) > 0 and not one.unready and not other.unready)
    await say(one, "first")
    found = await proposals(one, {f"{group}/1" for group in GROUPS})
    assert set(found) == {f"{group}/1" for group in GROUPS}
    await other.stop()  # a static member does not say goodbye: the broker waits for its session to end
    await say(one, "second")
    found = await proposals(one, {f"{group}/2" for group in GROUPS})
    assert set(found) == {f"{group}/{count}" for group in GROUPS for count in (1, 2)}
    assert lanes(one) == PARTITIONS


async def test_a_worker_without_a_partition_is_ready_and_takes_over(kafka_bootstrap: str, unique: str, tmp_path: Path):
    runtimes = []
    for name in ("one", "two"):
        where = Cluster(bootstrap=(kafka_bootstrap,), prefix=f"{unique}.", partitions=1, instance_id=name)
        runtimes.append(worker(where, tmp_path / name))
        runtimes[-1].add_notifier({})
        await runtimes[-1].start()
    one, other = runtimes
    try:
        await until(lambda: lanes(one) + lanes(other) == 1 and not one.unready and not other.unready)
        busy, idle = (one, other) if lanes(one) else (other, one)
        await say(busy, "first")
        await proposals(busy, {f"{group}/1" for group in GROUPS})
        await busy.stop()
        await say(idle, "second")
        found = await proposals(idle, {f"{group}/2" for group in GROUPS})
        assert set(found) == {f"{group}/{count}" for group in GROUPS for count in (1, 2)}
    finally:
        for runtime in runtimes:
            await runtime.stop()


async def test_a_command_without_a_group_reaches_every_partition(kafka_bootstrap: str, unique: str):
    where = cluster(kafka_bootstrap, unique, "one")
    await prepare(where, (), {})
    kafka_bus = KafkaBus(where)
    await kafka_bus.publish([OutRecord(bus.COMMANDS, "", b"all"), OutRecord(bus.COMMANDS, "checkout", b"one")])
    found: list[tuple[int, bytes]] = []
    async with asyncio.timeout(20):
        async for record in kafka_bus.read(bus.COMMANDS):
            found.append((record.partition, record.value))
            if len(found) == PARTITIONS + 1:
                break
    await kafka_bus.close()
    assert sorted(partition for partition, value in found if value == b"all") == list(range(PARTITIONS))
    assert (partition_of("checkout", PARTITIONS), b"one") in found


async def test_topics_that_do_not_fit_are_refused_with_the_reason(kafka: Any, unique: str):
    where = cluster(kafka.bootstrap, unique, "one")
    narrow, wide = await kafka.create_topic(partitions=1), await kafka.create_topic(partitions=3)
    with pytest.raises(ClusterError, match="same number of partitions"):
        await prepare(where, (narrow, wide), {})
    assert await prepare(where, (wide, f"{unique}-new"), {}) == 3, "a missing input is made like those that are there"
    await kafka.create_topic(f"other-{unique}.facts", partitions=2)
    with pytest.raises(ClusterError, match="has 2 partitions, but 4 are needed"):
        await prepare(cluster(kafka.bootstrap, f"other-{unique}", "one"), (), {})
