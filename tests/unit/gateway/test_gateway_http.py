"""The gateway as its callers see it: a real server on loopback, a bus in memory."""

import asyncio
import base64
import gzip
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import cramjam
import pytest
from pydantic import ValidationError

from pipeline.gateway import GATEWAY_INPUTS, Gateway
from pipeline.model.labels import Labels
from pipeline.model.signals import Sample, SignalBatch
from pipeline.ports.bus import OutRecord
from pipeline.rulebook.config_spec import Gateway as Config
from pipeline.signals import decode, remote_write
from pipeline.telemetry import Telemetry
from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock

NOW_MS = 1_767_225_600_000


def sample(service: str = "checkout", value: float = 1.0) -> Sample:
    return Sample(Labels.of(__name__="up", service=service), NOW_MS, value)


@asynccontextmanager
async def serving(bus: FakeBus | None = None, health: str = "", **config: object) -> AsyncIterator[tuple[FakeBus, aiohttp.ClientSession]]:
    bus = bus or FakeBus(FakeClock(NOW_MS))
    gateway = Gateway(bus, Config(listen="127.0.0.1:0", **config), clock=FakeClock(NOW_MS), telemetry=Telemetry(), health=lambda: health)
    await gateway.start()
    try:
        async with aiohttp.ClientSession(gateway.url) as session:
            yield bus, session
    finally:
        await gateway.close()
        await gateway.close()


def published(bus: FakeBus, topic: str) -> list[tuple[str, bytes]]:
    return [(record.key, record.value) for record in bus.records if record.topic == topic]


async def test_a_remote_write_request_is_published_as_it_came_under_its_service() -> None:
    body = remote_write.encode(SignalBatch.of([sample()]))
    async with serving() as (bus, session):
        async with session.post(
            "/api/v1/write", data=body, headers={"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        ) as answer:
            assert (answer.status, await answer.read()) == (204, b"")
    assert published(bus, "gateway-remote-write") == [("checkout", body)]


async def test_an_empty_remote_write_request_publishes_nothing() -> None:
    async with serving() as (bus, session):
        async with session.post("/api/v1/write", data=bytes(cramjam.snappy.compress_raw(b""))) as answer:
            assert answer.status == 204
    assert bus.records == []


async def test_a_broken_remote_write_request_is_refused_with_the_reason_and_kept_as_dead_letter() -> None:
    async with serving() as (bus, session):
        async with session.post("/api/v1/write", data=b"no snappy") as answer:
            assert answer.status == 400
            error = (await answer.json())["error"]
    assert error["code"] == "bad_data"
    assert error["reason"].startswith("not a snappy block")
    [letter] = [json.loads(value) for _, value in published(bus, "dead-letters")]
    assert letter["topic"] == "gateway-remote-write"
    assert base64.b64decode(letter["payload"]) == b"no snappy"
    assert published(bus, "gateway-remote-write") == []


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}, id="remote write 2.0"),
        pytest.param({"Content-Encoding": "identity"}, id="another encoding"),
    ],
)
async def test_another_protocol_than_remote_write_1_is_415_so_that_the_sender_falls_back(headers: dict[str, str]) -> None:
    async with serving() as (_, session):
        async with session.post("/api/v1/write", data=b"x", headers=headers) as answer:
            assert answer.status == 415


async def test_alerts_are_split_by_service_and_carry_the_moment_of_reception() -> None:
    alerts = [
        {"labels": {"alertname": "A", "service": "checkout"}, "startsAt": "2025-12-31T23:59:00Z", "endsAt": "2026-01-01T00:04:00Z"},
        {"labels": {"alertname": "B", "service": "cart"}, "endsAt": "2025-12-31T23:59:30Z"},
    ]
    async with serving() as (bus, session):
        async with session.post("/api/v2/alerts", json=alerts) as answer:
            assert answer.status == 200
    (first_key, first), (second_key, second) = published(bus, "gateway-alerts")
    assert (first_key, second_key) == ("checkout", "cart")
    [firing] = decode("alertmanager", first).events
    [over] = decode("alertmanager", second).events
    assert (firing.at_ms, firing.fields["ends_at_ms"], firing.fields["expires_at_ms"]) == (NOW_MS, 0, NOW_MS + 240_000)
    assert over.fields["ends_at_ms"] == NOW_MS - 30_000


async def test_one_wrong_alert_does_not_keep_the_others_out() -> None:
    async with serving() as (bus, session):
        async with session.post("/api/v2/alerts", json=[{"labels": {"alertname": "A"}}, {"labels": {}}]) as answer:
            assert answer.status == 400
            body = await answer.json()
    assert body["accepted"] == 1
    assert body["refused"] == [{"line": 2, "reason": "no label alertname"}]
    assert len(published(bus, "gateway-alerts")) == 1


@pytest.mark.parametrize("body", [b"{}", b"nope"])
async def test_alerts_that_are_no_array_are_refused(body: bytes) -> None:
    async with serving() as (_, session):
        async with session.post("/api/v2/alerts", data=body) as answer:
            assert answer.status == 400


async def test_prometheus_may_ask_for_the_status() -> None:
    async with serving() as (_, session):
        async with session.get("/api/v2/status") as answer:
            assert (await answer.json())["cluster"]["status"] == "disabled"


async def test_lines_of_one_service_become_one_record_so_that_they_stay_atomic() -> None:
    lines = [
        b'{"name":"requests_total","labels":{"service":"checkout"},"value":1,"ts":1767225600000}',
        b'{"name":"errors_total","labels":{"service":"checkout"},"value":1,"ts":1767225600000}',
        b'{"message":"hello","@timestamp":"2026-01-01T00:00:00Z","service":{"name":"cart"}}',
    ]
    async with serving() as (bus, session):
        async with session.post("/api/v1/signals", data=b"\n".join(lines)) as answer:
            assert answer.status == 200
            assert await answer.json() == {"accepted": 3, "refused": []}
    assert published(bus, "gateway-json") == [("checkout", b"\n".join(lines[:2])), ("cart", lines[2])]
    assert len(decode(GATEWAY_INPUTS["gateway-json"], bus.records[0].value)) == 2


async def test_refused_lines_are_named_and_the_good_ones_are_in() -> None:
    body = b'{"name":"a","value":1,"ts":1767225600000}\n\nnope\n{"name":"b","value":null,"ts":1767225600000}'
    async with serving() as (bus, session):
        async with session.post("/api/v1/signals", data=body) as answer:
            assert answer.status == 400
            answered = await answer.json()
    assert answered["accepted"] == 1
    assert [one["line"] for one in answered["refused"]] == [3, 4]
    assert "null" in answered["refused"][1]["reason"]
    assert len(published(bus, "dead-letters")) == 2
    assert len(published(bus, "gateway-json")) == 1


async def test_an_array_counts_its_elements_from_one() -> None:
    async with serving() as (bus, session):
        async with session.post("/api/v1/signals", data=b'[{"name":"a","value":1,"ts":1767225600000},{"x":1}]') as answer:
            assert [one["line"] for one in (await answer.json())["refused"]] == [2]
    assert len(published(bus, "gateway-json")) == 1


async def test_other_line_formats_go_to_their_own_topic() -> None:
    line = b'{"@timestamp":"2026-01-01T00:00:00Z","message":"x"}'
    access = b'{"start_time":"2026-01-01T00:00:00Z","response_code":200}'
    async with serving() as (bus, session):
        assert (await session.post("/api/v1/signals?format=ecs", data=line)).status == 200
        assert (await session.post("/api/v1/signals?format=envoy-access", data=access)).status == 200
        assert (await session.post("/api/v1/signals?format=csv", data=b"a,b")).status == 400
    assert published(bus, "gateway-ecs") == [("", line)]
    assert published(bus, "gateway-envoy-access") == [("", access)]


async def test_a_compressed_body_is_read() -> None:
    line = b'{"name":"a","value":1,"ts":1767225600000}'
    async with serving() as (bus, session):
        async with session.post("/api/v1/signals", data=gzip.compress(line), headers={"Content-Encoding": "gzip"}) as answer:
            assert answer.status == 200
    assert published(bus, "gateway-json") == [("", line)]


async def test_bodies_beyond_the_limit_are_413_also_when_they_only_unpack_to_it() -> None:
    async with serving(max_body_bytes=10_000) as (bus, session):
        async with session.post("/api/v1/signals", data=b" " * 10_001) as answer:
            assert answer.status == 413
            assert (await answer.json())["error"]["code"] == "request_entity_too_large"
        async with session.post("/api/v1/signals", data=gzip.compress(b" " * 1_000_000), headers={"Content-Encoding": "gzip"}) as answer:
            assert answer.status in {400, 413}
    assert published(bus, "gateway-json") == []


async def test_a_snappy_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = b"\x80\x80\x80\x80\x08" + b"x" * 10  # says it unpacks to 2 GiB
    async with serving() as (_, session):
        async with session.post("/api/v1/write", data=bomb) as answer:
            assert answer.status == 400
            assert "max_decompressed_bytes" in (await answer.json())["error"]["reason"]


@pytest.mark.parametrize(
    ("token", "path", "status"),
    [
        pytest.param("", "/metrics", 401, id="no token"),
        pytest.param("wrong", "/metrics", 401, id="wrong token"),
        pytest.param("look", "/metrics", 200, id="a viewer may read"),
        pytest.param("write", "/metrics", 200, id="a writer may read"),
        pytest.param("", "/healthz", 200, id="probes carry none"),
        pytest.param("", "/readyz", 200, id="readiness carries none"),
    ],
)
async def test_where_a_token_is_configured_it_is_asked_for(token: str, path: str, status: int) -> None:
    async with serving(token="write", tokens={"viewer": "look"}) as (_, session):
        async with session.get(path, headers={"Authorization": f"Bearer {token}"} if token else {}) as answer:
            assert answer.status == status


async def test_a_viewer_may_not_write() -> None:
    async with serving(tokens={"viewer": "look", "operator": "do"}) as (bus, session):
        body = b'{"name":"a","value":1,"ts":1767225600000}'
        assert (await session.post("/api/v1/signals", data=body, headers={"Authorization": "Bearer look"})).status == 403
        assert (await session.post("/api/v1/signals", data=body)).status == 401
        assert (await session.post("/api/v1/signals", data=body, headers={"Authorization": "bearer do"})).status == 200
    assert len(bus.records) == 1


def test_beyond_loopback_a_configuration_without_token_is_refused() -> None:
    with pytest.raises(ValidationError, match="beyond loopback"):
        Config(listen="0.0.0.0:0")


class BrokenBus(FakeBus):
    async def publish(self, records: Sequence[OutRecord]) -> None:
        raise ConnectionError("broker away")


async def test_a_bus_that_is_away_is_503_with_retry_after() -> None:
    async with serving(BrokenBus()) as (_, session):
        async with session.post("/api/v1/write", data=remote_write.encode(SignalBatch.of([sample()]))) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert "broker" not in await answer.text()


class SlowBus(FakeBus):
    """Holds every publish until told."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.waiting = 0

    async def publish(self, records: Sequence[OutRecord]) -> None:
        self.waiting += 1
        await self.go.wait()


async def test_more_requests_in_flight_than_allowed_are_sent_away() -> None:
    bus = SlowBus()
    async with serving(bus) as (_, session):
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(session._base_url, connector=connector) as many:
            body = b'{"name":"a","value":1,"ts":1767225600000}'
            posts = [asyncio.create_task(many.post("/api/v1/signals", data=body)) for _ in range(40)]
            async with asyncio.timeout(10):
                done, _ = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
                assert {task.result().status for task in done} == {503}
                bus.go.set()
                statuses = sorted([(await task).status for task in posts])
    assert statuses.count(200) == 32
    assert statuses.count(503) == 8


async def test_readiness_says_what_is_missing() -> None:
    async with serving(health="detect is catching up") as (_, session):
        async with session.get("/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["reason"] == "detect is catching up"
        assert (await session.get("/healthz")).status == 200


async def test_metrics_count_requests_by_route_not_by_what_clients_ask() -> None:
    async with serving() as (_, session):
        await session.get("/nonsense/1")
        await session.get("/nonsense/2")
        await session.get("/healthz")
        text = await (await session.get("/metrics")).text()
    assert 'pipeline_gateway_request_seconds_count{code="200",path="/healthz"} 1.0' in text
    assert 'pipeline_gateway_request_seconds_count{code="404",path="other"} 2.0' in text
    assert "nonsense" not in text


async def test_unknown_paths_and_methods_answer_json() -> None:
    async with serving() as (_, session):
        async with session.get("/api/v1/write") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (405, "method_not_allowed")
        async with session.get("/x") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (404, "not_found")


async def test_a_taken_address_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = Gateway(FakeBus(), Config(listen=f"127.0.0.1:{taken.getsockname()[1]}"), clock=FakeClock(), telemetry=Telemetry())
        with pytest.raises(OSError, match="address"):
            await gateway.start()
        with pytest.raises(RuntimeError, match="not started"):
            _ = gateway.url


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command to make a certificate with")
async def test_with_a_certificate_it_speaks_tls_from_paths_beside_the_configuration(tmp_path: Path) -> None:
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run([*command, "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    config = Config(listen="127.0.0.1:0", tls={"cert": "cert.pem", "key": "key.pem"})
    gateway = Gateway(FakeBus(), config, clock=FakeClock(), telemetry=Telemetry(), base=tmp_path)
    await gateway.start()
    try:
        trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        async with aiohttp.ClientSession(gateway.url) as session, session.get("/healthz", ssl=trust) as answer:
            assert (gateway.url[:8], answer.status) == ("https://", 200)
    finally:
        await gateway.close()
