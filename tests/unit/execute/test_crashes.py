"""Whatever crashes and errors come between: each action reaches its target at most once, and has exactly one outcome."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.execute.executor import Executor
from pipeline.execute.outcomes import outcome_id
from pipeline.model.records import Action, OutcomeStatus
from pipeline.model.target import Target
from pipeline.ports.connector import Conflict, Permanent, Temporary, Unknown
from tests.fakes.connector import FakeConnector, World
from tests.fakes.execution import Crash, FakeClock, FakeGrants, FakeSwitch, Faults, MemoryIntents

SHOP, CART = Target.parse("prod://workload/shop"), Target.parse("prod://workload/cart")
POINTS = ("after_intent", "after_apply", "after_outcome")

actions = st.lists(st.tuples(st.sampled_from([SHOP, CART]), st.integers(0, 4)), min_size=1, max_size=5)
crashes = st.lists(st.tuples(st.sampled_from(POINTS), st.integers(1, 4)), max_size=6)
errors = st.lists(st.sampled_from([None, None, "temporary", "unknown", "crash"]), max_size=8)
late = st.lists(st.sampled_from([None, None, "unknown", "crash"]), max_size=8)
duplicates = st.lists(st.integers(0, 4), max_size=4)


def _error(name: str | None) -> BaseException | None:
    return {None: None, "temporary": Temporary("busy"), "unknown": Unknown("no answer"), "crash": Crash("in apply")}[name]


class Life:
    """What outlives the executor."""

    def __init__(self, world: World) -> None:
        self.world, self.intents, self.clock = world, MemoryIntents(), FakeClock()
        self.before_write: list[BaseException | None] = []
        self.after_write: list[BaseException | None] = []

    def executor(self, faults: Faults) -> Executor:
        connector = FakeConnector("prod", world=self.world)
        connector.applies, connector.after_write = self.before_write, self.after_write
        return Executor(
            {"prod": connector}, self.intents, FakeSwitch(), self.clock, lambda _group: FakeGrants(), fault=faults, fence=lambda _group: 1
        )

    async def run(self, submitted: list[Action], again: list[Action], plan: list[tuple[str, int]]) -> None:
        waiting = [*submitted, *again]
        while True:
            faults = Faults(dict([plan.pop(0)]) if plan else {})
            executor = self.executor(faults)
            try:
                await executor.resume()
                while waiting:
                    await executor.accept(waiting[0])
                    waiting.pop(0)
                assert await executor.drain(10_000)
            except Crash:
                await executor.close()  # the rest of the process dies with it
                continue
            return


@settings(max_examples=300, deadline=None)
@given(actions, crashes, errors, late, duplicates)
def test_each_action_is_applied_at_most_once_and_reported_exactly_once(
    wanted: list[tuple[Target, int]], plan: list[tuple[str, int]], before: list[str | None], after: list[str | None], again: list[int]
) -> None:
    life = Life(World({target: {"replicas": 9, "ready": 9, "version": "v1", "restart_key": ""} for target in (SHOP, CART)}))
    life.before_write, life.after_write = [_error(name) for name in before], [_error(name) for name in after]
    now = life.clock.now
    submitted = [
        Action(
            id=f"a{number}",
            group="shop",
            verb="scale",
            target=target,
            desired={"replicas": replicas},
            at_ms=now,
            expires_at_ms=now + 600_000,
            deadline_ms=60_000,
        )
        for number, (target, replicas) in enumerate(wanted)
    ]
    asyncio.run(life.run(submitted, [submitted[number % len(submitted)] for number in again], plan))

    writes = Counter(key for key, _ in life.world.writes)
    assert all(count == 1 for count in writes.values())
    assert Counter(outcome.id for outcome in life.intents.outcomes) == Counter(outcome_id(action.id) for action in submitted)
    for outcome in life.intents.outcomes:
        assert outcome.status in {OutcomeStatus.APPLIED, OutcomeStatus.ALREADY_THERE}
        assert writes[outcome.action_id] == (outcome.status is OutcomeStatus.APPLIED)
    for target in {action.target for action in submitted}:
        assert life.world.values[target]["replicas"] == [action.desired["replicas"] for action in submitted if action.target == target][-1]


@pytest.mark.parametrize("error", [Permanent("no"), Conflict("theirs"), Temporary("busy"), Unknown("no answer"), RuntimeError("a bug")])
@pytest.mark.parametrize("call", ["read", "plan", "apply"])
async def test_no_error_of_a_connector_leaves_an_action_without_an_outcome(call: str, error: Exception) -> None:
    life = Life(World({SHOP: {"replicas": 1, "ready": 1, "version": "v1", "restart_key": ""}}))
    executor = life.executor(Faults())
    connector = executor._settler._around.connectors["prod"]

    def fails(*_args: object, **_more: object) -> None:
        raise error

    async def fails_later(*_args: object, **_more: object) -> None:
        raise error

    setattr(connector, call, fails if call == "plan" else fails_later)
    action = Action(
        id="a1", group="shop", verb="scale", target=SHOP, desired={"replicas": 3}, at_ms=0, expires_at_ms=life.clock.now + 600_000, deadline_ms=3000
    )
    await executor.accept(action)
    assert await executor.drain(10_000)
    assert [outcome.id for outcome in life.intents.outcomes] == [outcome_id("a1")]
    assert life.intents.outcomes[0].status in {OutcomeStatus.FAILED, OutcomeStatus.CONFLICT, OutcomeStatus.UNKNOWN}
