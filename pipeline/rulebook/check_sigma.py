"""Sigma rules compiled for their errors, each at the document (and the key, where it can be told) that is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Sequence as PySequence
from typing import Final, NamedTuple

from pipeline.rulebook.problems import Position, Problem, SourceText, did_you_mean
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, Sequence
from pipeline.rulebook.yaml_values import inside

MODIFIERS: Final = (
    "all",
    "base64",
    "base64offset",
    "cased",
    "cidr",
    "contains",
    "endswith",
    "exists",
    "expand",
    "fieldref",
    "re",
    "startswith",
    "windash",
)
TYPES: Final = ("event_count", "value_count", "temporal", "temporal_ordered")
_SYNTAX: Final = re.compile(r"found (.*?)\s+\(at char \d+\), \(line:(\d+), col:(\d+)\)")


class Document(NamedTuple):
    """One Sigma document: its file, its text (line ends as written) and its nodes."""

    source: SourceText
    text: str
    node: Node


def documents_of(source: SourceText, nodes: PySequence[Node]) -> list[Document]:
    """The file's documents, each with its own text; one for all where a document applies to the others (`action: global`)."""
    if any(isinstance(node, Mapping) and "action" in node.entries for node in nodes):
        return [Document(source, source.text, nodes[0])]
    starts = [source.line_starts[node.at.line - 1] for node in nodes]
    ends = [*starts[1:], len(source.text)]
    separator = re.compile(r"^(---|\.\.\.).*", re.MULTILINE | re.DOTALL)
    return [Document(source, separator.sub("", source.text[start:end]), node) for start, end, node in zip(starts, ends, nodes, strict=True)]


def check_sigma_rules(documents: PySequence[Document]) -> list[Problem]:
    """What keeps the rules from being compiled: together first, and when that fails one by one, to tell all that are wrong."""
    if not documents:
        return []
    together = _compiled(documents)
    if together is None:
        return []
    alone = [problem for document in documents if "correlation" not in _keys(document.node) and (problem := _compiled([document])) is not None]
    return alone or [together]


def _compiled(documents: PySequence[Document]) -> Problem | None:
    from pipeline.sigma.errors import SigmaError
    from pipeline.sigma.rules import compile_rules  # pySigma takes a third of a second to import

    try:
        compile_rules([(document.text, str(index)) for index, document in enumerate(documents)])
    except SigmaError as error:
        document = documents[int(error.where) if error.where.isdigit() else 0]
        message = re.sub(r"\(first in (\d+)\)", lambda found: f"(first in {_place(documents[int(found[1])])})", error.message)
        syntax = _SYNTAX.search(message)
        if syntax is not None:
            return _bad_condition(document, syntax)
        return document.source.problem(_at(document.node, message), message, suggestion=_hint(documents, message))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:  # pySigma trips over some wrong types instead of naming them
        return documents[0].source.problem(documents[0].node.at, f"not a Sigma rule: {error}")
    return None


def _bad_condition(document: Document, syntax: re.Match[str]) -> Problem:
    """A condition that the grammar refuses: its own words for what it wanted help nobody."""
    detection = _get(document.node, "detection")
    condition = detection.get("condition") if isinstance(detection, Mapping) else None
    message = f"the condition cannot be understood: found {syntax[1]}"
    if not isinstance(condition, Scalar):
        return document.source.problem(document.node.at, message)
    at = inside(document.source, condition, int(syntax[2]), int(syntax[3]))
    return document.source.problem(at, message, suggestion="write for example: selection and not filter, or 1 of selection_*")


def _place(document: Document) -> str:
    return f"{document.source.file}:{document.node.at.line}"


def _keys(node: Node) -> PySequence[str]:
    return tuple(node.entries) if isinstance(node, Mapping) else ()


def _at(node: Node, message: str) -> Position:
    """The first key or value that the message speaks of; the document's start where there is none."""
    spoken = {*re.findall(r"[\w.-]{3,}", message), *re.findall(r"'([^']+)'", message)}
    return next((leaf.at for leaf in _leaves(node) if spoken & {leaf.text, *leaf.text.split("|")[1:]}), node.at)


def _leaves(node: Node) -> Iterator[Scalar]:
    """Keys and values, the deepest keys last, `title` and other prose left out."""
    match node:
        case Mapping():
            for name, (key, value) in node.entries.items():
                if name not in {"title", "description", "detection", "correlation", "logsource", "condition", "rules", "type"}:
                    yield key
                if name not in {"title", "description"}:
                    yield from _leaves(value)
        case Sequence():
            for item in node.items:
                yield from _leaves(item)
        case Scalar():
            yield node


def _hint(documents: PySequence[Document], message: str) -> str:
    """The rule, modifier or type that was probably meant."""
    names = {value.text for document in documents for key in ("name", "id") if isinstance(value := _get(document.node, key), Scalar)}
    for pattern, words in ((r"'([^']+)' not found", names), (r"modifier '([^']+)'", MODIFIERS), (r"'([^']+)' is no valid Sigma correlation", TYPES)):
        found = re.search(pattern, message)
        if found:
            return did_you_mean(found[1], words, what="possible")
    return ""


def _get(node: Node, key: str) -> Node | None:
    return node.get(key) if isinstance(node, Mapping) else None
