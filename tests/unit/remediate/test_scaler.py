"""Scalers follow demand inside their bounds, and never take missing data for little demand."""

from __future__ import annotations

from pipeline.model.records import OutcomeStatus, Proposal
from tests.unit.remediate.lab import CHECKOUT, Lab, book

TARGET = "shop://workload/checkout-v1"
SCALER = {
    "name": "demand",
    "service": "checkout",
    "target": TARGET,
    "metric": {"expr": 'sum(rate(requests_total{service="{{ service }}"}[5s]))', "target_average": 100},
    "interval": "1s",
    "mode": "enforce",
    "behavior": {"scale_down": {"stabilization": "10s"}},
}


def lab(**changes) -> Lab:
    world = Lab(book(scalers=[{**SCALER, **changes}]))
    world.tick()
    world.observe(TARGET, replicas=2, ready=2)
    return world


def test_a_scaler_stands_a_value_watch_from_the_first_step_on():
    world = Lab(book(scalers=[SCALER]))
    assert world.machine.due_at_ms() == 0
    (watch,) = world.tick()
    assert (watch.expr, watch.kind, watch.until_ms, watch.interval_ms) == ('sum(rate(requests_total{service="checkout"}[5s]))', "value", 0, 1000)
    assert world.machine.watches() == [watch]


def test_three_times_the_load_takes_three_times_the_replicas():
    world = lab()
    (action,) = world.actions(world.measure("true", 600.0))
    assert (action.verb, action.desired, action.reason) == ("scale", {"replicas": 6}, "scaler_demand")
    assert world.actions(world.measure("true", 600.0)) == []  # one action per target at a time


def test_a_rise_is_limited_to_the_services_bounds():
    world = lab(behavior={"scale_up": {"policies": [{"type": "Pods", "value": 50, "period": "15s"}]}})
    (action,) = world.actions(world.measure("true", 100_000.0))
    assert action.desired == {"replicas": 10}


def test_nine_percent_over_is_left_alone():
    world = lab()
    assert world.measure("true", 218.0) == []


def test_missing_data_leaves_the_replicas_alone_and_says_so_once():
    world = lab()
    world.observe(TARGET, replicas=8, ready=8)
    effects = world.measure("nodata")
    assert world.reasons(effects) == ["no_data"]
    assert "8 replicas" in world.decisions(effects)[0].text
    assert world.measure_for(60, "nodata") == []
    assert world.reasons(world.measure_for(1, "true", 800.0)) == ["within_tolerance"]


def test_the_first_data_after_a_blind_time_scale_nothing_down():
    """Seen in the demo: when metrics came back the 3 s window held half a second, and 6 replicas became 1."""
    world = lab(behavior={"scale_down": {"stabilization": "5s"}})
    world.observe(TARGET, replicas=6, ready=6)
    world.measure_for(3, "true", 600.0)
    world.measure_for(20, "nodata")
    assert world.actions([*world.measure_for(1, "true", 28.0), *world.measure_for(2, "true", 300.0), *world.measure_for(10, "true", 600.0)]) == []


def test_less_demand_lowers_only_after_the_stabilization_window():
    world = lab()
    world.observe(TARGET, replicas=6, ready=6)
    world.measure("true", 600.0)
    effects = world.measure_for(9, "true", 100.0)
    assert (world.actions(effects), world.reasons(effects)) == ([], ["stabilizing"])
    (action,) = world.actions(world.measure_for(3, "true", 100.0))
    assert action.desired == {"replicas": 1}


def test_a_restart_does_not_scale_down_at_once():
    world = lab()
    world.observe(TARGET, replicas=6, ready=6)
    assert world.reasons(world.measure("true", 100.0)) == ["stabilizing"]


def test_no_capacity_is_removed_while_a_policy_is_at_work_in_the_group():
    policy = {
        "name": "shift",
        "when": {"alertname": "CheckoutErrors"},
        "mode": "enforce",
        "steps": [{"shift_traffic": {"away_from": {"version": "v2"}}, "verify": {"success": "ok == 1", "within": "5m"}}],
    }
    world = Lab(book(scalers=[SCALER], policies=[policy]))
    world.tick()
    world.observe(TARGET, replicas=6, ready=6)
    world.measure("true", 600.0)
    (shift,) = world.actions(world.alert())
    world.outcome(shift, before={"weights": {"v1": 80, "v2": 20}})
    effects = [effect for _ in range(20) for effect in [*world.wait(1000), *world.measure("true", 100.0, containing="requests_total")]]
    assert (world.actions(effects), world.reasons(effects)) == ([], ["stabilizing", "contradicts"])
    (up,) = world.actions(world.measure_for(1, "true", 900.0, containing="requests_total"))
    assert up.desired == {"replicas": 9}


def test_observe_plans_once_per_wish_and_applies_nothing():
    world = lab(mode="observe")
    effects = world.measure_for(3, "true", 600.0)
    assert (world.actions(effects), len(world.actions(effects, mode="observe"))) == ([], 1)
    assert not [effect for effect in effects if isinstance(effect, Proposal)]
    (planned,) = world.actions(effects, mode="observe")
    world.outcome(planned, OutcomeStatus.PLANNED)
    assert world.actions(world.measure_for(3, "true", 600.0), mode="observe") == []
    assert len(world.actions(world.measure_for(1, "true", 500.0), mode="observe")) == 1


def test_a_refused_rise_is_asked_again_with_a_new_attempt():
    world = Lab(book(scalers=[SCALER]), governor=False)
    world.tick()
    world.observe(TARGET, replicas=2, ready=2)
    (first,) = [effect for effect in world.measure("true", 600.0) if isinstance(effect, Proposal)]
    assert world.reasons(world.wait(2000)) == ["no_grant_answer"]
    (second,) = [effect for effect in world.measure("true", 600.0) if isinstance(effect, Proposal)]
    assert first.id != second.id


def test_a_second_owner_is_told_once_and_not_fought():
    world = lab()
    (first,) = world.actions(world.measure("true", 600.0))
    world.outcome(first, "conflict")
    assert [notice.title for notice in world.notices()] == [f"{TARGET} has a second owner"]
    assert world.actions(world.measure_for(14, "true", 600.0)) == []
    (second,) = world.actions(world.measure_for(2, "true", 600.0))
    world.outcome(second, "conflict")
    assert len(world.notices()) == 1


def test_a_service_without_limits_is_not_scaled():
    service = {name: value for name, value in CHECKOUT.items() if name != "limits"}
    world = Lab(book(scalers=[SCALER], services=[service]))
    world.tick()
    world.observe(TARGET, replicas=2, ready=2)
    assert world.reasons(world.measure("true", 600.0)) == ["limit"]


def test_the_silence_of_replicas_that_are_not_ready_is_not_low_demand():
    """Simulator, seed 33: a dead site counted no requests, lost its replicas to the scaler, and came back too small."""
    world = lab()
    world.observe(TARGET, replicas=4, ready=4)
    world.measure("true", 400.0)
    world.observe(TARGET, replicas=4, ready=0)
    effects = world.measure_for(60, "true", 0.0)
    assert (world.actions(effects), world.reasons(effects)) == ([], ["stabilizing"])
    world.observe(TARGET, replicas=4, ready=4)
    assert world.actions(world.measure_for(9, "true", 0.0)) == []  # the wait for lower demand starts when there is something to see
    assert [action.desired for action in world.actions(world.measure_for(3, "true", 0.0))] == [{"replicas": 1}]


def test_a_demand_of_which_a_part_is_silent_removes_nothing():
    """Simulator, seed 369: the engine's clock jumped 2 s ahead, the newest third of every window was missing, and demand looked like a third."""
    world = lab()
    world.observe(TARGET, replicas=3, ready=3)
    world.measure("true", 300.0)
    low = []
    for _ in range(60):
        world.wait(1000)
        low += world.measure("true", 100.0, silent=2)
    assert (world.actions(low), world.reasons(low)) == ([], ["no_data"])
    world.wait(1000)
    assert [action.desired for action in world.actions(world.measure("true", 500.0, silent=2))] == [{"replicas": 5}]  # more is always believed
