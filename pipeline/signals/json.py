"""`json`: one sample, log record or event a message, told apart by its keys.

Sample  {"name": "http_requests_total", "labels": {"service": "checkout"}, "value": 12, "ts": 1767225600000}
        also `metric` for name, `tags` for labels, `timestamp`/`time`/`@timestamp` for ts; `type`, `unit`, `help` are ignored; another key is an error
Event   {"event": "deployment", "labels": {...}, "ts": ..., ...}: `event` is a string; all other keys become fields
Log     {"@timestamp" | "ts": ..., "message": ..., ...}: anything else that has a message or a time; see `ecs`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.model.signals import Event, SignalBatch
from pipeline.signals.ecs import TEXT_KEYS, TIME_KEYS, event_time, log_record
from pipeline.signals.errors import DecodeError, shown
from pipeline.signals.instants import checked_ms
from pipeline.signals.options import Context, Options, build_labels, check_size, interned
from pipeline.signals.parsing import flatten, label_pairs, number, parse, parse_object

_NAME_KEYS: Final = ("name", "metric")
_LABEL_KEYS: Final = ("labels", "tags")
_IGNORED: Final = ("type", "unit", "help")
_SAMPLE_KEYS: Final = frozenset((*_NAME_KEYS, *_LABEL_KEYS, *TIME_KEYS, *_IGNORED, "value"))


class _Row(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The plain shape of a sample: decoded without building its labels, which are looked up by their bytes."""

    name: str
    value: float
    ts: int
    labels: msgspec.Raw = msgspec.Raw(b"{}")


_ROW: Final = msgspec.json.Decoder(_Row)


def decode(data: bytes, context: Context) -> SignalBatch:
    """One sample, log record or event."""
    try:
        row = _ROW.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _decode_any(data, context)  # another kind or spelling, or wrong: the slow way finds out and says why
    check_size(data, context.options.limits.max_message_bytes, "max_message_bytes")
    raw = bytes(row.labels)
    labels = context.options.interner.get((row.name, raw))
    if labels is None:
        labels = context.options.interner.put((row.name, raw), series_labels(row.name, parse(raw), context.options))
    return SignalBatch([labels], [checked_ms(row.ts)], [row.value], source=context.source)


def add(item: Mapping[str, Any], batch: SignalBatch, context: Context) -> None:
    """Put one decoded object into `batch`.

    Raises:
        DecodeError: it is none of the three kinds, or a wrong one.
    """
    if isinstance(item.get("event"), str):
        batch.events.append(_event(item, context))
    elif "value" in item and not any(key in item for key in TEXT_KEYS):
        labels, at_ms, value = _sample(item, context)
        batch.labels.append(labels)
        batch.at_ms.append(at_ms)
        batch.values.append(value)
    elif any(key in item for key in (*TEXT_KEYS, "@timestamp", "ts")):
        batch.logs.append(log_record(item, context))
    else:
        keys = ", ".join(sorted(item)[:8]) or "none"
        raise DecodeError(f"neither a sample (name, value, ts) nor a log record (message, @timestamp) nor an event (event, ts); keys: {shown(keys)}")


def _decode_any(data: bytes, context: Context) -> SignalBatch:
    batch = SignalBatch(source=context.source)
    add(parse_object(data, context.options.limits), batch, context)
    return batch


def _sample(item: Mapping[str, Any], context: Context) -> tuple[Labels, int, float]:
    unknown = item.keys() - _SAMPLE_KEYS
    if unknown:
        raise DecodeError(f"unknown key {shown(min(unknown))} in a sample: labels stand under 'labels'")
    name = next((item[key] for key in _NAME_KEYS if key in item), "")
    if not isinstance(name, str):
        raise DecodeError(f"name is {shown(name)}, not a string")
    pairs = next((label_pairs(item[key], key) for key in _LABEL_KEYS if key in item), ())
    labels = series_labels(name, dict(pairs), context.options)
    return labels, event_time(item, context)[1], number(item["value"])


def series_labels(name: str, given: Any, options: Options) -> Labels:
    """Labels of a series from its name and its label object.

    Raises:
        DecodeError: no name, two names, a label that is no scalar, or a limit.
    """
    pairs = dict(label_pairs(given))
    inside = pairs.pop(METRIC_NAME, name)
    if name and inside != name:
        raise DecodeError(f"name is {shown(name)}, but labels.{METRIC_NAME} is {shown(inside)}")
    if not inside:
        raise DecodeError("a sample needs a name")
    return build_labels(((METRIC_NAME, inside), *pairs.items()), options.limits)


def _event(item: Mapping[str, Any], context: Context) -> Event:
    time_key, at_ms = event_time(item, context)
    kind = item["event"]
    if not kind:
        raise DecodeError("event is an empty string: name what happened")
    labels = interned(label_pairs(item.get("labels")), context.options)
    rest = {name: value for name, value in item.items() if name not in {time_key, "event", "labels"}}
    return Event(at_ms, kind, labels, flatten(rest, context.options.limits))
