"""The engine never makes an outage worse: 60 seeded scenarios (`make harm` runs 1,000), each in observe and in enforce on the same arrivals."""

from __future__ import annotations

from statistics import median

import pytest

from tests.simulator.__main__ import describe, pairs_of, ratio
from tests.simulator.run import Pair, Simulation, run
from tests.simulator.scenario import scenario

SEEDS = range(60)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return pairs_of(SEEDS, jobs=2)


def test_no_scenario_has_more_failed_requests_with_the_engine_than_without(pairs: list[Pair]) -> None:
    assert [describe(pair) for pair in pairs if pair.harmed] == []


def test_every_rule_of_conduct_holds_in_every_scenario(pairs: list[Pair]) -> None:
    assert [describe(pair) for pair in pairs if pair.violations] == []


def test_what_is_curable_is_cured(pairs: list[Pair]) -> None:
    curable = [pair for pair in pairs if pair.scenario.curable and pair.observe.failed]
    assert len(curable) >= 5
    assert median(map(ratio, curable)) < 0.3


def test_the_engine_acts_in_enforce_and_only_there(pairs: list[Pair]) -> None:
    operators = {pair.scenario.seed for pair in pairs if any(one.what in {"weights", "replicas"} for one in pair.scenario.happenings)}
    assert {pair.scenario.seed for pair in pairs if pair.observe.actions} <= operators
    assert sum(1 for pair in pairs if pair.enforce.actions) > len(pairs) / 2


KNOWN = {
    573: "load peaks make the canary shed, which passes for a bad release: its replicas are taken out, and the next peak is too much for the rest",
    855: "the same as 573",
    843: "with the engine's clock 2 s ahead demand is understated, a whole surge is moved to a site without room, and that is told but not undone",
}


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.xfail(reason=why, strict=True)) for seed, why in KNOWN.items()])
def test_scenarios_in_which_the_engine_is_known_to_do_harm(seed: int) -> None:
    pair = run(seed)
    assert not pair.harmed, describe(pair)


def test_a_seed_gives_the_same_run_again() -> None:
    first, second = (Simulation(scenario(4), "enforce") for _ in range(2))
    assert first.run() == second.run()
    assert [said.data for said in first.engine.said] == [said.data for said in second.engine.said]
