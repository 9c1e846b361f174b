"""Which input may speak for which service."""

from dataclasses import replace

from pipeline.model.labels import Labels
from pipeline.model.signals import Event, LogRecord, Sample, SignalBatch
from pipeline.rulebook.book import RuleBook
from pipeline.rulebook.spec import Service
from pipeline.runtime.sources import SourceGuard

BOOK = RuleBook(version="1", services=(Service(name="checkout", match={"service": "checkout"}), Service(name="cart", match={"service": "cart"})))


def sample(**labels: str) -> Sample:
    return Sample(Labels.of(labels), 1, 1.0)


def test_what_an_input_may_say_passes_untouched():
    batch = SignalBatch.of([sample(service="checkout"), sample(job="node")], logs=[LogRecord(1, labels=Labels.of(service="checkout"))])
    kept, foreign = SourceGuard(["checkout"], lambda: BOOK).filtered(batch)
    assert kept is batch
    assert foreign == []


def test_signals_of_another_service_are_taken_out_and_named():
    batch = SignalBatch.of(
        [sample(service="checkout"), sample(service="cart")],
        logs=[LogRecord(1, labels=Labels.of(service="cart"))],
        events=[Event(1, "alert", Labels.of(service="cart"))],
        source="agent",
    )
    kept, foreign = SourceGuard(["checkout"], lambda: BOOK).filtered(batch)
    assert [one.labels["service"] for one in kept.samples()] == ["checkout"]
    assert (kept.logs, kept.events, kept.source) == ([], [], "agent")
    assert foreign == ["cart"]


def test_a_reload_that_moves_a_service_is_followed():
    books = [BOOK]
    guard = SourceGuard(["checkout"], lambda: books[-1])
    batch = SignalBatch.of([sample(service="cart")])
    assert guard.filtered(batch)[1] == ["cart"]
    books.append(replace(BOOK, version="2", services=BOOK.services[:1]))
    assert guard.filtered(batch)[1] == []


def test_an_input_without_any_service_may_speak_for_none():
    assert SourceGuard([], lambda: BOOK).filtered(SignalBatch.of([sample(service="checkout")]))[1] == ["checkout"]
