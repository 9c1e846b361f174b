"""Whatever comes in, in whatever order and how often: the remediator is a fold, never acts twice, and never takes silence for calm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.model.records import Action, AlertFact, AlertState, Decision, Measurement, Outcome, Tick, Truth
from pipeline.remediate import Remediator
from tests.unit.remediate.lab import CHECKOUT, Lab, book

ROUTE, V1, V2 = "edge://route/checkout", "shop://workload/checkout-v1", "shop://workload/checkout-v2"
SERVICE = {
    **CHECKOUT,
    "sites": [
        {"name": "a", "workload": "shop://workload/site-a", "capacity_per_replica": 50},
        {"name": "b", "workload": "shop://workload/site-b", "capacity_per_replica": 50},
    ],
}
RULES: dict[str, Any] = {
    "services": [SERVICE],
    "policies": [
        {
            "name": "ladder",
            "when": {"alertname": "CheckoutErrors"},
            "mode": "enforce",
            "steps": [
                {
                    "shift_traffic": {"away_from": {"version": "{{ version }}"}},
                    "verify": {"success": "errors < 1", "count": 2, "within": "20s"},
                    "then": "next",
                },
                {"roll_back": {}, "verify": {"alert": "resolved_by_value", "within": "20s"}},
            ],
            "guard": {"cooldown": "20s", "attempts": {"max": 2, "per": "5m"}, "budget": {"targets": 3, "per": "1m"}, "ttl": "30s"},
        },
        {
            "name": "more",
            "when": {"alertname": "Slow"},
            "mode": "enforce",
            "steps": [{"scale": {"replicas": 6, "target": V1}}],
            "guard": {"cooldown": "5s"},
        },
        {"name": "watcher", "when": {"alertname": "Slow"}, "mode": "observe", "steps": [{"restart": {"target": V1}}]},
        {"name": "asker", "when": {"alertname": "Odd"}, "mode": "propose", "steps": [{"restart": {"target": V2}}], "guard": {"ttl": "20s"}},
    ],
    "scalers": [
        {
            "name": "demand",
            "service": "checkout",
            "target": V1,
            "metric": {"expr": "demand", "target_average": 100},
            "interval": "1s",
            "mode": "enforce",
            "behavior": {"scale_down": {"stabilization": "3s"}},
        }
    ],
    "failovers": [
        {
            "name": "sites",
            "service": "checkout",
            "priority": ["a", "b"],
            "unhealthy": 'bad{site="{{ site }}"} == 1',
            "healthy": 'good{site="{{ site }}"} == 1',
            "for": "2s",
            "demand": "carried",
            "fail_back": {"after": "3s", "pause": "1s"},
            "mode": "enforce",
            "guard": {"cooldown": "5s"},
        }
    ],
}
STATUSES = ("applied", "applied", "applied", "already_there", "conflict", "failed", "unknown", "dropped_stale", "refused")
Op = tuple[Any, ...]
OPS: st.SearchStrategy[Op] = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from((100, 1000, 3000, 10_000, 40_000))),
    st.tuples(st.just("alert"), st.sampled_from(("CheckoutErrors", "Slow", "Odd", "Nothing")), st.sampled_from(("v1", "v2", "v9"))),
    st.tuples(
        st.just("resolve"),
        st.sampled_from(("CheckoutErrors", "Slow", "Odd")),
        st.sampled_from(("v1", "v2")),
        st.sampled_from(("resolved_by_value", "by_nodata")),
    ),
    st.tuples(
        st.just("measure"),
        st.sampled_from(("errors", "demand", "bad", "good", "carried")),
        st.sampled_from(tuple(Truth)),
        st.sampled_from((0.0, 50.0, 150.0, 900.0)),
    ),
    st.tuples(st.just("outcome"), st.integers(0, 3), st.sampled_from(STATUSES)),
    st.tuples(st.just("observe"), st.sampled_from((V1, V2, "shop://workload/site-a", "shop://workload/site-b")), st.integers(0, 8)),
    st.tuples(st.just("weights"), st.integers(0, 100)),
    st.tuples(st.just("command"), st.sampled_from(("pause", "resume", "approve", "release"))),
)
PLAYS = st.lists(OPS, min_size=1, max_size=50)
SLOW = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


class World(Lab):
    """A lab that plays generated operations and keeps what was sent and not answered."""

    def __init__(self, around: Callable[[World, Any], None] = lambda _world, _event: None) -> None:
        self.around = around
        self.open: list[Action] = []
        super().__init__(book(**RULES))
        self.tick()
        self.observe(ROUTE, weights={"v1": 80, "v2": 20})
        for target in (V1, V2, "shop://workload/site-a", "shop://workload/site-b"):
            self.observe(target, replicas=2, ready=2)

    def give(self, event: Any) -> list[Any]:
        self.around(self, event)
        effects = super().give(event)
        known = {action.id for action in self.open}
        self.open += [effect for effect in effects if isinstance(effect, Action) and effect.id not in known]
        return effects

    def play(self, ops: list[Op]) -> World:
        for op in ops:
            getattr(self, f"op_{op[0]}")(*op[1:])
        return self

    def op_wait(self, ms):
        self.wait(ms)

    def op_alert(self, name, version):
        self.alert(name, labels={"version": version})

    def op_resolve(self, name, version, ended):
        self.resolve(name, labels={"version": version}, ended=ended)

    def op_measure(self, containing, truth, value):
        for watch in [watch for watch in self.machine.watches() if containing in watch.expr]:
            self.measure(str(truth), value if truth is Truth.TRUE else None, watch=watch)

    def op_outcome(self, index, status):
        if self.open:
            action = self.open.pop(index % len(self.open))
            if action.mode == "observe":
                status = "planned"
            before = {"replicas": 2, "weights": {"v1": 80, "v2": 20}, "sites": {"a": 100, "b": 0}, "version": "v2"}
            self.outcome(action, status, before=before)

    def op_observe(self, target, count):
        self.observe(target, replicas=count, ready=count)

    def op_weights(self, share):
        self.observe(ROUTE, weights={"v1": share, "v2": 100 - share})

    def op_command(self, kind):
        args = {}
        if kind == "approve":
            args = {"action": next((id_ for id_, order in self.machine.state.orders.items() if order.phase == "approval"), "none")}
        if kind == "release":
            args = {"override": next(iter(self.machine.state.overrides), "none")}
        self.command(kind, **args)


@SLOW
@given(PLAYS)
def test_replaying_the_inputs_gives_the_same_effects_and_the_same_memory(ops):
    first = World().play(ops)
    again = Remediator("checkout", book(**RULES))
    effects = [effect for event, now_ms in first.inputs for effect in again.step(event, now_ms)]
    assert effects == first.log
    assert again.snapshot() == first.machine.snapshot()


@SLOW
@given(PLAYS)
def test_a_restart_between_any_two_inputs_changes_nothing(ops):
    def restart(world: World, _event: Any) -> None:
        fresh = Remediator("checkout", book(**RULES))
        if hasattr(world, "machine"):
            fresh.restore(world.machine.snapshot())
            world.machine = fresh

    plain, restarted = World().play(ops), World(restart).play(ops)
    assert restarted.log == plain.log
    assert restarted.machine.snapshot() == plain.machine.snapshot()


@SLOW
@given(PLAYS)
def test_copies_of_inputs_change_nothing_at_once_or_at_the_end(ops):
    def double(world: World, event: Any) -> None:
        if world.inputs and not isinstance(world.inputs[-2][0] if len(world.inputs) > 1 else event, Tick):
            copy, _ = world.inputs[-2] if len(world.inputs) > 1 else world.inputs[-1]
            before = world.machine.snapshot()
            world.machine.step(Tick(at_ms=world.now_ms), world.now_ms)
            settled = world.machine.snapshot()
            effects = world.machine.step(copy, world.now_ms)
            assert (effects, world.machine.snapshot()) == ([], settled), (copy, before)

    World(double).play(ops)


@SLOW
@given(PLAYS)
def test_everything_delivered_once_more_at_the_end_changes_nothing(ops):
    world = World().play(ops)
    world.tick()
    before = world.machine.snapshot()
    for event, _ in world.inputs:
        if not isinstance(event, Tick):
            assert world.machine.step(event, world.now_ms) == []
    assert world.machine.snapshot() == before


@SLOW
@given(PLAYS)
def test_no_two_actions_are_in_flight_on_one_target_and_no_id_goes_out_twice(ops):
    world = World().play(ops)
    flying: dict[str, str] = {}
    sent: set[str] = set()
    machine = Remediator("checkout", book(**RULES))
    for event, now_ms in world.inputs:
        if isinstance(event, Outcome):
            flying = {target: id_ for target, id_ in flying.items() if id_ != event.action_id}
        effects = machine.step(event, now_ms)
        for decision in (effect for effect in effects if isinstance(effect, Decision) and effect.reason == "apply_unknown"):
            flying = {target: id_ for target, id_ in flying.items() if id_ != decision.action_id}
        for action in (effect for effect in effects if isinstance(effect, Action)):
            assert action.id not in sent
            sent.add(action.id)
            if action.mode == "enforce":
                assert str(action.target) not in flying
                flying[str(action.target)] = action.id


@SLOW
@given(PLAYS)
def test_missing_data_never_scales_down(ops):
    world = World().play(ops)
    machine = Remediator("checkout", book(**RULES))
    for event, now_ms in world.inputs:
        seen = machine.state.observed.get(V1)
        current = (seen.value or {}).get("replicas", 0) if seen else 0
        effects = machine.step(event, now_ms)
        if isinstance(event, Measurement) and event.truth is Truth.NODATA:
            downs = [
                effect
                for effect in effects
                if isinstance(effect, Action) and effect.verb == "scale" and effect.desired["replicas"] < current and str(effect.target) == V1
            ]
            assert downs == []


@SLOW
@given(PLAYS)
def test_replicas_stay_inside_the_limits_and_weights_sum_to_100(ops):
    for action in (effect for effect in World().play(ops).log if isinstance(effect, Action)):
        if action.verb == "scale":
            assert 1 <= action.desired["replicas"] <= 10
        for shares in (action.desired.get("weights"), action.desired.get("sites")):
            assert shares is None or sum(shares.values()) == 100


@SLOW
@given(PLAYS)
def test_every_alert_that_fired_is_spoken_of_in_a_decision_or_an_action(ops):
    world = World().play(ops)
    world.wait(5000)
    fired = {event.alert.id for event, _ in world.inputs if isinstance(event, AlertFact) and event.alert.state is AlertState.FIRING}
    spoken = {effect.alert_id for effect in world.log if isinstance(effect, Decision | Action)}
    assert fired <= spoken


@SLOW
@given(PLAYS)
def test_left_alone_the_machine_comes_to_rest(ops):
    """After the world stops talking, ticks alone must not make it act for ever."""
    world = World().play(ops)
    while world.open:
        world.op_outcome(0, "applied")
    for _ in range(50):
        world.wait(60_000)
        while world.open:
            world.op_outcome(0, "applied")
    late = len(world.actions())
    world.wait(3_600_000)
    assert len(world.actions()) - late <= 100  # the attempts that the policies allow themselves while their alerts fire
