"""The order of the demo: build the world, play the acts, show the screen, end with the report; or leave it running with keys to break things."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from pipeline.app import load_rules, open_bus
from pipeline.demo import acts, report
from pipeline.demo.acts import Act, Stage
from pipeline.demo.journal import Journal
from pipeline.demo.load import Load
from pipeline.demo.release import release_canary
from pipeline.demo.view import View
from pipeline.demo.world import LOOK, World
from pipeline.rulebook.book import RuleBook

ACTS: Final = ("bad-release", "surge", "slow-site", "blind", "break-in")
CALM_SECONDS: Final = 1.0
_KEYS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "e": ("v2 answers 500", {"v2": {"error_ratio": 1.0}}),
    "s": ("site a is slow", {"site:a": {"latency_ms": 400}}),
    "d": ("site a is dead", {"site:a": {"dead": True}}),
    "m": ("the services stop reporting", {"report": False}),
    "h": ("all is well again", {}),
}


@dataclass
class Demo:
    """One performance. `live` draws the screen; otherwise the story goes line by line to stderr."""

    console: Console
    names: tuple[str, ...] = ACTS
    live: bool = True
    seed: int = 7
    keep: bool = False
    picture: Path | None = None
    acts: list[Act] = field(default_factory=list)
    kept: Path | None = None

    async def perform(self) -> list[Act]:
        """Play the chosen acts."""
        async with self._scene() as (world, view):
            if "bad-release" in self.names:
                without = await self._control_run(world, view)
            async with self._engine(world, view, "enforce") as stage:
                if "bad-release" in self.names:
                    await self._play(view, "bad release, with (enforce)", stage, lambda on: acts.bad_release(on, without=without))
                else:
                    await asyncio.sleep(acts.WARM_SECONDS)
                for name, act in (("surge", acts.surge), ("slow-site", acts.slow_site), ("blind", acts.blind), ("break-in", acts.break_in)):
                    if name in self.names:
                        await self._play(view, name, stage, act)
                        await asyncio.sleep(CALM_SECONDS)
                if self.picture is not None:
                    report.save_picture(self.picture, view)
        return self.acts

    async def leave_running(self) -> None:
        """`--play`: an enforcing engine, and keys that break things, until `q`."""
        async with self._scene() as (world, view), self._engine(world, view, "enforce") as stage:
            view.title = "yours: " + ", ".join(f"[{key}] {what}" for key, (what, _) in _KEYS.items()) + ", [+]/[-] load, [q] quit"
            async for key in _keys():
                if key == "q":
                    return
                if key in "+-":
                    stage.load.rate = min(900.0, max(30.0, stage.load.rate * (1.5 if key == "+" else 1 / 1.5)))
                    view.say(f"load is {stage.load.rate:.0f} requests/s now")
                elif key in _KEYS:
                    what, faults = _KEYS[key]
                    world.break_things(**faults)
                    view.say(what)

    async def _control_run(self, world: World, view: View) -> int:
        async with self._engine(world, view, "observe") as stage:
            view.title = "bad release, without (observe)"
            return await acts.bad_release_without(stage)

    async def _play(self, view: View, title: str, stage: Stage, play: Callable[[Stage], Awaitable[Act]]) -> None:
        view.title = title
        act = await play(stage)
        self.acts.append(act)
        stage.say(f"{act.name}: " + ("ended as told" if act.ok else "; ".join(act.missing)))

    @contextlib.asynccontextmanager
    async def _scene(self) -> AsyncIterator[tuple[World, View]]:
        """The world with load on it, and the screen."""
        async with World(keep=self.keep) as world:
            self.kept = world.directory / LOOK if self.keep else None
            load = Load(world.public_port, acts.BASE_RATE, self.seed)
            view = View(load, _book(world))
            sending: asyncio.Task[None] | None = None
            with self._screen(view):
                view.say("starting Envoy and the engine; the engine starts the checkout service")
                await world.start_engine("observe")
                await world.until_serving()
                await release_canary(world)
                await world.stop_engine()
                sending = asyncio.create_task(load.run())
                try:
                    yield world, view
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)

    def _screen(self, view: View) -> contextlib.AbstractContextManager[object]:
        """The live screen, or nothing where there is no terminal (then the story goes line by line to stderr)."""
        if self.live:
            return Live(view, console=self.console, refresh_per_second=4, transient=True)
        view.echo = sys.stderr
        return contextlib.nullcontext()

    @contextlib.asynccontextmanager
    async def _engine(self, world: World, view: View, mode: str) -> AsyncIterator[Stage]:
        """An engine in one mode, and a stage on which its journal is read."""
        await world.start_engine(mode)
        bus = await open_bus(world.settings(mode))
        journal = Journal(bus)
        view.journal = journal
        reading = asyncio.create_task(journal.follow())
        try:
            yield Stage(world, view.load, journal, view.say)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await bus.close()
            await world.stop_engine()


def _book(world: World) -> RuleBook:
    return load_rules(world.settings("enforce"))


async def _keys() -> AsyncIterator[str]:
    """Single key presses of the terminal."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    queue: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    tty.setcbreak(sys.stdin)
    loop.add_reader(sys.stdin, lambda: queue.put_nowait(sys.stdin.read(1)))
    try:
        while True:
            yield await queue.get()
    finally:
        loop.remove_reader(sys.stdin)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
