"""A small HTTP service for tests: `python http_service.py --port P --version V --instance I`. `/` names version and instance; SIGTERM finishes what is
under way and ends. `/healthz` answers 200 after `--ready-after` seconds; version `broken` ends at once; `/slow` takes 300 ms."""

import argparse
import asyncio
import json
import signal
import sys
import time


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--instance", default="")
    parser.add_argument("--ready-after", type=float, default=0.0)
    options = parser.parse_args()
    if options.version == "broken":
        sys.exit("this version cannot start")
    started = time.monotonic()
    under_way: set[asyncio.Task[None]] = set()
    connections: set[asyncio.StreamWriter] = set()
    body = json.dumps({"version": options.version, "instance": options.instance}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        connections.add(writer)
        while line := await reader.readline():
            while (await reader.readline()).strip():
                pass
            under_way.add(task)
            path = line.split()[1].decode()
            status, content = "200 OK", body
            if path == "/healthz" and time.monotonic() - started < options.ready_after:
                status, content = "503 Service Unavailable", b"{}"
            if path == "/slow":
                await asyncio.sleep(0.3)
            head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
            writer.write(head.encode() + content)
            await writer.drain()
            under_way.discard(task)
        connections.discard(writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", options.port, backlog=512)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    give_up = time.monotonic() + 2
    while under_way and time.monotonic() < give_up:
        await asyncio.sleep(0.005)
    for writer in connections:
        writer.close()
    await asyncio.sleep(0)


asyncio.run(main())
