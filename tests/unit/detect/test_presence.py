"""Whether data were there when an alert ended."""

import math

import pytest

from pipeline.detect.presence import Presence
from pipeline.model.labels import Labels
from pipeline.promql import parse
from pipeline.series import SeriesStore

A = Labels.of(s="a")


def store(**series: float) -> SeriesStore:
    found = SeriesStore()
    for name, value in series.items():
        found.append(Labels.of(__name__=name, s="a"), 1000, value)
    return found


@pytest.mark.parametrize(
    ("expr", "series", "covered"),
    [
        ("x > 5", {"x": 1.0}, True),
        ("x > 5", {}, False),
        ("x > 5", {"x": math.nan}, False),
        ("5 < x", {"x": 1.0}, True),
        ("x > y", {"x": 1.0, "y": 2.0}, True),
        ("x > y", {"x": 1.0}, False),
        ("sum by (s) (x) / sum by (s) (y) > 0.5", {"x": 0.0, "y": 0.0}, False),
        ("x > 5 and y > 5", {"x": 1.0, "y": 1.0}, True),
        ("x > 5 and y > 5", {"x": 1.0}, False),
        ("x > 5 unless y > 5", {"x": 1.0}, True),
        ("x > 5 or y > 5", {"y": 1.0}, True),
        ("x > 5 or y > 5", {}, False),
        ("(x) > bool 5 == 1", {"x": 1.0}, True),
        ('absent(x{s="a"})', {"x": 1.0}, True),
        ("x", {}, False),
        ("x > on (t) group_left () y", {"x": 1.0, "y": 1.0}, True),
    ],
)
def test_the_compared_side_must_be_there_and_a_number(expr: str, series: dict[str, float], covered: bool) -> None:
    assert Presence(parse(expr)).covers(A, store(**series), 1000) is covered


def test_an_expression_that_fails_proves_nothing() -> None:
    many = store(x=1.0, y=1.0)
    many.append(Labels.of(__name__="y", s="a", t="other"), 1000, 1.0)
    assert not Presence(parse("x > on (s) y")).covers(A, many, 1000)
