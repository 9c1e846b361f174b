"""Bad input hurts nobody: it is refused with place and reason, and a real fault afterwards is detected and healed as ever."""

import asyncio
import gzip
import json
import sys
import time
from dataclasses import dataclass

import aiohttp
import cramjam
import pytest

from pipeline.app import open_store
from pipeline.model import wire
from pipeline.model.records import AlertFact, AlertState, DeadLetter
from pipeline.ports.bus import ACTIONS, COMMANDS, DEAD_LETTERS, FACTS, GRANTS, OUTCOMES, PROPOSALS, RECORDS, WATCHES
from tests.e2e.shop import ROOT, Shop

MEBIBYTE = 1 << 20
LETTER_BYTES = 64 << 10  # a dead letter holds so much of a longer record
HEAL_S = 20.0
OWN_TOPICS = (FACTS, PROPOSALS, GRANTS, ACTIONS, OUTCOMES, COMMANDS, WATCHES, RECORDS)


@dataclass(frozen=True)
class Bad:
    """One bad record, and a piece of the reason that its dead letter must give."""

    value: bytes
    reason: str


def sample(**fields: object) -> bytes:
    return json.dumps({"name": "other_total", "labels": {"service": "shop"}, "value": 1, "ts": time.time_ns() // 1_000_000} | fields).encode()


def log_line(**fields: object) -> bytes:
    return json.dumps({"@timestamp": time.time_ns() // 1_000_000, "message": "hello", "service": "shop"} | fields).encode()


def bad_samples() -> list[Bad]:
    return [
        Bad(b'{"name": "other_total", "value": 1', "truncated"),
        Bad(b'[{"name": "other_total"', "truncated"),
        Bad(b"", "empty message"),
        Bad(b" \n\t ", "empty message"),
        Bad(bytes(range(256)), "malformed"),
        Bad(b"\xff\xfe" * 500, "malformed"),
        Bad(b"[" * 100_000, "nested too deeply"),
        Bad(b"[1, 2]", "element 0 is 1, not a JSON object"),
        Bad(b"true", "not a JSON object"),
        Bad(sample(value=float("nan")), 'write "NaN"'),
        Bad(sample(value=float("-inf")), '"-Inf" as strings'),
        Bad(sample(value="many"), "not a number"),
        Bad(sample(value=None), "missing is not zero"),
        Bad(sample(value=[1]), "not a number"),
        Bad(sample(name=5), "name is 5, not a string"),
        Bad(sample(labels=["a"]), "labels is ['a'], not an object"),
        Bad(sample(labels={"zone": {"name": "a"}}), "labels.zone"),
        Bad(sample(labels={f"label{number}": "x" for number in range(100)}), "max_labels"),
        Bad(sample(valeu=1), "unknown key 'valeu'"),
        Bad(sample(ts="yesterday"), "RFC 3339"),
        Bad(sample(ts=True), "ts is True"),
        Bad(sample(ts=time.time_ns() // 1_000_000_000), "looks like seconds"),
        Bad(sample(ts=time.time_ns()), "looks like micro- or nanoseconds"),
        Bad(sample(ts=0), "late"),
        Bad(sample(ts="1970-01-01T00:00:01Z"), "late"),
        Bad(sample(ts="2100-01-01T00:00:00Z"), "future"),
        Bad(b"x" * MEBIBYTE, "malformed"),
        Bad(sample(help="x" * MEBIBYTE), "max_message_bytes"),
        Bad(b"[" + sample() + b"," + sample(value="many") + b"]", "element 1: value 'many'"),
    ]


def bad_log_lines() -> list[Bad]:
    return [
        Bad(b'{"message": ', "truncated"),
        Bad(b'"text"', "not a JSON object"),
        Bad(log_line(**{"@timestamp": True}), "@timestamp is True"),
        Bad(log_line(**{"@timestamp": "2100-01-01T00:00:00Z"}), "future"),
        Bad(log_line(message="x" * MEBIBYTE), "max_message_bytes"),
    ]


def strange_samples() -> list[bytes]:
    """Unusual, but what senders may write."""
    return [sample(value="NaN"), sample(value="+Inf"), sample(value="-Inf"), sample(value=1.7e308), sample(value=-0.0)]


def strange_log_lines() -> list[bytes]:
    return [log_line(message="x" * 900_000), log_line(odd={"nested": [1, {"a": None}], "": "no name"})]


async def dead_letters(shop: Shop) -> dict[tuple[str, int, int], DeadLetter]:
    return {(letter.topic, letter.partition, letter.offset): letter for letter in await shop.on_bus(DEAD_LETTERS)}


async def complaints(shop: Shop, topic: str, bad: list[Bad], letters: dict[tuple[str, int, int], DeadLetter]) -> list[str]:
    """What is wrong with the dead letters of `bad`: each has one, which says where it was and why, and holds its bytes."""
    places = {record.value: record for record in await shop.raw_on_bus(topic)}
    wrong = []
    for one in bad:
        record = places[one.value]
        letter = letters.get((topic, record.partition, record.offset))
        if letter is None:
            wrong.append(f"{one.value[:80]!r} ({one.reason}) has no dead letter")
        elif one.reason not in letter.reason:
            wrong.append(f"{one.value[:80]!r}: {one.reason!r} is not in {letter.reason!r}")
        elif letter.payload != one.value[:LETTER_BYTES] or letter.truncated != (len(one.value) > LETTER_BYTES):
            wrong.append(f"{one.value[:80]!r}: other bytes in its letter")
    return wrong


async def heals(shop: Shop) -> list[str]:
    """A real fault now; what is wrong afterwards."""
    shop.broken = True
    await shop.until(lambda: shop.healed, HEAL_S)
    await asyncio.sleep(0.5)  # the last verification
    return await shop.verdict()


async def run_on_bad_records(shop: Shop) -> None:
    samples, log_lines = bad_samples(), bad_log_lines()
    own = [
        Bad(b"\x00\x01 not a record", ""),
        Bad(b"", ""),
        Bad(b'{"type": "NoSuchRecord", "schema_version": 1}', ""),
        Bad(wire.encode(WRONG_TYPE), ""),
    ]
    async with shop.open():
        assert await shop.until_ready(), shop.log_tail()
        await shop.publish(shop.metrics, *(one.value for one in samples), *strange_samples())
        await shop.publish(shop.logs, *(one.value for one in log_lines), *strange_log_lines())
        for topic in OWN_TOPICS:
            await shop.publish(topic, *(one.value for one in own), junk=True)
        await asyncio.sleep(2.5)  # windows fill
        assert await heals(shop) == [], shop.log_tail()
        letters = await dead_letters(shop)
        expected = {shop.metrics: samples, shop.logs: log_lines} | dict.fromkeys(OWN_TOPICS, own) | {RECORDS: own[:3]}
        wrong = await asyncio.gather(*(complaints(shop, topic, bad, letters) for topic, bad in expected.items()))
        assert [text for texts in wrong for text in texts] == []
        assert await shop.until_metric(f'pipeline_signals_late_total{{input="{shop.metrics}"}}', lambda value: value == 2, 1) == 2
        store = await open_store(shop.config)
        assert (await store.search("logs", since_ms=time.time_ns() // 1_000_000 + 86_400_000)).documents == []
        await store.close()
        refused = [letter.payload[:80] for (topic, *_), letter in letters.items() if topic in {shop.metrics, shop.logs}]
        assert len(refused) == len(samples) + len(log_lines), "strange, but good, and refused all the same"


WRONG_TYPE = DeadLetter(
    topic="x", partition=0, offset=0, at_ms=1, reason="a record, but of a kind that belongs on no topic of the stages", payload=b""
)


async def test_bad_records_become_dead_letters_and_a_fault_is_healed_all_the_same(tmp_path):
    await run_on_bad_records(Shop(tmp_path / "shop", gateway=True))


@pytest.mark.kafka
async def test_bad_records_on_kafka_become_dead_letters_and_a_fault_is_healed_all_the_same(tmp_path, kafka, unique):
    shop = Shop(tmp_path / "shop", gateway=True, kafka=kafka.bootstrap, prefix=f"{unique}.")
    for topic in (shop.metrics, shop.logs):
        await kafka.create_topic(topic, max_message_bytes=str(4 * MEBIBYTE))  # by itself a broker takes less than our decoders
    await run_on_bad_records(shop)


# --- the gateway ---------------------------------------------------------------------------------------------------------------------

REMOTE_WRITE = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
HUGE = b"\xff\xff\xff\xff\x0f" + b"\x00" * 20  # a snappy block that says it holds 4 GiB


def bad_requests() -> list[tuple[str, dict[str, str], bytes, int, str]]:
    write, alerts, signals = "/api/v1/write", "/api/v2/alerts", "/api/v1/signals"
    return [
        (signals, {}, b"{", 400, "truncated"),
        (signals, {}, bytes(range(256)), 400, "malformed"),
        (signals, {}, b"\n".join([sample(), sample(value="many"), sample()]), 400, "2: value 'many'"),
        (signals, {}, sample(value=float("nan")), 400, 'write "NaN"'),
        (signals, {}, sample(valeu=1), 400, "unknown key 'valeu'"),
        (signals, {}, sample(help="x" * MEBIBYTE), 400, "max_message_bytes"),
        (f"{signals}?format=xml", {}, b"<a/>", 400, "format"),
        (f"{signals}?format=ecs", {}, b"[]]", 400, "malformed"),
        (signals, {}, b" " * (17 << 20), 413, "16777216"),
        (write, REMOTE_WRITE, bytes(range(256)), 400, "snappy"),
        (write, REMOTE_WRITE, HUGE, 400, "max_decompressed_bytes"),
        (write, REMOTE_WRITE, bytes(cramjam.snappy.compress_raw(b"\x00" * (80 << 20))), 400, "max_decompressed_bytes"),
        (write, REMOTE_WRITE, bytes(cramjam.snappy.compress_raw(b"\xff" * 1000)), 400, "protobuf"),
        (write, {"Content-Encoding": "lz4"}, b"", 415, "snappy"),
        (signals, {"Content-Encoding": "gzip"}, b"not gzip", 400, "gzip"),
        (signals, {"Content-Encoding": "gzip"}, gzip.compress(b" " * (64 << 20)), 413, "16777216"),
        (write, REMOTE_WRITE, b"\x00" * (17 << 20), 413, "16777216"),
        (alerts, {}, b"[{]", 400, "malformed"),
        (alerts, {}, b"{}", 400, "not an array"),
        (alerts, {}, b'[{"labels": {"severity": "critical"}}]', 400, "alertname"),
        (alerts, {}, b'[{"labels": {"alertname": "A"}, "startsAt": "soon"}]', 400, "RFC 3339"),
        (alerts, {}, b"[7]", 400, "7"),
        ("/api/v1/nothing", {}, b"", 404, "Not Found"),
    ]


async def test_bad_requests_are_refused_with_the_reason_and_a_fault_is_healed_all_the_same(tmp_path):
    shop = Shop(tmp_path / "shop", gateway=True)
    async with shop.open(), aiohttp.ClientSession(shop.url) as session:
        assert await shop.until_ready(), shop.log_tail()
        for path, headers, body, status, reason in bad_requests():
            async with session.post(path, data=body, headers=headers) as answer:
                text = await answer.text()
                said = json.loads(text)["error"]["reason"]
                assert (answer.status, reason in said) == (status, True), (path, body[:60], answer.status, said)
        async with session.post("/api/v1/signals", data=sample(value="NaN")) as answer:
            assert await answer.json() == {"accepted": 1, "refused": []}
        refused = sum(status == 400 for *_, status, _ in bad_requests())
        letters = [letter for letter in await shop.on_bus(DEAD_LETTERS) if letter.topic.startswith("gateway-")]
        assert len(letters) >= refused - 1  # a format that is not known belongs to no topic
        assert all(letter.reason for letter in letters)
        assert await heals(shop) == [], shop.log_tail()


# --- rules -------------------------------------------------------------------------------------------------------------------------------

MORE_ALERTS = """groups:
  - name: more
    interval: 1s
    rules:
      - alert: Always
        expr: vector(1) > {}
"""


async def test_rules_that_break_while_running_are_refused_as_a_whole_and_taken_once_they_are_right(tmp_path):
    shop = Shop(tmp_path / "shop", gateway=True)
    more = shop.rules / "more.yaml"
    async with shop.open():
        assert await shop.until_ready(), shop.log_tail()
        assert await shop.until_metric('pipeline_rules{kind="policies"}', lambda value: value == 1, 5) == 1
        more.write_text(MORE_ALERTS.format("(0"))
        good = (shop.rules / "policies.yaml").read_text()
        (shop.rules / "policies.yaml").write_text(good.replace("mode: enforce", "mode: off"))  # right in itself, but not to be taken alone
        assert await shop.until_metric('pipeline_reloads_total{result="refused"}', lambda value: value >= 1, 10) >= 1, shop.log_tail()
        refusals = [line for line in shop.log_text().splitlines() if "rules_refused" in line]
        assert refusals
        assert "more.yaml:6:" in refusals[-1]
        assert await heals(shop) == [], shop.log_tail()
        (shop.rules / "policies.yaml").write_text(good)
        more.write_text(MORE_ALERTS.format("0"))
        assert await shop.until_metric('pipeline_rules{kind="alerts"}', lambda value: value == 2, 10) == 2, shop.log_tail()
        fired = await shop.until_on_bus(FACTS, lambda fact: isinstance(fact, AlertFact) and fact.alert.name == "Always", 5)
        assert fired.alert.state is AlertState.FIRING


async def command(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


POLICY = """policies:
  - name: {}
    when: {{alertname: ShopErrors}}
    steps: [{}]
"""
Wrong = dict[str, tuple[str, str, str]]
WRONG_SHAPE: Wrong = {  # name: (text, line and column, a piece of what would be right)
    "expression.yaml": (MORE_ALERTS.format("(0"), "6:27:", "never closed"),
    "key.yaml": (MORE_ALERTS.replace("more", "other").format("0") + "        fro: 5m\n", "7:9:", "did you mean 'for'?"),
    "verb.yaml": (POLICY.format("verb", "{sclae: {replicas: 2}}"), "4:14:", "did you mean 'scale'?"),
}
WRONG_NAMES: Wrong = {
    "metric.yaml": (
        POLICY.format("metric", '{restart: {}, verify: {success: "http_request_total > 1"}}'),
        "4:46:",
        "did you mean 'http_requests_total'?",
    ),
    "service.yaml": (POLICY.format("service", "{restart: {}}") + "    service: shpo\n", "5:5:", "did you mean 'shop'?"),
}


@pytest.mark.parametrize("files", [pytest.param(WRONG_SHAPE, id="shape"), pytest.param(WRONG_NAMES, id="names")])
async def test_wrong_rule_files_are_named_with_line_and_column_and_keep_the_engine_from_starting(tmp_path, files):
    shop = Shop(tmp_path / "shop")
    for name, (text, _, _) in files.items():
        (shop.rules / name).write_text(text)
    config = str(shop.config_path)
    results = await asyncio.gather(
        command("config", "check", config), command("rules", "check", str(shop.rules), "--config", config), command("run", "--config", config)
    )
    for code, out, err in results:
        assert code == 1
        for name, (_, place, hint) in files.items():
            assert any(f"{name}:{place}" in line and hint in line for line in (out + err).splitlines()), (name, out + err)


async def test_the_command_line_says_whether_a_configuration_is_right_and_where_it_is_not(tmp_path):
    shop = Shop(tmp_path / "shop")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text('inputs: [{topic: a, format: jsn}]\ngateway: {listen: "127.0.0.1:0", token: "${env:REFLEXARC_NOT_SET}"}\nrulez: []\n')
    good, good_rules, bad, as_json, *usage = await asyncio.gather(
        command("config", "check", str(shop.config_path)),
        command("rules", "check", str(shop.rules), "--config", str(shop.config_path)),
        command("config", "check", str(wrong)),
        command("config", "check", str(wrong), "--json"),
        command("config", "chekc"),
        command("run", "--role", "dtect"),
    )
    assert (good[0], good_rules[0], bad[0], as_json[0], [code for code, _, _ in usage]) == (0, 0, 1, 1, [2, 2])
    for place, hint in (("1:21", "did you mean 'json'?"), ("2:42", "REFLEXARC_NOT_SET"), ("3:1", "did you mean 'rules'?")):
        assert any(f"{wrong}:{place}:" in line and hint in line for line in bad[1].splitlines()), bad[1]
    assert json.loads(as_json[1])["errors"] == 3
