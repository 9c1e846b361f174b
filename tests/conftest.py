"""Session fixtures for the real parts, and the loud summary of those that could not be had.

`kafka` and `elasticsearch` start on first use and are shared by the session: use topics and index prefixes of your own (`unique`). Tests that kill or
suspend a server take `own_kafka` or `own_elasticsearch`: a second server, at the disposal of one test at a time, and running when that test begins.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.rigs import envoy
from tests.rigs.elasticsearch import ElasticsearchServer
from tests.rigs.kafka import KafkaServer
from tests.rigs.process import Daemon, StartError
from tests.rigs.require import MISSING, Unavailable, require

Part = TypeVar("Part", bound=Daemon)


def _running(kind: type[Part]) -> Iterator[Part]:
    try:
        server = kind()
    except Unavailable as reason:
        require(kind.name, str(reason))
    try:
        server.start()
    except StartError as reason:
        server.close()
        require(kind.name, str(reason))
    yield server
    server.close()


def _revived(server: Part) -> Part:
    server.resume()
    server.start()
    return server


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """A running broker; `kafka.bootstrap`, `await kafka.create_topic()`."""
    yield from _running(KafkaServer)


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka: KafkaServer) -> str:
    return kafka.bootstrap


@pytest.fixture(scope="session")
def _spare_kafka() -> Iterator[KafkaServer]:
    yield from _running(KafkaServer)


@pytest.fixture
def own_kafka(_spare_kafka: KafkaServer) -> KafkaServer:
    """A running broker to be killed, suspended and restarted at will; earlier tests' topics may be on it."""
    return _revived(_spare_kafka)


@pytest.fixture(scope="session")
def elasticsearch() -> Iterator[ElasticsearchServer]:
    """A running node; `elasticsearch.url`, `elasticsearch.call("GET", path)`."""
    yield from _running(ElasticsearchServer)


@pytest.fixture(scope="session")
def elasticsearch_url(elasticsearch: ElasticsearchServer) -> str:
    return elasticsearch.url


@pytest.fixture(scope="session")
def _spare_elasticsearch() -> Iterator[ElasticsearchServer]:
    yield from _running(ElasticsearchServer)


@pytest.fixture
def own_elasticsearch(_spare_elasticsearch: ElasticsearchServer) -> ElasticsearchServer:
    """A running node to be killed, suspended and restarted at will; earlier tests' indices may be on it."""
    return _revived(_spare_elasticsearch)


@pytest.fixture(scope="session")
def envoy_binary() -> Path:
    """The Envoy binary."""
    try:
        return envoy.envoy_binary()
    except Unavailable as reason:
        require("envoy", str(reason))


@pytest.fixture
def unique() -> str:
    """A short lower-case name that no other test uses: a topic, group or index prefix."""
    return f"t{uuid.uuid4().hex[:10]}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in red what was not tested, and why."""
    if not MISSING:
        return
    terminalreporter.section("REAL PARTS THAT WERE NOT THERE", red=True, bold=True)
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for part, reason in MISSING.items():
        count = sum(f"{part} is not available" in text for text in skipped)
        terminalreporter.write_line(f"{part}: {count} tests skipped: {reason}", red=True)
    terminalreporter.write_line("Set REQUIRE=all to make this a failure.", red=True)
