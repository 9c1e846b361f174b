"""Who goes first, who may go together, and who waits, in one group."""

from __future__ import annotations

import pytest

from pipeline.model.records import Action
from pipeline.model.target import Target
from pipeline.remediate.arbiter import Claim, Rank, judge, rank_of
from pipeline.remediate.catalogue import Scope
from pipeline.remediate.state import FailoverState, Order, State
from pipeline.remediate.turn import Turn
from tests.unit.remediate.lab import book

ROUTE, SITES, V1, V2 = "e://route/x", "e://sites/x", "p://w/v1", "p://w/v2"


def order(verb: str, target: str, direction: str = "", service: str = "checkout") -> Order:
    action = Action(id=f"{verb}{target}", group="g", verb=verb, target=Target.parse(target), desired={}, at_ms=0, expires_at_ms=1)
    return Order(action=action, owner="run:other", service=service, phase="flight", due_at_ms=9, rank=rank_of(verb, direction), direction=direction)


def wish(verb: str, target: str, direction: str = "", *, owner: str = "run:mine", reverts: str = "", service: str = "checkout") -> Claim:
    return Claim(owner, service, verb, Target.parse(target), direction, rank_of(verb, direction, reverts=reverts, owner=owner), in_flight=False)


def verdict(wished: Claim, *orders: Order, failover: FailoverState | None = None) -> str:
    state = State("checkout", orders={one.action.id: one for one in orders}, failovers={"f": failover} if failover else {})
    hold = judge(Turn(state, Scope(book(), "checkout"), 1000, "c"), wished)
    return str(hold.reason) if hold else "go"


def test_the_order_is_that_of_the_design():
    assert [rank.name for rank in Rank] == ["OPERATOR", "REVERT", "ADD_OR_DRAIN", "MOVE", "ROLL_BACK", "REMOVE", "RESTART", "TELL"]
    ranks = [
        rank_of("scale", "down", owner="operator:1"),
        rank_of("shift_traffic", reverts="x"),
        rank_of("scale", "up"),
        rank_of("fail_over"),
        rank_of("roll_back"),
        rank_of("scale", "down"),
        rank_of("restart"),
    ]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)


@pytest.mark.parametrize(
    ("wished", "others", "expected"),
    [
        pytest.param(wish("scale", V1, "up"), [order("shift_traffic", ROUTE, "drain")], "go", id="scale-up-during-a-shift"),
        pytest.param(wish("scale", V1, "up"), [order("scale", V1, "up")], "in_flight", id="one-per-target"),
        pytest.param(
            wish("scale", V1, "down", owner="operator:1"), [order("scale", V1, "up")], "in_flight", id="an-operator-waits-for-the-flight-too"
        ),
        pytest.param(
            wish("scale", V1, "down", owner="operator:1"), [order("shift_traffic", ROUTE)], "go", id="an-operator-contradicts-whom-he-likes"
        ),
        pytest.param(wish("scale", V1, "down"), [order("shift_traffic", ROUTE)], "contradicts", id="no-removal-during-a-shift"),
        pytest.param(wish("scale", V1, "down"), [order("roll_back", V2, service="other")], "contradicts", id="no-removal-anywhere-in-the-group"),
        pytest.param(wish("scale", V1), [order("shift_traffic", ROUTE)], "contradicts", id="unknown-direction-counts-as-removal"),
        pytest.param(wish("roll_back", V2), [order("deploy", V1)], "contradicts", id="roll-back-against-deploy"),
        pytest.param(wish("roll_back", V2), [order("shift_traffic", ROUTE)], "go", id="roll-back-beside-a-shift"),
        pytest.param(wish("fail_over", SITES), [order("shift_traffic", ROUTE)], "go", id="an-ill-site-is-left-while-a-version-is-being-judged"),
        pytest.param(wish("fail_back", SITES), [order("shift_traffic", ROUTE)], "contradicts", id="coming-home-waits-for-a-shift"),
        pytest.param(wish("shift_traffic", ROUTE), [order("fail_over", SITES)], "contradicts", id="two-moves-of-one-traffic"),
        pytest.param(wish("fail_over", SITES, service="other"), [order("shift_traffic", ROUTE)], "go", id="moves-of-other-traffic"),
        pytest.param(wish("restart", V1), [order("shift_traffic", ROUTE)], "contradicts", id="no-restart-while-something-moves"),
        pytest.param(wish("restart", V1), [order("block", "e://blocklist/x")], "go", id="restart-beside-a-block"),
        pytest.param(wish("shift_traffic", ROUTE, reverts="a"), [order("fail_over", SITES)], "go", id="a-revert-goes"),
        pytest.param(wish("block", "e://blocklist/x"), [order("fail_over", SITES)], "go", id="a-block-goes"),
    ],
)
def test_collisions(wished, others, expected):
    assert verdict(wished, *others) == expected


@pytest.mark.parametrize(
    ("failover", "direction", "expected"),
    [
        pytest.param(FailoverState(phase="away"), "down", "contradicts", id="away"),
        pytest.param(FailoverState(phase="returning"), "down", "contradicts", id="on-the-way-home"),
        pytest.param(FailoverState(regret_until_ms=2000), "down", "contradicts", id="regret-window"),
        pytest.param(FailoverState(), "down", "go", id="home"),
        pytest.param(FailoverState(phase="away"), "up", "go", id="up-is-never-starved"),
    ],
)
def test_no_capacity_goes_while_a_failover_is_in_force_or_fresh(failover, direction, expected):
    assert verdict(wish("scale", V1, direction), failover=failover) == expected


def test_an_action_that_waits_for_approval_blocks_nobody():
    waiting = order("scale", V1, "up")
    waiting.phase = "approval"
    assert verdict(wish("scale", V1, "up"), waiting) == "go"
