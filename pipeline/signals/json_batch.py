"""`json-batch`: many signals in one message, atomic together.

Three shapes: an array of objects; one object a line (NDJSON); a columnar object `{"name", "labels", "samples": [[ts, value], ..]}`, alone or as an
element of the other two. The other objects are those of the format `json`. One wrong element refuses the whole message, with its line or index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pipeline.model.signals import SignalBatch
from pipeline.signals import json
from pipeline.signals.errors import DecodeError, shown
from pipeline.signals.instants import checked_ms, instant_ms
from pipeline.signals.options import Context, Options, check_size
from pipeline.signals.parsing import number, objects, parse, placed

_COLUMN_KEYS: Final = frozenset({"name", "metric", "labels", "samples", "type", "unit", "help"})


class _Mixed(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A plain sample or a columnar object."""

    name: str
    value: float | None = None
    ts: int | None = None
    samples: list[tuple[int, float]] | None = None
    labels: msgspec.Raw = msgspec.Raw(b"{}")


_ONE: Final = msgspec.json.Decoder(_Mixed)
_MANY: Final = msgspec.json.Decoder(list[_Mixed])


def decode(data: bytes, context: Context) -> SignalBatch:
    """Everything in the message."""
    check_size(data, context.options.limits.max_batch_bytes, "max_batch_bytes")
    text = data.strip()
    try:
        rows = _MANY.decode(text) if text.startswith(b"[") else _ONE.decode_lines(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _decode_any(text, context)
    batch = SignalBatch(source=context.source)
    if not rows or not all(_plain(row, batch, context.options) for row in rows):
        return _decode_any(text, context)  # another spelling, or wrong: the slow way says what and where
    return batch


def _plain(row: _Mixed, batch: SignalBatch, options: Options) -> bool:
    """Add a row of the plain shapes; False for any other."""
    raw = bytes(row.labels)
    labels = options.interner.get((row.name, raw))
    if labels is None:
        labels = options.interner.put((row.name, raw), json.series_labels(row.name, parse(raw), options))
    if row.samples is not None and row.value is None and row.ts is None:
        batch.labels.extend([labels] * len(row.samples))
        batch.at_ms.extend([checked_ms(at_ms) for at_ms, _ in row.samples])
        batch.values.extend([value for _, value in row.samples])
        return True
    if row.value is None or row.ts is None or row.samples is not None:
        return False
    batch.labels.append(labels)
    batch.at_ms.append(checked_ms(row.ts))
    batch.values.append(row.value)
    return True


def _decode_any(text: bytes, context: Context) -> SignalBatch:
    batch = SignalBatch(source=context.source)
    for where, item in objects(text, context):
        with placed(where):
            _add(item, batch, context)
    return batch


def _add(item: Mapping[str, Any], batch: SignalBatch, context: Context) -> None:
    if "samples" not in item:
        json.add(item, batch, context)
        return
    unknown = item.keys() - _COLUMN_KEYS
    if unknown:
        raise DecodeError(f"unknown key {shown(min(unknown))} beside samples: labels stand under 'labels'")
    name, given = item.get("name", item.get("metric", "")), item.get("labels") or {}
    if not isinstance(name, str) or not isinstance(given, dict):
        raise DecodeError("name is a string and labels an object")
    labels = json.series_labels(name, given, context.options)
    if not isinstance(item["samples"], list):
        raise DecodeError("samples is a list of [ts, value] pairs")
    for position, pair in enumerate(item["samples"]):
        if not isinstance(pair, list) or len(pair) != 2:
            raise DecodeError(f"samples[{position}] is {shown(pair)}, not [ts, value]")
        batch.labels.append(labels)
        batch.at_ms.append(instant_ms(pair[0], f"samples[{position}] ts"))
        batch.values.append(number(pair[1], f"samples[{position}] value"))
