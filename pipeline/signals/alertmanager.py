"""`alertmanager`: alerts of a foreign Prometheus or Alertmanager, as `Event(kind="alert")`.

Three shapes: Alertmanager's webhook (version 4, alerts with a `status`), the array that Prometheus posts to `/api/v2/alerts`, and that array inside
the gateway's envelope `{"receivedAtMs": .., "alerts": [..]}`. An alert of the array has no status: it is over when `endsAt` is not after the moment
it was received, else it fires until then (`fields["expires_at_ms"]`) unless it is sent again. Without a moment of reception `ends_at_ms` is `endsAt`
as given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.model.signals import Event, SignalBatch
from pipeline.signals.errors import DecodeError, shown
from pipeline.signals.instants import instant_ms
from pipeline.signals.options import Context, check_size, interned
from pipeline.signals.parsing import as_object, label_pairs, parse, placed

ENVELOPE_TIME: Final = "receivedAtMs"


def decode(data: bytes, context: Context) -> SignalBatch:
    """One event an alert."""
    check_size(data, context.options.limits.max_batch_bytes, "max_batch_bytes")
    message = parse(data)
    received_at_ms, alerts = context.received_at_ms, message
    if isinstance(message, dict):
        if str(message.get("version", "4")) != "4":
            raise DecodeError(f"webhook version {shown(message['version'])} is not 4")
        alerts = message.get("alerts")
        if ENVELOPE_TIME in message:
            received_at_ms = instant_ms(message[ENVELOPE_TIME], ENVELOPE_TIME)
    if not isinstance(alerts, list):
        raise DecodeError("no alerts: neither a webhook (version 4) with 'alerts' nor an array of alerts")
    events = []
    for index, item in enumerate(alerts):
        with placed(f"alert {index}"):
            events.append(_event(as_object(item, "it"), received_at_ms, context))
    return SignalBatch(events=events, source=context.source)


def _event(item: Mapping[str, Any], received_at_ms: int | None, context: Context) -> Event:
    labels = interned(label_pairs(item.get("labels")), context.options)
    if not labels.get("alertname"):
        raise DecodeError("no label alertname")
    starts_at_ms, ends_at_ms = _instant(item, "startsAt"), _instant(item, "endsAt")
    expires_at_ms = 0
    if _fires(item, ends_at_ms, received_at_ms):
        expires_at_ms, ends_at_ms = ends_at_ms, 0
    url = item.get("generatorURL", "")
    if not isinstance(url, str):
        raise DecodeError(f"generatorURL is {shown(url)}, not a string")
    at_ms = received_at_ms if received_at_ms is not None else ends_at_ms or starts_at_ms
    fields = {
        "annotations": dict(label_pairs(item.get("annotations"), "annotations")),
        "starts_at_ms": starts_at_ms or at_ms,
        "ends_at_ms": ends_at_ms,
        "expires_at_ms": expires_at_ms,
        "generator_url": url,
    }
    return Event(at_ms, "alert", labels, fields)


def _fires(item: Mapping[str, Any], ends_at_ms: int, received_at_ms: int | None) -> bool:
    status = item.get("status")
    if isinstance(status, dict):  # GET /api/v2/alerts answers {"state": "active" | "suppressed" | ..}: all of them are still there
        return True
    if status is None:
        return received_at_ms is not None and (ends_at_ms == 0 or ends_at_ms > received_at_ms)
    if status not in {"firing", "resolved"}:
        raise DecodeError(f"status is {shown(status)}, neither firing nor resolved")
    return bool(status == "firing")


def _instant(item: Mapping[str, Any], key: str) -> int:
    """Milliseconds; 0 for absent and for Go's zero time (the year 1)."""
    value = item.get(key)
    return max(0, instant_ms(value, key)) if value else 0
