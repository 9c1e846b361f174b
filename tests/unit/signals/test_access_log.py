"""Access-log lines, and the counters made of them."""

import json
from typing import Any

import pytest

from pipeline.model.labels import Labels
from pipeline.model.signals import SignalBatch
from pipeline.signals import AccessAggregator, DecodeError, decode

START = "2026-01-01T00:00:00.000Z"
TS = 1_767_225_600_000


def line(**more: Any) -> dict[str, Any]:
    base = {
        "start_time": START,
        "response_code": 200,
        "duration": 12,
        "upstream_cluster": "checkout_v1",
        "service": "checkout",
        "version": "v1",
        "site": "a",
    }
    return {key: value for key, value in (base | more).items() if value is not ...}


def decoded(*lines: dict[str, Any]) -> SignalBatch:
    return decode("envoy-access", b"\n".join(json.dumps(one).encode() for one in lines))


def at(ms: int, **more: Any) -> dict[str, Any]:
    return line(start_time=..., ts=TS + ms, duration=..., **more)


def test_a_line_becomes_a_record_with_ecs_names_and_labels() -> None:
    [record] = decoded(
        line(method="POST", path="/login", response_code="503", response_flags="UF", client_address="127.0.0.2:5000", user_agent="curl", note="x")
    ).logs
    assert record.at_ms == TS + 12  # known when the request ended
    assert record.message == "POST /login 503"
    assert record.labels == Labels.of(service="checkout", version="v1", site="a", cluster="checkout_v1", code="503")
    expected = {
        "http.request.method": "POST",
        "http.response.status_code": 503,
        "url.path": "/login",
        "envoy.response_flags": "UF",
        "envoy.upstream_cluster": "checkout_v1",
        "source.ip": "127.0.0.2",
        "source.port": 5000,
        "event.duration": 12_000_000,
        "user_agent.original": "curl",
        "note": "x",
    }
    assert expected.items() <= record.fields.items()


@pytest.mark.parametrize(
    ("address", "ip"),
    [("10.0.0.1", "10.0.0.1"), ("10.0.0.1:80", "10.0.0.1"), ("[::1]:80", "::1"), ("::1", "::1"), ("2001:db8::1", "2001:db8::1")],
)
def test_the_client_address_loses_its_port(address: str, ip: str) -> None:
    assert decoded(line(client_address=address)).logs[0].fields["source.ip"] == ip


def test_what_envoy_does_not_know_is_absent() -> None:
    [record] = decoded(line(upstream_cluster="-", site=None, user_agent="")).logs
    assert record.labels == Labels.of(service="checkout", version="v1", code="200")
    assert "user_agent.original" not in record.fields


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param({"response_code": ...}, "no response_code", id="no code"),
        pytest.param({"response_code": "x"}, "not a number", id="a code that is text"),
        pytest.param({"response_code": 1e30}, "not a status code", id="a huge code"),
        pytest.param({"response_code": 200.5}, "not a status code", id="half a code"),
        pytest.param({"duration": -1}, "not a duration", id="negative duration"),
        pytest.param({"duration": "NaN"}, "not a duration", id="NaN duration"),
        pytest.param({"start_time": ...}, "no time stamp", id="no time"),
        pytest.param({"start_time": "soon"}, "start_time", id="a wrong time"),
    ],
)
def test_a_line_that_is_not_one_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        decoded(line(**more))


def value_of(batch: SignalBatch, name: str, **labels: str) -> list[tuple[int, float]]:
    wanted = {"__name__": name, **labels}.items()
    return [(sample.at_ms - TS, sample.value) for sample in batch.samples() if wanted <= dict(sample.labels.pairs).items()]


def test_lines_become_cumulative_counters_by_code_preceded_by_a_true_zero() -> None:
    aggregator = AccessAggregator()
    first = aggregator.add(decoded(at(0), at(1), at(2, response_code=500)))
    second = aggregator.add(decoded(at(100, response_code=500)))
    assert value_of(first, "http_requests_total", code="200") == [(-1, 0.0), (2, 2.0)]
    assert value_of(first, "http_requests_total", code="500") == [(-1, 0.0), (2, 1.0)]
    assert value_of(second, "http_requests_total", code="500") == [(100, 2.0)]
    assert value_of(second, "http_requests_total", code="200") == [(100, 2.0)]  # a rate that fell to zero is a zero, not a gap
    assert len(first.logs) == 3


def test_a_code_that_appears_later_starts_from_zero_after_the_last_emission() -> None:
    aggregator = AccessAggregator()
    aggregator.add(decoded(at(0)))
    batch = aggregator.add(decoded(at(50, response_code=500), at(60, response_code=500)))
    assert value_of(batch, "http_requests_total", code="500") == [(49, 0.0), (60, 2.0)]


def test_durations_become_a_classic_histogram_without_code() -> None:
    aggregator = AccessAggregator(buckets_s=(0.01, 0.1))
    batch = aggregator.add(decoded(at(0) | {"duration": 10}, at(1) | {"duration": 50}, at(2, response_code=500) | {"duration": 5000}))
    name = "http_request_duration_seconds"
    assert [value_of(batch, f"{name}_bucket", le=le)[-1][1] for le in ("0.01", "0.1", "+Inf")] == [1.0, 2.0, 3.0]
    assert value_of(batch, f"{name}_count")[-1] == (2, 3.0)
    assert value_of(batch, f"{name}_sum")[-1][1] == pytest.approx(5.06)
    assert not any("code" in labels for labels in batch.labels if labels.metric_name.startswith(name))


def test_nothing_is_emitted_twice_for_one_time_and_nothing_is_lost() -> None:
    aggregator = AccessAggregator(step_ms=20)
    batches = [aggregator.add(decoded(at(ms))) for ms in (0, 5, 10, 19, 20, 25)]
    assert [len(batch.values) for batch in batches] == [2, 0, 0, 0, 1, 0]
    assert value_of(batches[4], "http_requests_total") == [(20, 5.0)]
    assert value_of(aggregator.flush(), "http_requests_total") == [(25, 6.0)]
    assert len(aggregator.flush()) == 0


def test_lines_that_come_late_are_counted_at_the_next_emission() -> None:
    aggregator = AccessAggregator()
    aggregator.add(decoded(at(1000)))
    assert aggregator.add(decoded(at(10))).values == []
    assert value_of(aggregator.add(decoded(at(1100))), "http_requests_total") == [(1100, 3.0)]


def test_a_service_without_requests_is_repeated_now_and_then() -> None:
    aggregator = AccessAggregator(refresh_ms=500)
    aggregator.add(decoded(at(0, service="cart"), at(0)))
    seen = [value_of(aggregator.add(decoded(at(ms))), "http_requests_total", service="cart") for ms in (100, 400, 500, 600, 1000)]
    assert seen == [[], [], [(500, 1.0)], [], [(1000, 1.0)]]


def test_a_series_that_is_idle_for_long_is_forgotten_and_starts_anew() -> None:
    aggregator = AccessAggregator(idle_ms=10_000, max_series=2)
    aggregator.add(decoded(at(0, version="v2"), at(0)))
    assert value_of(aggregator.add(decoded(at(10_000))), "http_requests_total", version="v2") == [(10_000, 1.0)]
    assert value_of(aggregator.add(decoded(at(10_001 + 20))), "http_requests_total", version="v2") == []
    assert value_of(aggregator.add(decoded(at(11_000, version="v3"))), "http_requests_total", version="v3") == [(10_999, 0.0), (11_000, 1.0)]
    assert aggregator.overflowed == 0


def test_many_series_are_emitted_less_often() -> None:
    aggregator = AccessAggregator(step_ms=20)
    aggregator.add(decoded(*(at(0, version=f"v{number}") for number in range(500))))  # 1000 samples with their zeros: 50 ms
    assert aggregator.add(decoded(at(49))).values == []
    assert len(aggregator.add(decoded(at(50))).values) == 500


def test_records_that_are_no_access_lines_pass_through() -> None:
    batch = decode("ecs", b'{"@timestamp":"2026-01-01T00:00:00Z","message":"x"}')
    assert AccessAggregator().add(batch) is batch


def test_more_label_sets_than_allowed_are_counted_as_overflow_only() -> None:
    aggregator = AccessAggregator(max_series=2)
    aggregator.add(decoded(*(at(number, version=f"v{number}") for number in range(5))))
    assert aggregator.overflowed == 3


def test_the_same_lines_give_the_same_samples_again() -> None:
    batches = [decoded(at(ms, response_code=200 + 300 * (ms % 3 == 0))) for ms in range(0, 500, 7)]
    runs = [[AccessAggregator.add(aggregator, batch) for batch in batches] for aggregator in (AccessAggregator(), AccessAggregator())]
    assert runs[0] == runs[1]
