"""Whatever a Sigma file holds, compiling it ends in rules or in SigmaError, and rules that compile run on any record."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.signals import LogRecord
from pipeline.sigma import SigmaEngine, SigmaError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["sel", "1 of s*", "a|re", "10s", "(", "*", "%x%"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)
FIELD = st.builds(
    lambda name, modifiers: "|".join([name, *modifiers]),
    st.sampled_from(["a", "", "EventID"]),
    st.lists(
        st.sampled_from(
            ["re", "cidr", "contains", "all", "base64offset", "expand", "gt", "exists", "fieldref", "hour", "utf16", "windash", "i", "cased", "neq"]
        ),
        max_size=3,
    ),
)
DETECTION = st.dictionaries(st.sampled_from(["sel", "s2", "condition", "timeframe"]), VALUES | st.dictionaries(FIELD, VALUES, max_size=2), max_size=3)
CORRELATION = st.dictionaries(
    st.sampled_from(["type", "rules", "group-by", "timespan", "condition", "aliases", "generate"]),
    VALUES | st.sampled_from(["event_count", "value_count", "temporal", ["r"], "10s", {"gte": 2}, {"gte": 1, "field": "a"}]),
    max_size=6,
)
LOGSOURCE = st.just({"category": "x"}) | VALUES
RULE = st.fixed_dictionaries(
    {"title": st.just("t")},
    optional={
        "logsource": LOGSOURCE,
        "detection": DETECTION,
        "correlation": CORRELATION,
        "level": VALUES,
        "name": st.just("r"),
        "id": VALUES,
        "fields": VALUES,
        "date": VALUES,
        "tags": VALUES,
    },
)
RECORD = LogRecord(0, "message \ud800", {"a": "x\ud800", "EventID": 5, "b": ["x", None, {"y": 1}]})


def compiled(documents: list[dict[str, Any]]) -> None:
    try:
        engine = SigmaEngine([("\n---\n".join(json.dumps(document) for document in documents), "x.yml")])
    except SigmaError as error:
        place = error.where
    else:
        place = "x.yml"
        engine.feed(RECORD, 0)
    assert place == "x.yml"


@given(st.lists(RULE, min_size=1, max_size=2))
@settings(max_examples=120, deadline=None)
def test_nearly_rules_compile_or_are_refused(documents: list[dict[str, Any]]) -> None:
    compiled(documents)


@given(DETECTION)
@settings(max_examples=120, deadline=None)
def test_nearly_detections_compile_or_are_refused(detection: dict[str, Any]) -> None:
    compiled([{"title": "t", "logsource": {"category": "x"}, "detection": {"condition": "sel"} | detection}])


@given(st.text(max_size=60))
@settings(max_examples=80, deadline=None)
def test_any_text_is_refused_or_holds_no_rule(text: str) -> None:
    try:
        engine = SigmaEngine([(text, "x.yml")])
    except SigmaError:
        return
    assert engine.rules == ()
