"""A crash anywhere loses nothing and doubles nothing. The long form is `make crash`."""

import asyncio
import random

import pytest

from pipeline.runtime.faults import POINTS
from tests.e2e import act, crash
from tests.e2e.shop import Shop


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """What was wrong after a death at each fault point."""
    root = tmp_path_factory.mktemp("embedded")
    return asyncio.run(crash.at_every_point(lambda point: Shop(root / point)))


@pytest.fixture(scope="module")
def distributed(tmp_path_factory, kafka):
    """The same on Kafka."""
    root = tmp_path_factory.mktemp("kafka")
    return asyncio.run(crash.at_every_point(lambda point: Shop(root / point, kafka=kafka.bootstrap, prefix=f"{point.replace('_', '-')}.")))


@pytest.mark.parametrize("point", POINTS)
def test_embedded_engine_that_dies_at_a_fault_point_heals_and_doubles_nothing(embedded, point):
    assert embedded[point] == []


@pytest.mark.kafka
@pytest.mark.parametrize("point", POINTS)
def test_kafka_engine_that_dies_at_a_fault_point_heals_and_doubles_nothing(distributed, point):
    assert distributed[point] == []


@pytest.mark.envoy
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_engine_killed_at_a_random_moment_of_the_bad_release_heals_and_doubles_nothing(envoy_binary, seed):
    assert await act.killed_after(random.Random(seed).uniform(0.0, 5.0)) == []
