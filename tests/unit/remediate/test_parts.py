"""The small parts: matchers, templates, shares, rates of budgets, transitions, stored state."""

from __future__ import annotations

import msgspec
import pytest

from pipeline.model.records import Action, Alert, AlertState, Budget, Command, Grant, IncidentState, Outcome, OutcomeStatus, Proposal
from pipeline.model.target import Target
from pipeline.remediate import Governor, Remediator, groups_of, matchers, templates
from pipeline.remediate.governor import limit_of
from pipeline.remediate.muting import instant_ms
from pipeline.remediate.planners.base import shares
from pipeline.remediate.state import StateError
from pipeline.remediate.transitions import TRANSITIONS, Happening, next_state
from pipeline.remediate.verify import direction, improved
from pipeline.rulebook.spec import Verify
from tests.unit.remediate.lab import BAD_RELEASE, START_MS, Lab, book

# --- matchers


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        pytest.param('severity="critical"', {"severity": "critical"}, True, id="equal"),
        pytest.param("severity=critical", {"severity": "critical"}, True, id="without-quotes"),
        pytest.param('severity!="critical"', {}, True, id="absent-is-not-equal"),
        pytest.param('severity=""', {}, True, id="absent-is-empty"),
        pytest.param('service=~"check.*"', {"service": "checkout"}, True, id="pattern"),
        pytest.param('service=~"check"', {"service": "checkout"}, False, id="pattern-is-anchored"),
        pytest.param('service=~"a|checkout"', {"service": "checkout2"}, False, id="alternatives-are-anchored-together"),
        pytest.param('service!~"check.*"', {"service": "checkout"}, False, id="not-pattern"),
        pytest.param('path=~"a.b"', {"path": "a\nb"}, True, id="dot-matches-a-line-break"),
        pytest.param(r'path="a\"b"', {"path": 'a"b'}, True, id="escaped-quote"),
    ],
)
def test_matchers_follow_alertmanager(text, labels, expected):
    assert matchers.parse(text).matches(labels) is expected


@pytest.mark.parametrize("text", ["", "severity", '="x"', 'a=~"("', "1a=b"])
def test_what_is_no_matcher_is_refused(text):
    with pytest.raises(matchers.MatcherError):
        matchers.parse(text)


def test_a_pattern_that_would_explode_elsewhere_runs_in_linear_time():
    assert not matchers.parse('a=~"(x+x+)+y"').matches({"a": "x" * 5000})


# --- templates


def test_templates_fill_in_names_and_nothing_else():
    names = {"version": "v2", "service": "checkout"}
    assert templates.render("{{ version }} of {{service}}", names) == "v2 of checkout"
    assert templates.render_tree({"a": ["{{ version }}", 1]}, names) == {"a": ["v2", 1]}
    assert templates.render("{{ $labels.version }}".replace("$", ""), names) == "v2"
    for text in ("{{ release }}", "{{ version | upper }}", "{{ 1 + 1 }}", "{{ version", "{{ __class__ }}"):
        with pytest.raises(templates.TemplateError):
            templates.render(text, names)


def test_a_label_cannot_leave_its_quotes_in_an_expression():
    assert templates.render_expr('up{service="{{ s }}"}', {"s": 'x"} or vector(1) #'}) == 'up{service="x\\"} or vector(1) #"}'


def test_a_value_that_looks_like_a_template_is_not_filled_in_again():
    assert templates.render("{{ a }}", {"a": "{{ b }}", "b": "secret"}) == "{{ b }}"


# --- shares


@pytest.mark.parametrize(
    ("weights", "total", "expected"),
    [
        pytest.param({"a": 1, "b": 1, "c": 1}, 100, {"a": 34, "b": 33, "c": 33}, id="thirds"),
        pytest.param({"a": 80, "b": 10}, 100, {"a": 89, "b": 11}, id="in-proportion"),
        pytest.param({"a": 0, "b": 0}, 100, {"a": 50, "b": 50}, id="all-zero-means-equal"),
        pytest.param({"a": 5}, 100, {"a": 100}, id="one"),
        pytest.param({}, 100, {}, id="none"),
    ],
)
def test_shares_are_whole_and_sum_up(weights, total, expected):
    assert shares(weights, total) == expected


# --- governor


def proposal(id_: str, target: str, *budgets: Budget, exempt: bool = False, group: str = "g") -> Proposal:
    action = Action(id=id_, group=group, verb="scale", target=Target.parse(target), desired={}, at_ms=0, expires_at_ms=1)
    return Proposal(id=id_, group=group, at_ms=0, action=action, budgets=budgets, exempt=exempt)


def test_a_budget_counts_distinct_targets_in_its_window():
    governor, budget = Governor(), Budget(key="p", per_ms=60_000, targets=2)
    answers = [governor.step(proposal(str(n), f"c://w/{n}", budget), 1000)[0] for n in range(3)]
    assert [(answer.granted, str(answer.reason)) for answer in answers] == [(True, "granted"), (True, "granted"), (False, "budget")]
    assert answers[2].evidence == {"budget": "p", "used": 2, "limit": 2, "per_ms": 60_000, "retry_at_ms": 61_000}
    assert governor.step(proposal("again", "c://w/1", budget), 2000)[0].granted
    assert not governor.step(proposal("late", "c://w/5", budget), 60_999)[0].granted
    assert governor.step(proposal("later", "c://w/6", budget), 61_001)[0].granted


def test_a_proposal_that_was_answered_gets_the_same_answer_and_costs_nothing():
    governor, budget = Governor(), Budget(key="p", per_ms=60_000, targets=1)
    first = governor.step(proposal("a", "c://w/1", budget), 1000)
    assert governor.step(proposal("a", "c://w/1", budget), 500_000) == first


def test_an_action_that_changed_nothing_gives_its_token_back():
    governor, budget = Governor(), Budget(key="p", per_ms=60_000, targets=1)
    governor.step(proposal("a", "c://w/1", budget), 1000)
    governor.step(Outcome(id="o", action_id="a", group="g", status=OutcomeStatus.REFUSED, at_ms=1001), 1001)
    assert governor.step(proposal("b", "c://w/2", budget), 1002)[0].granted


def test_reverts_are_exempt_and_a_pause_is_not():
    governor, budget = Governor(), Budget(key="p", per_ms=60_000, targets=1)
    governor.step(proposal("a", "c://w/1", budget), 1000)
    assert governor.step(proposal("r", "c://w/2", budget, exempt=True), 1001)[0].granted
    governor.step(Command(id="c", kind="pause", identity="anna", at_ms=0, group="g"), 1002)
    paused = governor.step(proposal("s", "c://w/1", budget, exempt=True), 1003)[0]
    assert (paused.granted, paused.reason) == (False, "paused")
    assert governor.step(proposal("other", "c://w/9", group="h"), 1003)[0].granted
    governor.step(Command(id="d", kind="resume", identity="anna", at_ms=0), 1004)
    assert governor.step(proposal("t", "c://w/1", budget), 1005)[0].granted


def test_the_governors_memory_survives_a_restart():
    governor, budget = Governor(), Budget(key="p", per_ms=60_000, targets=1)
    governor.step(proposal("a", "c://w/1", budget), 1000)
    fresh = Governor()
    fresh.restore(governor.snapshot())
    assert fresh.snapshot() == governor.snapshot()
    assert not fresh.step(proposal("b", "c://w/2", budget), 1001)[0].granted


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        pytest.param(Budget(key="", per_ms=1, percent=30, enabled=10), 3, id="percent"),
        pytest.param(Budget(key="", per_ms=1, percent=30, enabled=5), 1, id="rounded-down"),
        pytest.param(Budget(key="", per_ms=1, percent=30, enabled=1), 1, id="at-least-one"),
        pytest.param(Budget(key="", per_ms=1, percent=50, enabled=10, targets=2), 2, id="the-smaller-of-both"),
    ],
)
def test_a_percentage_is_rounded_down_but_never_to_nothing(budget, limit):
    assert limit_of(budget) == limit


# --- incidents and state


def test_every_state_of_an_incident_can_end_and_only_a_resolved_one_re_opens_by_itself():
    for state in set(IncidentState) - {IncidentState.RESOLVED}:
        assert next_state(state, Happening.RESOLVE) is IncidentState.RESOLVED
    assert {happening for (state, happening) in TRANSITIONS if state is IncidentState.RESOLVED} == {Happening.REOPEN}


def test_every_state_can_be_reached():
    reached, grew = {IncidentState.OPEN}, True
    while grew:
        found = {after for (state, _), after in TRANSITIONS.items() if state in reached}
        grew = not found <= reached
        reached |= found
    assert reached == set(IncidentState)


def test_a_state_of_a_newer_version_is_refused_loudly():
    machine = Remediator("checkout", book())
    newer = msgspec.json.encode({**msgspec.json.decode(machine.snapshot()), "schema_version": 99})
    with pytest.raises(StateError, match="update this worker first"):
        machine.restore(newer)
    with pytest.raises(StateError):
        machine.restore(b"[]")


def test_groups_are_those_of_the_services_and_the_one_for_strays():
    assert groups_of(book()) == ["checkout", "unassigned"]


def test_an_idle_group_remembers_next_to_nothing():
    machine = Remediator("checkout", book())
    machine.step(Command(id="c", kind="resume", identity="anna", at_ms=START_MS), START_MS)
    assert len(machine.snapshot()) < 4000


def test_times_are_read_with_and_without_a_zone():
    assert instant_ms("2027-01-15T08:00:00Z") == instant_ms("2027-01-15T09:00:00+01:00") == instant_ms("2027-01-15T08:00:00") == START_MS


def test_better_is_in_the_direction_that_the_condition_wants():
    low, high = Verify(success="errors < 0.01"), Verify(success="ready >= 3")
    assert (direction(low), direction(high), direction(Verify(success="a == 1"))) == (-1, 1, 0)
    assert improved(low, 0.5, 0.1)
    assert not improved(low, 0.5, 0.45)
    assert not improved(low, 0.5, 0.9)
    assert improved(high, 1.0, 2.0)
    assert not improved(low, None, 0.0)
    assert not improved(low, 0.5, None)


# --- crash safety


def release() -> Lab:
    world = Lab(book(policies=[BAD_RELEASE]))
    world.tick()
    return world


def test_an_outcome_that_comes_before_the_grant_is_adopted_and_nothing_is_sent_again():
    """Restored from before the grant: the executor has long done it."""
    done = release()
    (shift,) = done.actions(done.alert())
    world = Lab(book(policies=[BAD_RELEASE]), governor=False)
    world.tick()
    world.alert()
    effects = world.outcome(shift, before={"weights": {"v1": 80, "v2": 20}})
    assert world.actions(effects) == []
    assert "applied" in world.reasons(effects)
    assert world.actions(world.give(Grant(id=shift.id, group="checkout", at_ms=world.now_ms, granted=True, reason="granted"))) == []
    assert world.incident.state is IncidentState.VERIFYING


def test_an_outcome_that_comes_before_the_alert_is_kept_until_the_machine_gets_there():
    """Restored from before everything: the same input leads to the same id, and finds its outcome."""
    done = release()
    (shift,) = done.actions(done.alert())
    world = release()
    assert world.outcome(shift, before={"weights": {"v1": 80, "v2": 20}}) == []
    effects = world.alert()
    assert world.actions(effects) == []
    assert world.incident.state is IncidentState.VERIFYING
    assert [override.inverse for override in world.overrides()] == [{"weights": {"v1": 80, "v2": 20}}]


def test_a_clock_that_jumps_back_counts_as_standing_still():
    world = release()
    world.alert()
    before = world.machine.state.now_ms
    world.now_ms -= 3_600_000
    world.tick()
    assert world.machine.state.now_ms == before


def test_an_alert_that_is_only_pending_causes_nothing():
    world = release()
    assert world.alert(state="pending") == []
    assert world.machine.state.alerts == {}


def test_old_news_about_an_alert_are_ignored():
    world = release()
    world.alert(id="a", revision=5)
    world.resolve(id="a", revision=6)
    assert world.alert(id="a", revision=5) == []
    assert world.machine.state.alerts["a"].alert == Alert(**{**_fields(world.machine.state.alerts["a"].alert), "state": AlertState.RESOLVED})


def _fields(alert: Alert) -> dict:
    return {name: getattr(alert, name) for name in alert.__struct_fields__}


def test_a_storm_of_alerts_makes_one_incident_whose_record_stays_small():
    world = release()
    for number in range(600):
        world.alert(id=f"a{number}", labels={"pod": str(number)})
    assert len(world.actions()) == 1
    assert len(world.incident.alert_ids) == 200
    spoken = {decision.alert_id for decision in world.decisions()}
    assert {f"a{number}" for number in range(600)} <= spoken
    for number in range(600):
        world.resolve(id=f"a{number}", labels={"pod": str(number)})
    (shift,) = world.actions()
    world.outcome(shift, before={"weights": {"v1": 80, "v2": 20}})
    world.wait(90_000)
    world.wait(1_000_000)
    assert (world.machine.state.alerts, world.machine.state.incidents, world.machine.state.said) == ({}, {}, {})
