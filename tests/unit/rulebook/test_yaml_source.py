"""YAML with positions: what it accepts, where it says things are, and what it refuses."""

import time

import pytest

from pipeline.rulebook.problems import Position, Problem, SourceText
from pipeline.rulebook.yaml_source import MAX_CHARS, MAX_DEPTH, MAX_SCALAR, Mapping, Node, Scalar, read_documents
from pipeline.rulebook.yaml_values import descend, inside, integer, plain


def read(text: str) -> Node:
    documents, problems = read_documents(SourceText("f.yaml", text))
    assert problems == []
    return documents[0]


def refusal(text: str) -> Problem:
    documents, problems = read_documents(SourceText("f.yaml", text))
    assert problems, documents
    return problems[-1]


def test_every_value_and_key_knows_where_it_stands():
    root = read("a:\n  - b: 1\n    c: [x, y]\n")
    assert isinstance(root, Mapping)
    node, at, taken = descend(root, ["a", 0, "c", 1])
    assert isinstance(node, Scalar)
    assert (node.text, at, taken) == ("y", Position(3, 12), ["a", 0, "c", 1])
    assert descend(root, ["a", 0, "c"])[1] == Position(3, 5)


def test_a_path_through_names_that_are_not_in_the_file_is_followed_as_far_as_it_leads():
    root = read("a: {b: 1}\n")
    assert descend(root, ["a", "dict[str,str]", "b"])[1:] == (Position(1, 5), ["a", "b"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("010", 8, id="a leading zero is octal"),
        pytest.param("0o17", 15, id="octal"),
        pytest.param("0b101", 5, id="binary"),
        pytest.param("1_000", 1000, id="underscores"),
        pytest.param("-12", -12, id="negative"),
        pytest.param("089", 89, id="a leading zero before digits that are not octal"),
        pytest.param("1.5", 1.5, id="float"),
        pytest.param("1e3", 1000.0, id="exponent"),
        pytest.param(".inf", float("inf"), id="infinity"),
        pytest.param("True", True, id="boolean"),
        pytest.param("yes", "yes", id="yes is a text"),
        pytest.param("'5'", "5", id="a quoted number is a text"),
        pytest.param("!!str 5", "5", id="a tagged number is a text"),
        pytest.param("~", None, id="nothing"),
        pytest.param("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", id="a time is a text"),
        pytest.param("1" * 5000, "1" * 5000, id="too many digits for a number"),
    ],
)
def test_scalars_mean_what_prometheus_parser_makes_of_them(text: str, value: object):
    assert plain(read(f"a: {text}\n")) == {"a": value}


def test_integers_are_read_in_every_base():
    assert [integer(text) for text in ("0x", "0b2", "1.0", "_1", "0xg", "")] == [None] * 6


def test_merge_keys_fill_in_what_is_not_given():
    root = read("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 9}\n")
    assert plain(root)["c"] == {"x": 9, "y": 2, "z": 4}


def test_keys_are_texts():
    assert plain(read("1: a\ntrue: b\n")) == {"1": "a", "true": "b"}


def test_an_empty_text_has_no_document():
    assert read_documents(SourceText("f", "# nothing\n")) == ([], [])


def test_a_byte_order_mark_and_windows_line_ends_are_fine():
    source = SourceText("f", "\ufeffa: 1\r\nb:\r\n  - c\r\n")
    documents, problems = read_documents(source)
    assert problems == []
    assert descend(documents[0], ["b", 0])[1] == Position(3, 5)
    assert source.line(2) == "b:"


def test_a_text_of_a_megabyte_is_refused_briefly():
    problem = refusal(f"a: 1\nb: {'x' * 2**20}\n")
    assert (problem.line, problem.column) == (2, 4)
    assert f"a text of 1048576 characters, the limit is {MAX_SCALAR}" in problem.message
    assert len(problem.pretty()) < 500


def test_a_file_above_the_limit_is_refused_unread():
    assert "the limit is" in refusal("#" * (MAX_CHARS + 1)).message


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000], ids=["lists", "mappings", "blocks"])
def test_deep_nesting_is_refused_without_using_up_the_stack(text: str):
    assert f"nested deeper than {MAX_DEPTH} levels" in refusal(text).message


def test_nested_aliases_are_counted_not_unfolded():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    started = time.perf_counter()
    assert "once aliases are written out" in refusal("\n".join(lines)).message
    assert time.perf_counter() - started < 1


def test_every_duplicate_key_is_told():
    _, problems = read_documents(SourceText("f", "a: 1\nb: 2\na: 3\nb: {c: 1, c: 2}\n"))
    assert [(p.line, p.column, p.message) for p in problems] == [
        (3, 1, "duplicate key 'a', first given at 1:1"),
        (4, 11, "duplicate key 'c', first given at 4:5"),
        (4, 1, "duplicate key 'b', first given at 2:1"),
    ]


@pytest.mark.parametrize("text", ["a: \x01", "a: \ud800", "%FOO\n", "a: 'x", "- a\nb: 1", "a: *x", "? [a]\n: b", "a: !!binary x"])
def test_what_is_not_yaml_is_a_problem_with_a_place(text: str):
    problem = refusal(text)
    assert problem.line >= 1
    assert problem.column >= 1


SCALARS = [
    pytest.param("e: up == XX > 0\n", 1, 1, (1, 10), id="plain"),
    pytest.param("e: >-\n  up ==\n\n  XX > 0\n", 1, 1, (4, 3), id="folded"),
    pytest.param("e: |\n  up ==\n    XX > 0\n", 1, 1, (3, 5), id="block"),
    pytest.param("e: |2-\n    up ==\n    XX > 0\n", 1, 1, (3, 5), id="block with an indentation indicator"),
    pytest.param("e: 'up{a=''b''} == XX'\n", 1, 1, (1, 20), id="single quotes"),
    pytest.param('e: "up{a=\\"b\\"} ==\\n\\tXX"\n', 1, 1, (1, 23), id="double quotes"),
    pytest.param('e: "\\x75p ==\n  XX"\n', 1, 1, (2, 3), id="double quotes over two lines"),
    pytest.param("e: &anchor !!str up == XX\n", 1, 1, (1, 24), id="after an anchor and a tag"),
    pytest.param("e: up ==\n  XX\n", 1, 1, (2, 3), id="plain over two lines"),
]


@pytest.mark.parametrize(("text", "line", "column", "place"), SCALARS)
def test_a_place_inside_a_text_is_found_in_the_file(text: str, line: int, column: int, place: tuple[int, int]):
    source = SourceText("f", text)
    node, _, _ = descend(read_documents(source)[0][0], ["e"])
    assert isinstance(node, Scalar)
    offset = node.text.index("XX")
    line = node.text.count("\n", 0, offset) + 1
    column = offset - (node.text.rfind("\n", 0, offset) + 1) + 1
    assert inside(source, node, line, column) == place


def test_the_end_of_a_text_is_just_behind_its_last_character():
    source = SourceText("f", "e: |\n  a +\n")
    node, _, _ = descend(read_documents(source)[0][0], ["e"])
    assert isinstance(node, Scalar)
    assert inside(source, node, 1, 4) == Position(2, 6)


def test_a_problem_is_one_line_and_its_excerpt_points_at_the_place():
    source = SourceText("f.yaml", "a: 1\n" + "x" * 500 + "HERE\n")
    problem = source.problem(Position(2, 501), "bad\nthing", suggestion="did you mean 'y'?")
    assert str(problem) == "f.yaml:2:501: error: bad thing; did you mean 'y'?"
    line, caret = problem.excerpt.split("\n")
    assert line[caret.index("^") :] == "HERE"
    assert len(line) < 130
