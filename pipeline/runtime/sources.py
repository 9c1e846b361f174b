"""`SourceGuard`: which input may speak for which service. Signals of a service that an input was not granted never reach a rule. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import compress
from typing import Final

from pipeline.model.labels import Labels
from pipeline.model.signals import SignalBatch
from pipeline.rulebook.book import RuleBook

_MAX_KNOWN: Final = 100_000


class SourceGuard:
    """For one input. `rules` gives the book in force: a reload may move a service. Signals that speak for no service pass."""

    def __init__(self, services: Collection[str], rules: Callable[[], RuleBook]) -> None:
        self._services, self._rules = frozenset(services), rules
        self._version = ""
        self._known: dict[Labels, str] = {}

    def filtered(self, batch: SignalBatch) -> tuple[SignalBatch, list[str]]:
        """What may pass (the same batch when all may), and the services that were spoken for without leave, sorted."""
        self._follow_rules()
        samples = [not self._foreign(labels) for labels in batch.labels]
        logs = [log for log in batch.logs if not self._foreign(log.labels)]
        events = [event for event in batch.events if not self._foreign(event.labels)]
        if all(samples) and len(logs) == len(batch.logs) and len(events) == len(batch.events):
            return batch, []
        every = (*batch.labels, *(log.labels for log in batch.logs), *(event.labels for event in batch.events))
        kept = replace(
            batch,
            labels=list(compress(batch.labels, samples)),
            at_ms=list(compress(batch.at_ms, samples)),
            values=list(compress(batch.values, samples)),
            logs=logs,
            events=events,
        )
        return kept, sorted({name for labels in every if (name := self._foreign(labels))})

    def _foreign(self, labels: Labels) -> str:
        """The service that these labels speak for and this input may not; empty when all is well."""
        known = self._known.get(labels)
        if known is None:
            service = self._rules().service_of(labels)
            known = "" if service is None or service.name in self._services else service.name
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[labels] = known
        return known

    def _follow_rules(self) -> None:
        version = self._rules().version
        if version != self._version:
            self._version = version
            self._known.clear()
