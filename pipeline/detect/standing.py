"""Alerts that stand until someone says otherwise or nothing more is heard: security matches and the alerts of a foreign Alertmanager.

Guarantee: while one stands it does not fire again; hearing of it anew only moves the time at which it is given up. All times are wall times of
receipt except an alert's own start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from pipeline.detect.facts import Rejection, fact_of
from pipeline.model.labels import Labels
from pipeline.model.records import Alert, AlertFact, AlertState, Ending, stable_id
from pipeline.model.signals import Event

EXTERNAL, SIGMA = "external", "sigma"


@dataclass(slots=True)
class Stand:
    """One standing alert and when it is given up."""

    alert: Alert
    until_ms: int


@dataclass(slots=True)
class Standing:
    """All standing alerts, by rule and labels. `group_of` gives the group of a fact."""

    group_of: Callable[[Labels], str]
    stands: dict[tuple[str, Labels], Stand] = field(default_factory=dict)

    def raise_(self, alert: Alert, *, until_ms: int, now_ms: int) -> list[AlertFact]:
        """An alert fires, or is heard of again. Its second mention is told, because it confirms; further ones are not."""
        key = (alert.rule_id, alert.labels)
        stand = self.stands.get(key)
        if stand is None:
            self.stands[key] = Stand(alert, until_ms)
            return [self._fact(alert, now_ms)]
        stand.until_ms = max(until_ms, stand.until_ms) if alert.source == SIGMA else until_ms
        if stand.alert.confirmations > 1:
            return []
        stand.alert = replace(stand.alert, confirmations=2, revision=stand.alert.revision + 1)
        return [self._fact(stand.alert, now_ms)]

    def put(self, alert: Alert, until_ms: int) -> None:
        """Set one from a stored state."""
        self.stands[alert.rule_id, alert.labels] = Stand(alert, until_ms)

    def resolve(self, rule_id: str, labels: Labels, *, at_ms: int, ending: Ending) -> list[AlertFact]:
        """An alert ended; unknown ones are ignored."""
        stand = self.stands.pop((rule_id, labels), None)
        if stand is None:
            return []
        old = stand.alert
        alert = replace(old, state=AlertState.RESOLVED, resolved_at_ms=at_ms, ended=ending, revision=old.revision + 1)
        return [self._fact(alert, at_ms)]

    def due_at_ms(self) -> int | None:
        """When the first is given up."""
        return min((stand.until_ms for stand in self.stands.values()), default=None)

    def expire(self, now_ms: int) -> list[AlertFact]:
        """Give up what was not heard of again. Silence of a detector proves that a burst is over; silence of a foreign sender proves nothing."""
        out: list[AlertFact] = []
        for key, stand in sorted(self.stands.items()):
            if stand.until_ms <= now_ms:
                ending = Ending.BY_VALUE if stand.alert.source == SIGMA else Ending.BY_NODATA
                out += self.resolve(*key, at_ms=stand.until_ms, ending=ending)
        return out

    def _fact(self, alert: Alert, at_ms: int) -> AlertFact:
        return fact_of(alert, group=self.group_of(alert.labels), at_ms=at_ms, caused_at_ms=min(alert.active_at_ms, at_ms))


def has_ended(ends_at_ms: int, now_ms: int) -> bool:
    """Whether a foreign alert is over. An end ahead is only until when its sender vouches for it."""
    return 0 < ends_at_ms <= now_ms


def external_alert(event: Event, now_ms: int) -> Alert | Rejection:
    """The alert that a foreign Alertmanager event speaks of, or why it cannot be one."""
    labels, fields = event.labels, event.fields
    name = labels.get("alertname", "")
    if not name:
        return Rejection("bad_event", f"alert without label alertname: {labels}", at_ms=event.at_ms)
    starts_at_ms = fields.get("starts_at_ms") or event.at_ms
    annotations = fields.get("annotations") or {}
    if not isinstance(starts_at_ms, int) or not isinstance(fields.get("ends_at_ms") or 0, int) or not isinstance(annotations, Mapping):
        return Rejection("bad_event", f"alert {name}: starts_at_ms, ends_at_ms are integers, annotations a mapping", at_ms=event.at_ms)
    rule_id = stable_id(EXTERNAL, name)
    return Alert(
        id=stable_id(rule_id, labels, starts_at_ms),
        name=name,
        rule_id=rule_id,
        source=EXTERNAL,
        labels=labels,
        annotations={str(key): str(value) for key, value in annotations.items()},
        state=AlertState.FIRING,
        track=EXTERNAL,
        active_at_ms=starts_at_ms,
        fired_at_ms=min(starts_at_ms, now_ms),
        confirmations=2,  # its sender waited for it; a second opinion would never come
        revision=1,
    )
