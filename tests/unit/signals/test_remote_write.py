"""Remote write 1.0, against bytes made by hand as the specification says, so that encoder and decoder cannot be wrong together."""

import struct

import cramjam
import pytest

from pipeline.model.labels import Labels
from pipeline.model.signals import Sample, SignalBatch
from pipeline.signals import DecodeError, Limits, Options, decode, remote_write

TS = 1_767_225_600_000
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def chunk(field: int, body: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(body)) + body


def label(name: str, value: str) -> bytes:
    return chunk(1, chunk(1, name.encode()) + chunk(2, value.encode()))


def sample(value: float, ts: int) -> bytes:
    return chunk(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(ts & (1 << 64) - 1))


def request(*series: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(b"".join(chunk(1, one) for one in series)))


def refusal(data: bytes, options: Options | None = None) -> str:
    with pytest.raises(DecodeError) as caught:
        decode("prometheus-remote-write", data, options=options or Options())
    return caught.value.reason


UP = label("__name__", "up") + label("service", "checkout")
LABELS = Labels.of(__name__="up", service="checkout")


def test_series_and_samples_come_out_in_order() -> None:
    other = label("__name__", "down")
    batch = decode("prometheus-remote-write", request(UP + sample(1.5, TS) + sample(2.5, TS + 1), other + sample(-0.0, TS)))
    assert list(batch.samples()) == [Sample(LABELS, TS, 1.5), Sample(LABELS, TS + 1, 2.5), Sample(Labels.of(__name__="down"), TS, 0.0)]


def test_a_series_seen_before_decodes_the_same_by_the_fast_way() -> None:
    options = Options()
    for value in (1.0, 2.0, 3.0):
        batch = decode("prometheus-remote-write", request(UP + sample(value, TS), label("__name__", "b") + sample(value, TS + 1)), options=options)
        assert list(batch.samples()) == [Sample(LABELS, TS, value), Sample(Labels.of(__name__="b"), TS + 1, value)]


def test_the_stale_marker_keeps_every_bit_on_both_ways() -> None:
    options = Options()
    for _ in range(2):
        [value] = decode("prometheus-remote-write", request(UP + sample(STALE, TS)), options=options).values
        assert struct.pack("<d", value) == struct.pack("<Q", 0x7FF0000000000002)


def test_a_zero_that_the_sender_left_out_is_zero() -> None:
    batch = decode("prometheus-remote-write", request(UP + chunk(2, b"\x10" + varint(TS))))
    assert (batch.values, batch.at_ms) == ([0.0], [TS])


def test_metadata_exemplars_and_native_histograms_are_passed_over() -> None:
    body = chunk(1, UP + sample(1, TS) + chunk(3, b"\x09" + struct.pack("<d", 5.0)) + chunk(4, b"\x08\x01")) + chunk(3, b"\x08\x01")
    batch = decode("prometheus-remote-write", bytes(cramjam.snappy.compress_raw(body)))
    assert batch.values == [1.0]


def test_times_before_1970_and_labels_out_of_order_are_read() -> None:
    batch = decode("prometheus-remote-write", request(label("z", "1") + label("__name__", "up") + sample(1, -1)))
    assert list(batch.samples()) == [Sample(Labels.of(__name__="up", z="1"), -1, 1.0)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "not a snappy block", id="nothing"),
        pytest.param(b"\xff\x06\x00\x00sNaPpY", "snappy", id="the framed format"),
        pytest.param(bytes(cramjam.snappy.compress_raw(b"\x0a\xff")), "WriteRequest", id="cut off"),
        pytest.param(request(b"\x0a\x05ab"), "TimeSeries", id="a broken series"),
        pytest.param(request(chunk(1, b"\xff") + sample(1, TS)), "protobuf Label", id="a broken label"),
        pytest.param(request(chunk(1, chunk(1, b"\xff\xfe")) + sample(1, TS)), "UTF-8", id="a label that is not UTF-8"),
        pytest.param(request(label("service", "x") + sample(1, TS)), "no __name__", id="no name"),
        pytest.param(request(sample(1, TS)), "no __name__", id="no labels"),
        pytest.param(request(UP + label("service", "y") + sample(1, TS)), "twice", id="a label twice"),
        pytest.param(request(UP + sample(1, 1_767_225_600)), "looks like seconds", id="seconds"),
        pytest.param(request(UP + sample(1, TS * 1_000_000)), "nanoseconds", id="nanoseconds"),
    ],
)
def test_what_is_no_write_request_is_refused(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_a_known_series_with_a_broken_time_stamp_is_refused_too() -> None:
    options = Options()
    decode("prometheus-remote-write", request(UP + sample(1, TS)), options=options)
    broken = UP + b"\x12\x10\x09" + struct.pack("<d", 1.0) + b"\x10" + b"\x01\x01\x01\x01\x01\x01"
    assert "varint" in refusal(request(broken), options)


def test_a_bomb_is_refused_by_its_declared_size() -> None:
    assert "max_decompressed_bytes" in refusal(varint(1 << 31) + b"x")
    zeros = bytes(cramjam.snappy.compress_raw(b"\x00" * 1_000_000))
    assert "max_decompressed_bytes" in refusal(zeros, Options(Limits(max_decompressed_bytes=999_999)))


def test_limits_on_labels_hold() -> None:
    many = b"".join(label(f"l{n}", "x") for n in range(70)) + UP
    assert "max_labels" in refusal(request(many + sample(1, TS)))


def test_what_we_encode_is_what_the_specification_says() -> None:
    encoded = remote_write.encode(SignalBatch.of([Sample(LABELS, TS, 1.5)]))
    assert bytes(cramjam.snappy.decompress_raw(encoded)) == chunk(1, UP + sample(1.5, TS))
