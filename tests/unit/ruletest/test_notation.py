"""The notation of series in tests: what it means, and what is refused."""

import math

import pytest

from pipeline.ruletest.notation import NotationError, expand, read_metric, read_values
from pipeline.series import is_stale


def values(text: str) -> dict[int, float]:
    return dict(expand(read_values(text)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("1 2.5 -3", {0: 1, 1: 2.5, 2: -3}, id="one by one"),
        pytest.param("1x3", {0: 1, 1: 1, 2: 1, 3: 1}, id="repeated: one and n more"),
        pytest.param("1+2x3", {0: 1, 1: 3, 2: 5, 3: 7}, id="rising"),
        pytest.param("1-2x1", {0: 1, 1: -1}, id="falling"),
        pytest.param("-2+0.5x2", {0: -2, 1: -1.5, 2: -1}, id="from a negative"),
        pytest.param("0x2", {0: 0, 1: 0, 2: 0}, id="0x2 is no hexadecimal number"),
        pytest.param("_ 1 _x2 2", {1: 1, 4: 2}, id="gaps; n means n here"),
        pytest.param("_x0 3", {0: 3}, id="no gap at all"),
        pytest.param("1e3 1E-2 .5 5. +4", {0: 1000, 1: 0.01, 2: 0.5, 3: 5, 4: 4}, id="ways to write a number"),
        pytest.param("010 08", {0: 8, 1: 8}, id="a leading zero is octal where it can be, as in Go"),
        pytest.param("Inf -inf +Inf", {0: math.inf, 1: -math.inf, 2: math.inf}, id="infinities"),
        pytest.param("", {}, id="nothing"),
        pytest.param(" 1\n\t2 ", {0: 1, 1: 2}, id="white space of any kind"),
    ],
)
def test_values_are_what_promtool_reads(text: str, expected: dict[int, float]):
    assert values(text) == expected


def test_steps_are_added_again_and_again_so_that_rounding_is_prometheus_own():
    assert values("0+0.1x3")[3] == 0.1 + 0.1 + 0.1 != 0.3


def test_stale_is_the_stale_marker_and_nan_is_not():
    assert is_stale(values("stale")[0])
    assert math.isnan(values("NaN")[0])
    assert not is_stale(values("NaN")[0])


def test_a_billion_repetitions_cost_nothing_until_they_are_read():
    assert next(expand(read_values("7x1000000000000"))) == (0, 7)


@pytest.mark.parametrize(
    "text",
    [
        "infx2",
        "stalex2",
        "1-x2",
        "1 x2",
        "1x-1",
        "1x+2",
        "1.5.5",
        "1e",
        "0x1F",
        "1x2.5",
        "1+-2x3",
        "1_000",
        "1X2",
        "__",
        "12x3x4",
        "1+2",
        "a",
        "5m",
        '"3"',
        "1 # c",
    ],
)
def test_what_promtool_refuses_is_refused(text: str):
    with pytest.raises(NotationError):
        read_values(text)


def test_a_refusal_names_the_place_and_says_what_would_be_right():
    with pytest.raises(NotationError, match=r"no space before the number of repetitions") as caught:
        read_values("1 2 x3")
    assert caught.value.offset == 4
    with pytest.raises(NotationError, match="native histograms"):
        read_values("{{schema:0 sum:5}}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("m", {"__name__": "m"}, id="a name"),
        pytest.param("m{}", {"__name__": "m"}, id="no label"),
        pytest.param('{a="b"}', {"a": "b"}, id="no name"),
        pytest.param('m{a="b" , c="" ,}', {"__name__": "m", "a": "b", "c": ""}, id="empty values are kept; a last comma"),
        pytest.param(r'm{a="x\n\"\u00e9\x41"}', {"__name__": "m", "a": 'x\n"éA'}, id="escapes"),
        pytest.param("m{a=`x\\n`,b='q'}", {"__name__": "m", "a": "x\\n", "b": "q"}, id="other quotes"),
        pytest.param('sum{on="x"}', {"__name__": "sum", "on": "x"}, id="words of the language are names here"),
        pytest.param('{"a metric", "a label"="x"}', {"__name__": "a metric", "a label": "x"}, id="quoted names, as in Prometheus 3"),
        pytest.param('{__name__="m"}', {"__name__": "m"}, id="the name as a label"),
        pytest.param("", {}, id="nothing"),
    ],
)
def test_metrics_are_read(text: str, expected: dict[str, str]):
    assert dict(read_metric(text)) == expected


@pytest.mark.parametrize(
    "text", ["1m", "inf", 'm{a!="b"}', "m{a=b}", "m[5m]", 'm{a="b",a="c"}', 'm{a="b"', 'm{a=~"b"}', 'm{a="b"} x', r'm{a="\z"}', 'm{"a"}x']
)
def test_what_is_no_metric_is_refused(text: str):
    with pytest.raises(NotationError):
        read_metric(text)
