"""`ecs`: log records as Elastic Common Schema JSON; one object, one a line, or an array.

Nested objects become dotted names (`{"source": {"ip": ..}}` -> `source.ip`). The time is `@timestamp` (also `ts`, `timestamp`, `time`), the
text `message` (also `msg`). Labels, by which services and groups are found, come from `labels`, from `service.name` -> service, `service.version` ->
version, `service.environment` -> environment, `host.name` -> host, and from plain top-level `service`, `version`, `site`, `instance`.
Nothing is dropped from `fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.model.signals import LogRecord, SignalBatch
from pipeline.signals.errors import DecodeError
from pipeline.signals.instants import instant_ms
from pipeline.signals.options import Context, interned
from pipeline.signals.parsing import flatten, label_pairs, objects, placed

TIME_KEYS: Final = ("@timestamp", "ts", "timestamp", "time")
TEXT_KEYS: Final = ("message", "msg")
LABEL_FIELDS: Final = {
    "service.name": "service",
    "service.version": "version",
    "service.environment": "environment",
    "host.name": "host",
    "service": "service",
    "version": "version",
    "site": "site",
    "instance": "instance",
}


def decode(data: bytes, context: Context) -> SignalBatch:
    """All log records of the message."""
    batch = SignalBatch(source=context.source)
    for where, item in objects(data, context):
        with placed(where):
            batch.logs.append(log_record(item, context))
    return batch


def log_record(source: Mapping[str, Any], context: Context) -> LogRecord:
    """One record.

    Raises:
        DecodeError: no time stamp, a message that is not text, or a limit.
    """
    time_key, at_ms = event_time(source, context)
    rest = {name: value for name, value in source.items() if name not in {time_key, "labels"}}
    message = ""
    for key in TEXT_KEYS:
        if isinstance(rest.get(key), str):
            message = rest.pop(key)
            break
    limits = context.options.limits
    fields = flatten(rest, limits)
    labels = dict(_mapped(fields)) | dict(label_pairs(source.get("labels")))
    for name, value in labels.items():
        fields.setdefault(f"labels.{name}", value)
    return LogRecord(at_ms, message, fields, interned(tuple(labels.items()), context.options))


def event_time(source: Mapping[str, Any], context: Context) -> tuple[str, int]:
    """The key that held the time, and the time; the broker's where the message has none.

    Raises:
        DecodeError: no time anywhere.
    """
    for key in TIME_KEYS:
        if source.get(key) is not None:
            return key, instant_ms(source[key], key)
    if context.received_at_ms is None:
        raise DecodeError("no time stamp: add @timestamp or ts (milliseconds, or RFC 3339)")
    return "", context.received_at_ms


def _mapped(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(label, str(fields[name])) for name, label in LABEL_FIELDS.items() if isinstance(fields.get(name), str | int)]
