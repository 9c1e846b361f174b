"""Decoding never raises anything but DecodeError, and what is encoded comes back."""

import json
import math
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.labels import Labels
from pipeline.model.signals import Sample, SignalBatch
from pipeline.signals import FORMATS, AccessAggregator, DecodeError, Options, decode, remote_write

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "labels", "value", "ts", "message", "a"]) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "name",
        "metric",
        "labels",
        "tags",
        "value",
        "ts",
        "timestamp",
        "@timestamp",
        "message",
        "event",
        "samples",
        "alerts",
        "status",
        "startsAt",
        "endsAt",
        "version",
        "response_code",
        "duration",
        "start_time",
    ]
)
NEARLY = st.dictionaries(KEYS, JSON, max_size=6)
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=6)
LABELS = st.builds(lambda name, more: Labels.of(more | {"__name__": name}), NAMES, st.dictionaries(NAMES, NAMES, max_size=4))
TIMES = st.integers(-(10**12), 10**9 - 1) | st.integers(4_200_000_000, 253_402_300_799_999)
SAMPLES = st.builds(Sample, LABELS, TIMES, st.floats())


def survives(data: bytes) -> None:
    for format_ in FORMATS:
        try:
            batch = decode(format_, data)
        except DecodeError as error:
            reason = error.reason
        else:
            reason = "none"
            assert len(batch.labels) == len(batch.at_ms) == len(batch.values)
            AccessAggregator().add(batch)
        assert 0 < len(reason) < 2000


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_decoded_or_refused(data: bytes) -> None:
    survives(data)


@given(NEARLY | st.lists(NEARLY, max_size=3) | JSON)
@settings(max_examples=500, deadline=None)
def test_json_that_is_nearly_a_signal_is_decoded_or_refused(message: object) -> None:
    survives(json.dumps(message).encode())
    survives(json.dumps(message).encode() + b"\n" + json.dumps(message).encode())


@given(st.lists(SAMPLES, max_size=8), st.integers(0, 200), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_a_damaged_write_request_is_decoded_or_refused(rows: list[Sample], place: int, byte: int) -> None:
    import cramjam

    raw = bytearray(cramjam.snappy.decompress_raw(remote_write.encode(SignalBatch.of(rows))))
    options = Options()
    decode("prometheus-remote-write", remote_write.encode(SignalBatch.of(rows)), options=options)
    if raw:
        raw[place % len(raw)] = byte
    damaged = bytes(cramjam.snappy.compress_raw(bytes(raw)))
    outcomes = []
    for known in (options, Options()):  # whether the series was seen before makes no difference
        try:
            outcomes.append(bits(decode("prometheus-remote-write", damaged, options=known)))
        except DecodeError:
            outcomes.append([])
    assert outcomes[0] == outcomes[1]


def bits(batch: SignalBatch) -> list[tuple[Labels, int, bytes]]:
    return [(sample.labels, sample.at_ms, struct.pack("<d", sample.value)) for sample in batch.samples()]


@given(st.lists(SAMPLES, max_size=12))
@settings(max_examples=200, deadline=None)
def test_remote_write_comes_back_bit_by_bit_also_the_second_time(rows: list[Sample]) -> None:
    batch, options = SignalBatch.of(rows), Options()
    data = remote_write.encode(batch)
    for _ in range(2):
        assert sorted(bits(decode("prometheus-remote-write", data, options=options))) == sorted(bits(batch))


@given(st.lists(SAMPLES, min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_json_samples_come_back_one_by_one_and_as_batch(rows: list[Sample]) -> None:
    def spelled(value: float) -> object:
        return value if math.isfinite(value) else ("NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf")

    objects = [
        {"name": row.labels.metric_name, "labels": dict(row.labels.drop("__name__").pairs), "value": spelled(row.value), "ts": row.at_ms}
        for row in rows
    ]
    lines = [json.dumps(one).encode() for one in objects]
    wanted = [(row.labels, row.at_ms, "nan" if math.isnan(row.value) else row.value) for row in rows]

    def plain(batch: SignalBatch) -> list[tuple[Labels, int, object]]:
        return [(row.labels, row.at_ms, "nan" if math.isnan(row.value) else row.value) for row in batch.samples()]

    assert [plain(decode("json", line))[0] for line in lines] == wanted
    assert plain(decode("json-batch", b"\n".join(lines))) == wanted
    assert plain(decode("json-batch", json.dumps(objects).encode())) == wanted
