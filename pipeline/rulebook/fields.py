"""Reading the fields of one mapping strictly: each `Fields` method takes one key in one type and notes a problem when it is wrong.

Follows Prometheus' YAML: a scalar where a text is wanted gives its own text (`a: 1` is "1"), an empty value counts as absent.
"""

from __future__ import annotations

from collections.abc import Sequence as PySequence

from pipeline.model.duration import parse_duration_ms
from pipeline.rulebook.problems import Problem, SourceText, did_you_mean, shorten
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, Sequence, kind_of
from pipeline.rulebook.yaml_values import integer


class Fields:
    """One mapping being read."""

    def __init__(self, source: SourceText, node: Mapping, problems: list[Problem], what: str) -> None:
        self.source, self.node, self.problems, self.what = source, node, problems, what

    def only(self, allowed: PySequence[str]) -> None:
        """Every other key is an error."""
        for name, (key, _) in self.node.entries.items():
            if name not in allowed:
                hint = did_you_mean(name, allowed, what="keys here")
                self.problems.append(self.source.problem(key.at, f"unknown key {shorten(name)!r} in {self.what}", suggestion=hint))

    def value(self, key: str) -> Node | None:
        """The node under a key; None where it is absent or empty."""
        node = self.node.get(key)
        return None if node is None or (isinstance(node, Scalar) and node.is_null) else node

    def wrong(self, node: Node, message: str, suggestion: str = "") -> None:
        """Note an error at a node."""
        self.problems.append(self.source.problem(node.at, message, suggestion=suggestion))

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        node = self.value(key)
        if node is None:
            return default
        if not isinstance(node, Scalar):
            self.wrong(node, f"{key} should be a text, not {kind_of(node)}")
            return default
        return node.text

    def duration_ms(self, key: str, default: int = 0) -> int:
        """A Prometheus duration in milliseconds."""
        node = self.value(key)
        if node is None:
            return default
        if not isinstance(node, Scalar) or len(node.text) > 100:
            self.wrong(node, f"{key} should be a duration, not {kind_of(node)}")
            return default
        try:
            return parse_duration_ms(node.text)
        except ValueError as error:
            self.wrong(node, f"{key}: {error}", duration_hint(node.text))
            return default

    def count(self, key: str) -> int:
        """A whole number, at least 0."""
        node = self.value(key)
        if node is None:
            return 0
        number = integer(node.text) if isinstance(node, Scalar) and not node.style else None
        if number is None or number < 0:
            self.wrong(node, f"{key} should be a whole number from 0 on, not {kind_of(node)}")
            return 0
        return number

    def choice(self, key: str, choices: PySequence[str]) -> str:
        """One of some words; the first is the default."""
        node = self.value(key)
        if node is None:
            return choices[0]
        if not isinstance(node, Scalar) or node.text not in choices:
            word = node.text if isinstance(node, Scalar) else ""
            self.wrong(node, f"{key} should be one of {', '.join(choices)}, not {kind_of(node)}", did_you_mean(word, choices, what="possible"))
            return choices[0]
        return node.text

    def texts(self, key: str) -> dict[str, tuple[Scalar, Scalar]]:
        """A mapping of names to texts, as (key node, value node)."""
        node = self.value(key)
        if node is None:
            return {}
        if not isinstance(node, Mapping):
            self.wrong(node, f"{key} should be a mapping, not {kind_of(node)}")
            return {}
        found = {}
        for name, (name_node, value) in node.entries.items():
            if isinstance(value, Scalar):
                found[name] = (name_node, value)
            else:
                self.wrong(value, f"{key}.{shorten(name)} should be a text, not {kind_of(value)}")
        return found

    def items(self, key: str) -> tuple[Node, ...]:
        """A list."""
        node = self.value(key)
        if node is None:
            return ()
        if not isinstance(node, Sequence):
            self.wrong(node, f"{key} should be a list, not {kind_of(node)}")
            return ()
        return node.items


def duration_hint(text: str) -> str:
    """The duration that was probably meant: a unit added, or spaces and capitals taken away."""
    for guess in (f"{text.strip()}s", "".join(text.lower().split())):
        try:
            if guess != text and parse_duration_ms(guess) >= 0:
                return f"did you mean {guess}?"
        except ValueError:
            continue
    return ""
