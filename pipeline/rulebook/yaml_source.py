"""Strict YAML with positions: a tree of nodes, each of which knows where it stands.

Guarantees: whatever the text, the outcome is a tree or problems with a place, never an exception; work and memory are bounded (size, depth, scalar
and alias limits, so "billion laughs" is refused, not expanded); a duplicate key is an error; keys are text. Scalars keep their text, so that a label
`010` stays `010`; `plain` turns them into values as Prometheus' parser does (hex and octal integers, merge keys).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from pipeline.rulebook.problems import START, Position, Problem, SourceText, shorten

MAX_CHARS: Final = 8 * 1024 * 1024
MAX_SCALAR: Final = 128 * 1024
MAX_DEPTH: Final = 64
MAX_NODES: Final = 200_000  # counted as if every alias were written out

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same positions, ten times faster
_MERGE: Final = "<<"
_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset({"str", "int", "float", "bool", "null", "seq", "map"})


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf. `style`: how it is written (empty for plain, ', ", | or >). `tag`: `str`, `int`, ... where written out."""

    text: str
    at: Position
    style: str = ""
    tag: str = ""
    size: int = 1

    @property
    def is_null(self) -> bool:
        """Whether it says nothing."""
        return self.tag == "null" or (not self.style and not self.tag and self.text in {"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    at: Position
    size: int = 1


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping in the order of the file, merge keys resolved: key text to (key node, value)."""

    entries: dict[str, tuple[Scalar, Node]]
    at: Position
    size: int = 1

    def get(self, key: str) -> Node | None:
        """The value under a key."""
        entry = self.entries.get(key)
        return entry[1] if entry else None

    def key_at(self, key: str) -> Position:
        """Where the key stands; where the mapping does when it is not there."""
        entry = self.entries.get(key)
        return entry[0].at if entry else self.at


Node = Scalar | Sequence | Mapping


class _RefusedError(Exception):
    """Stops reading at the first syntax error."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_documents(source: SourceText) -> tuple[list[Node], list[Problem]]:
    """All documents of a file. With an error among the problems the documents may be incomplete."""
    if len(source.text) > MAX_CHARS:
        return [], [source.problem(START, f"the file has {len(source.text)} characters, the limit is {MAX_CHARS}", show=False)]
    composer = _Composer(source)
    try:
        return composer.documents(), composer.problems
    except _RefusedError as refused:
        return [], [*composer.problems, refused.problem]


def kind_of(node: Node) -> str:
    """What a node is, in a user's words."""
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"
        case Scalar():
            return "nothing" if node.is_null else repr(shorten(node.text))


@dataclass
class _Composer:
    source: SourceText
    problems: list[Problem] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)

    def documents(self) -> list[Node]:
        events = self._events()
        found: list[Node] = []
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors = {}
                found.append(self._node(next(events), events, 0))
        return found

    def _events(self) -> Iterator[Any]:
        try:
            yield from yaml.parse(self.source.text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            raise _RefusedError(self._syntax_problem(error)) from None
        except yaml.reader.ReaderError as error:
            at = self.source.position(error.position if isinstance(error.position, int) else 0)
            raise _RefusedError(self.source.problem(at, f"not YAML: character {_code(error.character)} is not allowed")) from None
        except (yaml.YAMLError, UnicodeError, ValueError) as error:
            raise _RefusedError(self.source.problem(START, f"not YAML: {error}", show=False)) from None

    def _syntax_problem(self, error: yaml.MarkedYAMLError) -> Problem:
        mark = error.problem_mark or error.context_mark
        at = Position(mark.line + 1, mark.column + 1) if mark else START
        tab = _tab_in_indentation(self.source.line(at.line))
        if tab:
            return self.source.problem(Position(at.line, tab), "a tab is used for indentation", suggestion="YAML wants spaces there")
        if "nesting depth" in str(error.problem):  # libyaml's own limit, met before ours by a run of brackets
            return self.source.problem(at, f"nested deeper than {MAX_DEPTH} levels")
        context = f"{error.context}: " if error.context else ""
        message = f"not YAML: {context}{error.problem or 'cannot be read'}"
        return self.source.problem(at, message, suggestion=_syntax_hint(self.source.line(at.line), str(error.problem)))

    def _refuse(self, at: Position, message: str, suggestion: str = "") -> _RefusedError:
        return _RefusedError(self.source.problem(at, message, suggestion=suggestion))

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        at = Position(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), at)
        if depth > MAX_DEPTH:
            raise self._refuse(at, f"nested deeper than {MAX_DEPTH} levels")
        if event.anchor:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node: Node = self._scalar(event, at)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._known_tag(event.tag, at)
            node = self._sequence(events, at, depth)
        else:
            self._known_tag(event.tag, at)
            node = self._mapping(events, at, depth)
        if node.size > MAX_NODES:
            raise self._refuse(at, f"more than {MAX_NODES} values once aliases are written out")
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, name: str, at: Position) -> Node:
        if name not in self.anchors:
            raise self._refuse(at, f"alias *{name} names no anchor above it")
        node = self.anchors[name]
        if node is None:
            raise self._refuse(at, f"alias *{name} contains itself")
        return node

    def _known_tag(self, tag: str | None, at: Position) -> str:
        if tag is None or tag == "!":
            return "str" if tag else ""
        name = tag.removeprefix(_TAG)
        if name not in _TAGS:
            raise self._refuse(at, f"the YAML tag {shorten(tag)!r} is not allowed", "remove it")
        return name

    def _scalar(self, event: Any, at: Position) -> Scalar:
        if len(event.value) > MAX_SCALAR:
            raise self._refuse(at, f"a text of {len(event.value)} characters, the limit is {MAX_SCALAR}")
        return Scalar(event.value, at, event.style or "", self._known_tag(event.tag, at))

    def _sequence(self, events: Iterator[Any], at: Position, depth: int) -> Sequence:
        items: list[Node] = []
        size = 1
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, depth + 1))
            size += items[-1].size
            self._bounded(size, at)
        return Sequence(tuple(items), at, size)

    def _bounded(self, size: int, at: Position) -> None:
        if size > MAX_NODES:
            raise self._refuse(at, f"more than {MAX_NODES} values once aliases are written out", "are aliases nested in aliases?")

    def _mapping(self, events: Iterator[Any], at: Position, depth: int) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        merged: list[Mapping] = []
        size = 1
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            size += 1 + value.size
            self._bounded(size, at)
            self._enter(entries, merged, key, value)
        for base in merged:
            for name, entry in base.entries.items():
                entries.setdefault(name, entry)
        return Mapping(entries, at, size)

    def _enter(self, entries: dict[str, tuple[Scalar, Node]], merged: list[Mapping], key: Node, value: Node) -> None:
        if not isinstance(key, Scalar):
            raise self._refuse(key.at, "a key must be a text", 'quote a template: "{{ name }}"')
        if key.text == _MERGE and not key.style:
            merged.extend(self._bases(value))
            return
        first = entries.get(key.text)
        if first is not None:
            where = first[0].at
            self.problems.append(self.source.problem(key.at, f"duplicate key {shorten(key.text)!r}, first given at {where.line}:{where.column}"))
            return
        entries[key.text] = (key, value)

    def _bases(self, value: Node) -> list[Mapping]:
        bases = value.items if isinstance(value, Sequence) else (value,)
        found = [base for base in bases if isinstance(base, Mapping)]
        if len(found) != len(bases):
            raise self._refuse(value.at, "a merge key << wants a mapping or a list of mappings")
        return found


def _code(character: Any) -> str:
    return f"#x{ord(character) if isinstance(character, str) else int(character):04x}"


def _tab_in_indentation(line: str) -> int:
    """The column of the first tab before the line's text; 0 where there is none."""
    indentation = line[: len(line) - len(line.lstrip())]
    return indentation.find("\t") + 1


def _syntax_hint(line: str, problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "quote a text that contains ': '"
    if "{{" in line and ("flow" in problem or "expected" in problem):
        return 'quote a text that starts with {{, for example "{{ name }}"'
    return ""
