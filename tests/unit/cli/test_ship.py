"""`reflexarc ship` against a real gateway, a real embedded bus, and a broken one."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest

from pipeline.cli import main
from pipeline.cli.ship import GatewayPublisher, Line, Refused, ShipError, Shipped, TopicPublisher, ship
from pipeline.gateway import Gateway
from pipeline.ports.bus import OutRecord
from pipeline.rulebook.config_spec import Gateway as Config
from pipeline.telemetry import Telemetry
from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock

GOOD = b'{"name":"up","labels":{"service":"checkout"},"value":1,"ts":1767225600000}'


class Collecting:
    def __init__(self) -> None:
        self.batches: list[list[Line]] = []

    async def send(self, lines: Sequence[Line]) -> list[Refused]:
        self.batches.append(list(lines))
        return []


async def shipped_to_gateway(body: bytes, format_: str = "json", **config: object) -> tuple[Shipped, FakeBus]:
    bus = FakeBus()
    gateway = Gateway(bus, Config(listen="127.0.0.1:0", **config), clock=FakeClock(), telemetry=Telemetry())
    await gateway.start()
    try:
        async with aiohttp.ClientSession() as session:
            return await ship(BytesIO(body), GatewayPublisher(session, gateway.url, format_)), bus
    finally:
        await gateway.close()


async def test_lines_reach_the_bus_and_refused_ones_are_named_by_their_number_in_the_file() -> None:
    body = b"\n".join([GOOD] * 700 + [b"nope"] + [b""] + [GOOD] + [b'{"name":"x","value":null,"ts":1}'])
    shipped, bus = await shipped_to_gateway(body)
    assert (shipped.lines, shipped.sent) == (703, 701)
    assert [one.number for one in shipped.refused] == [701, 704]
    assert "null" in shipped.refused[1].reason
    assert sum(record.value.count(b"\n") + 1 for record in bus.records if record.topic == "gateway-json") == 701


async def test_other_formats_go_to_their_topic() -> None:
    shipped, bus = await shipped_to_gateway(b'{"@timestamp":"2026-01-01T00:00:00Z","message":"hi"}\n', "ecs")
    assert shipped.sent == 1
    assert bus.records[0].topic == "gateway-ecs"


async def test_a_gateway_that_wants_a_token_ends_it_with_a_hint() -> None:
    with pytest.raises(ShipError, match="REFLEXARC_TOKEN"):
        await shipped_to_gateway(GOOD, token="secret-token")


async def test_no_gateway_there_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ShipError, match="reflexarc run"):
            await ship(BytesIO(GOOD), GatewayPublisher(session, f"http://127.0.0.1:{port}", "json"))


async def test_lines_without_a_last_newline_and_with_carriage_returns_are_lines() -> None:
    publisher = Collecting()
    shipped = await ship(BytesIO(b"a\r\n\r\nb\n c"), publisher)
    assert publisher.batches == [[Line(1, b"a"), Line(3, b"b")], [Line(4, b"c")]]
    assert shipped.lines == 3


async def test_a_rate_spreads_the_lines_over_time() -> None:
    publisher = Collecting()
    loop = asyncio.get_running_loop()
    started = loop.time()
    await ship(BytesIO(b"x\n" * 60), publisher, rate=200)
    assert loop.time() - started >= 0.19  # three batches of 20: the last starts after 40 of 200 a second
    assert [len(batch) for batch in publisher.batches] == [20, 20, 20]


async def test_to_a_topic_every_good_line_is_a_record_of_its_service() -> None:
    published: list[OutRecord] = []

    async def publish(records: Sequence[OutRecord]) -> None:
        published.extend(records)

    shipped = await ship(BytesIO(GOOD + b"\n{}\n"), TopicPublisher(publish, "metrics", "json"))
    assert published == [OutRecord("metrics", "checkout", GOOD)]
    assert [one.number for one in shipped.refused] == [2]


def test_the_command_publishes_to_the_configured_bus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "reflexarc.yaml").write_text("inputs: [{topic: metrics, format: json}]\n")
    (tmp_path / "lines").write_bytes(GOOD + b"\nbad\n")
    code = main(["ship", "--config", str(tmp_path / "reflexarc.yaml"), "--topic", "metrics", "--json", str(tmp_path / "lines")])
    report = json.loads(capsys.readouterr().out)
    assert code == 1
    assert report["sent"] == 1
    assert report["refused"][0]["line"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["does-not-exist"], "cannot read does-not-exist", id="no such file"),
        pytest.param(["--config", "none.yaml", __file__], "none.yaml", id="no configuration"),
    ],
)
def test_what_cannot_be_opened_is_exit_code_1(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ship", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_a_wrong_rate_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ship", "--rate", "0", "x"])
    assert ended.value.code == 2


def test_standard_input_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "reflexarc.yaml").write_text("inputs: [{topic: metrics, format: json}]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "ship", "--config", str(tmp_path / "reflexarc.yaml"), "--topic", "metrics"],
        input=GOOD + b"\n",
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, b"sent 1 of 1 lines\n"), done.stderr
