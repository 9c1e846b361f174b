"""A stage on the embedded bus: one step, one transaction."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.model import wire
from pipeline.model.records import DeadLetter
from pipeline.ports import bus
from pipeline.ports.bus import OutRecord
from pipeline.runtime.clock import SystemClock
from pipeline.runtime.detect_stage import DetectStage, Input
from pipeline.runtime.host import StageHost
from pipeline.runtime.sqlite_bus import SqliteBus
from pipeline.runtime.sqlite_log import SqliteLog
from pipeline.signals import DecodeError, decode
from tests.fakes.machines import FakeDetector


class PowerCutError(BaseException):
    """Ends the process of the test, as far as the host can tell."""


class Rig:
    """One data directory; `start` is a new life on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.detector = FakeDetector()
        self.start()

    def start(self, fault: Callable[[str], None] = lambda _name: None) -> None:
        self.bus = SqliteBus(SqliteLog(self.path, SystemClock()))
        self.fault = fault
        self.host = StageHost(self.bus, self.make, SystemClock(), fault=fault)

    def make(self) -> DetectStage:
        self.detector = FakeDetector()
        inputs = {"metrics": Input(lambda one: decode("json", one.value, received_at_ms=one.appended_at_ms))}
        return DetectStage(self.detector, inputs, decode_error=DecodeError, fault=self.fault)

    async def send(self, *values: float) -> None:
        await self.bus.publish([OutRecord("metrics", "", b'{"name": "m", "value": %d}' % value) for value in values])

    async def run_until(self, topic: str, count: int) -> list[bytes]:
        running = asyncio.create_task(self.host.run())
        try:
            async with asyncio.timeout(10):
                found: list[bytes] = []
                async for one in self.bus.read(topic):
                    found.append(one.value)
                    if len(found) == count:
                        break
                # the position is committed with the records that were just read
                return found
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def all(self, topic: str) -> list[bytes]:
        return [one.value for one in self.bus.log.fetch([topic], 0, 1000)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "bus.sqlite")


async def test_records_become_facts_and_a_restart_repeats_nothing(rig: Rig):
    await rig.send(500, 1, 600)
    assert len(await rig.run_until(bus.FACTS, 2)) == 2
    rig.start()
    await rig.send(700)
    assert len(await rig.run_until(bus.FACTS, 3)) == 3
    assert rig.detector.facts == 3, "the state of the first life was restored"
    assert rig.detector.rewound == [500.0, 1.0, 600.0], "the windows were filled from the inputs"


@pytest.mark.parametrize("point", ["after_decode", "before_facts", "after_facts"])
async def test_a_crash_at_any_point_neither_loses_nor_doubles_a_fact(rig: Rig, point: str):
    def cut(name: str) -> None:
        if name == point:
            raise PowerCutError

    rig.start(cut)
    await rig.send(500, 600)
    with pytest.raises(PowerCutError):
        await rig.host.run()
    rig.start()
    await rig.send(700)
    await rig.run_until(bus.FACTS, 3)
    ids = [wire.decode(value).id for value in rig.all(bus.FACTS)]  # type: ignore[union-attr]
    assert ids == ["f500", "f600", "f700"]


async def test_a_record_that_the_machine_cannot_take_goes_to_the_dead_letters_and_the_others_are_done(rig: Rig):
    await rig.send(500, 13, 600)
    [letter] = await rig.run_until(bus.DEAD_LETTERS, 1)
    assert "unlucky" in wire.decode_as(DeadLetter, letter).reason
    await rig.run_until(bus.FACTS, 2)
    assert [wire.decode(value).id for value in rig.all(bus.FACTS)] == ["f500", "f600"]  # type: ignore[union-attr]


async def test_another_process_that_publishes_is_noticed(rig: Rig):
    other = SqliteBus(SqliteLog(rig.path, SystemClock()))
    running = asyncio.create_task(rig.run_until(bus.FACTS, 1))
    await asyncio.sleep(0)
    await other.publish([OutRecord("metrics", "", b'{"name": "m", "value": 500}')])
    assert len(await running) == 1
    await other.close()


async def test_work_is_done_between_two_steps(rig: Rig):
    done = asyncio.Event()

    def reload(stage: object, now_ms: int) -> None:
        assert isinstance(stage, DetectStage)
        done.set()

    running = asyncio.create_task(rig.host.run())
    rig.host.post(reload)
    await asyncio.wait_for(done.wait(), 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
