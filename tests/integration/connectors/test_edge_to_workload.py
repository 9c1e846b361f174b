"""Workloads behind the proxy, joined only by the endpoints file: what is done to them costs no request, and a bad version is moved away from."""

import asyncio
import collections
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pipeline.execute.executor import Executor
from pipeline.execute.switch import FileSwitch
from pipeline.model.records import Action, OutcomeStatus
from pipeline.model.target import Target
from pipeline.runtime.clock import SystemClock
from tests.fakes import workloads
from tests.fakes.edge import Edge
from tests.fakes.execution import FakeGrants, MemoryIntents
from tests.fakes.workloads import observed, process_settings, stop, stored, until, workload

pytestmark = pytest.mark.envoy

STABLE, CANARY = Target.parse("local://workload/shop"), Target.parse("local://workload/canary")
ROUTE, SITES = Target.parse("edge://route/shop"), Target.parse("edge://sites/shop")


class Shop:
    """Two workloads, a proxy, an executor, and some clients that never stop asking."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.folder = folder
        settings = process_settings(folder, shop=workload(replicas=2), canary=workload(version="v2", replicas=1)) | {"drain": "600ms"}
        self.edge, self.process = Edge(binary, folder), workloads.process(settings)
        self.proxy = self.edge.connector()
        self.intents = MemoryIntents()
        connectors = {"local": self.process, "edge": self.proxy}
        self.executor = Executor(connectors, self.intents, FileSwitch(folder), SystemClock(), lambda _group: FakeGrants())
        self.answers: collections.Counter[str] = collections.Counter()
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.tasks = [asyncio.create_task(part.follow()) for part in (self.process, self.proxy)]
        await observed(self.process, STABLE, ready=2)
        await observed(self.process, CANARY, ready=1)
        self.edge.start()
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(10):
                while not {"v1", "v2"} <= {await self.ask(session) for _ in range(20)}:
                    await asyncio.sleep(0.02)
        self.tasks += [asyncio.create_task(self.client()) for _ in range(4)]

    async def ask(self, session: aiohttp.ClientSession) -> str:
        try:
            async with session.get(f"http://127.0.0.1:{self.edge.port}/") as response:
                text = await response.text()
                return str(json.loads(text)["version"]) if response.status == 200 else f"{response.status} {text}"
        except aiohttp.ClientError as error:
            return type(error).__name__

    async def client(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                self.answers[await self.ask(session)] += 1
                await asyncio.sleep(0.005)

    async def act(self, name: str, verb: str, target: Target, **desired: Any) -> None:
        now = SystemClock().now_ms()
        await self.executor.accept(Action(id=name, group="shop", verb=verb, target=target, desired=desired, at_ms=now, expires_at_ms=now + 60_000))
        assert await self.executor.drain(20_000)
        assert self.intents.outcomes[-1].status is OutcomeStatus.APPLIED, self.intents.outcomes[-1]

    async def more(self, count: int = 100) -> collections.Counter[str]:
        """The next answers only."""
        before = self.answers.copy()
        async with asyncio.timeout(20):
            while self.answers.total() - before.total() < count:
                await asyncio.sleep(0.01)
        return self.answers - before

    async def close(self) -> None:
        await self.executor.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for part in (self.process, self.proxy):
            await part.close()
        self.edge.close()


@pytest.fixture
async def shop(envoy_binary: Path, tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(envoy_binary, tmp_path)
    with contextlib.ExitStack() as stack:
        stack.callback(stop, tmp_path)
        await made.start()
        yield made
        await made.close()


async def test_scaling_deploying_restarting_and_shifting_cost_no_request(shop: Shop) -> None:
    await shop.act("a1", "scale", STABLE, replicas=4)
    await shop.act("a2", "deploy", STABLE, version="v2")
    await shop.act("a3", "shift_traffic", ROUTE, weights={"v2": 100})
    await shop.act("a4", "restart", STABLE, restart_key="a4")
    await shop.act("a5", "scale", STABLE, replicas=1)
    await shop.more(200)
    failed = shop.answers.keys() - {"v1", "v2"}
    # Between a2 and a3 the route still sent 80 % to v1, which nobody ran any more: that is what the 503s say, and all that they may be.
    assert failed <= {"503 no healthy upstream"}
    before = shop.answers.copy()
    await shop.act("a6", "scale", STABLE, replicas=3)
    await shop.act("a7", "restart", STABLE, restart_key="a7")
    await shop.act("a8", "scale", STABLE, replicas=1)
    assert (shop.answers - before + await shop.more(200)).keys() == {"v2"}


async def test_a_bad_version_is_moved_away_from_and_rolled_back_without_a_failed_request(shop: Shop) -> None:
    await shop.act("a0", "deploy", CANARY, version="v1")
    await shop.act("a1", "shift_traffic", ROUTE, weights={"v1": 100})
    assert (await shop.more()).keys() <= {"v1", "503 no healthy upstream"}  # a client may have been on its way
    await shop.act("a2", "deploy", CANARY, version="v2")
    await shop.act("a3", "shift_traffic", ROUTE, weights={"v1": 80, "v2": 20})
    before = shop.answers.copy()
    await shop.more(200)
    await shop.act("a4", "shift_traffic", ROUTE, weights={"v1": 100})
    await shop.act("a5", "roll_back", CANARY, version="previous", **{"from": "v2"})
    await shop.more(100)
    assert (shop.answers - before).keys() == {"v1", "v2"}
    assert (await shop.more()).keys() == {"v1"}
    assert (await shop.process.read(CANARY)).value["version"] == "v1"


async def test_an_instance_that_died_gets_no_more_requests(shop: Shop) -> None:
    victim = stored(shop.folder).instances[0]
    os.kill(victim.pid, signal.SIGKILL)
    await until(lambda: victim.name not in {one.name for one in stored(shop.folder).instances})
    await observed(shop.process, STABLE, ready=2)
    shop.proxy.prepare()
    await shop.proxy.read(SITES)  # Envoy has taken the endpoints that are there now
    await shop.more(20)  # those that were on their way
    assert (await shop.more(200)).keys() <= {"v1", "v2"}
