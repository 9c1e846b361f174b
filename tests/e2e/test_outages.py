"""The store or the broker is away for half a minute under load: nothing is lost, nothing stale is done, and all goes on by itself."""

import asyncio
import time

import pytest

from pipeline.model.reasons import Reason
from pipeline.model.records import Action, AlertFact, AlertState, Decision, Outcome, OutcomeStatus
from pipeline.ports.bus import ACTIONS, FACTS, OUTCOMES, RECORDS
from tests.e2e.shop import Shop

AWAY_S = 30.0
PERIOD_S = 0.01  # 100 messages of samples a second, and as many of the background on top
BACKGROUND = 100
WARM_S = 3.0
IN_TIME_MS = 1000  # from a firing alert to the change, on a machine that runs a broker or a store beside it


async def until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


async def lost_on_the_way_in(shop: Shop) -> list[str]:
    """Messages that the shop sent and that are not on the bus."""
    found = {topic: len({record.value for record in await shop.raw_on_bus(topic)}) for topic in (shop.metrics, shop.logs)}
    return [
        f"{shop.sent[topic] - count} of {shop.sent[topic]} messages of {topic} lost" for topic, count in found.items() if count < shop.sent[topic]
    ]


@pytest.mark.elasticsearch
async def test_while_elasticsearch_hangs_and_is_restarted_actions_go_on_and_afterwards_every_record_is_there(tmp_path, own_elasticsearch, unique):
    shop = Shop(
        tmp_path / "shop", elasticsearch=own_elasticsearch.url, prefix=f"{unique}.", period_s=PERIOD_S, background_per_s=BACKGROUND, gateway=True
    )
    async with shop.open():
        assert await shop.until_ready(), shop.log_tail()
        await asyncio.sleep(WARM_S)
        began = time.monotonic()
        own_elasticsearch.suspend()
        shop.broken = True
        healed = await shop.until(lambda: shop.healed, 15)
        assert healed, shop.log_tail()
        await until(began + AWAY_S / 2)
        await asyncio.to_thread(own_elasticsearch.kill)
        await until(began + AWAY_S - 5)  # it needs longer than that to start
        await asyncio.to_thread(own_elasticsearch.start)
        assert time.monotonic() - began > AWAY_S
        shop.background_per_s = 0
        assert await shop.verdict() == [], shop.log_tail()
        assert await shop.wrong_log_lines(patience_s=30) == [], shop.log_tail()
    assert await shop.stale_executions() == []
    fired = {
        fact.alert.id: fact.at_ms
        for fact in reversed(await shop.on_bus(FACTS))
        if isinstance(fact, AlertFact) and fact.alert.state is AlertState.FIRING
    }
    actions = {action.id: action for action in await shop.on_bus(ACTIONS) if isinstance(action, Action)}
    first = shop.history()[0]
    assert first["at_ms"] - fired[actions[first["key"]].alert_id] < IN_TIME_MS


@pytest.mark.kafka
async def test_after_kafka_was_away_what_waited_is_done_once_and_what_has_expired_is_not(tmp_path, own_kafka, unique):
    executor, others = ("execute",), ("detect", "remediate", "record", "gateway")
    shop = Shop(
        tmp_path / "shop",
        kafka=own_kafka.bootstrap,
        prefix=f"{unique}.",
        ttls={"shop": "90s", "stall": "5s"},
        processes=(others, executor),
        period_s=PERIOD_S,
        background_per_s=BACKGROUND,
        gateway=True,
    )
    async with shop.open():
        assert await shop.until_ready(), shop.log_tail()
        await asyncio.sleep(WARM_S)
        await shop.hold(executor)  # so that both actions are on their way when the broker goes
        shop.broken = True
        waiting = {group: await shop.until_on_bus(ACTIONS, lambda action, group=group: action.group == group, 10) for group in shop.ttls}
        assert all(waiting.values()), shop.log_tail()
        await asyncio.to_thread(own_kafka.kill)
        began = time.monotonic()
        shop.release(executor)
        await until(began + AWAY_S)
        assert shop.history() == []
        await asyncio.to_thread(own_kafka.start)
        assert await shop.until(lambda: shop.healed, 40), shop.log_tail()
        shop.background_per_s = 0
        assert await shop.verdict() == [], shop.log_tail()
        assert await shop.wrong_log_lines(patience_s=30) == [], shop.log_tail()
    assert await lost_on_the_way_in(shop) == []
    assert await shop.stale_executions() == []
    outcomes = {outcome.action_id: outcome for outcome in await shop.on_bus(OUTCOMES) if isinstance(outcome, Outcome)}
    assert outcomes[waiting["shop"].id].status is OutcomeStatus.APPLIED
    assert outcomes[waiting["stall"].id].status is OutcomeStatus.STALE
    reasons = [record.reason for record in await shop.on_bus(RECORDS) if isinstance(record, Decision) and record.action_id == waiting["stall"].id]
    assert Reason.STALE in reasons
