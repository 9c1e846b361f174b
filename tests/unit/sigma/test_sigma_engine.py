"""Sigma rules on records: values, modifiers, conditions, and what cannot be compiled."""

from typing import Any

import pytest

from pipeline.model.labels import Labels
from pipeline.model.signals import LogRecord
from pipeline.sigma import SigmaEngine, SigmaError

HEAD = """
title: A rule
id: 12345678-1234-5678-1234-567812345678
status: test
level: high
author: Somebody
logsource: {category: test}
"""


def rule(detection: str, head: str = HEAD) -> str:
    return f"{head}detection:\n" + "\n".join(f"  {line}" for line in detection.strip().splitlines())


def fires(detection: str, fields: dict[str, Any], message: str = "") -> bool:
    return bool(SigmaEngine([(rule(detection), "r.yml")]).feed(LogRecord(0, message, fields), 0))


def selects(selection: str, fields: dict[str, Any]) -> bool:
    return fires(f"sel: {{{selection}}}\ncondition: sel", fields)


@pytest.mark.parametrize(
    ("selection", "fields", "expected"),
    [
        pytest.param("a: x", {"a": "X"}, True, id="case does not matter"),
        pytest.param("a|cased: x", {"a": "X"}, False, id="cased: it does"),
        pytest.param("a|cased: X", {"a": "X"}, True, id="cased: equal"),
        pytest.param("a: x", {"b": "x"}, False, id="a missing field"),
        pytest.param("a: [x, y]", {"a": "y"}, True, id="one of a list"),
        pytest.param("a: 'x*z'", {"a": "xyz"}, True, id="star"),
        pytest.param("a: 'x*z'", {"a": "xyza"}, False, id="star is anchored"),
        pytest.param("a: 'x?z'", {"a": "xyz"}, True, id="question mark"),
        pytest.param("a: 'x?z'", {"a": "xz"}, False, id="question mark needs one"),
        pytest.param("a: 'a*b*c'", {"a": "a--b--c"}, True, id="literals in order"),
        pytest.param("a: 'a*b*c'", {"a": "ac"}, False, id="a literal is missing"),
        pytest.param("a: 'ab*ba'", {"a": "aba"}, False, id="head and tail do not overlap"),
        pytest.param("a: '*'", {"a": "anything"}, True, id="only a star"),
        pytest.param(r"a: 'x\*'", {"a": "x*"}, True, id="an escaped star"),
        pytest.param(r"a: 'x\*'", {"a": "xy"}, False, id="an escaped star is literal"),
        pytest.param("a|contains: ell", {"a": "HELLO"}, True, id="contains"),
        pytest.param("a|contains|all: [he, lo]", {"a": "hello"}, True, id="contains all"),
        pytest.param("a|contains|all: [he, x]", {"a": "hello"}, False, id="contains all, one missing"),
        pytest.param("a|startswith: he", {"a": "hello"}, True, id="startswith"),
        pytest.param("a|endswith: lo", {"a": "hello"}, True, id="endswith"),
        pytest.param("a|re: 'l{2}o$'", {"a": "hello"}, True, id="re searches"),
        pytest.param("a|re: 'HELLO'", {"a": "hello"}, False, id="re with case"),
        pytest.param("a|re|i: 'HELLO'", {"a": "hello"}, True, id="re without case"),
        pytest.param("a|cidr: 10.0.0.0/8", {"a": "10.1.2.3"}, True, id="cidr"),
        pytest.param("a|cidr: 10.0.0.0/8", {"a": "11.1.2.3"}, False, id="outside"),
        pytest.param("a|cidr: 10.0.0.0/8", {"a": "::1"}, False, id="another version"),
        pytest.param("a|cidr: 10.0.0.0/8", {"a": "nonsense"}, False, id="no address"),
        pytest.param("a|cidr: '2001:db8::/32'", {"a": "2001:db8::1"}, True, id="cidr v6"),
        pytest.param("a|gte: 5", {"a": 5}, True, id="gte"),
        pytest.param("a|gt: 5", {"a": "5.5"}, True, id="gt on text"),
        pytest.param("a|lt: 5", {"a": 5}, False, id="lt"),
        pytest.param("a|lte: 5", {"a": "x"}, False, id="no number"),
        pytest.param("a: 5", {"a": "5"}, True, id="a number equals its text"),
        pytest.param("a: '5'", {"a": 5}, True, id="and the other way round"),
        pytest.param("a: 1", {"a": True}, False, id="a number is no bool"),
        pytest.param("a: true", {"a": "True"}, True, id="bool"),
        pytest.param("a: null", {"b": 1}, True, id="null is absent"),
        pytest.param("a: null", {"a": ""}, False, id="empty is not null"),
        pytest.param("a: ''", {"a": ""}, True, id="empty text"),
        pytest.param("a: ''", {"b": 1}, False, id="absent is not empty"),
        pytest.param("a|exists: true", {"a": 0}, True, id="exists"),
        pytest.param("a|exists: false", {"a": 0}, False, id="exists not"),
        pytest.param("a|windash|contains: ' -f'", {"a": "cmd /f"}, True, id="windash"),
        pytest.param("a|base64offset|contains: secret", {"a": "eHNlY3JldHg="}, True, id="base64offset"),
        pytest.param("a|base64: secret", {"a": "c2VjcmV0"}, True, id="base64"),
        pytest.param("a|fieldref: b", {"a": "X", "b": "x"}, True, id="fieldref"),
        pytest.param("a|fieldref: b", {"a": "x"}, False, id="fieldref to nothing"),
        pytest.param("a|fieldref|endswith: b", {"a": "xyz", "b": "yz"}, True, id="fieldref endswith"),
        pytest.param("a: x", {"a": ["y", "x"]}, True, id="an element of a list in the record"),
        pytest.param("a: x", {"a": [None, ["x"]]}, False, id="nested lists are not searched"),
        pytest.param("a|hour: 13", {"a": "2026-01-01T13:59:00Z"}, True, id="hour"),
        pytest.param("a|hour: 13", {"a": "x"}, False, id="hour of no time"),
        pytest.param("a|neq: x", {"a": "y"}, True, id="neq"),
        pytest.param("a: x, b: y", {"a": "x"}, False, id="all fields of a selection"),
        pytest.param("c-ip: 127.0.0.2", {"source.ip": "127.0.0.2"}, True, id="by its ECS name"),
        pytest.param("Image|endswith: .exe", {"winlog.event_data.Image": "a.exe"}, True, id="Windows event data"),
        pytest.param("CommandLine: x", {"CommandLine": "x", "process.command_line": "y"}, True, id="the plain name first"),
    ],
)
def test_a_selection_matches(selection: str, fields: dict[str, Any], expected: bool) -> None:
    assert selects(selection, fields) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("s1 and s2", False),
        ("s1 or s2", True),
        ("s1 and not s2", True),
        ("not (s1 or s2)", False),
        ("1 of s*", True),
        ("all of s*", False),
        ("all of them", False),
        ("1 of them", True),
        ("s1 and not 1 of f*", True),
        ("s1 or s2 and f1", True),
    ],
)
def test_conditions_combine(condition: str, expected: bool) -> None:
    detection = f"s1: {{a: x}}\ns2: {{b: y}}\nf1: {{c: z}}\ncondition: {condition}"
    assert fires(detection, {"a": "x"}) is expected


@pytest.mark.parametrize(
    ("keywords", "fields", "message", "expected"),
    [
        pytest.param("[evil, bad]", {}, "something EVIL here", True, id="in the message"),
        pytest.param("[evil]", {"note": "evil"}, "", True, id="in a field"),
        pytest.param("[evil]", {}, "fine", False, id="nowhere"),
        pytest.param("{'|all': [evil, bad]}", {}, "evil and bad", True, id="all of them"),
        pytest.param("{'|all': [evil, bad]}", {}, "evil", False, id="not all"),
        pytest.param("{'|re': 'ev.l$'}", {}, "so evil", True, id="as regular expression"),
        pytest.param("[42]", {"n": 42}, "", True, id="a number"),
    ],
)
def test_keywords_are_searched_everywhere(keywords: str, fields: dict[str, Any], message: str, expected: bool) -> None:
    assert fires(f"keywords: {keywords}\ncondition: keywords", fields, message) is expected


def test_a_list_of_mappings_is_one_of_them() -> None:
    detection = "sel:\n  - {a: x, b: y}\n  - {a: z}\ncondition: sel"
    assert [fires(detection, fields) for fields in ({"a": "x", "b": "y"}, {"a": "x"}, {"a": "z"})] == [True, False, True]


def test_several_conditions_are_one_match() -> None:
    engine = SigmaEngine([(rule("s1: {a: x}\ns2: {b: y}\ncondition: [s1, s2]"), "r.yml")])
    assert len(engine.feed(LogRecord(0, "", {"a": "x", "b": "y"}), 0)) == 1


def test_a_match_names_rule_author_labels_and_evidence() -> None:
    head = HEAD + "fields: [source.ip]\n"
    engine = SigmaEngine([(rule("sel: {a: x}\ncondition: sel", head), "rules/r.yml:3")])
    record = LogRecord(7, "m" * 500, {"a": "x", "source.ip": "127.0.0.2", "long": "y" * 500}, Labels.of(service="checkout"))
    [match] = engine.feed(record, 10)
    assert (match.rule_id, match.title, match.level, match.author) == ("12345678-1234-5678-1234-567812345678", "A rule", "high", "Somebody")
    assert match.labels == Labels.of(service="checkout", source_ip="127.0.0.2")
    assert (match.at_ms, match.where, match.count) == (7, "rules/r.yml:3", 1)
    assert [len(text) for text in match.evidence] == [240]
    assert len(match.fields["long"]) == 240


def test_a_rule_without_id_has_a_stable_one() -> None:
    text = rule("sel: {a: x}\ncondition: sel", HEAD.replace("id: 12345678-1234-5678-1234-567812345678\n", ""))
    first, second = (SigmaEngine([(text, "r.yml")]).rules[0].rule_id for _ in range(2))
    assert first == second != ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"a": "x"}, True, id="says nothing"),
        pytest.param({"a": "x", "logsource.category": "test"}, True, id="the same category"),
        pytest.param({"a": "x", "logsource.category": "other"}, False, id="another category"),
        pytest.param({"a": "x", "logsource.product": "linux"}, True, id="a part that the rule leaves open"),
    ],
)
def test_a_rule_is_tried_on_records_of_its_source(fields: dict[str, Any], expected: bool) -> None:
    assert fires("sel: {a: x}\ncondition: sel", fields) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("a: [", "not YAML", id="not YAML"),
        pytest.param("- 1", "mapping", id="not a mapping"),
        pytest.param("title: x", "log source", id="no log source"),
        pytest.param(rule("sel: {a: x}\ncondition: nothing"), "nothing", id="an unknown selection"),
        pytest.param(rule("sel: {a: x}\ncondition: 1 of q*"), "q*", id="a pattern that fits nothing"),
        pytest.param(rule("sel: {a: x}\ncondition: sel and"), "", id="a broken condition"),
        pytest.param(rule("sel: {a: x}\ncondition: sel | count() > 5"), "correlation", id="the old pipe syntax"),
        pytest.param(rule("sel: {a|bogus: x}\ncondition: sel"), "bogus", id="an unknown modifier"),
        pytest.param(rule("sel: {a|re: '('}\ncondition: sel"), "", id="a broken regular expression"),
        pytest.param(rule("sel: {a|re: '(?=x)'}\ncondition: sel"), "", id="look-around"),
        pytest.param(rule("sel: {a|cidr: x}\ncondition: sel"), "CIDR", id="no network"),
        pytest.param(rule("sel: {a|expand: '%admins%'}\ncondition: sel"), "placeholders", id="a placeholder"),
        pytest.param(rule("sel: {a: x}\ncondition: sel", HEAD.replace("level: high", "level: dreadful")), "dreadful", id="an unknown level"),
        pytest.param(rule("sel: {a: {b: c}}\ncondition: sel"), "", id="a nested mapping"),
        pytest.param(rule("sel: 5\ncondition: 7"), "", id="a condition that is a number"),
        pytest.param("title: x\nlogsource: {category: x}\ndetection: 5", "", id="a detection that is a number"),
    ],
)
def test_what_cannot_be_compiled_names_its_place(text: str, words: str) -> None:
    with pytest.raises(SigmaError) as caught:
        SigmaEngine([(text, "rules/x.yml:1")])
    assert caught.value.where == "rules/x.yml:1"
    assert words in caught.value.message
    assert str(caught.value).startswith("rules/x.yml:1: ")


def test_an_id_used_twice_names_both_places() -> None:
    text = rule("sel: {a: x}\ncondition: sel")
    with pytest.raises(SigmaError, match=r"b\.yml.*twice.*a\.yml"):
        SigmaEngine([(text, "a.yml"), (text, "b.yml")])
