"""Prometheus' own PromQL test scripts against the evaluator: every stable float case, at once and as a middle step of a range query.

The cases (Apache-2.0, © The Prometheus Authors) are not part of this repository. `REFLEXARC_PROMQL_TESTDATA` names a folder of JSON-lines files, one
object a line: `{"type": "load", id, series: [{labels, samples}]}` and `{"type": "case", id, loads, kind, at | start, end, step, expr, expect, flags}`.
Unset, these tests are skipped and the summary says so.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.labels import Labels
from pipeline.promql import Matrix, Options, PromQLError, Scalar, String, Vector, compile_expr
from pipeline.series import STALE_NAN, SeriesStore

FOLDER = os.environ.get("REFLEXARC_PROMQL_TESTDATA", "")
SKIP = "the environment variable REFLEXARC_PROMQL_TESTDATA is not set: Prometheus' own PromQL test cases were NOT run"
MIN_NORMAL = 2.2250738585072014e-308
BOUND_TO_THE_QUERY = re.compile(r"\b(start|end|step|range)\(\)")


def _read(path: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    loads: dict[str, Any] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["type"] == "load":
            loads[record["id"]] = record
        elif record["flags"]["stable"]:
            yield record, [series for load in record["loads"] for series in loads[load]["series"]]


def _cases(wanted: Callable[[dict[str, Any]], bool] = lambda _case: True) -> list[Any]:
    if not FOLDER:
        return [pytest.param(None, None, id="not-there", marks=pytest.mark.skip(reason=SKIP))]
    found = [pair for path in sorted(Path(FOLDER).glob("*.jsonl")) for pair in _read(path) if wanted(pair[0])]
    return [pytest.param(case, series, id=case["id"]) for case, series in found]


def _holds_with_names_dropped_at_once(case: dict[str, Any]) -> bool:
    return not case["flags"].get("delayed_name_removal")


def _does_not_depend_on_the_range(case: dict[str, Any]) -> bool:
    expect = case["expect"]
    simple = case["kind"] == "instant" and expect["type"] in {"vector", "scalar"} and not expect.get("ordered")
    return simple and not BOUND_TO_THE_QUERY.search(case["expr"])


def _store(series: list[dict[str, Any]]) -> SeriesStore:
    """The samples of all loads; a series may get samples from several, so the order of time is not the order of the files."""
    store = SeriesStore(allowed_lateness_ms=1 << 40)
    for one in series:
        labels = Labels.of(one["labels"])
        for at_ms, value, *_ in one["samples"]:
            store.append(labels, at_ms, STALE_NAN if value == "stale" else float(value))
    return store


def _close(left: float, right: float) -> bool:
    if left == right or (math.isnan(left) and math.isnan(right)):
        return True
    if not (math.isfinite(left) and math.isfinite(right)):
        return False
    total, difference = abs(left) + abs(right), abs(left - right)
    if left == 0 or right == 0 or total < MIN_NORMAL:
        return difference < 1e-6 * MIN_NORMAL
    return difference / total < 1e-6


def _same_series(want: list[dict[str, Any]], got: list[tuple[Labels, list[tuple[int, float]]]]) -> None:
    expected = {Labels.of(one["labels"]): one["samples"] for one in want}
    assert {labels for labels, _ in got} == set(expected)
    assert len(got) == len(want)
    for labels, points in got:
        assert [at for at, _ in points] == [at for at, _ in expected[labels]], labels
        assert all(_close(value, float(wanted)) for (_, value), (_, wanted) in zip(points, expected[labels], strict=True)), (labels, points)


def _assert_meets(expect: dict[str, Any], result: Any) -> None:
    if expect["type"] == "vector":
        assert isinstance(result, Vector)
        _same_series(
            [{"labels": s["labels"], "samples": [[0, s["value"]]]} for s in expect["samples"]], [(row.labels, [(0, row.value)]) for row in result]
        )
        if expect.get("ordered"):
            assert [row.labels for row in result] == [Labels.of(s["labels"]) for s in expect["samples"]]
    elif expect["type"] == "matrix":
        assert isinstance(result, Matrix)
        _same_series(expect["series"], [(track.labels, list(track.points)) for track in result])
    elif expect["type"] == "scalar":
        assert isinstance(result, Scalar)
        assert _close(result.value, float(expect["value"]))
    else:
        assert result == String(expect["value"])
    assert bool(result.notes.warnings) == bool(expect.get("warn")) or not ({"warn", "no_warn"} & set(expect))
    assert bool(result.notes.infos) == bool(expect.get("info")) or not ({"info", "no_info"} & set(expect))


def _check(case: dict[str, Any], series: list[dict[str, Any]], options: Options) -> None:
    store, expect = _store(series), case["expect"]

    def evaluate() -> Any:
        compiled = compile_expr(case["expr"], options=options)
        return compiled.eval_range(store, case["start"], case["end"], case["step"]) if case["kind"] == "range" else compiled.eval(store, case["at"])

    if expect["type"] != "fail":
        _assert_meets(expect, evaluate())
        return
    with pytest.raises(PromQLError) as caught:
        evaluate()
    for wanted in expect["fail"] if isinstance(expect["fail"], list) else []:
        assert wanted.get("msg", str(caught.value)) == str(caught.value)


@pytest.mark.parametrize(("case", "series"), _cases())
def test_result_is_prometheus_own_with_its_test_settings(case: dict[str, Any], series: list[dict[str, Any]]):
    _check(case, series, Options(delayed_names=True))


@pytest.mark.parametrize(("case", "series"), _cases(_holds_with_names_dropped_at_once))
def test_result_is_prometheus_own_with_default_settings(case: dict[str, Any], series: list[dict[str, Any]]):
    _check(case, series, Options())


@pytest.mark.parametrize(("case", "series"), _cases(_does_not_depend_on_the_range))
def test_instant_result_is_the_middle_step_of_a_range_query(case: dict[str, Any], series: list[dict[str, Any]]):
    expect, at = case["expect"], case["at"]
    matrix = compile_expr(case["expr"], options=Options(delayed_names=True)).eval_range(_store(series), at - 60_000, at + 60_000, 60_000)
    middle = {track.labels: dict(track.points)[at] for track in matrix if at in dict(track.points)}
    wanted = [(Labels.of(s["labels"]), s["value"]) for s in expect["samples"]] if expect["type"] == "vector" else [(Labels(), expect["value"])]
    assert set(middle) == {labels for labels, _ in wanted}
    assert all(_close(middle[labels], float(value)) for labels, value in wanted)
