"""`reflexarc ship`: the lines of a file or of standard input as signals, to the gateway or straight to a topic.

Guarantee: a line counts as sent only after the receiver said it is durable; a line that is no signal is named with its number and reason, the others
go on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from pipeline.cli.output import DEFAULT_CONFIG, config_path, fail, print_json

LINE_FORMATS: Final = ("json", "json-batch", "ecs", "envoy-access")
BATCH_LINES: Final = 500
BATCH_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 16 << 20
SHOWN: Final = 20
TRIES: Final = 8
TOKEN_VARIABLE: Final = "REFLEXARC_TOKEN"  # noqa: S105 - the name of a variable, not a token


class Line(NamedTuple):
    """One line with its number in the input, from 1."""

    number: int
    text: bytes


class Refused(NamedTuple):
    """A line that is no signal."""

    number: int
    reason: str


class ShipError(Exception):
    """Nothing can be sent any more; the message says why and what to do."""


class Publisher(Protocol):
    """Where batches go: returns the refused lines after the others are durable, or raises ShipError."""

    async def send(self, lines: Sequence[Line]) -> list[Refused]:
        """Send one batch."""
        ...


@dataclass
class Shipped:
    """What came of it."""

    lines: int = 0
    refused: list[Refused] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """Lines that are in."""
        return self.lines - len(self.refused)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "ship", help="send a file or stdin as signals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="file to send, - or nothing: standard input")
    parser.add_argument("--format", choices=LINE_FORMATS, default="json", help="what a line is (default: json: sample, log record or event)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", metavar="URL", help="a gateway (default: gateway.listen of the configuration)")
    where.add_argument("--topic", metavar="TOPIC", help="publish to this input topic of the configured bus instead")
    parser.add_argument("--config", metavar="FILE", help=f"configuration file (default: {DEFAULT_CONFIG})")
    parser.add_argument("--rate", type=_rate, metavar="N", help="at most N lines a second")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Send everything; 1 when a line was refused or nobody took them."""
    try:
        with _input(args.file) as stream:
            shipped = asyncio.run(_run(args, stream))
    except OSError as error:
        return fail(f"cannot read {args.file}: {error.strerror or error}")
    except ShipError as error:
        return fail(str(error))
    _report(shipped, as_json=args.json)
    return 1 if shipped.refused else 0


async def ship(
    stream: BufferedIOBase, publisher: Publisher, *, rate: float | None = None, seen: Callable[[Shipped], None] = lambda _: None
) -> Shipped:
    """Send every non-empty line of `stream`; `seen` is told after each batch."""
    shipped = Shipped()
    loop = asyncio.get_running_loop()
    started = loop.time()
    size = BATCH_LINES if rate is None else max(1, min(BATCH_LINES, int(rate / 10)))
    async for batch in _batches(stream, size):
        if rate is not None:
            await asyncio.sleep(max(0.0, started + shipped.lines / rate - loop.time()))
        shipped.refused += await publisher.send(batch)
        shipped.lines += len(batch)
        seen(shipped)
    return shipped


# --- where it goes -------------------------------------------------------------------------------------------------------------------


class GatewayPublisher:
    """Posts to `/api/v1/signals`; waits out a 503 as long as the gateway asks."""

    def __init__(self, session: Any, url: str, format_: str) -> None:
        self._session, self._base = session, url.rstrip("/")
        self._url = f"{self._base}/api/v1/signals?format={format_}"

    async def send(self, lines: Sequence[Line]) -> list[Refused]:
        """Post one batch."""
        import aiohttp

        body = b"\n".join(line.text for line in lines)
        for _ in range(TRIES):
            try:
                async with self._session.post(self._url, data=body) as answer:
                    if answer.status != 503:
                        return await self._answered(answer, lines)
                    await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
            except aiohttp.ClientConnectorError as error:
                raise ShipError(f"no gateway at {self._base}: start it with `reflexarc run`, or name another with --url") from error
            except (aiohttp.ClientError, TimeoutError) as error:
                raise ShipError(f"{self._base} broke off: {type(error).__name__}; lines of this batch may be in") from error
        raise ShipError(f"{self._base} had no room after {TRIES} tries")

    async def _answered(self, answer: Any, lines: Sequence[Line]) -> list[Refused]:
        if answer.status == 200:
            return []
        body = await answer.json(content_type=None) if "json" in answer.headers.get("Content-Type", "") else {}
        refused = body.get("refused")
        if answer.status != 400 or refused is None or any(one["line"] < 1 for one in refused):
            reason = body.get("error", {}).get("reason", f"HTTP {answer.status}")
            hint = f" (set {TOKEN_VARIABLE})" if answer.status in {401, 403} else ""
            raise ShipError(f"{self._base} answers {answer.status}: {reason}{hint}")
        named = [Refused(lines[one["line"] - 1].number, one["reason"]) for one in refused]
        unnamed = body.get("refused_count", len(named)) - len(named)
        return named + [Refused(lines[-1].number, "more refused lines in this batch, not named by the gateway")] * unnamed


class TopicPublisher:
    """Publishes lines that decode; keys are services, as the gateway's."""

    def __init__(self, publish: Callable[[Sequence[Any]], Awaitable[None]], topic: str, format_: str) -> None:
        self._publish, self._topic, self._format = publish, topic, format_

    async def send(self, lines: Sequence[Line]) -> list[Refused]:
        """Publish one batch: a record a line, as the formats of single signals want it."""
        from pipeline.gateway.inputs import service_of
        from pipeline.ports.bus import OutRecord
        from pipeline.signals import DecodeError, decode

        records, refused = [], []
        for line in lines:
            try:
                records.append(OutRecord(self._topic, service_of(decode(self._format, line.text)), line.text))
            except DecodeError as error:
                refused.append(Refused(line.number, error.reason))
        if records:
            await self._publish(records)
        return refused


async def _run(args: argparse.Namespace, stream: BufferedIOBase) -> Shipped:
    async with AsyncExitStack() as stack:
        publisher = await _publisher(args, stack)
        seen = _progress(stack, as_json=args.json)
        return await ship(stream, publisher, rate=args.rate, seen=seen)


async def _publisher(args: argparse.Namespace, stack: AsyncExitStack) -> Publisher:
    if args.topic:
        from pipeline.app import open_bus

        bus = await open_bus(_settings(args.config))
        stack.push_async_callback(bus.close)
        return TopicPublisher(bus.publish, args.topic, args.format)
    import aiohttp

    url, token = (args.url, None) if args.url else _gateway(args.config)
    token = os.environ.get(TOKEN_VARIABLE) or token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    session = await stack.enter_async_context(aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30)))
    return GatewayPublisher(session, url, args.format)


def _gateway(config: str | None) -> tuple[str, str | None]:
    """Address and token of the configured gateway."""
    gateway = _settings(config).config.gateway
    if gateway is None:
        raise ShipError(f"{config_path(config)} configures no gateway: add `gateway: {{listen: 127.0.0.1:8480}}`, or give --url or --topic")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(gateway.host, gateway.host)  # noqa: S104 - where to connect, not where to listen
    shown = f"[{host}]" if ":" in host else host
    token = gateway.token or gateway.tokens.operator
    return f"{'https' if gateway.tls else 'http'}://{shown}:{gateway.port}", token.get_secret_value() if token else None


def _settings(config: str | None) -> Any:
    from pipeline.app import SettingsError, load_config

    try:
        return load_config(config_path(config))
    except SettingsError as error:
        raise ShipError(str(error)) from error


# --- lines in, numbers out -----------------------------------------------------------------------------------------------------------


def _input(file: str) -> BufferedIOBase:
    return open(0, "rb", closefd=False) if file == "-" else Path(file).open("rb")


async def _batches(stream: BufferedIOBase, size: int) -> AsyncIterator[list[Line]]:
    """Lines as they come: a batch ends at `size` lines, at a mebibyte, or when nothing more is there yet (a pipe's writer pauses)."""
    number, rest = 0, b""
    while True:
        chunk = await asyncio.to_thread(stream.read1, BATCH_BYTES)
        *texts, rest = (rest + chunk).split(b"\n") if chunk else [rest, b""]
        if len(rest) > MAX_LINE_BYTES:
            raise ShipError(f"line {number + len(texts) + 1} is longer than {MAX_LINE_BYTES} bytes")
        lines = [Line(number + place, text.strip()) for place, text in enumerate(texts, start=1)]
        number += len(texts)
        lines = [line for line in lines if line.text]
        for start in range(0, len(lines), size):
            yield lines[start : start + size]
        if not chunk:
            return


def _progress(stack: AsyncExitStack, *, as_json: bool) -> Callable[[Shipped], None]:
    if as_json or not sys.stderr.isatty():
        return lambda _: None
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.fields[lines]} lines, {task.fields[refused]} refused"), TimeElapsedColumn())
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task("ship", total=None, lines=0, refused=0)
    return lambda shipped: progress.update(task, lines=shipped.lines, refused=len(shipped.refused))


def _report(shipped: Shipped, *, as_json: bool) -> None:
    if as_json:
        refused = [{"line": one.number, "reason": one.reason} for one in shipped.refused]
        print_json({"lines": shipped.lines, "sent": shipped.sent, "refused": refused})
        return
    for one in shipped.refused[:SHOWN]:
        print(f"line {one.number}: {one.reason}", file=sys.stderr)
    if len(shipped.refused) > SHOWN:
        print(f"... and {len(shipped.refused) - SHOWN} more", file=sys.stderr)
    print(f"sent {shipped.sent} of {shipped.lines} lines" + (f", {len(shipped.refused)} refused" if shipped.refused else ""))


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of lines a second")
    return value
