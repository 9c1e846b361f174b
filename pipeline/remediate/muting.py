"""What mutes an alert: silences, maintenance windows and inhibitions. A muted alert is recorded and causes nothing.

Inhibition follows Alertmanager: a source that fires mutes targets with equal labels (absent equals empty); an alert that matches both sides of
a rule does not inhibit, and is not inhibited, by alerts of which the same is true.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.model.reasons import Reason
from pipeline.model.records import AlertState
from pipeline.remediate import matchers
from pipeline.remediate.state import AlertEntry
from pipeline.remediate.turn import Hold, Turn
from pipeline.rulebook.spec import Inhibition


def instant_ms(text: str) -> int:
    """Milliseconds of an RFC 3339 time; one without a zone is UTC.

    Raises:
        ValueError: not a time.
    """
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def muted(turn: Turn, entry: AlertEntry) -> Hold | None:
    """Why the alert causes nothing now; None: it is not muted."""
    return _maintenance(turn, entry) or _silence(turn, entry) or _inhibition(turn, entry)


def _maintenance(turn: Turn, entry: AlertEntry) -> Hold | None:
    for window in turn.rules.maintenance:
        ends_at_ms = instant_ms(window.ends_at)
        if window.service == entry.service and instant_ms(window.starts_at) <= turn.now_ms < ends_at_ms:
            text = f"{entry.service} is in maintenance until {window.ends_at}{': ' + window.comment if window.comment else '.'}"
            return Hold(Reason.MAINTENANCE, text, {"ends_at_ms": ends_at_ms}, retry_at_ms=ends_at_ms)
    return None


def _silence(turn: Turn, entry: AlertEntry) -> Hold | None:
    labels = labels_of(entry)
    for silence in turn.rules.silences:
        ends_at_ms = instant_ms(silence.ends_at)
        if instant_ms(silence.starts_at) <= turn.now_ms < ends_at_ms and matchers.all_match(silence.match, labels):
            return _silenced(entry, ends_at_ms, silence.created_by, silence.comment)
    for own in turn.state.silences.values():
        if own.starts_at_ms <= turn.now_ms < own.ends_at_ms and matchers.all_match(own.match, labels):
            return _silenced(entry, own.ends_at_ms, own.identity, own.id)
    return None


def _silenced(entry: AlertEntry, ends_at_ms: int, who: str, what: str) -> Hold:
    evidence = {"ends_at_ms": ends_at_ms, "created_by": who, "silence": what}
    return Hold(Reason.SILENCED, f"{entry.alert.name} is silenced{' by ' + who if who else ''}.", evidence, retry_at_ms=ends_at_ms)


def _inhibition(turn: Turn, entry: AlertEntry) -> Hold | None:
    for rule in turn.rules.inhibitions:
        if matchers.all_match(rule.target, labels_of(entry)):
            source = _source(turn, rule, entry)
            if source is not None:
                evidence = {"source_alert": source.alert.id, "equal": list(rule.equal)}
                return Hold(Reason.INHIBITED, f"{entry.alert.name} is inhibited by {source.alert.name}, which fires.", evidence)
    return None


def _source(turn: Turn, rule: Inhibition, entry: AlertEntry) -> AlertEntry | None:
    labels = labels_of(entry)
    both = matchers.all_match(rule.source, labels)
    for other in turn.state.alerts.values():
        if other.alert.id == entry.alert.id or other.alert.state is not AlertState.FIRING:
            continue
        theirs = labels_of(other)
        if not matchers.all_match(rule.source, theirs) or any(theirs.get(name, "") != labels.get(name, "") for name in rule.equal):
            continue
        if not (both and matchers.all_match(rule.target, theirs)):
            return other
    return None


def labels_of(entry: AlertEntry) -> dict[str, str]:
    """The alert's labels with `alertname`, as matchers and templates see them."""
    return {"alertname": entry.alert.name, **entry.alert.labels}
