"""Runs `tests/cases/promql/*.yaml`. One file: `load` (series text -> values, one value every `every`), then `cases` against it.

Values: numbers, `NaN`, `Inf`, `_` (no sample), `stale`, and `0+5x12` (from 0 in steps of 5, twelve more). A case says `expect` (series -> value),
`scalar`, `fails` (a pattern of the error) or, for a `condition`, `truth`. `ordered` makes the order of `expect` count.
"""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.model.duration import parse_duration_ms
from pipeline.model.labels import Labels
from pipeline.promql import PromQLError, compile_condition, compile_expr, parse
from pipeline.series import STALE_NAN, SeriesStore

FOLDER = Path(__file__).parents[2] / "cases" / "promql"
PROGRESSION = re.compile(r"(-?[\d.]+)([+-][\d.]+)x(\d+)")


def labels_of(text: str) -> Labels:
    if text == "{}":
        return Labels()
    return Labels.of({matcher.name: matcher.value for matcher in parse(text).root.selector.matchers})


def values_of(text: str) -> list[float | None]:
    values: list[float | None] = []
    for word in str(text).split():
        progression = PROGRESSION.fullmatch(word)
        if progression:
            start, step, count = float(progression[1]), float(progression[2]), int(progression[3])
            values += [start + step * number for number in range(count + 1)]
        else:
            values.append(None if word == "_" else STALE_NAN if word == "stale" else float(word))
    return values


def store_of(load: dict[str, Any]) -> SeriesStore:
    store = SeriesStore()
    for text, values in load["series"].items():
        for number, value in enumerate(values_of(values)):
            if value is not None:
                store.append(labels_of(text), number * parse_duration_ms(load["every"]), value)
    return store


def cases() -> list[Any]:
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        document = yaml.safe_load(path.read_text())
        found += [pytest.param(document["load"], case, id=f"{path.stem}: {case['name']}") for case in document["cases"]]
    return found


def same(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right)) or math.isclose(left, right, rel_tol=1e-9)


@pytest.mark.parametrize(("load", "case"), cases())
def test_case(load: dict[str, Any], case: dict[str, Any]):
    store, at_ms, compat = store_of(load), parse_duration_ms(case["at"]), case.get("compat", "v3")
    if "condition" in case:
        assert compile_condition(case["condition"], compat=compat).eval(store, at_ms).truth == case["truth"]
        return
    if "fails" in case:
        with pytest.raises(PromQLError, match=case["fails"]):
            compile_expr(case["expr"], compat=compat).eval(store, at_ms)
        return
    result = compile_expr(case["expr"], compat=compat).eval(store, at_ms)
    if "scalar" in case:
        assert same(result.value, float(case["scalar"]))
        return
    expected = [(labels_of(text), float(value)) for text, value in case["expect"].items()]
    got = [(row.labels, row.value) for row in result]
    if not case.get("ordered"):
        expected.sort()
        got.sort()
    assert [labels for labels, _ in got] == [labels for labels, _ in expected]
    assert all(same(value, wanted) for (_, value), (_, wanted) in zip(got, expected, strict=True)), got
