"""`KafkaServer`: one real Apache Kafka node (KRaft, broker and controller in one process), replication factor 1, topics made on demand only.

The jars come from Maven Central once; so does a formatted, empty storage folder, so that a start costs one JVM instead of two.
"""

import os
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.rigs.cache import cache_dir, fetch, maven
from tests.rigs.java import java_home
from tests.rigs.process import Daemon, free_port
from tests.rigs.require import Unavailable

VERSION = "4.3.1"
_LOG4J = "2.24.3"
_HERE = Path(__file__).parent
_JVM_SMALL = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "num.partitions": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.segment.bytes": "67108864",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "broker.session.timeout.ms": "3000",  # a killed broker may register again only when its old session has run out
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "auto.create.topics.enable": "false",
}


def _fetch_jars() -> Path:
    def build(folder: Path) -> None:
        maven(
            "-f", str(_HERE / "kafka-pom.xml"), f"-Dkafka={VERSION}", f"-Dlog4j={_LOG4J}",
            "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}",
        )  # fmt: skip
        if not list(folder.glob("kafka_*.jar")):
            raise Unavailable("mvn copied no Kafka jars")

    return fetch(cache_dir() / f"kafka-{VERSION}-jars", build)


def _fetch_formatted_storage(java: Path, jars: Path) -> Path:
    """An empty KRaft storage; nothing in it depends on the folder or the port."""

    def build(folder: Path) -> None:
        settings = folder.parent / f"{folder.name}.properties"
        _write_settings(settings, port=free_port(), controller_port=free_port(), storage=folder)
        try:
            done = subprocess.run(
                [java, "-Xmx64m", *_JVM_SMALL, *_log4j(), "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format",
                 "-t", "cmVmbGV4YXJjLXRlc3RzIQ", "-c", settings],
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        finally:
            settings.unlink()
        if done.returncode:
            raise Unavailable(f"Kafka's storage could not be formatted: {(done.stdout + done.stderr)[-400:]}")

    return fetch(cache_dir() / f"kafka-{VERSION}-storage", build)


def _write_settings(file: Path, *, port: int, controller_port: int, storage: Path) -> None:
    settings = _SETTINGS | {
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": str(storage),
    }
    file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


def _log4j() -> Sequence[str]:
    return (f"-Dlog4j2.configurationFile={_HERE / 'kafka-log4j2.properties'}", "-Dlog4j2.disable.jmx=true")


class KafkaServer(Daemon):
    """A broker of its own: `KafkaServer()`, `start()`, `bootstrap`, `create_topic`, `kill()`, `start()`, ..., `close()`.

    Raises:
        Unavailable: Java 17 or the jars cannot be had.
    """

    name = "kafka"

    def __init__(self) -> None:
        self._java = java_home(17) / "bin" / "java"
        self._jars = _fetch_jars()
        formatted = _fetch_formatted_storage(self._java, self._jars)
        super().__init__()
        shutil.copytree(formatted, self.data_dir / "storage")
        self._settings = self.data_dir / "server.properties"
        _write_settings(self._settings, port=self.port, controller_port=free_port(), storage=self.data_dir / "storage")

    @property
    def bootstrap(self) -> str:
        return self.address

    def command(self) -> Sequence[str]:
        heap = os.environ.get("REFLEXARC_TEST_KAFKA_HEAP", "256m")
        return (
            str(self._java), f"-Xms{heap}", f"-Xmx{heap}", *_JVM_SMALL, "-XX:MaxDirectMemorySize=128m", "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true", *_log4j(), f"-Dkafka.logs.dir={self.data_dir}", "-cp", f"{self._jars}/*", "kafka.Kafka", str(self._settings),
        )  # fmt: skip

    def is_ready(self) -> bool:
        """A broker that is registered and unfenced names itself in the answer to a Metadata request (v4, no topics)."""
        request = struct.pack(">hhih5siB", 3, 4, 1, 5, b"ready", 0, 0)
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.settimeout(2)
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(16, socket.MSG_WAITALL)  # size, correlation id, throttle time, number of brokers
        return len(answer) == 16 and struct.unpack(">i", answer[12:])[0] > 0

    async def create_topic(self, name: str = "", *, partitions: int = 1, **configs: str) -> str:
        """Make a topic and return its name (a fresh one when none is given); configs as `cleanup_policy="compact"`."""
        name = name or f"test-{uuid.uuid4().hex[:12]}"
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            settings = {key.replace("_", "."): value for key, value in configs.items()}
            await admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=settings)])
        finally:
            await admin.close()
        return name
