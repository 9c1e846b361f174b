"""The executor on an imagined world: every way an action can end, and what happens around a crash."""

import asyncio

import pytest

from pipeline.execute.executor import Executor
from pipeline.execute.outcomes import outcome_id
from pipeline.model.reasons import Reason
from pipeline.model.records import Action, Outcome, OutcomeStatus
from pipeline.model.target import Target
from pipeline.ports.connector import Conflict, Permanent, Temporary, Unknown
from tests.fakes.connector import FakeConnector, World
from tests.fakes.execution import Crash, FakeClock, FakeGrants, FakeSwitch, Faults, MemoryIntents

SHOP = Target.parse("prod://workload/shop")
CART = Target.parse("prod://workload/cart")
ROUTE = Target.parse("prod://route/shop")


class Bench:
    """An executor with everything round it; `restart` keeps what is durable: the world and the intent log."""

    def __init__(self) -> None:
        self.world = World(
            {
                SHOP: {"replicas": 2, "ready": 2, "version": "v2", "previous_version": "v1", "restart_key": ""},
                CART: {"replicas": 1, "ready": 1, "version": "v1", "restart_key": ""},
                ROUTE: {"weights": {"v1": 80, "v2": 20}},
            }
        )
        self.clock, self.intents, self.switch, self.faults = FakeClock(), MemoryIntents(), FakeSwitch(), Faults()
        self.grants = FakeGrants()
        self.seen: list[Outcome] = []
        self.restart()

    def restart(self) -> None:
        self.connector = FakeConnector("prod", world=self.world)
        self.executor = Executor(
            {"prod": self.connector},
            self.intents,
            self.switch,
            self.clock,
            lambda _group: self.grants,
            fault=self.faults,
            fence=lambda _group: 1,
            on_outcome=lambda _action, outcome: self.seen.append(outcome),
        )

    def action(self, name: str = "a1", verb: str = "scale", target: Target = SHOP, **fields: object) -> Action:
        now = self.clock.now
        given = {"desired": {"replicas": 5}, "group": "shop", "at_ms": now, "expires_at_ms": now + 120_000, "deadline_ms": 10_000} | fields
        return Action(id=name, verb=verb, target=target, **given)

    async def run(self, action: Action) -> Outcome:
        await self.executor.accept(action)
        assert await self.executor.drain(5000)
        return self.intents.outcomes[-1]

    async def crash(self, action: Action, at: str) -> None:
        self.faults.armed[at] = self.faults.passed.count(at) + 1
        await self.executor.accept(action)
        with pytest.raises(Crash):
            await self.executor.drain(5000)
        self.restart()

    async def recover(self) -> Outcome:
        await self.executor.resume()
        assert await self.executor.drain(5000)
        return self.intents.outcomes[-1]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_action_is_applied_and_its_outcome_says_what_was_before_and_after(bench: Bench) -> None:
    outcome = await bench.run(bench.action())
    assert outcome == Outcome(
        id=outcome_id("a1"),
        action_id="a1",
        group="shop",
        status=OutcomeStatus.APPLIED,
        at_ms=bench.clock.now,
        applied_at_ms=bench.clock.now,
        before={"replicas": 2},
        after={"replicas": 5},
        summary="scale {'replicas': 2} -> {'replicas': 5}",
        reason=Reason.APPLIED,
    )
    assert bench.world.values[SHOP]["replicas"] == 5
    assert bench.seen == [outcome]
    assert bench.faults.passed == ["after_intent", "after_apply", "after_outcome"]


async def test_the_plan_is_in_the_log_before_the_first_write(bench: Bench) -> None:
    seen = []
    bench.connector.applies.append(lambda: seen.append(bench.intents.intents["a1"].change))
    await bench.run(bench.action())
    assert seen[0]["after"] == {"replicas": 5}


async def test_previous_is_concrete_in_the_log_before_the_first_write(bench: Bench) -> None:
    outcome = await bench.run(bench.action(verb="roll_back", desired={"version": "previous", "from": "v2"}))
    assert bench.intents.intents["a1"].change["after"] == {"version": "v1"}
    assert outcome.after == {"version": "v1"}


async def test_a_second_copy_of_an_action_is_ignored(bench: Bench) -> None:
    await bench.run(bench.action())
    assert not await bench.executor.accept(bench.action())
    assert await bench.executor.drain(1000)
    assert len(bench.world.writes) == len(bench.intents.outcomes) == 1


async def test_what_is_already_there_is_not_written(bench: Bench) -> None:
    outcome = await bench.run(bench.action(desired={"replicas": 2}))
    assert outcome.status is OutcomeStatus.ALREADY_THERE
    assert not bench.world.writes


async def test_an_expired_action_is_dropped(bench: Bench) -> None:
    outcome = await bench.run(bench.action(expires_at_ms=bench.clock.now - 1))
    assert (outcome.status, outcome.reason) == (OutcomeStatus.STALE, Reason.STALE)
    assert not bench.world.writes


async def test_observe_plans_for_real_and_writes_nothing(bench: Bench) -> None:
    bench.grants = FakeGrants(mode="observe")
    outcome = await bench.run(bench.action(mode="observe"))
    assert (outcome.status, outcome.after) == (OutcomeStatus.PLANNED, {"replicas": 5})
    assert not bench.world.writes
    assert bench.intents.intents["a1"].change is None


async def test_a_pause_does_not_stop_observing(bench: Bench) -> None:
    bench.switch.why = "by ann"
    assert (await bench.run(bench.action(mode="observe"))).status is OutcomeStatus.PLANNED
    assert not bench.world.writes


@pytest.mark.parametrize(
    ("grants", "fields", "status"),
    [
        pytest.param(FakeGrants(mode="observe"), {}, OutcomeStatus.REFUSED, id="mode too high"),
        pytest.param(FakeGrants(verbs=("shift_traffic",)), {}, OutcomeStatus.REFUSED, id="verb not granted"),
        pytest.param(FakeGrants(mode="off"), {"mode": "observe"}, OutcomeStatus.REFUSED, id="off grants nothing"),
        pytest.param(FakeGrants(mode="observe"), {"identity": "ann"}, OutcomeStatus.APPLIED, id="a person's order"),
        pytest.param(FakeGrants(verbs=("scale",)), {}, OutcomeStatus.APPLIED, id="granted"),
    ],
)
async def test_grants_bind_the_pipeline(bench: Bench, grants: FakeGrants, fields: dict[str, object], status: OutcomeStatus) -> None:
    bench.grants = grants
    outcome = await bench.run(bench.action(**fields))
    assert outcome.status is status
    assert bool(bench.world.writes) == (status is OutcomeStatus.APPLIED)
    if status is OutcomeStatus.REFUSED:
        assert outcome.reason is Reason.NOT_GRANTED


async def test_nothing_is_written_while_paused(bench: Bench) -> None:
    bench.switch.why = "by ann: looking"
    outcome = await bench.run(bench.action())
    assert (outcome.status, outcome.reason, outcome.error) == (OutcomeStatus.REFUSED, Reason.PAUSED, "paused: by ann: looking")
    assert not bench.world.writes


async def test_a_pause_between_plan_and_write_still_counts(bench: Bench) -> None:
    bench.switch.answers = ["", "by ann"]
    outcome = await bench.run(bench.action())
    assert outcome.reason is Reason.PAUSED
    assert not bench.world.writes


async def test_a_pause_between_two_tries_counts(bench: Bench) -> None:
    bench.switch.answers = ["", "", "by ann"]
    bench.connector.applies = [Temporary("busy")]
    outcome = await bench.run(bench.action())
    assert outcome.reason is Reason.PAUSED
    assert not bench.world.writes


async def test_temporary_errors_are_tried_again_with_growing_pauses(bench: Bench) -> None:
    bench.connector.applies = [Temporary("busy", retry_after_ms=0)] * 3
    outcome = await bench.run(bench.action())
    assert (outcome.status, outcome.tries) == (OutcomeStatus.APPLIED, 4)
    assert bench.clock.slept == [100, 200, 400]


async def test_the_pause_that_the_target_asks_for_is_kept(bench: Bench) -> None:
    bench.connector.applies = [Temporary("busy", retry_after_ms=2500)]
    await bench.run(bench.action())
    assert bench.clock.slept == [2500]


async def test_temporary_errors_end_with_the_deadline(bench: Bench) -> None:
    bench.connector.applies = [Temporary("busy")] * 100
    outcome = await bench.run(bench.action(deadline_ms=2000))
    assert (outcome.status, outcome.error) == (OutcomeStatus.FAILED, "busy")
    assert sum(bench.clock.slept) < 2000


async def test_no_try_after_the_expiry(bench: Bench) -> None:
    bench.connector.applies = [Temporary("busy")] * 100
    outcome = await bench.run(bench.action(expires_at_ms=bench.clock.now + 150))
    assert outcome.status is OutcomeStatus.STALE
    assert not bench.world.writes


async def test_a_target_that_cannot_be_read_for_a_moment_is_read_again(bench: Bench) -> None:
    bench.connector.reads = [Temporary("busy"), Unknown("no answer")]
    assert (await bench.run(bench.action())).status is OutcomeStatus.APPLIED


async def test_a_target_that_stays_unreadable_fails(bench: Bench) -> None:
    bench.connector.reads = [Temporary("busy")] * 1000
    outcome = await bench.run(bench.action())
    assert (outcome.status, outcome.error) == (OutcomeStatus.FAILED, "busy")


async def test_no_answer_and_the_change_is_there_is_applied(bench: Bench) -> None:
    bench.connector.after_write = [Unknown("no answer")]
    outcome = await bench.run(bench.action())
    assert (outcome.status, outcome.after, outcome.tries) == (OutcomeStatus.APPLIED, {"replicas": 5}, 1)
    assert len(bench.world.writes) == 1


async def test_no_answer_and_nothing_changed_is_tried_again(bench: Bench) -> None:
    bench.connector.applies = [Unknown("no answer")]
    outcome = await bench.run(bench.action())
    assert (outcome.status, outcome.tries) == (OutcomeStatus.APPLIED, 2)
    assert len(bench.world.writes) == 1


async def test_no_answer_and_something_else_there_is_a_conflict(bench: Bench) -> None:
    def foreign() -> None:
        bench.world.set(SHOP, replicas=7)
        raise Unknown("no answer")

    bench.connector.applies = [foreign]
    outcome = await bench.run(bench.action())
    assert (outcome.status, outcome.after["replicas"]) == (OutcomeStatus.CONFLICT, 7)
    assert bench.world.values[SHOP]["replicas"] == 7


async def test_no_answer_and_no_way_to_look_is_unknown(bench: Bench) -> None:
    bench.connector.applies = [Unknown("no answer")]
    bench.connector.reads = [None, *[Temporary("busy")] * 1000]
    assert (await bench.run(bench.action())).status is OutcomeStatus.UNKNOWN


async def test_a_connector_that_hangs_beyond_its_deadline_is_left_alone(bench: Bench) -> None:
    bench.connector.hang = True
    outcome = await bench.run(bench.action(deadline_ms=20))
    assert outcome.status is OutcomeStatus.UNKNOWN
    assert not bench.world.writes


async def test_somebody_elses_change_is_never_overwritten(bench: Bench) -> None:
    bench.connector.applies = [lambda: bench.world.set(SHOP, replicas=9)]
    outcome = await bench.run(bench.action())
    assert (outcome.status, outcome.after["replicas"]) == (OutcomeStatus.CONFLICT, 9)
    assert bench.world.values[SHOP]["replicas"] == 9


async def test_a_conflict_reported_by_the_target_is_handed_over(bench: Bench) -> None:
    bench.connector.applies = [Conflict("somebody else's", observed={"replicas": 3})]
    outcome = await bench.run(bench.action())
    assert (outcome.status, outcome.after, outcome.reason) == (OutcomeStatus.CONFLICT, {"replicas": 3}, Reason.CONFLICT)


async def test_what_cannot_work_fails_at_once(bench: Bench) -> None:
    bench.connector.applies = [Permanent("forbidden")]
    outcome = await bench.run(bench.action())
    assert (outcome.status, outcome.error, outcome.tries) == (OutcomeStatus.FAILED, "forbidden", 1)


async def test_a_bug_in_a_connector_ends_one_action_not_the_executor(bench: Bench) -> None:
    bench.connector.reads = [KeyError("oops")]
    outcome = await bench.run(bench.action())
    assert (outcome.status, outcome.error) == (OutcomeStatus.FAILED, "prod://workload/shop: read failed: KeyError: 'oops'")
    assert (await bench.run(bench.action("a2"))).status is OutcomeStatus.APPLIED


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({"target": Target.parse("gone://workload/shop")}, OutcomeStatus.FAILED, id="no such connector"),
        pytest.param({"target": Target.parse("prod://workload/gone")}, OutcomeStatus.FAILED, id="no such target"),
        pytest.param({"verb": "shift_traffic"}, OutcomeStatus.REFUSED, id="no such verb there"),
        pytest.param({"desired": {}}, OutcomeStatus.FAILED, id="a wish that makes no sense"),
    ],
)
async def test_what_the_connector_does_not_know_is_refused(bench: Bench, fields: dict[str, object], status: OutcomeStatus) -> None:
    assert (await bench.run(bench.action(**fields))).status is status
    assert not bench.world.writes


async def test_a_revert_applies_while_our_value_is_in_force(bench: Bench) -> None:
    await bench.run(bench.action())
    outcome = await bench.run(bench.action("r1", desired={"replicas": 2}, reverts="a1", expected={"replicas": 5}))
    assert outcome.status is OutcomeStatus.APPLIED
    assert bench.world.values[SHOP]["replicas"] == 2


async def test_a_revert_of_what_somebody_changed_is_a_conflict(bench: Bench) -> None:
    await bench.run(bench.action())
    bench.world.set(SHOP, replicas=8)
    outcome = await bench.run(bench.action("r1", desired={"replicas": 2}, reverts="a1", expected={"replicas": 5}))
    assert outcome.status is OutcomeStatus.CONFLICT
    assert bench.world.values[SHOP]["replicas"] == 8


async def test_one_action_at_a_time_per_target_in_order_and_targets_beside_each_other(bench: Bench) -> None:
    gate = asyncio.Event()
    original = bench.connector.apply

    async def held(change, **fields):
        if change.target == SHOP:
            await gate.wait()
        return await original(change, **fields)

    bench.connector.apply = held
    for number, replicas in enumerate((3, 4, 5)):
        await bench.executor.accept(bench.action(f"a{number}", desired={"replicas": replicas}))
    await bench.executor.accept(bench.action("c1", target=CART))
    while not bench.intents.outcomes:
        await asyncio.sleep(0)
    assert [outcome.action_id for outcome in bench.intents.outcomes] == ["c1"]
    gate.set()
    assert await bench.executor.drain(1000)
    assert [outcome.action_id for outcome in bench.intents.outcomes] == ["c1", "a0", "a1", "a2"]
    assert bench.world.values[SHOP]["replicas"] == 5
    assert not bench.connector.overlaps


@pytest.mark.parametrize("point", ["after_intent", "after_apply", "after_outcome"])
async def test_a_crash_anywhere_applies_once_and_reports_once(bench: Bench, point: str) -> None:
    await bench.crash(bench.action(), point)
    outcome = await bench.recover()
    assert (outcome.status, outcome.id) == (OutcomeStatus.APPLIED, outcome_id("a1"))
    assert outcome.recovered == (point != "after_outcome")
    assert len(bench.world.writes) == len(bench.intents.outcomes) == 1


async def test_after_a_crash_an_expired_plan_is_not_carried_out(bench: Bench) -> None:
    await bench.crash(bench.action(), "after_intent")
    bench.clock.now += 200_000
    assert (await bench.recover()).status is OutcomeStatus.STALE
    assert not bench.world.writes


async def test_after_a_crash_what_was_applied_counts_even_when_expired_or_paused(bench: Bench) -> None:
    await bench.crash(bench.action(), "after_apply")
    bench.clock.now += 200_000
    bench.switch.why = "by ann"
    assert (await bench.recover()).status is OutcomeStatus.APPLIED


async def test_after_a_crash_somebody_elses_value_is_left_alone(bench: Bench) -> None:
    await bench.crash(bench.action(), "after_intent")
    bench.world.set(SHOP, replicas=9)
    assert (await bench.recover()).status is OutcomeStatus.CONFLICT
    assert bench.world.values[SHOP]["replicas"] == 9


async def test_a_roll_back_to_previous_does_not_go_back_twice_over_a_crash(bench: Bench) -> None:
    await bench.crash(bench.action(verb="roll_back", desired={"version": "previous", "from": "v2"}), "after_apply")
    outcome = await bench.recover()
    assert (outcome.status, outcome.after) == (OutcomeStatus.APPLIED, {"version": "v1"})
    assert bench.world.values[SHOP]["version"] == "v1"
    assert len(bench.world.writes) == 1


async def test_an_accepted_action_that_never_started_is_done_after_the_restart(bench: Bench) -> None:
    await bench.intents.accept(bench.action())
    assert (await bench.recover()).status is OutcomeStatus.APPLIED


async def test_a_broken_intent_log_ends_the_executor_and_says_so(bench: Bench) -> None:
    async def broken(_outcome: Outcome) -> None:
        raise OSError("disk full")

    bench.intents.finish = broken
    await bench.executor.accept(bench.action())
    with pytest.raises(OSError, match="disk full"):
        await asyncio.wait_for(bench.executor.failed(), 5)
    with pytest.raises(OSError, match="disk full"):
        await bench.executor.accept(bench.action("a2"))


async def test_close_leaves_what_is_under_way_for_the_next_start(bench: Bench) -> None:
    bench.connector.hang = True
    await bench.executor.accept(bench.action())
    assert not await bench.executor.drain(20)
    await bench.executor.close()
    assert not bench.intents.outcomes
    bench.restart()
    assert (await bench.recover()).status is OutcomeStatus.APPLIED
