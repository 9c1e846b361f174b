"""A crash anywhere loses nothing and doubles nothing. The long form is `make crash`."""

import random

import pytest

from pipeline.runtime.faults import POINTS
from tests.e2e import act, crash
from tests.e2e.shop import Shop


@pytest.mark.parametrize("point", POINTS)
async def test_embedded_engine_that_dies_at_a_fault_point_heals_and_doubles_nothing(tmp_path, point):
    shop = Shop(tmp_path / "shop")
    assert await crash.at_fault_point(shop, point) == [], shop.log_tail()


@pytest.mark.kafka
@pytest.mark.parametrize("point", POINTS)
async def test_kafka_engine_that_dies_at_a_fault_point_heals_and_doubles_nothing(tmp_path, kafka, unique, point):
    shop = Shop(tmp_path / "shop", kafka=kafka.bootstrap, prefix=f"{unique}.")
    assert await crash.at_fault_point(shop, point) == [], shop.log_tail()


@pytest.mark.envoy
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_engine_killed_at_a_random_moment_of_the_bad_release_heals_and_doubles_nothing(envoy_binary, seed):
    assert await act.killed_after(random.Random(seed).uniform(0.0, 5.0)) == []
