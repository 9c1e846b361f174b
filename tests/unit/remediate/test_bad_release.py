"""The main story: a bad version is shifted away from, verified, rolled back, and gets no traffic any more."""

from __future__ import annotations

from pipeline.model.records import IncidentState
from tests.unit.remediate.lab import BAD_RELEASE, START_MS, Lab, book


def lab(**changes) -> Lab:
    lab = Lab(book(policies=[BAD_RELEASE | changes]))
    lab.tick()
    lab.observe("edge://route/checkout", weights={"v1": 80, "v2": 20})
    lab.observe("shop://workload/checkout-v1", replicas=2, ready=2, version="v1")
    lab.observe("shop://workload/checkout-v2", replicas=1, ready=1, version="v2", previous_version="v1")
    return lab


def test_a_bad_release_is_shifted_away_verified_rolled_back_and_stays_without_traffic():
    world = lab()
    (shift,) = world.actions(world.alert())
    assert (shift.verb, str(shift.target), shift.desired) == ("shift_traffic", "edge://route/checkout", {"weights": {"v1": 100, "v2": 0}})
    assert shift.expires_at_ms == START_MS + 120_000
    assert world.incident.state is IncidentState.ACTING

    world.outcome(shift, before={"weights": {"v1": 80, "v2": 20}})
    (override,) = world.overrides()
    assert override.inverse == {"weights": {"v1": 80, "v2": 20}}
    before, watch = world.watches()
    assert (before.expr, before.anchor_ms, before.until_ms - before.at_ms) == (watch.expr, 0, 1000)
    assert watch.expr == 'error_ratio{service="checkout"} < 0.01'
    assert watch.anchor_ms == world.now_ms + 2000
    assert world.incident.state is IncidentState.VERIFYING

    world.wait(2000)
    assert world.actions(world.measure_for(2)) == []
    (roll_back,) = world.actions(world.measure_for(1))
    assert (roll_back.verb, str(roll_back.target)) == ("roll_back", "shop://workload/checkout-v2")
    assert roll_back.desired == {"version": "v1", "from": "v2"}

    world.outcome(roll_back, before={"version": "v2"}, after={"version": "v1"})
    world.resolve()
    world.observe("shop://workload/checkout-v2", replicas=1, ready=1, version="v1", previous_version="v2")
    assert world.actions(world.measure_for(2)) == []  # nobody serves behind backend v2 any more: its weight must not come back
    assert [notice.to for notice in world.notices()] == ["oncall"]
    assert world.incident.state is IncidentState.RESOLVED
    assert world.actions(world.wait(600_000)) == []
    assert [override.released_at_ms for override in world.overrides()] == [0]  # the shift stays in force, for an operator to release


def test_the_same_inputs_give_the_same_effects_byte_for_byte():
    first, second = lab(), lab()
    for world in (first, second):
        (shift,) = world.actions(world.alert())
        world.outcome(shift, before={"weights": {"v1": 80, "v2": 20}})
        world.measure_for(5)
    assert first.log == second.log
    assert first.machine.snapshot() == second.machine.snapshot()


def test_a_doubled_fact_grant_or_outcome_changes_nothing():
    world = lab()
    (shift,) = world.actions(world.alert())
    world.outcome(shift, before={"weights": {"v1": 80, "v2": 20}})
    before = world.machine.snapshot()
    for event, _ in list(world.inputs):
        assert world.give(event) == []
    assert world.machine.snapshot() == before


def test_a_version_is_not_to_blame_while_the_others_are_as_ill():
    """Simulator, seed 427: a slow site made both versions fail; traffic was crowded onto the stable one, and the new one rolled back for nothing."""
    world = lab(when={"alertname": "CheckoutErrors", "version": "v2"})
    world.alert(labels={"version": "v1"}, value=0.4)
    effects = world.alert(value=0.3)
    assert world.actions(effects) == []
    assert world.reasons(effects) == ["no_headroom"]
    assert "v1 of checkout is as ill as v2" in world.decisions(effects)[0].text
    world.resolve(labels={"version": "v1"})
    assert [action.verb for action in world.actions(world.wait(6000))] == ["shift_traffic"]


def test_a_trace_of_the_same_trouble_elsewhere_does_not_hold_the_cure_back():
    world = lab(when={"alertname": "CheckoutErrors", "version": "v2"})
    world.alert(labels={"version": "v1"}, value=0.06)
    assert [action.verb for action in world.actions(world.alert(value=0.9))] == ["shift_traffic"]
