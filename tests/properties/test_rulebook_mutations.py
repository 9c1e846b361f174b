"""Whatever happens to a valid file, loading it ends in a book or in problems with a place, never in an exception."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.rulebook.config import load_config
from pipeline.rulebook.load import load_rulebook
from pipeline.rulebook.problems import Problem
from tests.unit.rulebook.samples import CONFIG, POLICIES, RULES, SECRETS, SIGMA

SNIPPETS = [
    "",
    " ",
    "\n",
    "\t",
    ":",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "&a",
    "*a",
    "<<: ",
    "|\n",
    ">\n",
    "{{",
    "}}",
    "${",
    "${env:X}",
    "#",
    "!!int ",
    "~",
]
SNIPPETS += [
    "null",
    "-1",
    "0x",
    "1e999",
    ".nan",
    "true",
    "[]",
    "{}",
    "\x00",
    "\u2028",
    "\ud83d\ude00",
    "é",
    "---\n",
    "...\n",
    "%",
    "@",
    "`",
    "?",
    "=",
    "5 m",
    "99999999999999999999",
]
MUTATION = st.tuples(st.floats(0, 1), st.integers(0, 12), st.one_of(st.sampled_from(SNIPPETS), st.text(max_size=4)))


def mutate(text: str, mutations: list[tuple[float, int, str]]) -> str:
    for place, length, put in mutations:
        at = round(place * len(text))
        text = text[:at] + put + text[at + length :]
    return text


def swap(text: str, one: int, other: int) -> str:
    lines = text.split("\n")
    one, other = one % len(lines), other % len(lines)
    lines[one], lines[other] = lines[other], lines[one]
    return "\n".join(lines)


def placed(problems: tuple[Problem, ...], text: str) -> None:
    lines = max(text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + text.count("\u2029"), 0) + 1
    for problem in problems:
        assert 1 <= problem.line <= lines + 1
        assert problem.column >= 1
        assert problem.message
        assert "\n" not in str(problem)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([RULES, POLICIES, SIGMA, RULES + POLICIES]), st.lists(MUTATION, min_size=1, max_size=3))
def test_a_mutated_rule_file_loads_or_says_where_it_is_wrong(text: str, mutations: list[tuple[float, int, str]]):
    changed = mutate(text, mutations)
    result = load_rulebook({"f.yaml": changed, "other.yaml": RULES if text is not RULES else ""})
    placed(tuple(problem for problem in result.problems if problem.file == "f.yaml"), changed)
    assert (result.book is None) == bool(result.errors)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([RULES, POLICIES, SIGMA]), st.integers(0), st.integers(0))
def test_a_rule_file_with_two_lines_swapped_loads_or_says_where_it_is_wrong(text: str, one: int, other: int):
    changed = swap(text, one, other)
    result = load_rulebook({"f.yaml": changed})
    placed(result.problems, changed)
    assert (result.book is None) == bool(result.errors)


@settings(max_examples=200, deadline=None)
@given(st.lists(MUTATION, min_size=1, max_size=3))
def test_a_mutated_configuration_loads_or_says_where_it_is_wrong(mutations: list[tuple[float, int, str]]):
    changed = mutate(CONFIG, mutations)
    result = load_config(changed, file="f.yaml", secrets=lambda _kind, name: SECRETS.get(name))
    placed(result.problems, changed)
    assert (result.config is None) == bool(result.errors)
    for secret in SECRETS.values():
        assert len(secret) < 6 or secret not in "".join(map(repr, result.problems))
