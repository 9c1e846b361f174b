"""The demo's service as the process that it is: answers, sheds load, obeys its control file, reports its metrics."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.demo.load import burst
from pipeline.demo.service import QUEUE_LIMIT
from tests.rigs.process import free_port

WAIT_S = 20.0


@dataclass
class Instance:
    """A running instance, its control file, and a gateway that only listens."""

    folder: Path
    port: int
    reports: list[dict[str, object]] = field(default_factory=list)

    def control(self, **faults: object) -> None:
        draft = self.folder / "draft"
        draft.write_text(json.dumps(faults))
        draft.replace(self.folder / "control.json")

    async def get(self, path: str = "/checkout") -> int:
        return next(iter(await burst(self.port, source="127.0.0.1", path=path, count=1, pause_seconds=0)))

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
        self.reports.extend(map(json.loads, body.splitlines()))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    def last(self, name: str) -> float:
        return next((float(one["value"]) for one in reversed(self.reports) if one["name"] == name), 0.0)  # type: ignore[arg-type]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


async def until_status(instance: Instance, status: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while await instance.get() != status:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Instance]:
    instance = Instance(folder, free_port())
    gateway = await asyncio.start_server(instance.hear, "127.0.0.1", 0)
    address = f"127.0.0.1:{gateway.sockets[0].getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.demo.service", "--port", str(instance.port), "--version", "v2", "--site", "a",
        "--control", str(folder / "control.json"), "--login-log", str(folder / "logins.json"), "--gateway", address,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    try:
        await until_status(instance, 200)
        yield instance
    finally:
        process.terminate()
        await process.wait()
        gateway.close()
        await gateway.wait_closed()


async def test_an_instance_answers_and_obeys_its_control_file(tmp_path: Path):
    async with running(tmp_path) as instance:
        assert await instance.get("/healthz") == 200
        instance.control(v1={"error_ratio": 1.0}, **{"site:b": {"dead": True}})
        await until(lambda: instance.reports)
        assert await instance.get() == 200, "what is asked of others is not obeyed"
        instance.control(v2={"error_ratio": 1.0})
        await until_status(instance, 500)
        instance.control(**{"site:a": {"dead": True}})
        await until_status(instance, 0)
        instance.control()
        await until_status(instance, 200)


async def test_a_refused_login_is_written_as_ecs(tmp_path: Path):
    async with running(tmp_path) as instance:
        assert await instance.get("/login") == 401
    (entry,) = map(json.loads, (tmp_path / "logins.json").read_text().splitlines())
    assert (entry["event"]["category"], entry["event"]["outcome"]) == ("authentication", "failure")


async def test_load_beyond_the_queue_is_shed_and_metrics_say_what_happened(tmp_path: Path):
    async with running(tmp_path) as instance:
        answers = await asyncio.gather(*(instance.get() for _ in range(QUEUE_LIMIT + 60)))
        assert 503 in answers
        assert answers.count(200) >= QUEUE_LIMIT
        await until(lambda: instance.last("service_requests_total") >= len(answers))
        assert instance.last("service_errors_total") == answers.count(503)
        instance.control(report=False)
        await asyncio.sleep(0.5)  # reports under way end
        silent_since = len(instance.reports)
        await instance.get()
        await asyncio.sleep(0.6)
        assert len(instance.reports) == silent_since


async def test_a_control_file_that_is_none_changes_nothing_and_the_next_one_is_obeyed(tmp_path: Path):
    async with running(tmp_path) as instance:
        for text in ("", "{", "[]", "5", '{"v2": 3}', '{"v2": {"unknown": 1}}'):
            (tmp_path / "control.json").write_text(text)
            seen = len(instance.reports)
            await until(lambda seen=seen: len(instance.reports) > seen)
            assert await instance.get() == 200
        instance.control(v2={"error_ratio": 1.0})
        await until_status(instance, 500)
