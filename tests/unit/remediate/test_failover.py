"""Fail-over: capacity first, only into room that was measured, home in steps, and never because of missing data."""

from __future__ import annotations

from pipeline.model.records import IncidentState
from tests.unit.remediate.lab import Lab, book

SITES = "edge://sites/shop"
A, B = "prod://workload/shop-a", "prod://workload/shop-b"
SHOP = {
    "name": "shop",
    "match": {"service": "shop"},
    "sites_target": SITES,
    "sites": [{"name": "a", "workload": A, "capacity_per_replica": 100}, {"name": "b", "workload": B, "capacity_per_replica": 100}],
    "limits": {"replicas": {"min": 1, "max": 6}},
}
FAILOVER = {
    "name": "shop-sites",
    "service": "shop",
    "priority": ["a", "b"],
    "unhealthy": 'p95{site="{{ site }}"} > 0.25',
    "healthy": 'probe{site="{{ site }}"} < 0.15',
    "for": "2s",
    "demand": "sum(rate(requests_total[3s]))",
    "interval": "1s",
    "fail_back": {"after": "5s", "pause": "2s", "steps": [25, 50, 100]},
    "mode": "enforce",
    "guard": {"cooldown": "5s"},
}


class Shop(Lab):
    def __init__(self, *, grants=None, service=SHOP, **changes) -> None:
        super().__init__(book(services=[service], failovers=[{**FAILOVER, **changes}], grants=grants), "shop")
        self.tick()
        self.world = {"p95:a": "false", "p95:b": "false", "probe:a": "true", "probe:b": "true"}
        self.demand = 300.0
        self.observe(SITES, sites={"a": 100, "b": 0})
        self.observe(A, replicas=3, ready=3)
        self.observe(B, replicas=1, ready=1)

    def second(self, times: int = 1):
        effects = []
        for _ in range(times):
            effects += self.wait(1000)
            for watch in self.machine.watches():
                if watch.kind == "value":
                    effects += self.measure("true" if self.demand is not None else "nodata", self.demand, watch=watch)
                else:
                    name, site = watch.expr.split("{")[0], watch.expr.split('"')[1]
                    effects += self.measure(self.world[f"{name}:{site}"], watch=watch)
        return effects

    def failed_over(self) -> None:
        self.second()
        self.world["p95:a"] = "true"
        (up,) = self.actions(self.second(3))
        self.outcome(up, before={"replicas": 1})
        (move,) = self.actions(self.observe(B, replicas=3, ready=3))
        self.outcome(move, before={"sites": {"a": 100, "b": 0}})


def test_capacity_leads_traffic_and_all_of_it_moves_once_there_is_room():
    world = Shop()
    world.second()
    world.world["p95:a"] = "true"
    assert world.actions(world.second(2)) == []  # unhealthy, but not for long enough
    effects = world.second()
    (up,) = world.actions(effects)
    assert (up.verb, str(up.target), up.desired, up.reason) == ("scale", B, {"replicas": 3}, "failover_capacity")
    world.outcome(up, before={"replicas": 1})
    assert world.actions(world.observe(B, replicas=3, ready=2)) == []
    (move,) = world.actions(world.observe(B, replicas=3, ready=3))
    assert (move.verb, str(move.target), move.desired) == ("fail_over", SITES, {"sites": {"a": 0, "b": 100}})
    world.outcome(move, before={"sites": {"a": 100, "b": 0}})
    assert world.incident.state is IncidentState.VERIFYING
    assert world.overrides()[-1].inverse == {"sites": {"a": 100, "b": 0}}
    assert "verified" in world.reasons(world.second(4))


def test_traffic_comes_home_in_steps_and_the_override_ends():
    world = Shop()
    world.failed_over()
    world.world |= {"p95:a": "nodata", "probe:a": "false"}
    assert world.actions(world.second(30)) == []
    world.world["probe:a"] = "true"
    shares = []
    for _ in range(40):
        for action in world.actions(world.second()):
            if action.verb == "fail_back":
                shares.append(action.desired["sites"])
                world.outcome(action)
    assert shares == [{"a": 25, "b": 75}, {"a": 50, "b": 50}, {"a": 100, "b": 0}]
    assert world.overrides()[-1].released_at_ms > 0
    assert world.incident.state is IncidentState.RESOLVED


def test_after_the_regret_window_the_capacity_that_led_goes_back():
    world = Shop()
    world.failed_over()
    world.world |= {"p95:a": "false", "probe:a": "true"}
    for _ in range(40):
        for action in world.actions(world.second()):
            world.outcome(action)
    last = world.actions()[-1]
    assert (last.verb, str(last.target), last.desired) == ("scale", B, {"replicas": 1})


def test_a_site_that_falls_ill_again_on_the_way_home_is_left_again():
    world = Shop()
    world.failed_over()
    world.world["p95:a"] = "false"
    first = next(action for _ in range(10) for action in world.actions(world.second()) if action.verb == "fail_back")
    world.outcome(first)
    world.world["p95:a"] = "true"
    effects = world.second()
    (back,) = world.actions(effects)
    assert (back.verb, back.desired) == ("fail_over", {"sites": {"a": 0, "b": 100}})
    assert "verify_failed" in world.reasons(effects)


def test_no_data_is_not_unhealthy():
    world = Shop()
    world.second()
    world.world["p95:a"] = "nodata"
    effects = world.second(30)
    assert (world.actions(effects), world.reasons(effects)) == ([], ["no_data"])


def test_silence_of_the_detector_is_no_data_and_a_gap_starts_the_clock_anew():
    world = Shop()
    world.second()
    world.world["p95:a"] = "true"
    world.second()
    world.wait(60_000)
    assert world.actions(world.second()) == []
    assert len(world.actions(world.second(2))) == 1


def test_without_capacity_only_what_fits_is_moved():
    world = Shop(service={**SHOP, "limits": {"replicas": {"min": 1, "max": 2}}})
    world.observe(A, replicas=2, ready=2)
    world.second()
    world.world["p95:a"] = "true"
    (up,) = world.actions(world.second(3))
    assert up.desired == {"replicas": 2}
    world.outcome(up, before={"replicas": 1})
    world.observe(B, replicas=2, ready=2)
    (move,) = world.actions(world.second(40))
    assert move.desired == {"sites": {"a": 34, "b": 66}}


def test_with_room_nowhere_it_is_held_and_a_person_is_asked():
    world = Shop()
    world.observe(B, replicas=6, ready=0)
    world.second()
    world.world |= {"p95:a": "true", "probe:b": "false"}
    effects = world.second(40)
    assert world.actions(effects) == []
    assert world.reasons(effects) == ["escalated", "no_headroom"]
    assert (len(world.notices()), world.incident.state) == (1, IncidentState.ESCALATED)
    world.world["p95:a"] = "false"
    world.second()
    assert world.incident.state is IncidentState.RESOLVED


def test_a_short_illness_moves_nothing():
    world = Shop()
    world.second()
    world.world["p95:a"] = "true"
    world.second(2)
    world.world["p95:a"] = "false"
    assert world.actions(world.second(10)) == []


def test_observe_plans_the_move_and_notes_that_the_site_healed_by_itself():
    world = Shop(mode="observe")
    world.second()
    world.world["p95:a"] = "true"
    effects = world.second(3)
    (planned,) = world.actions(effects, mode="observe")
    assert (planned.verb, world.actions(effects)) == ("fail_over", [])
    world.outcome(planned, "planned")
    world.world["p95:a"] = "false"
    assert world.reasons(world.second()) == ["resolved_by_value"]


def test_the_grant_of_the_group_is_the_upper_bound():
    world = Shop(grants={"*": {"mode": "enforce", "verbs": ["scale"]}})
    world.second()
    world.world["p95:a"] = "true"
    effects = world.second(5)
    assert (world.actions(effects), world.reasons(effects)) == ([], ["not_granted"])


def test_a_conflict_is_handed_over():
    world = Shop()
    world.observe(B, replicas=3, ready=3)
    world.second()
    world.world["p95:a"] = "true"
    (move,) = world.actions(world.second(3))
    effects = world.outcome(move, "conflict")
    assert "escalated" in world.reasons(effects)
    assert len(world.notices()) == 1


def test_traffic_comes_home_only_onto_capacity_that_is_there():
    world = Shop()
    world.failed_over()
    world.observe(A, replicas=1, ready=1)
    world.world |= {"p95:a": "false"}
    actions = []
    for _ in range(30):
        for action in world.actions(world.second()):
            actions.append((action.verb, dict(action.desired)))
            world.outcome(action, before={"replicas": 1})
            if action.verb == "scale":
                world.observe(A, replicas=action.desired["replicas"], ready=action.desired["replicas"])
    assert actions[:4] == [
        ("fail_back", {"sites": {"a": 25, "b": 75}}),
        ("scale", {"replicas": 2}),
        ("fail_back", {"sites": {"a": 50, "b": 50}}),
        ("scale", {"replicas": 3}),
    ]


def test_when_the_other_site_falls_ill_and_the_first_is_well_traffic_goes_home_as_a_new_incident():
    """Simulator, seed 175: the site that had taken over became slow itself, and users stayed there because the way home had failed once."""
    world = Shop()
    world.failed_over()
    world.world |= {"p95:a": "nodata", "probe:a": "false"}
    world.second(4)
    first = world.incident.id
    world.world |= {"p95:b": "true", "probe:b": "false", "probe:a": "true"}
    known = len(world.actions())
    world.second(12)
    (move,) = world.actions()[known:]
    assert (move.verb, move.desired) == ("fail_over", {"sites": {"a": 100, "b": 0}})
    assert move.incident_id != first
    world.outcome(move, before={"sites": {"a": 0, "b": 100}})
    world.world |= {"p95:a": "false", "p95:b": "nodata"}
    world.second(6)
    assert world.incident.state is IncidentState.RESOLVED
    world.world["probe:b"] = "true"
    world.second(30)
    verbs = {action.verb for action in world.actions()[known + 1 :]}
    assert verbs <= {"scale"}  # the traffic is where it belongs: nothing goes back to the site that it only visited


def test_traffic_does_not_go_back_to_a_site_that_has_fallen_ill_meanwhile():
    world = Shop()
    world.failed_over()
    world.world["p95:a"] = "false"
    first = next(action for _ in range(10) for action in world.actions(world.second()) if action.verb == "fail_back")
    world.outcome(first, before={"sites": {"a": 0, "b": 100}})
    world.wait(500)
    world.measure("true", containing='p95{site="b"}')
    world.world |= {"p95:a": "true", "p95:b": "true", "probe:b": "false"}
    effects = world.second(10)
    assert world.actions(effects) == []
    assert "not well either" in " ".join(decision.text for decision in world.decisions(effects))
    assert world.incident.state is IncidentState.ESCALATED
