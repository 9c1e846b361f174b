"""`envoy-access`: JSON access-log lines of a proxy (Envoy's `json_format`; others that use the same names), one or many a message.

Decoding is pure: a line becomes a `LogRecord` with ECS names and the labels service, version, site, cluster, code. Counters and latency histograms
are made from these records by `access_aggregator`, which has a state. Known keys (first one present counts; all others stay in `fields` as they are):

    start_time (request start: the record's time is start + duration), or @timestamp | ts | timestamp | time (when the line was written)
    response_code | code | status         duration_ms | duration (ms)      method        path | url
    upstream_cluster | cluster            upstream_host                    response_flags
    client_address | downstream_remote_address | remote_address            user_agent    request_id   authority | host
    service | service.name, version | backend_version, site                what the proxy's configuration writes; `labels` {...} adds more
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.model.signals import LogRecord, SignalBatch
from pipeline.signals.ecs import TIME_KEYS, event_time
from pipeline.signals.errors import DecodeError, shown
from pipeline.signals.instants import instant_ms
from pipeline.signals.options import Context, interned
from pipeline.signals.parsing import flatten, label_pairs, number, objects, placed, scalar_text

_NAMES: Final = {
    "response_code": "http.response.status_code",
    "code": "http.response.status_code",
    "status": "http.response.status_code",
    "method": "http.request.method",
    "path": "url.path",
    "url": "url.path",
    "upstream_cluster": "envoy.upstream_cluster",
    "cluster": "envoy.upstream_cluster",
    "upstream_host": "envoy.upstream_host",
    "response_flags": "envoy.response_flags",
    "user_agent": "user_agent.original",
    "request_id": "http.request.id",
    "authority": "url.domain",
    "host": "url.domain",
}
_DURATION: Final = ("duration_ms", "duration")
_CLIENT: Final = ("client_address", "downstream_remote_address", "remote_address")
_LABELS: Final = {
    "service": ("service", "service.name"),
    "version": ("version", "backend_version"),
    "site": ("site",),
    "cluster": ("upstream_cluster", "cluster"),
    "code": ("response_code", "code", "status"),
}
_ABSENT: Final = (None, "", "-")  # Envoy writes null or "-" for what it does not know


def decode(data: bytes, context: Context) -> SignalBatch:
    """One record a line."""
    batch = SignalBatch(source=context.source)
    for where, item in objects(data, context):
        with placed(where):
            batch.logs.append(_record(item, context))
    return batch


def _record(item: Mapping[str, Any], context: Context) -> LogRecord:
    line = {
        name: value
        for name, value in flatten({key: item[key] for key in item if key != "labels"}, context.options.limits).items()
        if value not in _ABSENT
    }
    duration_ms = _duration_ms(line)
    at_ms = _written_at_ms(line, duration_ms, context)
    code = _code(line)
    labels = {label: scalar_text(line[key], key) for label, keys in _LABELS.items() for key in keys[::-1] if key in line}
    labels |= dict(label_pairs(item.get("labels")))
    fields = {_NAMES.get(name, name): value for name, value in line.items() if name not in {"start_time", *TIME_KEYS, *_DURATION, *_CLIENT}}
    fields["http.response.status_code"] = code
    if duration_ms is not None:
        fields["event.duration"] = round(duration_ms * 1e6)  # ECS counts nanoseconds
    fields |= _client(line)
    text = f"{fields.get('http.request.method', '')} {fields.get('url.path', '')} {code}".strip()
    return LogRecord(at_ms, text, fields, interned(tuple(labels.items()), context.options))


def _written_at_ms(line: Mapping[str, Any], duration_ms: float | None, context: Context) -> int:
    """When the request ended: a slow request's line is news at its end, not late."""
    if "start_time" in line:
        return instant_ms(line["start_time"], "start_time") + round(duration_ms or 0)
    return event_time(line, context)[1]


def _duration_ms(line: Mapping[str, Any]) -> float | None:
    for key in _DURATION:
        if key in line:
            value = number(line[key], key)
            if not 0 <= value < 1e12:
                raise DecodeError(f"{key} {shown(line[key])} is not a duration in milliseconds")
            return value
    return None


def _code(line: Mapping[str, Any]) -> int:
    for key in _LABELS["code"]:
        if key in line:
            value = number(line[key], key)
            if value != int(value if abs(value) < 1e6 else -1) or not 0 <= value <= 999:
                raise DecodeError(f"{key} {shown(line[key])} is not a status code")
            return int(value)
    raise DecodeError("no response_code: not an access-log line")


def _client(line: Mapping[str, Any]) -> dict[str, Any]:
    """`source.ip` and `source.port` from `1.2.3.4:5678`, `[::1]:5678` or a bare address."""
    for key in _CLIENT:
        if key in line:
            text = scalar_text(line[key], key)
            address, _, port = text.rpartition(":")
            if port.isdecimal() and len(port) <= 5 and (address.endswith("]") or address.count(":") == 0) and address:
                return {"source.ip": address.strip("[]"), "source.port": int(port)}
            return {"source.ip": text.strip("[]")}
    return {}
