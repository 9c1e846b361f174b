"""The rule index loses no match: the engine finds what trying every rule finds."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.signals import LogRecord
from pipeline.sigma import SigmaEngine
from pipeline.sigma.rules import compile_rules

FIELDS = ["a", "b", "c-ip", "source.ip", "EventID", "winlog.event_data.a"]
WORDS = ["abc", "ABCD", "xabcdx", "xyz", "5", "05", "5.0", "", "true", "10.0.0.1", "ſtraße", "ΑΣ", "İx", "Kelvin K"]
TEXTS = st.sampled_from(WORDS) | st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([5.0, 5.5, 2**53 + 1]) | TEXTS
PATTERNS = st.builds(
    lambda words, joint: joint.join(words),
    st.lists(st.sampled_from([word.replace("\\", "") for word in WORDS]), min_size=1, max_size=3),
    st.sampled_from(["*", "?", " "]),
)
MODIFIERS = st.sampled_from(["", "|contains", "|startswith", "|endswith", "|contains|all", "|cased", "|contains|cased", "|windash|contains"])
PLAIN = st.builds(
    lambda field, modifier, values: (field + modifier, values), st.sampled_from(FIELDS), MODIFIERS, st.lists(PATTERNS, min_size=1, max_size=3)
)
OTHERS = st.builds(
    lambda field, item: (field + item[0], item[1]),
    st.sampled_from(FIELDS),
    st.sampled_from(
        [
            ("", None),
            ("", 5),
            ("", True),
            ("", ""),
            ("|exists", False),
            ("|exists", True),
            ("|gte", 5),
            ("|re", "ab+c"),
            ("|cidr", "10.0.0.0/8"),
            ("|fieldref", "b"),
            ("", [5, "abc"]),
        ]
    ),
)
SELECTIONS = st.lists(PLAIN | OTHERS, min_size=1, max_size=3).map(dict) | st.lists(st.sampled_from(WORDS[:4]), min_size=1, max_size=2)
CONDITIONS = st.sampled_from(["s1", "s1 and s2", "s1 or s2", "s1 and not s2", "not s1", "not (s1 or s2)", "1 of s*", "all of s*"])
RECORDS = st.builds(LogRecord, st.just(0), TEXTS, st.dictionaries(st.sampled_from(FIELDS), SCALARS | st.lists(SCALARS, max_size=2), max_size=4))


def text(number: int, first: Any, second: Any, condition: str) -> str:
    rule = {
        "title": f"r{number}",
        "name": f"r{number}",
        "level": "low",
        "logsource": {"category": "x"},
        "detection": {"s1": first, "s2": second, "condition": condition},
    }
    return json.dumps(rule, ensure_ascii=False)


@given(st.lists(st.tuples(SELECTIONS, SELECTIONS, CONDITIONS), min_size=1, max_size=5), st.lists(RECORDS, min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_the_index_finds_what_trying_every_rule_finds(rules: list[tuple[Any, Any, str]], records: list[LogRecord]) -> None:
    sources = [(text(number, *rule), str(number)) for number, rule in enumerate(rules)]
    engine, compiled = SigmaEngine(sources), compile_rules(sources)
    for record in records:
        tried = [rule.info.rule_id for rule in compiled.detections if any(test(record) for test in rule.tests)]
        assert [match.rule_id for match in engine.feed(record, 0)] == tried
