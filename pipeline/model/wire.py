"""The wire form of every record: one JSON object with `type` and `schema_version`.

Guarantee: `decode(encode(x)) == x`; what a newer version wrote is refused loudly, never half read.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import msgspec

from pipeline.model import records
from pipeline.model.labels import Labels
from pipeline.model.target import Target

R = TypeVar("R", bound=records.Value)


class WireError(ValueError):
    """Bytes that are not a record of this version. The message says why."""


def _enc_hook(value: Any) -> Any:
    if isinstance(value, Labels):
        return dict(value.pairs)
    if isinstance(value, Target):
        return str(value)
    raise NotImplementedError(type(value))


def _dec_hook(kind: type, value: Any) -> Any:
    if kind is Labels:
        return Labels.of(value)
    if kind is Target:
        return Target.parse(value)
    raise NotImplementedError(kind)


_ENCODER = msgspec.json.Encoder(enc_hook=_enc_hook)
_DECODER = msgspec.json.Decoder(records.AnyRecord, dec_hook=_dec_hook)


class _Head(msgspec.Struct):
    type: str = ""
    schema_version: int = records.SCHEMA_VERSION


_HEAD = msgspec.json.Decoder(_Head)


def encode(value: records.Value) -> bytes:
    """One record as JSON bytes. NaN and infinities become null."""
    return _ENCODER.encode(value)


def decode(data: bytes) -> records.AnyRecord:
    """One record from JSON bytes.

    Raises:
        WireError: not JSON, not a known type, a field of the wrong type, or written by a newer version.
    """
    try:
        value: records.AnyRecord = _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise WireError(_explain(data, error)) from error
    if value.schema_version > records.SCHEMA_VERSION:  # it fits, but a field that this version does not know may change what it means
        raise WireError(_newer(type(value).__name__, value.schema_version))
    return value


def decode_as(kind: type[R], data: bytes) -> R:
    """Like `decode`, for a topic that carries one type.

    Raises:
        WireError: as `decode`, or another type.
    """
    value = decode(data)
    if not isinstance(value, kind):
        raise WireError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def to_document(value: records.Value) -> dict[str, Any]:
    """The record as plain JSON-ready types, for a store or a person."""
    document: dict[str, Any] = msgspec.to_builtins(value, enc_hook=_enc_hook)
    return document


def finite(value: float) -> float | None:
    """The number, or None where JSON has none (NaN, infinities)."""
    return value if math.isfinite(value) else None


def _explain(data: bytes, error: Exception) -> str:
    try:
        head = _HEAD.decode(data)
    except msgspec.MsgspecError:
        return f"not a record: {error}"
    if head.schema_version > records.SCHEMA_VERSION:
        return _newer(head.type, head.schema_version)
    return f"{head.type or 'record without type'}: {error}"


def _newer(kind: str, version: int) -> str:
    return f"{kind} has schema version {version}; this version reads up to {records.SCHEMA_VERSION}: update this worker first"
