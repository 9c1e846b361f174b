"""The latency benchmark: its figures, the configuration that it writes, and one short run of the real thing."""

import json
import logging
from pathlib import Path

import pytest

from pipeline.app.settings import load_config, load_rules
from pipeline.bench import latency
from pipeline.bench.latency import Latencies, Plan, measure


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """A pipeline in this process sets up logging."""
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_percentiles_are_measured_values():
    figures = Latencies([5, 1, 3, 2, 4], missing=1, samples=1000, seconds=2.0)
    assert [figures.percentile(ratio) for ratio in (0.0, 0.5, 0.99, 1.0)] == [1, 3, 5, 5]
    assert figures.to_json() == {"p50_ms": 3, "p90_ms": 5, "p99_ms": 5, "max_ms": 5, "measured": 5, "missing": 1, "samples_per_s": 500}


def test_nothing_measured_is_no_number_and_still_json():
    figures = Latencies([], missing=3, samples=0, seconds=1.0).to_json()
    assert json.loads(json.dumps(figures, allow_nan=False))["p50_ms"] is None
    assert figures["missing"] == 3


@pytest.mark.parametrize("kafka", ["", "127.0.0.1:9"], ids=["embedded", "kafka"])
def test_the_configuration_that_it_writes_is_a_user_s_own(tmp_path: Path, kafka: str):
    settings = load_config(latency._write(Plan(faults=3, kafka=kafka), tmp_path))
    book = load_rules(settings)
    assert [service.name for service in book.services] == ["s0", "s1", "s2"]
    assert (settings.config.kafka is not None) is bool(kafka)


async def test_every_fault_ends_in_a_write(tmp_path: Path):
    figures = await measure(Plan(rate=100, faults=5, faults_per_s=5.0), tmp_path)
    assert figures.missing == 0
    assert len(figures.ms) == 5
    assert all(ms >= 0 for ms in figures.ms)
