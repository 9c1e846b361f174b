"""What an expression reads, and whether that still speaks."""

from __future__ import annotations

import pytest

from pipeline.detect.reads import Reads
from pipeline.model.labels import Labels
from pipeline.promql import compile_expr
from pipeline.series import SeriesStore
from pipeline.series.stale import STALE_NAN

READS = Reads.of(compile_expr("sum(rate(requests_total[3s]))"))


def store(*rows: tuple[str, list[int], float | None]) -> SeriesStore:
    found = SeriesStore()
    for name, times, last in rows:
        labels = Labels.of({"__name__": "requests_total", "instance": name})
        values = [1.0] * (len(times) - 1) + [1.0 if last is None else last]
        found.extend([labels] * len(times), times, values)
    return found


@pytest.mark.parametrize(
    ("times", "at_ms", "silent"),
    [
        pytest.param([1000, 2000, 3000], 4200, 0, id="the next sample is on its way"),
        pytest.param([1000, 2000, 3000], 5400, 0, id="one sample was lost"),
        pytest.param([1000, 2000, 3000], 5600, 1, id="more than two beats without a word"),
        pytest.param([15_000, 30_000, 45_000], 75_000, 0, id="a slow rhythm is held to itself"),
        pytest.param([1000, 2000, 3000], 400_000, 0, id="gone for longer than the look-back: no longer part of it"),
        pytest.param([3000], 3500, 0, id="a single sample has no rhythm"),
    ],
)
def test_a_series_is_silent_when_it_falls_out_of_its_own_rhythm(times: list[int], at_ms: int, silent: int) -> None:
    assert READS.silent(store(("a", times, None)), at_ms) == silent


def test_a_series_that_ended_by_a_stale_marker_is_not_silent_but_over() -> None:
    assert READS.silent(store(("a", [1000, 2000, 3000], STALE_NAN), ("b", [1000, 2000, 3000], None)), 6000) == 1
