"""The topics that the gateway writes, and what their records are: bytes of one request to the records to publish.

Keys: a record's key is the `service` label of its first signal, "" where it has none. Alerts and signals are split, so that a record holds one
service only; a remote-write request is passed on whole (its bytes are what the sender compressed), under the service of its first series.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from pipeline.model.signals import SignalBatch
from pipeline.ports.bus import OutRecord
from pipeline.signals import DecodeError, Options, decode
from pipeline.signals.alertmanager import ENVELOPE_TIME
from pipeline.signals.errors import shown
from pipeline.signals.parsing import lines, parse

REMOTE_WRITE: Final = "gateway-remote-write"
ALERTS: Final = "gateway-alerts"
JSON: Final = "gateway-json"
ECS: Final = "gateway-ecs"
ACCESS: Final = "gateway-envoy-access"
GATEWAY_INPUTS: Final[Mapping[str, str]] = MappingProxyType(
    {REMOTE_WRITE: "prometheus-remote-write", ALERTS: "alertmanager", JSON: "json-batch", ECS: "ecs", ACCESS: "envoy-access"}
)
LINE_FORMATS: Final = MappingProxyType({"json": JSON, "json-batch": JSON, "ecs": ECS, "envoy-access": ACCESS})


class Refusal(NamedTuple):
    """One part of a request that is not taken: its place (line or alert number, from 1; 0: the whole), why, and its bytes."""

    position: int
    reason: str
    payload: bytes


class Taken(NamedTuple):
    """What a request comes to."""

    records: list[OutRecord]
    accepted: int
    refused: list[Refusal]


def remote_write(body: bytes, options: Options) -> Taken:
    """A remote-write request, checked by decoding it."""
    try:
        batch = decode("prometheus-remote-write", body, options=options)
    except DecodeError as error:
        return Taken([], 0, [Refusal(0, error.reason, body)])
    records = [OutRecord(REMOTE_WRITE, service_of(batch), body)] if len(batch) else []
    return Taken(records, len(batch), [])


def alerts(body: bytes, options: Options, now_ms: int) -> Taken:
    """An Alertmanager request: good alerts are taken, each wrong one is refused, as Alertmanager itself does."""
    try:
        items = parse(body)
    except DecodeError as error:
        return Taken([], 0, [Refusal(0, error.reason, body)])
    if not isinstance(items, list):
        return Taken([], 0, [Refusal(0, "not an array of alerts (this is Alertmanager's API v2)", body)])
    by_service: dict[str, list[Any]] = {}
    refused: list[Refusal] = []
    for position, item in enumerate(items, start=1):
        try:
            batch = decode("alertmanager", _envelope([item], now_ms), options=options)
        except DecodeError as error:
            refused.append(Refusal(position, error.reason.removeprefix("alert 0: "), msgspec.json.encode(item)))
            continue
        by_service.setdefault(service_of(batch), []).append(item)
    records = [OutRecord(ALERTS, service, _envelope(group, now_ms)) for service, group in by_service.items()]
    return Taken(records, len(items) - len(refused), refused)


def signals(body: bytes, format_: str, options: Options) -> Taken:
    """Lines of JSON (or one array): good lines are taken, each wrong one is refused with its number."""
    topic = LINE_FORMATS.get(format_)
    if topic is None:
        return Taken([], 0, [Refusal(0, f"format {shown(format_)} is not one of {', '.join(LINE_FORMATS)}", b"")])
    by_service: dict[str, list[bytes]] = {}
    refused: list[Refusal] = []
    accepted = 0
    try:
        numbered = list(_elements(body))
    except DecodeError as error:
        return Taken([], 0, [Refusal(0, error.reason, body)])
    for position, line in numbered:
        try:
            batch = decode(GATEWAY_INPUTS[topic], line, options=options)
        except DecodeError as error:
            refused.append(Refusal(position, error.reason, line))
            continue
        accepted += 1
        by_service.setdefault(service_of(batch), []).append(line)
    return Taken([OutRecord(topic, service, b"\n".join(group)) for service, group in by_service.items()], accepted, refused)


def service_of(batch: SignalBatch) -> str:
    """The routing key: the service of the first signal."""
    first = next(iter((*batch.labels[:1], *(log.labels for log in batch.logs[:1]), *(event.labels for event in batch.events[:1]))), None)
    return first.get("service", "") if first is not None else ""


def _elements(body: bytes) -> Iterable[tuple[int, bytes]]:
    if body.lstrip().startswith(b"["):
        return [(position, msgspec.json.encode(item)) for position, item in enumerate(parse(body), start=1)]
    return lines(body)


def _envelope(items: list[Any], now_ms: int) -> bytes:
    return msgspec.json.encode({ENVELOPE_TIME: now_ms, "alerts": items})
