"""JSON signals: what is a sample, a log record, an event; what is refused, and with which words."""

import json
import math
from typing import Any

import pytest

from pipeline.model.labels import Labels
from pipeline.model.signals import Event, LogRecord, Sample, SignalBatch
from pipeline.signals import DecodeError, Limits, Options, decode

TS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def samples(data: Any, format_: str = "json") -> list[Sample]:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return list(decode(format_, text).samples())


def refusal(data: Any, format_: str = "json", **options: Any) -> str:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises(DecodeError) as caught:
        decode(format_, text, **options)
    return caught.value.reason


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"name": "up", "labels": {"service": "checkout"}, "value": 1, "ts": TS}, id="the plain shape"),
        pytest.param({"metric": "up", "tags": {"service": "checkout"}, "value": 1.0, "timestamp": TS}, id="other names"),
        pytest.param({"name": "up", "labels": {"service": "checkout"}, "value": 1, "ts": "2026-01-01T00:00:00Z"}, id="RFC 3339"),
        pytest.param({"name": "up", "labels": {"service": "checkout"}, "value": 1, "time": "2026-01-01T01:00:00.000+01:00"}, id="with offset"),
        pytest.param({"labels": {"__name__": "up", "service": "checkout"}, "value": "1", "ts": TS}, id="name among labels, value as text"),
        pytest.param({"name": "up", "labels": {"service": "checkout", "empty": "", "none": None}, "value": 1, "ts": TS}, id="absent labels"),
        pytest.param(
            {"name": "up", "labels": {"service": "checkout"}, "value": 1, "ts": float(TS), "type": "gauge", "unit": "1", "help": "x"}, id="extras"
        ),
    ],
)
def test_a_sample_may_be_spelled_in_these_ways(message: dict[str, Any]) -> None:
    assert samples(message) == [Sample(Labels.of(__name__="up", service="checkout"), TS, 1.0)]


def test_label_values_that_are_scalars_become_text() -> None:
    [sample] = samples({"name": "up", "labels": {"code": 500, "ok": True, "ratio": 0.5, "whole": 2.0}, "value": 0, "ts": TS})
    assert dict(sample.labels.pairs) == {"__name__": "up", "code": "500", "ok": "true", "ratio": "0.5", "whole": "2"}


@pytest.mark.parametrize(("text", "value"), [("+Inf", math.inf), ("-inf", -math.inf), ("Infinity", math.inf), ("1e3", 1000.0), ("-0.5", -0.5)])
def test_numbers_that_json_cannot_write_come_as_strings(text: str, value: float) -> None:
    assert samples({"name": "up", "value": text, "ts": TS})[0].value == value


def test_nan_comes_as_string() -> None:
    assert math.isnan(samples({"name": "up", "value": "NaN", "ts": TS})[0].value)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param(b" ", "empty message", id="empty"),
        pytest.param(b"{", "truncated", id="cut off"),
        pytest.param(b'{"name":"up","value":NaN,"ts":1}', 'write "NaN"', id="bare NaN"),
        pytest.param(b'{"name":"up","value":1,"ts":1,"x":"\xff"}', "UTF-8", id="not UTF-8"),
        pytest.param(b"[" * 200_000, "nested too deeply", id="deep nesting"),
        pytest.param([1], "json-batch", id="an array"),
        pytest.param(5, "not a JSON object", id="a number"),
        pytest.param({}, "neither a sample", id="nothing"),
        pytest.param({"name": "up", "value": 1}, "no time stamp", id="no time"),
        pytest.param({"value": 1, "ts": TS}, "needs a name", id="no name"),
        pytest.param({"name": 5, "value": 1, "ts": TS}, "name is 5", id="name of another type"),
        pytest.param({"name": "up", "value": None, "ts": TS}, "missing is not zero", id="null"),
        pytest.param({"name": "up", "value": True, "ts": TS}, "not a number", id="bool"),
        pytest.param({"name": "up", "value": "1_000", "ts": TS}, "not a number", id="underscore"),
        pytest.param({"name": "up", "value": " 1", "ts": TS}, "not a number", id="blank"),
        pytest.param({"name": "up", "value": {"a": 1}, "ts": TS}, "not a number", id="object"),
        pytest.param({"name": "up", "host": "a", "value": 1, "ts": TS}, "unknown key 'host'", id="stray label"),
        pytest.param({"name": "up", "labels": {"a": {"b": 1}}, "value": 1, "ts": TS}, "labels.a", id="nested label"),
        pytest.param({"name": "up", "labels": ["a"], "value": 1, "ts": TS}, "not an object", id="label list"),
        pytest.param({"name": "up", "labels": {"__name__": "down"}, "value": 1, "ts": TS}, "'down'", id="two names"),
        pytest.param({"name": "up", "labels": {"": "x"}, "value": 1, "ts": TS}, "empty name", id="empty label name"),
        pytest.param({"event": "", "ts": TS}, "empty string", id="empty event"),
    ],
)
def test_what_is_no_signal_is_refused_with_its_reason(message: Any, words: str) -> None:
    assert words in refusal(message)


@pytest.mark.parametrize(
    ("ts", "words"),
    [
        pytest.param(1_767_225_600, "looks like seconds", id="seconds"),
        pytest.param(1_767_225_600_000_000, "micro- or nanoseconds", id="microseconds"),
        pytest.param(1_767_225_600_000_000_000, "micro- or nanoseconds", id="nanoseconds"),
        pytest.param("2026-01-01T00:00:00", "no offset", id="no offset"),
        pytest.param("yesterday", "not RFC 3339", id="prose"),
        pytest.param("", "not RFC 3339", id="empty"),
        pytest.param(True, "write milliseconds", id="bool"),
        pytest.param([1], "write milliseconds", id="list"),
    ],
)
def test_a_time_in_another_unit_or_shape_is_refused(ts: Any, words: str) -> None:
    assert words in refusal({"name": "up", "value": 1, "ts": ts})


@pytest.mark.parametrize(
    ("ts", "at_ms"),
    [
        (0, 0),
        (1, 1),
        ("1970-01-01T00:00:00Z", 0),
        ("2100-01-01T00:00:00Z", 4_102_444_800_000),
        (4_102_444_800_000, 4_102_444_800_000),
        ("2026-01-01t00:00:00z", TS),
    ],
)
def test_1970_and_2100_decode_whether_they_are_acceptable_is_the_detectors_question(ts: Any, at_ms: int) -> None:
    assert samples({"name": "up", "value": 1, "ts": ts})[0].at_ms == at_ms


def test_the_brokers_time_stands_in_for_a_missing_one() -> None:
    batch = decode("json", b'{"name":"up","value":1}', received_at_ms=TS, source="metrics")
    assert (batch.at_ms, batch.source) == ([TS], "metrics")


def test_a_log_record_keeps_everything_flat_and_gives_its_labels() -> None:
    message = {
        "@timestamp": "2026-01-01T00:00:00.250Z",
        "message": "login failed",
        "event": {"outcome": "failure", "category": ["authentication"]},
        "source": {"ip": "127.0.0.2"},
        "service": {"name": "checkout", "version": "v2"},
        "labels": {"site": "a"},
    }
    [record] = decode("json", json.dumps(message).encode()).logs
    assert record.at_ms == TS + 250
    assert record.message == "login failed"
    assert record.labels == Labels.of(service="checkout", version="v2", site="a")
    assert {"event.outcome": "failure", "event.category": ["authentication"], "source.ip": "127.0.0.2"}.items() <= record.fields.items()


def test_an_event_has_a_kind_labels_and_fields() -> None:
    batch = decode("json", b'{"event":"deployment","ts":1767225600000,"labels":{"service":"checkout"},"to":{"version":"v2"}}')
    assert batch.events == [Event(TS, "deployment", Labels.of(service="checkout"), {"to.version": "v2"})]


def test_a_line_of_a_megabyte_is_refused_with_the_limits_name() -> None:
    for message in ({"name": "up", "labels": {"a": "x" * 1_100_000}, "value": 1, "ts": TS}, {"message": "x" * 1_100_000, "ts": TS}):
        assert "max_message_bytes" in refusal(message)


@pytest.mark.parametrize(
    ("limits", "message", "words"),
    [
        pytest.param(Limits(max_labels=2), {"name": "up", "labels": {"a": "1", "b": "2"}, "value": 1, "ts": TS}, "max_labels", id="label count"),
        pytest.param(
            Limits(max_label_name_chars=3), {"name": "up", "labels": {"abcd": "1"}, "value": 1, "ts": TS}, "max_label_name_chars", id="label name"
        ),
        pytest.param(
            Limits(max_label_value_chars=3), {"name": "up", "labels": {"a": "abcd"}, "value": 1, "ts": TS}, "max_label_value_chars", id="label value"
        ),
        pytest.param(Limits(max_nesting=3), {"message": "x", "ts": TS, "a": {"b": {"c": {"d": 1}}}}, "max_nesting", id="nesting"),
        pytest.param(Limits(max_fields=3), {"message": "x", "ts": TS, "a": {str(n): 1 for n in range(5)}}, "max_fields", id="fields"),
    ],
)
def test_limits_hold_and_are_named(limits: Limits, message: dict[str, Any], words: str) -> None:
    assert words in refusal(message, options=Options(limits))


def test_a_series_seen_before_has_the_very_same_labels() -> None:
    options = Options()
    first, second = (decode("json", b'{"name":"up","labels":{"a":"b"},"value":%d,"ts":1}' % value, options=options) for value in (1, 2))
    assert first.labels[0] is second.labels[0]


def test_an_interner_that_is_full_forgets_and_goes_on() -> None:
    options = Options()
    options.interner._capacity = 10
    for number in range(100):
        assert decode("json", b'{"name":"up","labels":{"a":"%d"},"value":1,"ts":1}' % number, options=options).labels[0]["a"] == str(number)
    assert len(options.interner) <= 10


# --- json-batch ----------------------------------------------------------------------------------------------------------------------

TWO = [Sample(Labels.of(__name__="up", a="b"), TS, 1.0), Sample(Labels.of(__name__="up", a="b"), TS + 1, 2.0)]
ROWS = [{"name": "up", "labels": {"a": "b"}, "value": 1, "ts": TS}, {"name": "up", "labels": {"a": "b"}, "value": 2, "ts": TS + 1}]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(json.dumps(ROWS).encode(), id="array"),
        pytest.param(b"\n".join(json.dumps(row).encode() for row in ROWS) + b"\n\n", id="lines"),
        pytest.param(json.dumps(ROWS, indent=2).encode(), id="printed array"),
        pytest.param(json.dumps({"name": "up", "labels": {"a": "b"}, "samples": [[TS, 1], [TS + 1, 2]]}).encode(), id="columnar"),
        pytest.param(
            json.dumps([{"metric": "up", "labels": {"a": "b"}, "samples": [[TS, "1"], ["2026-01-01T00:00:00.001Z", 2]]}]).encode(),
            id="columnar, spelled otherwise",
        ),
        pytest.param(json.dumps({"name": "up", "labels": {"a": "b"}, "samples": [[TS, 1], [TS + 1, 2]]}, indent=2).encode(), id="printed columnar"),
    ],
)
def test_a_batch_may_have_these_shapes(data: bytes) -> None:
    assert samples(data, "json-batch") == TWO


def test_a_batch_may_mix_kinds() -> None:
    data = b'[{"name":"up","value":1,"ts":5},{"message":"x","ts":5},{"event":"deployment","ts":5}]'
    batch = decode("json-batch", data)
    assert (len(batch.values), len(batch.logs), len(batch.events)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "empty message", id="empty"),
        pytest.param(b'{"name":"up","value":1,"ts":1}\n{"name":', "line 2: ", id="a broken line"),
        pytest.param(b'[{"name":"up","value":1,"ts":1},{"name":"up","value":null,"ts":1}]', "element 1: value is null", id="a wrong element"),
        pytest.param(b"[1]", "element 0", id="not objects"),
        pytest.param(b'{"name":"up","samples":[[1]]}', "samples[0]", id="half a pair"),
        pytest.param(b'{"name":"up","samples":5}', "list of [ts, value]", id="no list"),
        pytest.param(b'{"name":"up","samples":[[1,1]],"x":1}', "unknown key 'x'", id="unknown key"),
        pytest.param(b'{"name":"up","samples":[[1767225600,1]]}', "looks like seconds", id="seconds"),
        pytest.param(b'{"name":5,"samples":[[1,1]]}', "name is a string", id="name of another type"),
    ],
)
def test_one_wrong_part_refuses_the_whole_batch_and_is_named(data: bytes, words: str) -> None:
    assert words in refusal(data, "json-batch")


def test_a_batch_beyond_its_limit_is_refused() -> None:
    assert "max_batch_bytes" in refusal(b"[]" + b" " * 100, "json-batch", options=Options(Limits(max_batch_bytes=50)))


def test_an_empty_array_is_an_empty_batch() -> None:
    assert decode("json-batch", b"[]") == SignalBatch()


# --- ecs -----------------------------------------------------------------------------------------------------------------------------


def test_ecs_documents_may_be_dotted_or_nested_and_come_as_lines() -> None:
    data = b'{"@timestamp":"2026-01-01T00:00:00Z","message":"a","service.name":"checkout","host":{"name":"h1"}}\n{"@timestamp":1767225600000,"log.level":"warn"}'
    first, second = decode("ecs", data).logs
    assert first.labels == Labels.of(service="checkout", host="h1")
    assert second == LogRecord(TS, "", {"log.level": "warn"}, Labels())


def test_a_wrong_ecs_line_is_named() -> None:
    assert refusal(b'{"@timestamp":"2026-01-01T00:00:00Z"}\n{"message":"x"}', "ecs").startswith("line 2: no time stamp")


def test_an_unknown_format_names_those_there_are() -> None:
    assert "prometheus-remote-write" in refusal(b"", "xml")
