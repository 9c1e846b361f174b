"""The Envoy connector with a real proxy in front of real services: what is applied is what requests see."""

import asyncio
import collections
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors.endpoints import Endpoint, write_endpoints
from connectors.envoy import Envoy
from pipeline.model.target import Target
from pipeline.ports.connector import Conflict, Observed, Permanent, Temporary
from pipeline.runtime.clock import SystemClock
from tests.fakes.edge import ROUTE, Edge
from tests.fakes.workloads import SERVICE, until
from tests.rigs.process import free_port

pytestmark = pytest.mark.envoy

ROUTE_TARGET, SITES, BLOCKLIST = (Target.parse(f"edge://{kind}/shop") for kind in ("route", "sites", "blocklist"))
NOW = SystemClock().now_ms


class Front:
    """Envoy before four services: v1 and v2 in sites a and b."""

    def __init__(self, binary: Path, folder: Path, routes: dict[str, Any] | None = None) -> None:
        self.edge, self.folder = Edge(binary, folder, routes), folder
        self.endpoints = [Endpoint("w", "shop", site, version, "127.0.0.1", free_port(), True) for site in ("a", "b") for version in ("v1", "v2")]
        self.write(self.endpoints)
        self.services = [
            subprocess.Popen([sys.executable, "-S", "-E", str(SERVICE), "--port", str(one.port), "--version", one.version, "--instance", one.site])
            for one in self.endpoints
        ]
        self.connector: Envoy = self.edge.connector()
        self.edge.start()
        self.follower = asyncio.create_task(self.connector.follow())

    def write(self, endpoints: list[Endpoint]) -> None:
        write_endpoints(self.folder / "endpoints.json", endpoints)

    def file(self, name: str) -> Path:
        return self.folder / "dynamic" / name

    async def ask(self, count: int = 1, *, path: str = "/", source: str = "127.0.0.1") -> collections.Counter[str]:
        """Answers by version and site, or by status."""
        found: collections.Counter[str] = collections.Counter()
        connector = aiohttp.TCPConnector(local_addr=(source, 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(count):
                async with session.get(f"http://127.0.0.1:{self.edge.port}{path}") as response:
                    text = await response.text()
                    answer = json.loads(text) if response.status == 200 else {}
                    found[f"{answer['version']} {answer['instance']}" if answer else str(response.status)] += 1
        return found

    async def ready(self) -> None:
        async with asyncio.timeout(30):
            for one in self.endpoints:
                while not await _answers(one.port):
                    await asyncio.sleep(0.02)
            while not {"v1 a", "v2 a"} <= (await self.ask(20)).keys():
                await asyncio.sleep(0.02)

    async def change(self, target: Target, verb: str, **desired: Any) -> Observed:
        planned = self.connector.plan(target, verb, await self.connector.read(target), desired)
        assert planned is not None
        return await self.connector.apply(planned, key="k", fence=1, deadline_ms=5000)

    async def close(self) -> None:
        self.follower.cancel()
        await asyncio.gather(self.follower, return_exceptions=True)
        await self.connector.close()
        self.edge.close()
        for service in self.services:
            service.kill()
            service.wait()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@contextlib.asynccontextmanager
async def opened(front: Front) -> AsyncIterator[Front]:
    try:
        await front.ready()
        yield front
    finally:
        await front.close()


@pytest.fixture
async def front(envoy_binary: Path, tmp_path: Path) -> AsyncIterator[Front]:
    async with opened(Front(envoy_binary, tmp_path)) as front:
        yield front


async def test_once_applied_no_request_goes_where_the_weight_is_zero(front: Front) -> None:
    assert (await front.ask(300)).keys() == {"v1 a", "v2 a"}
    await front.change(ROUTE_TARGET, "shift_traffic", weights={"v1": 100})
    assert (await front.ask(100)).keys() == {"v1 a"}
    await front.change(ROUTE_TARGET, "shift_traffic", weights={"v1": 30, "v2": 70})
    split = await front.ask(600)
    assert 120 < split["v1 a"] < 240


async def test_sites_get_their_shares_and_one_without_a_share_is_the_last_resort(front: Front) -> None:
    await front.change(SITES, "fail_over", sites={"b": 100})
    assert (await front.ask(60)).keys() == {"v1 b", "v2 b"}
    await front.change(SITES, "fail_back", sites={"a": 25, "b": 75})
    split = await front.ask(400)
    assert 60 < split["v1 a"] + split["v2 a"] < 140
    await front.change(SITES, "fail_back", sites={"a": 100})
    assert (await front.ask(60)).keys() == {"v1 a", "v2 a"}
    front.write([one for one in front.endpoints if one.site == "b"])
    async with asyncio.timeout(5):
        while not (await front.ask(60)).keys() <= {"v1 b", "v2 b"}:
            await asyncio.sleep(0.01)


async def test_only_ready_instances_get_traffic(front: Front) -> None:
    await front.change(SITES, "fail_back", sites={"a": 50, "b": 50})
    front.write([Endpoint(one.workload, one.service, one.site, one.version, one.address, one.port, one.site == "b") for one in front.endpoints])
    async with asyncio.timeout(5):
        while not (await front.ask(20)).keys() <= {"v1 b", "v2 b"}:
            await asyncio.sleep(0)


async def test_an_endpoints_file_that_cannot_be_read_changes_nothing(front: Front) -> None:
    before = front.file("eds-shop_v1.json").read_bytes()
    path = front.folder / "broken"
    path.write_text("[{")
    path.replace(front.folder / "endpoints.json")
    await front.change(ROUTE_TARGET, "shift_traffic", weights={"v1": 100})
    (front.folder / "endpoints.json").unlink()
    await front.change(ROUTE_TARGET, "shift_traffic", weights={"v1": 90, "v2": 10})
    assert front.file("eds-shop_v1.json").read_bytes() == before
    assert "503" not in await front.ask(20)


async def test_a_blocked_address_is_refused_until_its_time_is_over_and_others_are_not(front: Front) -> None:
    until_ms = NOW() + 1500
    await front.change(BLOCKLIST, "block", address="127.0.0.2", blocked_until_ms=until_ms)
    assert await front.ask(20, source="127.0.0.2") == {"403": 20}
    assert "403" not in await front.ask(20)
    assert (await front.connector.read(BLOCKLIST)).value == {"blocked": {"127.0.0.2": until_ms}}
    async with asyncio.timeout(10):
        while "403" in await front.ask(source="127.0.0.2"):
            assert NOW() < until_ms + 2000
            await asyncio.sleep(0.02)
    assert NOW() >= until_ms
    assert (await front.connector.read(BLOCKLIST)).value == {"blocked": {}}


async def test_a_block_can_be_taken_back(front: Front) -> None:
    await front.change(BLOCKLIST, "block", address="127.0.0.2", blocked_until_ms=NOW() + 60_000)
    await front.change(BLOCKLIST, "block", address="127.0.0.2", blocked_until_ms=0)
    assert "403" not in await front.ask(20, source="127.0.0.2")


async def test_somebody_elses_route_file_is_a_conflict_and_is_not_overwritten(front: Front) -> None:
    planned = front.connector.plan(ROUTE_TARGET, "shift_traffic", await front.connector.read(ROUTE_TARGET), {"weights": {"v1": 100}})
    assert planned is not None
    theirs = front.file("rds-reflexarc.json").read_bytes().replace(b'"weight": 80', b'"weight": 81').replace(b'"weight": 20', b'"weight": 19')
    new = front.file("theirs")
    new.write_bytes(theirs)
    new.replace(front.file("rds-reflexarc.json"))
    with pytest.raises(Conflict, match="changed by somebody else"):
        await front.connector.apply(planned, key="k", fence=1, deadline_ms=5000)
    with pytest.raises(Conflict, match="changed by somebody else"):
        await front.connector.read(ROUTE_TARGET)
    await asyncio.sleep(1.2)  # longer than the follower's repair interval
    assert front.file("rds-reflexarc.json").read_bytes() == theirs
    front.file("rds-reflexarc.json").unlink()
    async with asyncio.timeout(5):
        while not front.file("rds-reflexarc.json").exists():
            await asyncio.sleep(0.02)
    assert (await front.connector.read(ROUTE_TARGET)).value == {"weights": {"v1": 80, "v2": 20}}


async def test_what_a_crash_left_between_state_and_file_is_finished(front: Front) -> None:
    await front.change(ROUTE_TARGET, "shift_traffic", weights={"v1": 90, "v2": 10})
    old = front.file("rds-reflexarc.json").read_bytes()
    await front.change(ROUTE_TARGET, "shift_traffic", weights={"v1": 100})
    new = front.file("restored")
    new.write_bytes(old)
    new.replace(front.file("rds-reflexarc.json"))  # as if the second move had not happened
    again = front.edge.connector()
    assert (await again.read(ROUTE_TARGET)).value == {"weights": {"v1": 100, "v2": 0}}
    assert "v2 a" not in await front.ask(60)
    await again.close()


async def test_an_envoy_that_starts_anew_runs_what_is_in_force(front: Front) -> None:
    await front.change(ROUTE_TARGET, "shift_traffic", weights={"v1": 100})
    front.edge.kill()
    with pytest.raises(Temporary, match="does not answer"):
        await front.connector.read(ROUTE_TARGET)
    front.edge.start()
    assert (await front.connector.read(ROUTE_TARGET)).value == {"weights": {"v1": 100, "v2": 0}}
    assert (await front.ask(40)).keys() == {"v1 a"}


async def test_nothing_is_written_while_envoy_is_away(front: Front) -> None:
    planned = front.connector.plan(ROUTE_TARGET, "shift_traffic", await front.connector.read(ROUTE_TARGET), {"weights": {"v1": 100}})
    assert planned is not None
    before = front.file("rds-reflexarc.json").read_bytes()
    front.edge.kill()
    with pytest.raises(Temporary, match="does not answer"):
        await front.connector.apply(planned, key="k", fence=1, deadline_ms=1000)
    assert front.file("rds-reflexarc.json").read_bytes() == before


async def test_a_cluster_that_envoy_does_not_have_is_refused_and_traffic_goes_on(envoy_binary: Path, tmp_path: Path) -> None:
    async with opened(Front(envoy_binary, tmp_path)) as front:
        front.follower.cancel()
        front.edge.settings["routes"] = {"shop": ROUTE | {"clusters": {"v1": "shop_v1", "v2": "shop_v2", "v3": "shop_v3"}}}
        wider = Envoy("edge", front.connector.info.config_model.model_validate(front.edge.settings), clock=SystemClock())
        planned = wider.plan(
            ROUTE_TARGET, "shift_traffic", Observed({"weights": {"v1": 80, "v2": 20, "v3": 0}}, "0"), {"weights": {"v1": 50, "v3": 50}}
        )
        assert planned is not None
        with pytest.raises(Permanent, match=r"Envoy refused rds-reflexarc\.json"):
            await wider.apply(planned, key="k", fence=1, deadline_ms=5000)
        assert (await front.ask(50)).keys() == {"v1 a", "v2 a"}
        await wider.close()


async def test_services_share_a_listener_by_prefix_and_change_apart(envoy_binary: Path, tmp_path: Path) -> None:
    routes = {
        "shop": ROUTE,
        "cart": {"clusters": {"v1": "cart_v1", "v2": "cart_v2"}, "weights": {"v2": 100}, "service": "shop", "prefix": "/cart"},
    }
    async with opened(Front(envoy_binary, tmp_path, routes)) as front:
        assert (await front.ask(20, path="/cart")).keys() <= {"v2 a", "v2 b"}
        await front.change(Target.parse("edge://route/cart"), "shift_traffic", weights={"v1": 100})
        assert (await front.ask(20, path="/cart")).keys() <= {"v1 a", "v1 b"}
        assert (await front.connector.read(ROUTE_TARGET)).value == {"weights": {"v1": 80, "v2": 20}}
        with pytest.raises(Permanent, match="unknown target"):
            await front.connector.read(Target.parse("edge://sites/cart"))


async def test_the_access_log_names_service_version_site_and_client_within_moments(front: Front) -> None:
    await front.ask(source="127.0.0.3", path="/some/path")
    await until(lambda: front.edge.access_log.exists() and "/some/path" in front.edge.access_log.read_text(), within_s=5)
    line = next(json.loads(line) for line in front.edge.access_log.read_text().splitlines() if "/some/path" in line)
    assert line.items() >= {"service": "shop", "site": "a", "response_code": 200, "method": "GET", "client_address": "127.0.0.3"}.items()
    assert line["upstream_cluster"] == f"shop_{line['version']}"
    assert line["duration_ms"] >= 0
    assert line["request_id"]


async def test_a_state_that_cannot_be_read_is_said_and_following_goes_on(front: Front) -> None:
    state = front.file(".reflexarc-state.json")
    good = state.read_bytes()
    state.write_bytes(b"{")
    with pytest.raises(Permanent, match="cannot be read"):
        await front.connector.read(ROUTE_TARGET)
    await asyncio.sleep(1.2)  # longer than the follower's repair interval
    assert not front.follower.done()
    state.write_bytes(good)
    assert (await front.connector.read(ROUTE_TARGET)).value == {"weights": {"v1": 80, "v2": 20}}
