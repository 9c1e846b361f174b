"""What the recorder and the notifier do with what they read."""

import asyncio
from collections.abc import Sequence

import pytest

from pipeline.model import wire
from pipeline.model.records import DeadLetter, Notice
from pipeline.ports.bus import DEAD_LETTERS, BusRecord, OutRecord
from pipeline.ports.connector import Permanent, Temporary
from pipeline.ports.record import Document, Rejected
from pipeline.record.documents import document_of
from pipeline.runtime import recording
from tests.fakes.clock import FakeClock
from tests.fakes.machines import action, decision, tick

NOTICE = Notice(id="n1", group="checkout", at_ms=1, to="oncall", title="t", text="x")


class Store:
    """Refuses one id."""

    def __init__(self, refused: str = "") -> None:
        self.documents: list[Document] = []
        self._refused = refused

    async def write(self, documents: Sequence[Document]) -> list[Rejected]:
        self.documents.extend(document for document in documents if document.id != self._refused)
        return [Rejected(document, "too odd") for document in documents if document.id == self._refused]


class Receiver:
    """Fails as it is told, then takes."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.taken: list[Notice] = []

    async def send(self, notice: Notice) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.taken.append(notice)


def record(value: bytes, offset: int = 1) -> BusRecord:
    return BusRecord("records", 0, offset, "k", value, 1)


def reason(letter: OutRecord | None) -> str:
    assert letter is not None
    assert letter.topic == DEAD_LETTERS
    return wire.decode_as(DeadLetter, letter.value).reason


async def test_records_become_documents_and_what_is_not_stored_is_passed_over():
    store = Store()
    values = [decision("d", "checkout", 1), tick(1), action("a", "checkout", 1)]
    assert await recording.store([record(wire.encode(value)) for value in values], store, document_of, 1) == []  # type: ignore[arg-type]
    assert [(document.kind, document.id) for document in store.documents] == [("decisions", "decision-d"), ("actions", "action-a")]


async def test_what_the_store_refuses_or_cannot_be_read_is_a_dead_letter_and_the_rest_is_stored():
    store = Store(refused="decision-odd")
    batch = [
        record(b"junk", 1),
        record(wire.encode(decision("odd", "checkout", 1)), 2),
        record(wire.encode(decision("good", "checkout", 1)), 3),
    ]
    letters = await recording.store(batch, store, document_of, 1)  # type: ignore[arg-type]
    assert [wire.decode_as(DeadLetter, letter.value).offset for letter in letters] == [1, 2]
    assert "too odd" in reason(letters[1])
    assert [document.id for document in store.documents] == ["decision-good"]


async def deliver(receivers: dict[str, Receiver], value: bytes = wire.encode(NOTICE)) -> OutRecord | None:
    clock = FakeClock()
    sending = asyncio.create_task(recording.deliver(record(value), receivers, clock))
    while not sending.done():
        await asyncio.sleep(0)
        clock.advance(1000)
    return await sending


async def test_a_notice_reaches_its_receiver_after_failures_that_may_pass():
    receiver = Receiver(Temporary("busy"), Temporary("busy"))
    assert await deliver({"oncall": receiver}) is None
    assert receiver.taken == [NOTICE]


async def test_a_receiver_without_the_name_is_the_default_one():
    receiver = Receiver()
    assert await deliver({"default": receiver}) is None
    assert receiver.taken == [NOTICE]


@pytest.mark.parametrize(
    ("receivers", "why"),
    [
        pytest.param({}, "no receiver 'oncall'", id="none"),
        pytest.param({"oncall": Receiver(Permanent("gone"))}, "refused it: gone", id="permanent"),
        pytest.param({"oncall": Receiver(*[Temporary("busy")] * 9)}, "did not take it: busy", id="never"),
    ],
)
async def test_a_notice_that_cannot_be_delivered_is_a_dead_letter(receivers: dict[str, Receiver], why: str):
    assert why in reason(await deliver(receivers))


async def test_something_else_on_the_topic_is_a_dead_letter():
    assert "expected Notice" in reason(await deliver({}, wire.encode(tick(1))))
