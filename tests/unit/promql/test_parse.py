"""Parsing: what is understood, what is refused, and that no text whatsoever can take the process down."""

import threading

import pytest

from pipeline.promql import ExprError, Kind, parse
from pipeline.promql.lexer import MAX_LENGTH, MAX_NESTING
from pipeline.promql.tree import At, Range, Subquery


def error_of(text: str) -> ExprError:
    with pytest.raises(ExprError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "canonical", "kind"),
    [
        ("sum(rate(m[5m]))by(a)", "sum by (a) (rate(m[5m]))", Kind.VECTOR),
        ('m{a="b",}', 'm{a="b"}', Kind.VECTOR),
        ("1 + 2", "1 + 2", Kind.SCALAR),
        ("m[300]", "m[5m]", Kind.MATRIX),
        ("'x'", '"x"', Kind.STRING),
        ("m # a comment with ( in it\n > 1", "m > 1", Kind.VECTOR),
        ("time() > bool 5", "time() > bool 5", Kind.SCALAR),
    ],
)
def test_valid_expressions_have_a_canonical_text_and_a_static_type(text, canonical, kind):
    expression = parse(text)
    assert expression.text == canonical
    assert expression.kind is kind


def test_durations_are_milliseconds():
    root = parse("max_over_time(m[1h:90s] offset -1m1s)").root.args[0]
    assert isinstance(root, Subquery)
    assert (root.range_ms, root.step_ms, root.offset_ms) == (3_600_000, 90_000, -61_000)
    window = parse("m[5m5ms]").root
    assert isinstance(window, Range)
    assert window.range_ms == 300_005


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("m @ 10", At("time", 10_000)),
        ("m @ 1.5", At("time", 1500)),
        ("m @ -10", At("time", -10_000)),  # the parser library panics when asked for this one
        ("m offset 5m @ 0x10", At("time", 16_000)),
        ("m @ end()", At("end")),
        ("m{a='@ 3'} @ start()", At("start")),
    ],
)
def test_instants_of_the_at_modifier(text, at):
    assert parse(text).root.at == at


def test_a_negative_instant_survives_in_the_text():
    assert parse(parse("m @ -10").text).root.at == At("time", -10_000)


def test_instants_stay_with_their_selectors():
    both = parse("sum_over_time(a[1m] @ 1) + sum_over_time(b[1m:10s] @ -2) + c @ 3").root
    assert both.right.at == At("time", 3000)
    assert both.left.right.args[0].at == At("time", -2000)
    assert both.left.left.args[0].instant.at == At("time", 1000)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("foo bar", 1, 5, "'bar' is not expected"),
        ("sum by (a) (b c)", 1, 15, "'c' is not expected"),
        ("\n\nrate(\n  foo bar\n)", 4, 7, "'bar' is not expected"),
        ("rate(foo[5m]) >", 1, 16, "not finished"),
        ("a + * b", 1, 5, "not expected"),
        ("rate(foo[5m]", 1, 5, "never closed"),
        ("rate(foo]", 1, 9, "unexpected ']'"),
        ("rate(foo)", 1, 1, "expected type matrix"),
        ("1 + nosuch(foo)", 1, 5, "unknown function with name 'nosuch'"),
        ("sum(rte(foo[5m]))", 1, 5, "did you mean rate?"),
        ("m > limit_ratio(0.5, foo)", 1, 5, "experimental and not offered"),
        ('m{a=~"("}', 1, 7, "regex"),
        ('m{a="b', 1, 5, "unfinished string"),
        ("m[5x]", 1, 3, "duration"),
        ("é", 1, 1, "unexpected character"),
        ("m @ NaN", 1, 5, "out of bounds"),
    ],
)
def test_errors_name_the_place(text, line, column, message):
    error = error_of(text)
    assert (error.line, error.column) == (line, column)
    assert message in error.message
    assert f"{line}:{column}" in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("  # only a comment", "empty"),
        ("1 == 2", "bool"),
        ("{}", "at least one non-empty matcher"),
        ('m{a="1" or b="2"}', "not PromQL"),
        ('label_replace(m, "\\xff", "", "", "")', "UTF-8"),
    ],
)
def test_what_is_not_promql_is_refused(text, message):
    assert message.lower() in str(error_of(text)).lower()


HOSTILE = {
    "parentheses": "(" * 20_000 + "1" + ")" * 20_000,
    "calls": "abs(" * 20_000 + "m" + ")" * 20_000,
    "minus signs": "-" * 30_000 + "m",
    "a chain of sums": "+".join(["m"] * 20_000),
    "a chain of powers": "^".join(["2"] * 20_000),
    "open brackets": "[" * 60_000,
    "open braces": "{" * 60_000,
    "half a string": '"' * 60_001,
    "nothing but length": "m" * (MAX_LENGTH + 1),
    "escapes": '"' + "\\" * 50_001,
    "zeros": "\0" * 1000,
    "surrogate": "m{a='\ud800'}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_an_error_and_nothing_worse(text):
    error_of(text)


def outcome_on_a_small_stack(text: str) -> str:
    """The evaluator may run in a thread whose stack is smaller than the main one."""
    outcome = []

    def attempt() -> None:
        try:
            outcome.append(parse(text).text)
        except ExprError as error:
            outcome.append(str(error))

    previous = threading.stack_size(1024 * 1024)
    try:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(previous)
    return outcome[0]


@pytest.mark.parametrize("text", ["-" * 115 + "m", " + ".join(["m"] * 115), "abs(" * 58 + "m" + ")" * 58], ids=["unary", "chain", "calls"])
def test_deep_but_allowed_expressions_work(text):
    assert outcome_on_a_small_stack(text) == text


@pytest.mark.parametrize("text", ["-" * 300 + "m", "+".join(["m"] * 301), "(" * 59 + "-" * 299 + "m" + ")" * 59], ids=["unary", "chain", "both"])
def test_deeper_ones_are_refused_before_the_native_parser_runs_out_of_stack(text):
    assert "nested deeper" in outcome_on_a_small_stack(text)


def test_nesting_has_a_clear_limit():
    assert f"deeper than {MAX_NESTING} levels" in str(error_of("(" * (MAX_NESTING + 1) + "1" + ")" * (MAX_NESTING + 1)))
