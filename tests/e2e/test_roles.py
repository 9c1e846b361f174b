"""Every role in a process of its own, and an operator's hand on them: pause, resume, releases, and what the records tell."""

import asyncio
import json
import time
from dataclasses import dataclass

import pytest

from pipeline.execute.switch import FileSwitch
from pipeline.model.reasons import Reason
from pipeline.model.records import AlertFact, Command, Decision
from pipeline.ports.bus import COMMANDS, FACTS, RECORDS
from tests.e2e.shop import Shop
from tests.rigs.process import free_port

ROLES = (("detect",), ("remediate",), ("execute",), ("record",), ("gateway",))
WARM_S = 3.0
HEAL_S = 30.0
STAGGER_S = 0.6


async def heal_with_a_process_per_role(shop: Shop) -> None:
    async with shop.open():
        assert await shop.until_ready(), shop.log_tail()
        assert await shop.until(lambda: shop.log_text().count(" started ") == len(ROLES), 30), shop.log_tail()
        await asyncio.sleep(WARM_S)
        shop.broken = True
        assert await shop.until(lambda: shop.healed, HEAL_S), shop.log_tail()
        await asyncio.sleep(1.0)  # the last verification
        assert await shop.verdict() == [], shop.log_tail()
        assert all(engine.returncode is None for engine in shop.engines.values())


async def test_five_processes_with_a_role_each_over_one_data_directory_heal_the_shop(tmp_path):
    await heal_with_a_process_per_role(Shop(tmp_path / "shop", processes=ROLES, gateway=True))


@pytest.mark.kafka
async def test_five_processes_with_a_role_each_over_kafka_heal_the_shop(tmp_path, kafka, unique):
    await heal_with_a_process_per_role(Shop(tmp_path / "shop", processes=ROLES, gateway=True, kafka=kafka.bootstrap, prefix=f"{unique}."))


async def test_a_second_process_with_the_same_role_on_the_same_data_directory_is_refused(tmp_path):
    shop = Shop(tmp_path / "shop", processes=(("record",),))
    async with shop.open():
        assert await shop.until(lambda: " started " in shop.log_text(), 20), shop.log_tail()
        code, _, err = await shop.run_command("run", "--role", "record")
        assert code == 1
        assert "role record already runs" in err


async def as_json(shop: Shop, *arguments: str, code: int = 0):
    """What a command prints with `--json`, after a look at its exit code."""
    found, out, err = await shop.run_command(*arguments, "--json")
    assert found == code, (arguments, out, err)
    return json.loads(out)


async def test_an_operator_pauses_resumes_reads_the_story_and_releases_what_is_in_force(tmp_path):
    shop = Shop(tmp_path / "shop", gateway=True)
    async with shop.open():
        assert await shop.until_ready(), shop.log_tail()
        assert await as_json(shop, "incidents", "list") == []
        assert (await shop.run_command("explain", "last"))[0] == 1
        await asyncio.sleep(WARM_S)
        paused = await as_json(shop, "pause", "--reason", "a test")
        assert paused == {"paused": True, "announced": True}
        shop.broken = True
        firing = await shop.until_on_bus(FACTS, lambda fact: isinstance(fact, AlertFact), 10)
        assert firing, shop.log_tail()
        held = await shop.until_on_bus(RECORDS, lambda record: isinstance(record, Decision) and record.reason is Reason.PAUSED and record.policy, 10)
        assert held, shop.log_tail()
        await asyncio.sleep(1.0)
        assert shop.history() == []
        assert await shop.until_metric("pipeline_paused", lambda value: value == 1, 5) == 1
        assert (await as_json(shop, "resume"))["was_paused"] is True
        assert (await as_json(shop, "resume", code=1))["was_paused"] is False
        assert await shop.until(lambda: shop.healed, HEAL_S), shop.log_tail()
        await asyncio.sleep(1.0)  # the last verification

        reads = (("incidents", "list"), ("incidents", "show", "last"), ("explain", "last"), ("explain", "shop"), ("overrides", "list"))
        incidents, shown, story, of_service, overrides = await asyncio.gather(*(as_json(shop, *words) for words in reads))
        assert [incident["service"] for incident in incidents] == ["shop"]
        assert shown["incidents"][0]["id"] == incidents[0]["id"]
        assert {"paused", "granted", "applied", "verified"} <= {decision["reason"] for decision in story["decisions"]}
        assert [action["verb"] for action in story["actions"]] == ["shift_traffic", "roll_back"]
        assert of_service["actions"] == story["actions"]

        shift = next(override for override in overrides if override["verb"] == "shift_traffic")
        assert (shift["target"], shift["value"]) == ("sys://document/route", {"weights": {"v1": 100, "v2": 0}})
        assert (await as_json(shop, "overrides", "release", shift["id"]))["ordered"] is True
        assert await shop.until(lambda: shop.document("route")["value"]["weights"] == {"v1": 80, "v2": 20}, 10), shop.log_tail()
        await asyncio.sleep(1.0)  # until it is on record
        assert shift["id"] not in {override["id"] for override in await as_json(shop, "overrides", "list")}

        unknown = (("overrides", "release", "nothing"), ("incidents", "show", "nothing"), ("explain", "nothing"), ("overrides",))
        codes = [code for code, _, _ in await asyncio.gather(*(shop.run_command(*words) for words in unknown))]
        assert codes == [1, 1, 1, 2]


@dataclass
class StaggeredShop(Shop):
    """Its services break one after the other, so that something is always about to be done."""

    broken_at: float = 0.0

    def _is_bad(self, service: str) -> bool:
        return self.broken and time.monotonic() > self.broken_at + list(self.ttls).index(service) * STAGGER_S


async def test_pause_is_in_force_within_a_second_while_actions_are_under_way(tmp_path):
    shop = StaggeredShop(tmp_path / "shop", ttls={f"service{number}": "60s" for number in range(10)})
    async with shop.open():
        assert await shop.until(lambda: " started " in shop.log_text(), 20), shop.log_tail()
        await asyncio.sleep(WARM_S)
        shop.broken, shop.broken_at = True, time.monotonic()
        assert await shop.until(lambda: len(shop.history()) >= 2, 10), shop.log_tail()
        assert (await shop.run_command("pause"))[0] == 0
        paused_at_ms = json.loads((tmp_path / "shop" / "data" / "paused").read_text())["at_ms"]
        await asyncio.sleep(max(0.0, shop.broken_at + len(shop.ttls) * STAGGER_S + 1.0 - time.monotonic()))
        assert [entry for entry in shop.history() if entry["at_ms"] > paused_at_ms + 1000] == []
        assert not shop.healed, "all was done before the pause came"
        assert [order.kind for order in await shop.on_bus(COMMANDS) if isinstance(order, Command)] == ["pause"]


async def test_pause_needs_no_bus(tmp_path):
    shop = Shop(tmp_path / "shop", kafka=f"127.0.0.1:{free_port()}")
    switch = FileSwitch(tmp_path / "shop" / "data")
    (tmp_path / "shop" / "data").mkdir()
    began = time.monotonic()
    pausing = asyncio.create_task(as_json(shop, "pause"))
    assert await shop.until(lambda: switch.paused() != "", 15)
    in_force_after_s = time.monotonic() - began
    assert (await pausing) == {"paused": True, "announced": False}
    assert time.monotonic() - began > in_force_after_s, "the switch is thrown before anybody is told"
    assert (await as_json(shop, "resume")) == {"paused": False, "was_paused": True, "announced": False}
    assert switch.paused() == ""
