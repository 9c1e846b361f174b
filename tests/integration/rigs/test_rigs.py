"""The rigs themselves: a part that is killed comes back with its data on the same port, and a missing part is said loudly."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.rigs.process import Daemon, StartError


class Sleeper(Daemon):
    """A process with a child in its group, as Elasticsearch's launcher has."""

    name = "sleeper"
    start_timeout_s = 10.0

    def command(self):
        return ["/bin/sh", "-c", "sleep 600 & echo $! > child.pid; wait"]

    def is_ready(self):
        return (self.data_dir / "child.pid").exists() and (self.data_dir / "child.pid").read_text().strip() != ""


class Broken(Sleeper):
    name = "broken"

    def command(self):
        return ["/bin/sh", "-c", "echo no such luck; exit 3"]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _wait_until_gone(pid: int) -> None:
    deadline = 200
    while _is_alive(pid) and deadline:
        subprocess.run(["sleep", "0.05"], check=True)
        deadline -= 1
    assert not _is_alive(pid)


def test_a_stopped_daemon_takes_its_children_with_it_and_removes_its_folder():
    daemon = Sleeper()
    daemon.start()
    child = int((daemon.data_dir / "child.pid").read_text())
    assert _is_alive(child)
    daemon.close()
    _wait_until_gone(child)
    assert not daemon.data_dir.exists()


def test_a_daemon_that_ends_at_once_says_what_it_printed():
    daemon = Broken()
    with pytest.raises(StartError, match="no such luck"):
        daemon.start()
    daemon.close()


def test_a_killed_test_session_leaves_no_daemon_behind(tmp_path):
    script = tmp_path / "session.py"
    script.write_text(
        "import os, signal\n"
        "from tests.integration.rigs.test_rigs import Sleeper\n"
        "daemon = Sleeper(); daemon.start()\n"
        "print(daemon.data_dir, (daemon.data_dir / 'child.pid').read_text().strip(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    folder, child = done.stdout.split()
    _wait_until_gone(int(child))
    subprocess.run(["rm", "-r", folder], check=True)


@pytest.mark.kafka
async def test_a_killed_broker_comes_back_on_its_port_with_its_records(own_kafka):
    topic = await own_kafka.create_topic()
    async with AIOKafkaProducer(bootstrap_servers=own_kafka.bootstrap, acks="all") as producer:
        await producer.send_and_wait(topic, b"before")
    await asyncio.to_thread(own_kafka.kill)
    await asyncio.to_thread(own_kafka.start)
    async with AIOKafkaConsumer(topic, bootstrap_servers=own_kafka.bootstrap, auto_offset_reset="earliest") as consumer:
        assert (await consumer.getone()).value == b"before"


@pytest.mark.parametrize(("required", "outcome"), [("", "1 skipped"), ("all", "1 error"), ("nothing-else", "1 skipped")])
def test_a_missing_part_is_skipped_loudly_or_fails_where_it_is_required(tmp_path, required, outcome):
    (tmp_path / "test_it.py").write_text("def test_it(kafka):\n    pass\n")
    environment = {**os.environ, "REQUIRE": required, "REFLEXARC_TEST_CACHE": str(tmp_path / "empty"), "PATH": "", "REFLEXARC_TEST_KAFKA_HEAP": "1m"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest", "--rootdir", tmp_path, "-c", os.devnull, tmp_path / "test_it.py"],
        capture_output=True, text=True, check=False, env={**environment, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert outcome in done.stdout, done.stdout + done.stderr
    assert "no `mvn`" in done.stdout
    if not required:
        assert "REAL PARTS THAT WERE NOT THERE" in done.stdout
