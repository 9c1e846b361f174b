"""The observer: a change is said at once, sameness every 30 s, and what cannot be read is said too."""

import asyncio

import pytest

from pipeline.execute.observer import Observer
from pipeline.model.records import Observation
from pipeline.model.target import Target
from pipeline.ports.connector import Temporary
from tests.fakes.connector import FakeConnector, World
from tests.fakes.execution import FakeClock

SHOP, CART = Target.parse("prod://workload/shop"), Target.parse("prod://workload/cart")


class Bench:
    def __init__(self) -> None:
        self.world = World({SHOP: {"replicas": 2}, CART: {"replicas": 1}})
        self.connector, self.clock = FakeConnector("prod", world=self.world), FakeClock(auto=False)
        self.said: list[Observation] = []
        self.observer = Observer({"prod": self.connector}, {SHOP: "shop", CART: "shop"}, self.clock, self.emit, interval_ms=1000)

    async def emit(self, observation: Observation) -> None:
        self.said.append(observation)

    def take(self) -> list[tuple[str, object, str]]:
        taken = [(one.target.path, one.observed and one.observed["replicas"], one.error) for one in self.said]
        self.said.clear()
        return sorted(taken)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_everything_is_said_once_then_changes_and_sameness_every_30_s(bench: Bench) -> None:
    running = asyncio.create_task(bench.observer.run())
    await _settle()
    assert bench.take() == [("cart", 1, ""), ("shop", 2, "")]
    await bench.clock.advance(5000)
    await _settle()
    assert bench.take() == []
    bench.world.set(SHOP, replicas=3)
    await bench.clock.advance(1000)
    await _settle()
    assert bench.take() == [("shop", 3, "")]
    for _ in range(24):
        await bench.clock.advance(1000)
        await _settle()
    assert bench.take() == [("cart", 1, "")]
    running.cancel()


async def test_a_look_after_an_action_does_not_wait_for_the_interval(bench: Bench) -> None:
    await bench.observer.look(SHOP)
    bench.world.set(SHOP, replicas=7)
    await bench.observer.look(SHOP)
    assert [one.observed for one in bench.said] == [{"replicas": 2}, {"replicas": 7}]
    assert len({one.id for one in bench.said}) == 2
    assert {one.group for one in bench.said} == {"shop"}


@pytest.mark.parametrize(
    ("error", "text"),
    [pytest.param(Temporary("busy"), "busy", id="cannot be read"), pytest.param(KeyError("oops"), "KeyError: 'oops'", id="a bug in the connector")],
)
async def test_what_cannot_be_read_is_said_with_the_error_and_again_when_it_can(bench: Bench, error: Exception, text: str) -> None:
    bench.connector.reads = [error, error]
    await bench.observer.look(SHOP)
    await bench.observer.look(SHOP)
    await bench.observer.look(SHOP)
    assert [(one.observed, one.error) for one in bench.said] == [(None, text), ({"replicas": 2}, "")]


async def test_a_target_without_connector_is_said_to_be_unreadable(bench: Bench) -> None:
    gone = Target.parse("gone://workload/x")
    observer = Observer({}, {gone: "g"}, bench.clock, bench.emit, interval_ms=1000)
    await observer.look(gone)
    assert bench.said[0].error == "no connector 'gone' is configured"


async def test_targets_outside_the_catalogue_are_passed_over(bench: Bench) -> None:
    await bench.observer.look(Target.parse("prod://workload/other"))
    assert bench.said == []


async def test_a_slow_look_never_takes_back_what_a_later_one_said(bench: Bench) -> None:
    gate, original = asyncio.Event(), bench.connector.read

    async def slow(target: Target) -> object:
        bench.connector.read = original
        found = await original(target)
        await gate.wait()
        return found

    bench.connector.read = slow
    early = asyncio.create_task(bench.observer.look(SHOP))
    await _settle()
    bench.world.set(SHOP, replicas=7)
    await bench.observer.look(SHOP)
    gate.set()
    await early
    assert [one.observed for one in bench.said] == [{"replicas": 7}]
