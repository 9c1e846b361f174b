"""The process connector with real processes: they outlive us, are found again, replaced, drained, and never mistaken for others."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from connectors.endpoints import read_endpoints
from connectors.process import Process
from connectors.process.state import State
from pipeline.model.target import Target
from pipeline.ports.connector import Observed, Permanent, Unknown
from tests.fakes import workloads
from tests.fakes.workloads import observed, process_settings, stop, stored, until, workload

SHOP = Target.parse("local://workload/shop")
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    yield tmp_path
    stop(tmp_path)


@contextlib.asynccontextmanager
async def following(settings: dict[str, Any]) -> AsyncIterator[Process]:
    connector = workloads.process(settings)
    follower = asyncio.create_task(connector.follow())
    try:
        yield connector
        assert not follower.done(), "following ended by itself"
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        await connector.close()


async def change(connector: Process, verb: str, deadline_ms: int = 10_000, **desired: Any) -> Observed:
    planned = connector.plan(SHOP, verb, await connector.read(SHOP), desired)
    assert planned is not None
    return await connector.apply(planned, key="k", fence=1, deadline_ms=deadline_ms)


def running(folder: Path) -> set[int]:
    """Pids of all processes that a connector of this folder started."""
    mark = f"REFLEXARC_INSTANCE={(folder / 'state').absolute()}:".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and any(word.startswith(mark) for word in (entry / "environ").read_bytes().split(b"\0")):
                found.add(int(entry.name))
    return found


async def get(url: str) -> dict[str, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return dict(await response.json())


async def test_following_starts_what_is_wanted_and_says_where_it_serves(folder: Path) -> None:
    async with following(process_settings(folder, shop=workload(replicas=2, env={"COLOUR": "red"}))) as connector:
        await observed(connector, SHOP, ready=2)
        endpoints = read_endpoints(folder / "endpoints.json")
        assert endpoints is not None
        assert {(one.workload, one.service, one.site, one.version, one.ready) for one in endpoints} == {("shop", "shop", "a", "v1", True)}
        answers = [await get(f"http://{one.address}:{one.port}/") for one in endpoints]
        assert [one["version"] for one in answers] == ["v1", "v1"]
        assert len({one["instance"] for one in answers}) == 2  # not their numbers: one may have lost its port to another program and been replaced


async def test_an_instance_that_dies_is_replaced_and_leaves_the_endpoints_at_once(folder: Path) -> None:
    async with following(process_settings(folder, shop=workload(replicas=2))) as connector:
        await observed(connector, SHOP, ready=2)
        victim = stored(folder).instances[0]
        os.kill(victim.pid, signal.SIGKILL)
        await until(lambda: victim.port not in {one.port for one in read_endpoints(folder / "endpoints.json") or ()})
        await observed(connector, SHOP, ready=2)
        assert victim.name not in {one.name for one in stored(folder).instances}


async def test_a_workload_that_cannot_live_is_started_ever_more_rarely(folder: Path) -> None:
    async with following(process_settings(folder, shop=workload(version="broken", replicas=1))) as connector:
        await until(lambda: (folder / "state" / "shop.json").exists() and stored(folder).serial >= 3)
        started = stored(folder).serial
        await asyncio.sleep(1.5)
        assert stored(folder).serial - started <= 4
        assert (await connector.read(SHOP)).value["ready"] == 0


async def test_instances_outlive_a_kill_and_are_found_again(folder: Path) -> None:
    settings = process_settings(folder, shop=workload(replicas=2))
    runner = _runner(folder, settings, {"verb": "scale", "desired": {"replicas": 3}})
    await until(lambda: len(running(folder)) == 3 and all(one.ready for one in stored(folder).instances) and stored(folder).replicas == 3)
    pids = running(folder)
    runner.kill()
    runner.wait()
    async with following(settings) as connector:
        await observed(connector, SHOP, ready=3)
        assert running(folder) == pids


@pytest.mark.parametrize("seed", range(4))
async def test_a_kill_in_the_middle_of_a_change_is_finished_without_leftovers(folder: Path, seed: int) -> None:
    settings = process_settings(folder, shop=workload(replicas=2))
    async with following(settings) as connector:
        await observed(connector, SHOP, ready=2)
    runner = _runner(folder, settings, {"verb": "deploy", "desired": {"version": "v2"}})
    await until(lambda: stored(folder).generation > 1)
    await asyncio.sleep(random.Random(seed).uniform(0, 0.25))
    runner.kill()
    runner.wait()
    async with following(settings) as connector:
        await observed(connector, SHOP, ready=2, version="v2")
        await until(lambda: len(running(folder)) == 2 and {one.pid for one in stored(folder).instances} == running(folder))
        assert len(read_endpoints(folder / "endpoints.json") or ()) == 2


async def test_a_start_that_a_crash_left_unconfirmed_is_adopted_not_repeated(folder: Path) -> None:
    settings = process_settings(folder, shop=workload(replicas=1))
    async with following(settings) as connector:
        await observed(connector, SHOP, ready=1)
    pids, state = running(folder), stored(folder)
    forgotten = msgspec.structs.replace(state.instances[0], pid=0, birth="", ready=False)
    (folder / "state" / "shop.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(state, instances=(forgotten,))))
    async with following(settings) as connector:
        await observed(connector, SHOP, ready=1)
        assert running(folder) == pids


async def test_a_pid_that_belongs_to_somebody_else_is_never_signalled(folder: Path) -> None:
    settings = process_settings(folder, shop=workload(replicas=1))
    async with following(settings) as connector:
        await observed(connector, SHOP, ready=1)
    bystander = subprocess.Popen(["sleep", "60"])
    state = stored(folder)
    ours = state.instances[0]
    os.kill(ours.pid, signal.SIGKILL)
    taken = msgspec.structs.replace(ours, pid=bystander.pid)  # the pid was given to another process, its birth differs
    (folder / "state" / "shop.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(state, instances=(taken,))))
    async with following(settings) as connector:
        await observed(connector, SHOP, ready=1)
        await change(connector, "scale", replicas=0)
        await until(lambda: not stored(folder).instances)
        assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


async def test_an_instance_that_leaves_finishes_what_it_was_asked(folder: Path) -> None:
    async with following(process_settings(folder, shop=workload(replicas=1))) as connector:
        await observed(connector, SHOP, ready=1)
        port = stored(folder).instances[0].port
        request = asyncio.create_task(get(f"http://127.0.0.1:{port}/slow"))
        await asyncio.sleep(0.05)
        await change(connector, "scale", replicas=0)
        assert (await request)["version"] == "v1"
        await until(lambda: not running(folder))


async def test_an_instance_that_ignores_the_request_to_stop_is_killed(folder: Path) -> None:
    code = "import signal, socket, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nwhile True: s.accept()"
    stubborn = workload(replicas=1, command=[sys.executable, "-c", code, "{port}"], health={"interval": "100ms"})
    settings = process_settings(folder, shop=stubborn) | {"stop": "200ms"}
    async with following(settings) as connector:
        await observed(connector, SHOP, ready=1)
        await change(connector, "scale", replicas=0)
        await until(lambda: not running(folder))


async def test_a_version_that_cannot_start_is_refused_and_the_old_one_stays(folder: Path) -> None:
    async with following(process_settings(folder, shop=workload(replicas=2))) as connector:
        await observed(connector, SHOP, ready=2)
        pids = running(folder)
        with pytest.raises(Permanent, match="ended before they were ready"):
            await change(connector, "deploy", version="broken")
        found = await observed(connector, SHOP, ready=2)
        assert found.value["version"] == "v1"
        assert "previous_version" not in found.value
        await until(lambda: running(folder) == pids)


@pytest.mark.parametrize(
    ("command", "text"),
    [pytest.param(["/no/such/program"], "/no/such/program cannot be started: No such file or directory", id="no such program")],
)
async def test_a_command_that_cannot_run_is_refused(folder: Path, command: list[str], text: str) -> None:
    connector = workloads.process(process_settings(folder, shop=workload(replicas=0, command=command)))
    with pytest.raises(Permanent, match=text):
        await change(connector, "scale", replicas=1)
    assert (await connector.read(SHOP)).value["replicas"] == 0
    await connector.close()


async def test_a_change_that_is_slow_is_unknown_at_the_deadline_and_goes_on(folder: Path) -> None:
    async with following(process_settings(folder, shop=workload(replicas=0, ready_after=0.6))) as connector:
        with pytest.raises(Unknown, match="not ready after 50 ms"):
            await change(connector, "scale", deadline_ms=50, replicas=1)
        await observed(connector, SHOP, replicas=1, ready=1)


async def test_a_state_that_cannot_be_read_is_said_and_following_goes_on(folder: Path) -> None:
    async with following(process_settings(folder, shop=workload(replicas=1))) as connector:
        await observed(connector, SHOP, ready=1)
        good = (folder / "state" / "shop.json").read_bytes()
        (folder / "state" / "shop.json").write_bytes(b"{")
        with pytest.raises(Permanent, match="cannot be read"):
            await connector.read(SHOP)
        await asyncio.sleep(0.3)
        (folder / "state" / "shop.json").write_bytes(good)
        await observed(connector, SHOP, ready=1)


async def test_two_that_follow_the_same_workloads_start_them_once(folder: Path) -> None:
    settings = process_settings(folder, shop=workload(replicas=3))
    async with following(settings) as one, following(settings) as other:
        await observed(one, SHOP, ready=3)
        await observed(other, SHOP, ready=3)
        assert len(running(folder)) == 3
        assert stored(folder).serial == 3


def _runner(folder: Path, settings: dict[str, Any], wish: dict[str, Any]) -> "subprocess.Popen[bytes]":
    """A process of its own that follows and applies one change."""
    code = f"""
import asyncio, json, sys
sys.path.insert(0, {str(ROOT)!r})
from pipeline.model.target import Target
from tests.fakes import workloads
async def main():
    given = json.loads(sys.argv[1])
    connector = workloads.process(given["settings"])
    target = Target.parse("local://workload/shop")
    follower = asyncio.create_task(connector.follow())
    await workloads.observed(connector, target, ready=2)
    change = connector.plan(target, given["wish"]["verb"], await connector.read(target), given["wish"]["desired"])
    await connector.apply(change, key="k", fence=1, deadline_ms=10000)
    await follower
asyncio.run(main())
"""
    return subprocess.Popen([sys.executable, "-c", code, json.dumps({"settings": settings, "wish": wish})], cwd=folder)


def test_a_state_of_the_future_keeps_its_known_fields() -> None:
    state = msgspec.json.decode(b'{"replicas": 1, "history": ["v1"], "something_new": true}', type=State)
    assert (state.replicas, state.version) == (1, "v1")
