"""Stages: bytes in, machines driven, effects routed to their topics."""

from types import SimpleNamespace

import pytest

from pipeline.model import wire
from pipeline.model.records import Audit, Command, DeadLetter, LogDocument, Notice, Outcome, OutcomeStatus, Watch
from pipeline.model.signals import LogRecord, SignalBatch
from pipeline.ports import bus
from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.runtime.detect_stage import DetectStage, Input
from pipeline.runtime.stages import GovernStage, RemediateStage
from pipeline.runtime.topics import LoopError, check_inputs
from pipeline.signals import DecodeError, decode
from tests.fakes.machines import FakeDetector, FakeGovernor, FakeRemediator, action, fact

NOW = 1_700_000_000_000


def record(topic: str, value: bytes, offset: int = 1, key: str = "checkout") -> BusRecord:
    return BusRecord(topic, 0, offset, key, value, NOW)


def sample(value: object, name: str = "m") -> bytes:
    return f'{{"name": "{name}", "labels": {{"service": "checkout"}}, "timestamp": {NOW}, "value": {value}}}'.encode()


def detect(detector: FakeDetector | None = None, **more: object) -> DetectStage:
    inputs = {"metrics": Input(lambda one: decode("json", one.value, received_at_ms=one.appended_at_ms), **more)}
    return DetectStage(detector or FakeDetector(), inputs, decode_error=DecodeError, fault=lambda _name: None)


def topics(outputs: list[OutRecord]) -> list[str]:
    return [output.topic for output in outputs]


def test_a_fact_goes_to_remediation_and_its_alert_to_the_records():
    result = detect().handle([record("metrics", sample(500))], NOW)
    assert topics(result.outputs) == [bus.FACTS, bus.RECORDS]
    assert result.outputs[0].key == "checkout"
    assert list(result.states) == ["detector"]


def test_quiet_samples_store_nothing():
    stage = detect()
    stage.handle([record("metrics", sample(1))], NOW)
    assert stage.handle([record("metrics", sample(1))], NOW + 100) == ([], {})


def test_now_and_then_the_snapshot_is_stored_although_nothing_was_said():
    stage = detect()
    stage.handle([record("metrics", sample(1))], NOW)
    assert list(stage.handle([record("metrics", sample(1))], NOW + 5000).states) == ["detector"]


def test_a_reload_says_what_ended_by_it():
    assert topics(detect().reload(Book(), NOW).outputs) == [bus.FACTS, bus.RECORDS]


@pytest.mark.parametrize("junk", [b"{not json", b"", b"\x00\xff", b"[]", b'{"name": 3}'], ids=["cut", "empty", "binary", "array", "types"])
def test_bytes_that_cannot_be_read_become_a_dead_letter_and_the_rest_goes_on(junk: bytes):
    result = detect().handle([record("metrics", junk, 7), record("metrics", sample(500), 8)], NOW)
    letter = wire.decode_as(DeadLetter, result.outputs[0].value)
    assert (letter.topic, letter.partition, letter.offset, letter.payload) == ("metrics", 0, 7, junk)
    assert letter.reason
    assert topics(result.outputs[1:]) == [bus.FACTS, bus.RECORDS]


def test_a_huge_dead_letter_is_cut_and_says_so():
    [output] = detect().handle([record("metrics", b"x" * 2_000_000)], NOW).outputs
    letter = wire.decode_as(DeadLetter, output.value)
    assert letter.truncated
    assert len(letter.payload) < 100_000


def test_a_watch_is_handed_over_and_stored():
    detector = FakeDetector()
    watch = Watch(id="w", group="checkout", at_ms=NOW, expr="up")
    result = detect(detector).handle([record(bus.WATCHES, wire.encode(watch))], NOW)
    assert detector.watches == ["w"]
    assert list(result.states) == ["detector"]


def test_something_else_on_the_watches_is_a_dead_letter():
    result = detect().handle([record(bus.WATCHES, wire.encode(fact("f", NOW)))], NOW)
    assert topics(result.outputs) == [bus.DEAD_LETTERS]


def test_logs_are_stored_once_by_where_they_stood():
    batch = SignalBatch(logs=[LogRecord(NOW, "hello", {"user.name": "ann"})])
    stage = DetectStage(FakeDetector(), {"logs": Input(lambda _one: batch, store_logs=True)}, decode_error=DecodeError, fault=lambda _name: None)
    first = stage.handle([record("logs", b"", 5)], NOW).outputs
    again = stage.handle([record("logs", b"", 5)], NOW).outputs
    assert first == again
    document = wire.decode_as(LogDocument, first[0].value)
    assert (document.message, document.fields) == ("hello", {"user.name": "ann"})


def test_what_an_aggregate_holds_back_comes_with_the_next_tick():
    class Slow:
        def add(self, batch: SignalBatch) -> SignalBatch:
            return batch

        def flush(self) -> SignalBatch:
            return SignalBatch([], [NOW], [500.0])

    stage = detect(aggregate=Slow())
    stage.handle([record("metrics", sample(1))], NOW)
    assert stage.due_at_ms() == NOW + 20
    assert topics(stage.tick(NOW + 20).outputs) == [bus.FACTS, bus.RECORDS]


def test_refusals_of_the_detector_are_counted_and_wrong_times_are_dead_letters():
    class Refusing(FakeDetector):
        def feed(self, batch, now_ms):
            found = (("future", NOW + 10_000_000, 2), ("late", NOW - 120_000, 1), ("late", 0, 4))  # late is only counted, 1970 is wrong
            return [SimpleNamespace(reason=reason, text=str(at_ms), at_ms=at_ms, count=count) for reason, at_ms, count in found]

    stage = detect(Refusing())
    result = stage.handle([record("metrics", sample(1))], NOW)
    assert stage.rejected == {"future": 2, "late": 5}
    assert [wire.decode(output.value).reason for output in result.outputs] == [f"future: {NOW + 10_000_000}", "late: 0"]


def test_rewinding_fills_windows_and_says_nothing():
    detector = FakeDetector()
    stage = detect(detector)
    stage.rewind([record("metrics", sample(500)), record("metrics", b"junk")])
    assert (detector.rewound, detector.facts) == ([500.0], 0)


class Book:
    services = (SimpleNamespace(group_name="checkout"), SimpleNamespace(group_name="cart"))


def remediate(**more: object) -> RemediateStage:
    return RemediateStage(FakeRemediator, Book(), **more)


def test_from_fact_to_action_through_the_governor():
    stage, govern = remediate(), GovernStage(FakeGovernor())
    proposal = stage.handle([record(bus.FACTS, wire.encode(fact("f1", NOW)))], NOW).outputs
    assert topics(proposal) == [bus.PROPOSALS]
    grants = govern.handle([record(bus.PROPOSALS, proposal[0].value)], NOW)
    assert topics(grants.outputs) == [bus.GRANTS]
    assert list(grants.states) == ["governor"]
    acting = stage.handle([record(bus.GRANTS, grants.outputs[0].value)], NOW)
    assert topics(acting.outputs) == [bus.ACTIONS, bus.RECORDS]
    assert list(acting.states) == ["checkout"]


def test_an_outcome_is_recorded_and_the_governor_hears_of_it():
    outcome = Outcome(id="o", action_id="a", group="checkout", status=OutcomeStatus.APPLIED, at_ms=NOW)
    result = remediate().handle([record(bus.OUTCOMES, wire.encode(outcome))], NOW)
    assert topics(result.outputs) == [bus.RECORDS, bus.PROPOSALS, bus.RECORDS]


def test_a_command_is_audited_and_one_without_a_group_concerns_all():
    stage = remediate()
    stage.tick(NOW)
    command = Command(id="c", kind="pause", identity="ann", at_ms=NOW)
    result = stage.handle([record(bus.COMMANDS, wire.encode(command))], NOW)
    audit = wire.decode_as(Audit, result.outputs[0].value)
    assert (audit.identity, audit.what) == ("ann", "pause")
    assert sorted(result.states) == ["cart", "checkout"]


def test_controllers_of_all_owned_services_start_once():
    stage = remediate(owns=lambda group: group == "cart")
    assert stage.due_at_ms() == 0
    assert list(stage.tick(NOW).states) == ["cart"]
    assert stage.due_at_ms() is None


def test_a_reload_reaches_every_machine_and_starts_new_controllers():
    stage = remediate()
    stage.tick(NOW)
    assert list(stage.reload(Book(), NOW).states) == ["cart", "checkout"]
    assert stage.due_at_ms() == 0


def test_states_come_back():
    states = remediate().handle([record(bus.FACTS, wire.encode(fact("f1", NOW)))], NOW).states
    other = remediate()
    other.load({key: value for key, value in states.items() if value is not None})
    assert other.handle([record(bus.FACTS, wire.encode(fact("f2", NOW)))], NOW).states["checkout"] == b'["AlertFact", "AlertFact"]'


def test_what_does_not_belong_on_a_topic_is_a_dead_letter():
    notice = Notice(id="n", group="g", at_ms=NOW, to="oncall", title="t", text="x")
    assert topics(remediate().handle([record(bus.FACTS, wire.encode(notice))], NOW).outputs) == [bus.DEAD_LETTERS]
    assert topics(GovernStage(FakeGovernor()).handle([record(bus.PROPOSALS, wire.encode(action("a", "g", NOW)))], NOW).outputs) == [bus.DEAD_LETTERS]


@pytest.mark.parametrize("name", ["facts", "records", "reflexarc.outcomes"])
def test_own_topics_are_never_inputs(name: str):
    with pytest.raises(LoopError, match="choose another name"):
        check_inputs(["metrics", name], "reflexarc.")
