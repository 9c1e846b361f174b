"""The demo leaves nothing behind: no process, no directory; and keeps what it is asked to keep."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from pipeline.demo.world import World, WorldError, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.usefixtures("envoy_binary")]


def of(directory: Path) -> list[str]:
    """Processes that carry the directory in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in command:
            found.append(entry.name)
    return found


async def start_instance(world: World) -> asyncio.subprocess.Process:
    """A service instance as the engine's connector starts it, which nobody ends."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.demo.service", "--port", "0", "--version", "v1", "--site", "a",
        "--control", str(world.directory / "control.json"), "--login-log", str(world.directory / "logins.json"), "--gateway", "127.0.0.1:9",
        cwd=Path(__file__).parents[3],
    )  # fmt: skip


async def test_a_world_ends_its_proxy_and_the_instances_that_are_left_and_removes_its_directory():
    async with World() as world:
        instance = await start_instance(world)
        assert len(of(world.directory)) >= 2
    await asyncio.wait_for(instance.wait(), 10)
    assert await wait_until(lambda: of(world.directory) == [], 10)
    assert not world.directory.exists()


async def test_a_world_ends_also_when_an_act_fails():
    with pytest.raises(RuntimeError, match="an act fails"):
        async with World() as world:
            raise RuntimeError("an act fails")
    assert await wait_until(lambda: of(world.directory) == [], 10)
    assert not world.directory.exists()


async def test_a_kept_world_can_be_explained_without_its_variables():
    async with World(keep=True) as world:
        pass
    try:
        assert (world.directory / "reflexarc.yaml").read_text() == "data_dir: engine\n"
        assert of(world.directory) == []
    finally:
        shutil.rmtree(world.directory)


async def test_an_engine_that_does_not_start_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch):
    async with World() as world:
        monkeypatch.setattr(world, "environment", lambda _: {"PATH": "/usr/bin", "PYTHONDONTWRITEBYTECODE": "1"})
        with pytest.raises(WorldError, match=r"exit code 1(.|\n)*DEMO_DIR"):
            await world.start_engine("observe")
