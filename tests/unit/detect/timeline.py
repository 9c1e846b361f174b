"""Runs a timeline: rules, what comes in when, and every fact that must come out. Times in a case count from `START_MS`.

The driver calls the detector as a runtime does: `advance` whenever `due_at_ms` says so, `feed` when something arrives.
"""

import re
from typing import Any

from pipeline.detect import Detected, DetectOptions, Detector, Rejection
from pipeline.detect.detector import DEFAULTS
from pipeline.model.duration import parse_duration_ms
from pipeline.model.labels import Labels
from pipeline.model.records import AlertFact, Finding, Measurement, Watch, stable_id
from pipeline.model.signals import Event, LogRecord, Sample, SignalBatch
from pipeline.rulebook.book import AlertRule, RecordRule, RuleBook, RuleGroup, SigmaRule
from pipeline.rulebook.spec import Service
from pipeline.series import STALE_NAN

START_MS = 1_700_000_040_000  # a whole minute, so that ticks of 1 s, 15 s and 1 m fall on round offsets
_SERIES = re.compile(r"([\w:]+)?(?:\{(.*)\})?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def offset(text: str | int) -> int:
    text = str(text)
    return -parse_duration_ms(text[1:]) if text.startswith("-") else parse_duration_ms(text)


def labels_of(text: str) -> Labels:
    found = _SERIES.fullmatch(text)
    assert found, text
    pairs = dict(_LABEL.findall(found[2] or ""))
    return Labels.of(pairs | ({"__name__": found[1]} if found[1] else {}))


def number(word: str) -> float:
    return STALE_NAN if word == "stale" else float(word)


def values_of(text: str) -> list[float | None]:
    """`1 2 3x4 _ stale 0+10x3`: promtool's notation (a missing point is None)."""
    out: list[float | None] = []
    for word in text.split():
        if found := re.fullmatch(r"([-\d.]+)([+-][\d.]+)x(\d+)", word):
            out += [float(found[1]) + step * float(found[2]) for step in range(int(found[3]) + 1)]
        elif found := re.fullmatch(r"(.+)x(\d+)", word):
            out += [None if found[1] == "_" else number(found[1])] * (int(found[2]) + 1)
        else:
            out.append(None if word == "_" else number(word))
    return out


def rule_of(group: str, raw: dict[str, Any]) -> AlertRule | RecordRule:
    labels = raw.get("labels", {})
    name = raw.get("alert") or raw["record"]
    rule_id = stable_id(group, name, raw["expr"], labels)
    if "record" in raw:
        return RecordRule(rule_id, name, raw["expr"], labels, "case:1")
    return AlertRule(
        rule_id,
        name,
        raw["expr"],
        for_ms=offset(raw.get("for", 0)),
        keep_firing_for_ms=offset(raw.get("keep_firing_for", 0)),
        labels=labels,
        annotations=raw.get("annotations", {}),
        evaluation=raw.get("evaluation", "both"),
        settle_ms=offset(raw.get("settle", "200ms")),
        where="case:1",
    )


def book_of(raw: dict[str, Any]) -> RuleBook:
    groups = tuple(
        RuleGroup(
            group["name"],
            "case",
            tuple(rule_of(group["name"], rule) for rule in group["rules"]),
            interval_ms=offset(group.get("interval", "1s")),
            query_offset_ms=offset(group.get("query_offset", 0)),
            limit=group.get("limit", 0),
            labels=group.get("labels", {}),
        )
        for group in raw.get("groups", [])
    )
    services = tuple(Service.model_validate(service) for service in raw.get("services", []))
    return RuleBook(stable_id(raw), groups, tuple(SigmaRule(text, "case") for text in raw.get("sigma", [])), services)


class Timeline:
    """One detector under a driver that notes what it says and when."""

    def __init__(self, rules: RuleBook, options: DetectOptions = DEFAULTS) -> None:
        self.rules, self.options = rules, options
        self.detector = Detector(rules, options)
        self.seen: list[tuple[int, Detected]] = []
        self.fed: list[tuple[int, SignalBatch]] = []

    def until(self, now_ms: int) -> None:
        while (due := self.detector.due_at_ms()) is not None and due <= now_ms:
            self._note(due, self.detector.advance(due))

    def feed(self, batch: SignalBatch, now_ms: int) -> None:
        self.until(now_ms)
        self.fed.append((now_ms, batch))
        self._note(now_ms, self.detector.feed(batch, now_ms))

    def advance(self, now_ms: int) -> None:
        self.until(now_ms)
        self._note(now_ms, self.detector.advance(now_ms))

    def late(self, now_ms: int) -> None:
        """`advance` came late: nothing was done when it was due."""
        self._note(now_ms, self.detector.advance(now_ms))

    def restart(self, rules: RuleBook | None = None) -> None:
        """As after a crash: a new detector from the stored state, its windows rewound from the inputs."""
        stored = self.detector.snapshot()
        self.rules = rules or self.rules
        self.detector = Detector(self.rules, self.options)
        self.detector.restore(stored)
        newest = max((now_ms for now_ms, _ in self.fed), default=0)
        for now_ms, batch in self.fed:
            if now_ms >= newest - self.detector.lookback_ms:
                self.detector.rewind(batch)

    def reload(self, rules: RuleBook, now_ms: int) -> None:
        self.until(now_ms)
        self.rules = rules
        self._note(now_ms, self.detector.reload(rules, now_ms)[1])

    def _note(self, now_ms: int, facts: list[Detected]) -> None:
        self.seen += [(now_ms, fact) for fact in facts]


def inputs_of(case: dict[str, Any]) -> list[tuple[int, int, str, Any]]:
    """(wall time, order, kind, what), sorted. Samples of one instant are one batch unless `batches: single`."""
    found: list[tuple[int, int, str, Any]] = []
    every, lag = offset(case.get("every", "1s")), offset(case.get("lag", 0))
    rows: dict[int, list[Sample]] = {}
    for name, text in case.get("series", {}).items():
        for index, value in enumerate(values_of(text)):
            if value is not None:
                at_ms = START_MS + index * every
                rows.setdefault(at_ms, []).append(Sample(labels_of(name), at_ms, value))
    for at_ms, samples in rows.items():
        batches = [[sample] for sample in samples] if case.get("batches") == "single" else [samples]
        found += [(at_ms + lag, len(found), "feed", SignalBatch.of(batch)) for batch in batches]
    for step in case.get("steps", []):
        now_ms = START_MS + offset(step["at"])
        found += [(now_ms, len(found), kind, what) for kind, what in step.items() if kind != "at"]
    return sorted(found, key=lambda item: item[:2])


def batch_of(kind: str, raw: Any, now_ms: int) -> SignalBatch:
    if kind == "samples":
        pairs = [(labels_of(name), value if isinstance(value, list) else [0, value]) for name, value in raw.items()]
        return SignalBatch.of([Sample(labels, now_ms + (offset(at) if at else 0), float(value)) for labels, (at, value) in pairs])
    if kind == "log":
        return SignalBatch.of(logs=[LogRecord(now_ms, raw.get("message", ""), raw.get("fields", {}), Labels.of(raw.get("labels", {})))])
    times = {key: START_MS + offset(raw[name]) for name, key in (("starts", "starts_at_ms"), ("ends", "ends_at_ms")) if name in raw}
    return SignalBatch.of(events=[Event(now_ms, "alert", Labels.of(raw["labels"]), {"annotations": raw.get("annotations", {}), **times})])


def watch_of(raw: dict[str, Any], now_ms: int) -> Watch:
    times = {key: START_MS + offset(raw[name]) for name, key in (("anchor", "anchor_ms"), ("until", "until_ms")) if name in raw}
    interval_ms = offset(raw.get("interval", "1s"))
    return Watch(id=raw["id"], group="g", at_ms=now_ms, expr=raw["expr"], kind=raw.get("kind", "condition"), interval_ms=interval_ms, **times)


def run(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Play a case; returns what was said, in the words of `expect`."""
    line = Timeline(
        book_of(case), DetectOptions(**{name: offset(text) if isinstance(text, str) else text for name, text in case.get("options", {}).items()})
    )
    line.advance(START_MS + offset(case.get("from", 0)))
    for now_ms, _, kind, what in inputs_of(case):
        match kind:
            case "feed":
                line.feed(what, now_ms)
            case "watch":
                line.until(now_ms)
                line.detector.watch(watch_of(what, now_ms), now_ms)
            case "reload":
                line.reload(book_of(what), now_ms)
            case "restart":
                line.until(now_ms)
                line.restart(book_of(what) if isinstance(what, dict) else None)
            case "late_advance":
                line.late(now_ms)
            case _:
                line.feed(batch_of(kind, what, now_ms), now_ms)
    line.until(START_MS + offset(case["until"]))
    return [told(now_ms, fact) for now_ms, fact in line.seen]


def told(now_ms: int, fact: Detected) -> dict[str, Any]:
    seen = now_ms - START_MS
    match fact:
        case AlertFact(alert=alert):
            return {
                "seen": seen,
                "at": fact.at_ms - START_MS,
                "alert": alert.name,
                "state": alert.state.value,
                "labels": {name: value for name, value in alert.labels.items() if name != "alertname"},
                "annotations": dict(alert.annotations),
                "track": alert.track,
                "value": alert.value,
                "ended": alert.ended.value if alert.ended else None,
                "warming": alert.warming,
                "confirmations": alert.confirmations,
                "since": alert.active_at_ms - START_MS,
                "fired": alert.fired_at_ms - START_MS if alert.fired_at_ms else None,
                "caused": fact.caused_at_ms - START_MS,
                "group": fact.group,
                "source": alert.source,
            }
        case Measurement():
            values = [list(pair) for pair in fact.values]
            return {
                "seen": seen,
                "at": fact.at_ms - START_MS,
                "watch": fact.watch_id,
                "truth": fact.truth.value,
                "value": fact.value,
                "values": values,
                "warming": fact.warming,
            }
        case Finding():
            return {"seen": seen, "finding": fact.title, "level": fact.level, "labels": dict(fact.labels)}
        case Rejection():
            return {"seen": seen, "rejected": fact.reason, "count": fact.count, "text": fact.text}
