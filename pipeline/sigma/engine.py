"""`SigmaEngine`: log records in, matches out. Pure: time is in the records, `now_ms` only bounds how far ahead a record may be.

A single detection matches one record. A correlation counts matches of other rules in `windows`; with `generate: false` (the default) those rules are
only counted and do not report matches of their own.

Labels of a match: the record's own labels, and the values of the rule's `fields`. Of a correlation: its group-by values, and those of the labels
service, site, environment that all records of the window agree on. A dot in a field's name becomes `_` (`source.ip` -> `source_ip`), so that
templates and matchers can name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.model.labels import Labels
from pipeline.model.signals import LogRecord
from pipeline.sigma.fields import Fields, fits, getter, source_of
from pipeline.sigma.index import RuleIndex
from pipeline.sigma.rules import Correlation, RuleInfo, compile_rules
from pipeline.sigma.values import as_text
from pipeline.sigma.windows import Entry, Windows

MAX_FUTURE_MS: Final = 10_000
MAX_GROUPS: Final = 100_000
_SHARED_LABELS: Final = ("service", "site", "environment")
_EVIDENCE: Final = 5
_EVIDENCE_CHARS: Final = 240
_MAX_FIELDS: Final = 32


@dataclass(frozen=True, slots=True)
class SigmaMatch:
    """A rule matched. `at_ms` is the event time of the record that completed it; `evidence` a few shortened messages, oldest first."""

    rule_id: str
    title: str
    level: str
    author: str
    labels: Labels
    at_ms: int
    evidence: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    tags: tuple[str, ...] = ()
    count: int = 1


class SigmaEngine:
    """Compiled rules and the windows of their correlations.

    Raises:
        SigmaError: (on construction) a source that cannot be compiled.
    """

    def __init__(self, sources: Sequence[tuple[str, str]] = (), *, max_groups: int = MAX_GROUPS) -> None:
        compiled = compile_rules(sources)
        self._detections = compiled.detections
        self._correlations = compiled.correlations
        self._windows = {
            rule.info.rule_id: Windows(
                timespan_ms=rule.timespan_ms, threshold=rule.threshold, distinct=rule.kind != "event_count", max_groups=max_groups
            )
            for rule in compiled.correlations
        }
        self._counted_by: dict[str, list[Correlation]] = {}
        for rule in compiled.correlations:
            for rule_id in dict.fromkeys(rule.rule_ids):
                self._counted_by.setdefault(rule_id, []).append(rule)
        self._index = RuleIndex([rule.need for rule in compiled.detections])

    @property
    def rules(self) -> tuple[RuleInfo, ...]:
        """All rules, detections first."""
        return (*(rule.info for rule in self._detections), *(rule.info for rule in self._correlations))

    @property
    def lookback_ms(self) -> int:
        """The longest timespan: how much input rebuilds the windows after a start."""
        return max((rule.timespan_ms for rule in self._correlations), default=0)

    def feed(self, record: LogRecord, now_ms: int) -> list[SigmaMatch]:
        """The matches that this record completes, in the order of the rules."""
        matches: list[SigmaMatch] = []
        source = source_of(record.fields)
        for number in self._index.candidates(record):
            rule = self._detections[number]
            if fits(rule.source, source) and any(test(record) for test in rule.tests):
                self._matched(rule.info, record, now_ms, matches)
        return matches

    def _matched(self, info: RuleInfo, record: LogRecord, now_ms: int, matches: list[SigmaMatch]) -> None:
        if info.emits:
            matches.append(_match(info, record))
        pending = [(info.rule_id, record)]
        while pending:  # a correlation may itself be counted by others; they stand later in the order, so this ends
            rule_id, counted = pending.pop(0)
            for rule in self._counted_by.get(rule_id, ()):
                found = self._count(rule, rule_id, counted, now_ms)
                if found is None:
                    continue
                if rule.info.emits:
                    matches.append(found)
                pending.append((rule.info.rule_id, LogRecord(found.at_ms, counted.message, counted.fields, found.labels)))

    def _count(self, rule: Correlation, rule_id: str, record: LogRecord, now_ms: int) -> SigmaMatch | None:
        group = _values(rule, rule_id, rule.group_by, record.fields)
        if group is None:
            return None
        key = ""
        if rule.kind == "value_count":
            values = _values(rule, rule_id, rule.value_fields, record.fields)
            if values is None:
                return None
            key = "\x1f".join(values)
        elif rule.kind == "temporal":
            key = rule_id
        at_ms = min(record.at_ms, now_ms + MAX_FUTURE_MS)  # one clock that runs ahead must not empty the windows
        reached = self._windows[rule.info.rule_id].add(group, at_ms, key, record)
        return _correlated(rule, group, reached) if reached is not None else None


def _values(rule: Correlation, rule_id: str, names: Iterable[str], fields: Fields) -> tuple[str, ...] | None:
    """The values of the names, through the rule's aliases; None where one is missing: such a record belongs to no group."""
    values = []
    for name in names:
        value = getter(rule.aliases.get(name, {}).get(rule_id, name))(fields)
        if value is None:
            return None
        values.append(as_text(value))
    return tuple(values)


def _match(info: RuleInfo, record: LogRecord) -> SigmaMatch:
    named = {label_name(name): as_text(value) for name in info.fields if (value := getter(name)(record.fields)) is not None}
    labels = Labels.of(named | dict(record.labels.pairs)) if named else record.labels
    return _build(info, labels, record.at_ms, [record], 1)


def _correlated(rule: Correlation, group: tuple[str, ...], reached: Sequence[Entry]) -> SigmaMatch:
    first, last = reached[0].record.labels, reached[-1]
    shared = {
        name: first[name] for name in _SHARED_LABELS if name in first and all(entry.record.labels.get(name) == first[name] for entry in reached)
    }
    labels = Labels.of(shared | {label_name(name): value for name, value in zip(rule.group_by, group, strict=True)})
    return _build(rule.info, labels, last.at_ms, [entry.record for entry in reached], len(reached))


def _build(info: RuleInfo, labels: Labels, at_ms: int, records: Sequence[LogRecord], count: int) -> SigmaMatch:
    return SigmaMatch(
        rule_id=info.rule_id,
        title=info.title,
        level=info.level,
        author=info.author,
        labels=labels,
        at_ms=at_ms,
        evidence=tuple(map(_shown, records[-_EVIDENCE:])),
        fields={name: _short(value) for name, value in sorted(records[-1].fields.items())[:_MAX_FIELDS]},
        where=info.where,
        tags=info.tags,
        count=count,
    )


def label_name(field_name: str) -> str:
    """A field's name as a label's: `source.ip` -> `source_ip`."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in field_name)


def _shown(record: LogRecord) -> str:
    text = record.message or " ".join(f"{name}={as_text(value)}" for name, value in list(record.fields.items())[:8])
    return text if len(text) <= _EVIDENCE_CHARS else f"{text[: _EVIDENCE_CHARS - 1]}…"


def _short(value: Any) -> Any:
    if isinstance(value, int | float | bool) or value is None:
        return value
    text = as_text(value)
    return text if len(text) <= _EVIDENCE_CHARS else f"{text[: _EVIDENCE_CHARS - 1]}…"
