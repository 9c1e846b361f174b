"""Decoding: bytes of one message to a `SignalBatch`. One module per format; `FORMATS` names them.

Guarantee: `decode` is pure, bounded by `Limits`, and refuses with `DecodeError` (which holds a reason) and nothing else, whatever the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pipeline.model.signals import SignalBatch
from pipeline.signals import alertmanager, ecs, envoy_access, json, json_batch, remote_write
from pipeline.signals.access_aggregator import AccessAggregator
from pipeline.signals.errors import DecodeError, shown
from pipeline.signals.options import DEFAULT, Context, Interner, Limits, Options

FORMATS: Final[Mapping[str, Callable[[bytes, Context], SignalBatch]]] = MappingProxyType(
    {
        "alertmanager": alertmanager.decode,
        "ecs": ecs.decode,
        "envoy-access": envoy_access.decode,
        "json": json.decode,
        "json-batch": json_batch.decode,
        "prometheus-remote-write": remote_write.decode,
    }
)


def decode(format: str, data: bytes, *, options: Options = DEFAULT, source: str = "", received_at_ms: int | None = None) -> SignalBatch:  # noqa: A002 - the configuration's word
    """The signals in one message.

    `format` is a key of `FORMATS`; `source` names the input in the batch; `received_at_ms` (the broker's time) stands in where a message carries no
    time stamp: without it such a message is refused. `options` holds the limits and the memory of label sets.

    Raises:
        DecodeError: the message is refused as a whole; `reason` says why.
    """
    decoder = FORMATS.get(format)
    if decoder is None:
        raise DecodeError(f"unknown format {shown(format)} (formats: {', '.join(FORMATS)})")
    return decoder(data, Context(options, source, received_at_ms))


__all__ = ["DEFAULT", "FORMATS", "AccessAggregator", "Context", "DecodeError", "Interner", "Limits", "Options", "decode"]
