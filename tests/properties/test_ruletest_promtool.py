"""Generated rules and series mean the same here and in Prometheus' own promtool.

A test file is written with what our runner saw as its expectation; promtool must agree with every alert, annotation and float of it. Sums are made of binary fractions only and there are no averages: Prometheus 3,
whose arithmetic is ours, compensates the rounding of both, promtool 2.42 does not. The counters of rates start high and never fall, because 2.42
extrapolated those that start near zero differently. Runs only where
promtool (2.x: v2 windows) is on the PATH; the summary says when it is not.
"""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.rulebook.load import load_rulebook
from pipeline.rulebook.problems import SourceText
from pipeline.ruletest import Runner, read_suite

PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on the PATH: generated rules were NOT compared with Prometheus")

RULES = "rules.yml"
WINDOWS = st.sampled_from(["45s", "1m", "2m", "3m30s", "5m"])
COUNTERS = st.sampled_from(['c{i="1"}', "c", 'c{j!="a"}', 'c{j=~"a|b"}'])
GAUGES = st.sampled_from(["g", 'g{i="2"}', "g offset 1m", "g @ 120", "recorded"])


def _ranged() -> st.SearchStrategy[str]:
    rates = st.one_of(
        st.tuples(st.sampled_from(["irate", "idelta", "resets", "changes"]), COUNTERS, WINDOWS),
        st.tuples(st.sampled_from(["rate", "increase"]), st.sampled_from(["m", 'm{i="1"}']), WINDOWS),
    )
    overs = st.tuples(
        st.sampled_from(
            [
                "sum_over_time",
                "min_over_time",
                "max_over_time",
                "count_over_time",
                "last_over_time",
                "stddev_over_time",
                "present_over_time",
                "deriv",
                "delta",
            ]
        ),
        st.sampled_from(["g", 'g{i="1"}', "c"]),
        WINDOWS,
    )
    plain = st.one_of(rates, overs).map(lambda parts: f"{parts[0]}({parts[1]}[{parts[2]}])")
    subqueries = st.tuples(
        st.sampled_from(["max_over_time", "sum_over_time", "count_over_time"]), plain, st.sampled_from(["2m:1m", "3m:30s", "5m:", "4m:45s"])
    )
    return st.one_of(plain, subqueries.map(lambda parts: f"{parts[0]}({parts[1]}[{parts[2]}])"))


EXACT = st.one_of(
    GAUGES, COUNTERS, st.tuples(st.sampled_from(["sum", "max", "count"]), COUNTERS, WINDOWS).map(lambda t: f"{t[0]}_over_time({t[1]}[{t[2]}])")
)
SUMS = st.tuples(st.sampled_from(["", " by (i)", " without (j)"]), EXACT).map(lambda parts: f"sum{parts[0]} ({parts[1]})")
VECTORS = st.recursive(
    st.one_of(GAUGES, COUNTERS, SUMS, _ranged()),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["max", "min", "count", "group"]), st.sampled_from(["", " by (i)", " without (j)"]), inner).map(
            lambda parts: f"{parts[0]}{parts[1]} ({parts[2]})"
        ),
        st.tuples(inner, st.sampled_from(["+", "*", "> 1 +", "-"]), st.sampled_from(["2", "0.1", "-1.5"])).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, st.sampled_from(["and on (i)", "unless on (j)", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, st.sampled_from(["/ on (i, j)", "- on (i, j) group_left ()"]), GAUGES).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(st.sampled_from(["abs", "ceil", "sgn", "sqrt", "absent", "timestamp"]), inner).map(lambda parts: f"{parts[0]}({parts[1]})"),
    ),
    max_leaves=4,
)
NUMBERS = st.one_of(st.integers(-9, 99).map(str), st.sampled_from(["0.125", "1e3", "2.5", "-0.75", "1e6"]))
ITEMS = st.one_of(
    NUMBERS,
    st.sampled_from(["_", "_x3", "stale", "1x2", "0x5", "Inf", "-Inf"]),
    st.tuples(st.integers(0, 50), st.sampled_from(["+2.5", "+0.125", "-3", "+7"]), st.integers(1, 8)).map(lambda t: f"{t[0]}{t[1]}x{t[2]}"),
)
SERIES = st.lists(ITEMS, min_size=4, max_size=12).map(" ".join)
MONOTONE = st.lists(st.sampled_from(["+2x3", "+0.5x5", "+7x2", "_", "_x2", "+0x2"]), min_size=2, max_size=6)
NAMES = [f'{name}{{i="{i}",j="{j}"}}' for name in "cg" for i in "12" for j in "ab"]


def _rising(parts: list[str]) -> str:
    """Runs that each go on above the one before."""
    return " ".join(part if part.startswith("_") else f"{1_000_000 + 1000 * number}{part}" for number, part in enumerate(parts))


@st.composite
def suites(draw: st.DrawFn) -> dict[str, Any]:
    alerts = [
        {
            "alert": name,
            "expr": draw(st.tuples(VECTORS, st.sampled_from([">", "<=", "!="]), st.sampled_from(["0", "1", "2.5"])).map(" ".join)),
            "for": draw(st.sampled_from(["0s", "30s", "1m", "2m"])),
            "keep_firing_for": draw(st.sampled_from(["0s", "1m", "90s"])),
            "labels": {"level": draw(st.sampled_from(["page", "{{ if gt $value 2.0 }}high{{ else }}low{{ end }}", "i{{ $labels.i }}"]))},
            "annotations": {
                "v": draw(
                    st.sampled_from(["{{ $value }}", "{{ $value | humanize }}", "{{ humanizeDuration $value }}", '{{ printf "%.3f" $value }}'])
                ),
                "q": '{{ range query "recorded" | sortByLabel "i" }}{{ .Labels.i }}={{ .Value }};{{ end }}',
            },
        }
        for name in ("A", "B")
    ]
    rules = [{"record": "recorded", "expr": f"max by (i) ({draw(VECTORS)})", "labels": {"from": "rule"}}, *alerts]
    times = st.sampled_from(["0s", "1m", "90s", "3m", "5m", "7m15s", "10m"])
    return {
        "rules": {"groups": [{"name": "g", "rules": rules}, {"name": "h", "rules": [{"record": "late", "expr": "ALERTS"}]}]},
        "interval": draw(st.sampled_from(["30s", "1m", "20s"])),
        "evaluation_interval": draw(st.sampled_from(["30s", "1m"])),
        "series": {name: draw(SERIES) for name in draw(st.lists(st.sampled_from(NAMES), min_size=4, unique=True))}
        | {f'm{{i="{i}",j="a"}}': _rising(draw(MONOTONE)) for i in "12"},
        "alerts": draw(st.lists(st.tuples(st.sampled_from("AB"), times), min_size=3, max_size=8)),
        "exprs": draw(
            st.lists(
                st.tuples(st.one_of(VECTORS, st.sampled_from(["ALERTS", "ALERTS_FOR_STATE", "late", "recorded"])), times), min_size=6, max_size=14
            )
        ),
    }


def _document(made: dict[str, Any], alerts: list[Any], exprs: list[Any]) -> str:
    """A test file (JSON is YAML)."""
    case = {
        "interval": made["interval"],
        "input_series": [{"series": name, "values": values} for name, values in made["series"].items()],
        "alert_rule_test": [{"alertname": name, "eval_time": at, "exp_alerts": expected} for (name, at), expected in alerts],
        "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": expected} for (expr, at), expected in exprs],
    }
    text = json.dumps(
        {"rule_files": [RULES], "group_eval_order": ["g", "h"], "evaluation_interval": made["evaluation_interval"], "tests": [case]}, indent=1
    )
    return re.sub(r'"value": "([^"]*)"', r'"value": \1', text)


def _value(value: float) -> str:
    return ".inf" if value == math.inf else "-.inf" if value == -math.inf else repr(value)


def _sample(labels: Any, value: float) -> dict[str, str]:
    return {"labels": "{" + ",".join(f"{name}={json.dumps(text)}" for name, text in labels) + "}", "value": _value(value)}


def _alert(labels: Any, annotations: Any) -> dict[str, Any]:
    return {"exp_labels": {name: text for name, text in labels if name != "alertname"}, "exp_annotations": dict(annotations)}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=suites())
def test_promtool_agrees_with_everything_that_our_runner_saw(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory):
    rules = json.dumps(made["rules"])
    loaded = load_rulebook({RULES: rules}, known_metrics=["*"])
    assert loaded.book is not None, loaded.problems
    suite, problems = read_suite(
        SourceText("x_test.yml", _document(made, [(one, []) for one in made["alerts"]], [(one, []) for one in made["exprs"]]))
    )
    assert suite is not None, problems
    seen = Runner(suite, loaded.book, compat="v2").observe(suite.cases[0])
    folder: Path = tmp_path_factory.mktemp("promtool")
    (folder / RULES).write_text(rules)
    if seen.errors:
        (folder / "x_test.yml").write_text(
            _document(made, [], []).replace(
                '"promql_expr_test": []', '"promql_expr_test": [{"expr": "1", "eval_time": "10m", "exp_samples": [{"value": 1}]}]'
            )
        )
        assert _promtool(folder).returncode == 1, f"promtool sees nothing wrong, we do: {seen.errors}"
        return
    alerts = [(one, [_alert(*alert) for alert in seen.alerts[number]]) for number, one in enumerate(made["alerts"])]
    exprs = [
        (one, [_sample(sample.labels, sample.value) for sample in got])
        for number, one in enumerate(made["exprs"])
        if not isinstance(got := seen.samples[number], str) and not any(math.isnan(sample.value) for sample in got)  # NaN cannot be expected
    ]
    (folder / "x_test.yml").write_text(_document(made, alerts, exprs))
    verdict = _promtool(folder)
    assert verdict.returncode == 0, f"{folder}\n{verdict.stdout}{verdict.stderr}"


def _promtool(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROMTOOL or "", "test", "rules", "x_test.yml"], cwd=folder, capture_output=True, text=True, timeout=60)
