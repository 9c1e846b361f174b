"""A lane: the order in which a step becomes durable, and what a crash between two writes leads to."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from pipeline.model import wire
from pipeline.model.records import DeadLetter
from pipeline.ports import bus
from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.runtime.clock import SystemClock
from pipeline.runtime.detect_stage import DetectStage, Input
from pipeline.runtime.kafka.lane import Lane, Offered, Surroundings
from pipeline.runtime.parts import CannotStartError
from pipeline.runtime.stages import RemediateStage
from pipeline.signals import DecodeError, decode
from tests.fakes.machines import FakeDetector, FakeRemediator, fact

NOW = 1_700_000_000_000


class PowerCutError(BaseException):
    """The end of the process, as far as the lane can tell."""


class Broker:
    """What survives: the table's changelog, what was published, the inputs."""

    def __init__(self) -> None:
        self.table: dict[str, bytes] = {}
        self.published: list[OutRecord] = []
        self.log: list[str] = []
        self.inputs: list[BusRecord] = []
        self.committed_offsets: dict[str, int] = {}
        self.cut_at = ""

    def _say(self, what: str) -> None:
        self.log.append(what)
        if what == self.cut_at:
            self.cut_at = ""
            raise PowerCutError

    def load(self) -> Mapping[str, bytes]:
        return dict(self.table)

    async def put(self, entries: Sequence[tuple[str, bytes | None]]) -> None:
        for key, value in entries:
            if value is not None:
                self.table[key] = value
            self._say(f"put {key}")

    async def publish(self, records: Sequence[OutRecord]) -> None:
        if records:
            self.published.extend(records)
            self._say("published")

    async def committed(self) -> Mapping[str, int]:
        return self.committed_offsets

    async def rewind(self, starts: Mapping[str, int], lookback_ms: int, take: Callable[[list[BusRecord]], None]) -> None:
        take([record for record in self.inputs if record.offset < starts.get(record.topic, 0)])

    def fault(self, name: str) -> None:
        self._say(name)

    def done(self, offset: int) -> None:
        self._say(f"done {offset}")


class Life:
    """One life of a lane on a broker."""

    def __init__(self, broker: Broker, make: Callable[[], Any]) -> None:
        self.broker = broker
        self.lane = Lane(make, Surroundings(broker, broker.publish, broker.committed, broker.rewind, SystemClock(), broker.fault))

    async def run(self, *records: BusRecord) -> None:
        """Deliver the records and live until they are done, or until the power is cut."""
        ended = asyncio.Event()
        last = records[-1].offset if records else None

        def done() -> None:
            self.broker.done(last or 0)
            ended.set()

        if records:
            self.lane.offer(Offered(list(records), done))
        running = asyncio.create_task(self.lane.run())
        waiting = asyncio.create_task(ended.wait())
        try:
            async with asyncio.timeout(5):
                await asyncio.wait({running, waiting} if records else {waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=5 if records else 0.05)
        finally:
            running.cancel()
            waiting.cancel()
            results = await asyncio.gather(running, waiting, return_exceptions=True)
        if isinstance(results[0], PowerCutError):
            raise results[0]


def sample(offset: int, value: float) -> BusRecord:
    return BusRecord("metrics", 0, offset, "checkout", b'{"name": "m", "value": %d}' % value, NOW)


def detecting(broker: Broker, detectors: list[FakeDetector]) -> Callable[[], DetectStage]:
    def make() -> DetectStage:
        detectors.append(FakeDetector())
        inputs = {"metrics": Input(lambda one: decode("json", one.value, received_at_ms=one.appended_at_ms))}
        return DetectStage(detectors[-1], inputs, decode_error=DecodeError, fault=broker.fault)

    return make


def facts(broker: Broker) -> list[str]:
    return [wire.decode(output.value).id for output in broker.published if output.topic == bus.FACTS]  # type: ignore[union-attr]


async def test_the_step_record_is_durable_before_anything_is_said_and_inputs_are_done_last():
    broker = Broker()
    await Life(broker, detecting(broker, [])).run(sample(1, 500))
    assert broker.log == ["after_decode", "put step", "before_facts", "published", "put state:detector", "after_facts", "done 1"]


async def test_a_crash_before_the_step_record_repeats_the_step():
    broker = Broker()
    broker.cut_at = "after_decode"
    with pytest.raises(PowerCutError):
        await Life(broker, detecting(broker, [])).run(sample(1, 500))
    await Life(broker, detecting(broker, [])).run(sample(1, 500))
    assert facts(broker) == ["f500"]


@pytest.mark.parametrize("moment", ["put step", "before_facts", "published", "put state:detector", "after_facts", "done 1"])
async def test_a_crash_after_the_step_record_says_the_same_again_and_does_not_step_again(moment: str):
    broker = Broker()
    detectors: list[FakeDetector] = []
    broker.cut_at = moment
    with pytest.raises(PowerCutError):
        await Life(broker, detecting(broker, detectors)).run(sample(1, 500))
    before = list(broker.published)
    await Life(broker, detecting(broker, detectors)).run(sample(1, 500), sample(2, 600))
    assert dict.fromkeys(facts(broker)) == dict.fromkeys(["f500", "f600"])
    assert broker.published[len(before) : len(before) + 2] == (before or broker.published[:2]), "the same bytes as before"
    assert detectors[-1].facts == 2, "the restored state, and one step"


async def test_windows_are_rewound_to_where_the_live_records_begin():
    broker = Broker()
    broker.inputs = [sample(offset, offset) for offset in range(1, 6)]
    broker.committed_offsets = {"metrics": 4}
    detectors: list[FakeDetector] = []
    await Life(broker, detecting(broker, detectors)).run(sample(3, 3), sample(4, 4), sample(5, 5))
    assert detectors[-1].rewound == [1.0, 2.0, 3.0]
    assert detectors[-1].sum == 9, "offset 3 was in the windows already"


async def test_a_record_that_the_machine_cannot_take_goes_to_the_dead_letters():
    broker = Broker()
    await Life(broker, detecting(broker, [])).run(sample(1, 500), sample(2, 13), sample(3, 600))
    letters = [wire.decode_as(DeadLetter, output.value) for output in broker.published if output.topic == bus.DEAD_LETTERS]
    assert [letter.offset for letter in letters] == [2]
    assert dict.fromkeys(facts(broker)) == dict.fromkeys(["f500", "f600"])


async def test_states_of_several_keys_come_back_as_the_newest_step_left_them():
    broker = Broker()

    class Book:
        services = ()

    stages: list[RemediateStage] = []

    def make() -> RemediateStage:
        stages.append(RemediateStage(FakeRemediator, Book()))
        return stages[-1]

    records = [BusRecord(bus.FACTS, 0, n, group, wire.encode(fact(f"f{n}", NOW, group)), NOW) for n, group in enumerate(["a", "b", "a"], start=1)]
    await Life(broker, make).run(*records[:2])
    broker.cut_at = "put step"
    with pytest.raises(PowerCutError):
        await Life(broker, make).run(records[2])
    await Life(broker, make).run(BusRecord(bus.FACTS, 0, 4, "a", wire.encode(fact("f4", NOW, "a")), NOW))
    assert broker.table["state:a"] == b'["AlertFact", "AlertFact", "AlertFact"]'
    assert broker.table["state:b"] == b'["AlertFact"]'


async def test_a_state_of_a_newer_version_is_refused():
    broker = Broker()
    broker.table["step"] = msgspec.msgpack.encode({"applied": {}, "states": {}, "outbox": [], "schema_version": 99})
    with pytest.raises(CannotStartError, match="newer version"):
        await Lane(detecting(broker, []), Surroundings(broker, broker.publish, broker.committed, broker.rewind, SystemClock(), broker.fault)).run()
