"""`prometheus-remote-write`: remote write 1.0, a snappy block that holds a protobuf `WriteRequest`.

Read: series labels and float samples, stale markers with every bit. Ignored: metadata, exemplars, native histograms (no float samples).
The descriptor declares `TimeSeries.labels` as bytes, which is the same on the wire: a series seen before is then found by the bytes of its labels,
and only a new one is parsed. The declared size is checked before anything is decompressed.
"""

from __future__ import annotations

import struct
from typing import Any, Final, cast

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as WireError

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.model.signals import SignalBatch
from pipeline.signals.errors import DecodeError
from pipeline.signals.instants import checked_ms
from pipeline.signals.options import Context, Limits, Options, build_labels, check_size

_FIELD: Final = descriptor_pb2.FieldDescriptorProto
_PACKAGE: Final = "reflexarc.prometheus"


def _messages() -> dict[str, Any]:
    """The three message classes, in a pool of their own so that another library's Prometheus descriptors do not collide."""
    file = descriptor_pb2.FileDescriptorProto(name="reflexarc/prometheus.proto", package=_PACKAGE, syntax="proto3")
    _message(file, "Label", ("name", 1, _FIELD.TYPE_STRING, ""), ("value", 2, _FIELD.TYPE_STRING, ""))
    _message(file, "Sample", ("value", 1, _FIELD.TYPE_DOUBLE, ""), ("timestamp", 2, _FIELD.TYPE_INT64, ""))
    _message(file, "TimeSeries", ("labels", 1, _FIELD.TYPE_BYTES, "*"), ("samples", 2, _FIELD.TYPE_MESSAGE, "Sample"))
    _message(file, "WriteRequest", ("timeseries", 1, _FIELD.TYPE_BYTES, "*"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("Label", "Sample", "TimeSeries", "WriteRequest")
    }


def _message(file: descriptor_pb2.FileDescriptorProto, name: str, *fields: tuple[str, int, int, str]) -> None:
    """Add a message; the last of each field: a message's name or `*` (repeated), empty (single)."""
    message = file.message_type.add(name=name)
    for field_name, position, kind, of in fields:
        added = message.field.add(name=field_name, number=position, type=cast("Any", kind))
        added.label = _FIELD.LABEL_REPEATED if of else _FIELD.LABEL_OPTIONAL
        if of not in {"", "*"}:
            added.type_name = f".{_PACKAGE}.{of}"


_CLASSES: Final = _messages()
WriteRequest: Final = _CLASSES["WriteRequest"]
TimeSeries: Final = _CLASSES["TimeSeries"]
Label: Final = _CLASSES["Label"]
_DOUBLE: Final = struct.Struct("<d").unpack_from


def decode(data: bytes, context: Context) -> SignalBatch:
    """All samples of the request, in its order."""
    request = WriteRequest()
    try:
        request.ParseFromString(decompressed(data, context.options.limits))
    except WireError as error:
        raise DecodeError("the decompressed bytes are not a protobuf WriteRequest of remote write 1.0") from error
    batch = SignalBatch(source=context.source)
    instants: dict[bytes, int] = {}  # a scrape's series share their time stamp: its bytes are read once
    for raw in request.timeseries:
        if not _add_known(raw, batch, instants, context.options):
            _add(raw, batch, context.options)
    return batch


def _add_known(raw: bytes, batch: SignalBatch, instants: dict[bytes, int], options: Options) -> bool:
    """Add a series seen before that ends in exactly one sample in its usual 18 bytes; False when it is anything else.

    Those bytes: tag and length of `samples` (0x12 0x10), tag 0x09 and the double, tag 0x10 and a time stamp of six bytes. What stands before them was
    stored only when it was all labels, so protobuf, which is read from the front, cannot mean anything else.
    """
    if raw[-18:-15] != b"\x12\x10\x09" or raw[-7] != 0x10:
        return False
    labels = options.interner.get(raw[:-18])
    at_ms = instants.get(raw[-6:])
    if labels is None:
        return False
    if at_ms is None:
        at_ms = instants[raw[-6:]] = _varint_ms(raw[-6:])
    batch.labels.append(labels)
    batch.at_ms.append(at_ms)
    batch.values.append(_DOUBLE(raw, len(raw) - 15)[0])
    return True


def _add(raw: bytes, batch: SignalBatch, options: Options) -> None:
    """Any series, through the protobuf library."""
    try:
        series = TimeSeries.FromString(raw)
    except WireError as error:
        raise DecodeError("a series is not a protobuf TimeSeries of remote write 1.0") from error
    key = tuple(series.labels)
    labels = options.interner.get(key) or options.interner.put(key, _labels(key, options))
    for sample in series.samples:
        batch.labels.append(labels)
        batch.at_ms.append(checked_ms(sample.timestamp))
        batch.values.append(sample.value)
    if len(series.samples) == 1 and raw[-18:-15] == b"\x12\x10\x09" and raw[:-18] == TimeSeries(labels=key).SerializeToString():
        options.interner.put(raw[:-18], labels)


def _varint_ms(raw: bytes) -> int:
    """A time stamp of six bytes: five with the high bit, one without."""
    if any(byte < 0x80 for byte in raw[:5]) or raw[5] >= 0x80:
        raise DecodeError("a sample's time stamp is not a protobuf varint")
    return checked_ms(sum((byte & 0x7F) << 7 * place for place, byte in enumerate(raw)))


def decompressed(data: bytes, limits: Limits) -> bytes:
    """The content of a snappy block.

    Raises:
        DecodeError: not snappy, or larger than allowed (the declared size is looked at first).
    """
    check_size(data, limits.max_batch_bytes, "max_batch_bytes")
    try:
        size = cramjam.snappy.decompress_raw_len(data)
        if size > limits.max_decompressed_bytes:
            raise DecodeError(f"{size} bytes when decompressed are more than max_decompressed_bytes = {limits.max_decompressed_bytes}")
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError as error:
        raise DecodeError(f"not a snappy block: {error}") from error


def _labels(parts: tuple[bytes, ...], options: Options) -> Labels:
    if len(parts) > options.limits.max_labels:
        raise DecodeError(f"{len(parts)} labels are more than max_labels = {options.limits.max_labels}")
    try:
        pairs = [(label.name, label.value) for label in map(Label.FromString, parts)]
    except (WireError, UnicodeDecodeError) as error:
        raise DecodeError("a label is not a protobuf Label with UTF-8 text") from error
    labels = build_labels(pairs, options.limits)
    if not labels.metric_name:
        raise DecodeError(f"a series has no {METRIC_NAME} label: {labels}"[:200])
    return labels


def encode(batch: SignalBatch) -> bytes:
    """The request that carries these samples: the inverse of `decode`, for tests and for sending on."""
    series: dict[Labels, Any] = {}
    for sample in batch.samples():
        entry = series.get(sample.labels)
        if entry is None:
            entry = series[sample.labels] = TimeSeries()
            entry.labels.extend(Label(name=name, value=value).SerializeToString() for name, value in sample.labels.pairs)
        entry.samples.add(value=sample.value, timestamp=sample.at_ms)
    request = WriteRequest(timeseries=[entry.SerializeToString() for entry in series.values()])
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))
