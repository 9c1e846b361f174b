"""To and fro: what the simulator found. A target that one incident turned twice is left alone, and a person is told."""

from __future__ import annotations

from pipeline.model.records import IncidentState
from tests.unit.remediate.lab import CHECKOUT, Lab, book
from tests.unit.remediate.test_failover import Shop

ROUTE = "edge://route/checkout"
HELPED = {"success": "error_ratio < 0.01", "count": 1, "within": "60s"}
LADDER = {
    "name": "ladder",
    "when": {"alertname": "CheckoutErrors"},
    "mode": "enforce",
    "steps": [
        {"shift_traffic": {"weights": {"v1": 85, "v2": 15}}, "verify": HELPED, "on_failure": "revert"},
        {"shift_traffic": {"away_from": {"version": "{{ version }}"}}, "verify": HELPED, "on_failure": "revert"},
        {"restart": {"target": "shop://workload/checkout-v2"}},
    ],
}


def test_a_flapping_site_is_left_once_and_tried_once_more_but_not_again():
    """Simulator, seed 10: a site slow for 3 s and well for 3 s drew its traffic to and fro seven times in one incident."""
    world = Shop()
    world.failed_over()
    shares, known = [{"a": 0, "b": 100}], len(world.actions())
    for _ in range(12):
        for truth, seconds in (("false", 6), ("true", 4)):
            world.world["p95:a"] = truth
            for _ in range(seconds):
                world.second()
                for action in world.actions()[known:]:
                    known += 1
                    world.outcome(action, before={"sites": shares[-1]})
                    shares.append(action.desired["sites"])
    assert [share["a"] for share in shares] == [0, 25, 50, 0]
    assert world.incident.state is IncidentState.ESCALATED
    assert world.reasons().count("dwell") == 1
    assert sum("in vain" in notice.text for notice in world.notices()) == 1


def test_a_site_that_has_been_well_for_long_gets_its_traffic_back_although_it_flapped():
    world = Shop()
    world.failed_over()
    world.world["p95:a"] = "false"
    first = next(action for _ in range(10) for action in world.actions(world.second()) if action.verb == "fail_back")
    world.outcome(first, before={"sites": {"a": 0, "b": 100}})
    world.world["p95:a"] = "true"
    (back,) = world.actions(world.second())
    world.outcome(back, before={"sites": {"a": 25, "b": 75}})
    world.world["p95:a"] = "false"
    assert world.actions(world.second(500)) == []
    assert [action.verb for action in world.actions(world.second(120))] == ["fail_back"]


def test_a_site_that_falls_ill_before_anything_came_home_has_nothing_to_take_back():
    world = Shop()
    world.failed_over()
    world.world["p95:a"] = "false"
    effects = world.second()
    while "failback_healthy" not in world.reasons(effects):
        effects = world.second()
    (step,) = world.actions(effects)
    world.outcome(step, "failed", error="no connection")  # so nothing came home
    world.world["p95:a"] = "true"
    effects = world.second(20)
    assert world.actions(effects) == []
    assert not {"no_headroom", "verify_failed"} & set(world.reasons(effects))
    world.world["p95:a"] = "false"
    assert [action.verb for action in world.actions(world.second(12))] == ["fail_back"]


def test_the_second_rung_on_a_target_is_taken_but_if_it_fails_too_a_person_decides():
    """Simulator, seed 24: every version failed; two rungs of one ladder pulled the same route to and fro three times."""
    world = Lab(book(policies=[LADDER], services=[CHECKOUT]))
    world.tick()
    world.observe(ROUTE, weights={"v1": 80, "v2": 20})
    (wrong,) = world.actions(world.alert())
    world.outcome(wrong, before={"weights": {"v1": 80, "v2": 20}})
    (undone,) = world.actions(world.measure_for(2, "false"))
    (second,) = world.actions(world.outcome(undone, before={"weights": {"v1": 85, "v2": 15}}))
    assert (undone.desired["weights"], second.desired["weights"]) == ({"v1": 80, "v2": 20}, {"v1": 100, "v2": 0})
    world.outcome(second, before={"weights": {"v1": 80, "v2": 20}})
    effects = world.measure_for(2, "false")
    assert world.actions(effects) == []
    assert {"verify_failed", "dwell", "escalated"} <= set(world.reasons(effects))
    assert world.incident.state is IncidentState.ESCALATED


def test_a_rung_that_waited_is_not_taken_once_the_alert_has_ended_by_itself():
    """Simulator, seed 24: the first rung was undone, the second held; when the trouble was over, the second was taken all the same."""
    world = Lab(book(policies=[LADDER], services=[CHECKOUT]))
    world.tick()
    world.observe(ROUTE, weights={"v1": 80, "v2": 20})
    (wrong,) = world.actions(world.alert())
    world.outcome(wrong, before={"weights": {"v1": 80, "v2": 20}})
    (undone,) = world.actions(world.measure_for(2, "false"))
    world.resolve()
    effects = world.outcome(undone, before={"weights": {"v1": 85, "v2": 15}}) + world.wait(60_000)
    assert world.actions(effects) == []
    assert "resolved_by_value" in world.reasons(effects)
    assert world.incident.state is IncidentState.RESOLVED


def test_a_step_that_failed_and_cannot_be_undone_is_told_even_if_the_alert_ends_by_itself():
    """Simulator, seed 197: a restart did not help, the next rung was held, the trouble went away; nobody heard of the failed restart."""
    steps = [{"restart": {"target": "shop://workload/checkout-v2"}, "verify": HELPED, "on_failure": "next"}, LADDER["steps"][1]]
    world = Lab(book(policies=[{**LADDER, "when": {"alertname": "CheckoutErrors", "version": "v2"}, "steps": steps}], services=[CHECKOUT]))
    world.tick()
    world.observe(ROUTE, weights={"v1": 80, "v2": 20})
    world.alert(labels={"version": "v1"}, value=0.5)
    (restart,) = world.actions(world.alert(value=0.5))
    world.outcome(restart, before={"restart_key": ""})
    assert world.reasons(world.measure_for(2, "false"))[-1] == "no_headroom"
    world.resolve()
    world.resolve(labels={"version": "v1"})
    effects = world.wait(60_000)
    assert {"resolved_by_value", "escalated"} <= set(world.reasons(effects))
    assert world.incident.state is IncidentState.RESOLVED
