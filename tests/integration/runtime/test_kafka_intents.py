"""An outcome that was stored, but not published before the crash."""

import asyncio

import pytest

from pipeline.model import wire
from pipeline.model.records import Outcome, OutcomeStatus
from pipeline.ports.bus import OUTCOMES
from pipeline.runtime.clock import SystemClock
from pipeline.runtime.kafka.bus import KafkaBus
from pipeline.runtime.kafka.cluster import Cluster, prepare
from pipeline.runtime.kafka.intents import KafkaIntents
from tests.fakes.machines import action

pytestmark = pytest.mark.kafka


class Torn(KafkaIntents):
    """Dies between storing an outcome and publishing it."""

    async def _publish(self, *_args: object) -> None:
        raise ConnectionError("power cut")


async def test_is_published_by_the_next_owner_with_the_same_bytes_and_only_then(kafka_bootstrap: str, unique: str):
    cluster = Cluster(bootstrap=(kafka_bootstrap,), prefix=f"{unique}.", partitions=1)
    await prepare(cluster, (), {})
    bus = KafkaBus(cluster)
    await bus.publish([])
    said = Outcome(id="o", action_id="action-a", group="checkout", status=OutcomeStatus.APPLIED, at_ms=1)
    torn = Torn(cluster, bus.producer, SystemClock())
    await torn.read_back([0])
    await torn.accept(action("a", "checkout", 1))
    with pytest.raises(ConnectionError):
        await torn.finish(said)
    for _ in range(2):
        intents = KafkaIntents(cluster, bus.producer, SystemClock())
        await intents.read_back([0])
        assert await intents.unfinished() == []
    found: list[bytes] = []
    reader = bus.read(OUTCOMES)
    found.append((await asyncio.wait_for(anext(reader), 20)).value)
    with pytest.raises(TimeoutError):
        found.append((await asyncio.wait_for(anext(reader), 1)).value)
    assert found == [wire.encode(said)]
    await bus.close()
