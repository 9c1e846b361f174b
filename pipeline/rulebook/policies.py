"""Policy files: the models of `spec` over the nodes of a file, and the placeholders in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pipeline.rulebook.expressions import Expr, bad_placeholder, read_expr
from pipeline.rulebook.problems import Problem, SourceText
from pipeline.rulebook.shape import shaped
from pipeline.rulebook.spec import PolicyFile
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, Sequence
from pipeline.rulebook.yaml_values import at_offset

POLICY_KEYS: Final = tuple(PolicyFile.model_fields)
_WITH_EXPRS: Final = ("policies", "scalers", "failovers")
_EXPR_KEYS: Final = frozenset({"success", "failure", "expr", "unhealthy", "healthy", "demand"})
_FREE_KEYS: Final = frozenset({"payload", "when", "away_from", "weights"})  # what stands below belongs to the user
_HINT: Final = 'write {{ name }} with the name of a label of the alert, for example "{{ service }}"'


def read_policies(source: SourceText, root: Mapping, problems: list[Problem]) -> tuple[PolicyFile | None, list[tuple[str, Expr]]]:
    """The policy part of a file: its shape, and its good expressions with what they are."""
    part = Mapping({name: entry for name, entry in root.entries.items() if name in POLICY_KEYS and not _empty(entry[1])}, root.at, root.size)
    spec, found = shaped(PolicyFile, part, source)
    problems.extend(found)
    for key in _WITH_EXPRS:
        problems.extend(placeholder_problems(source, part.get(key)))
    exprs = [pair for key in _WITH_EXPRS for pair in read_exprs(source, part.get(key), key, problems)]
    return spec, exprs


def read_exprs(source: SourceText, node: Node | None, what: str, problems: list[Problem]) -> list[tuple[str, Expr]]:
    """Every expression below a node, wherever its key says that it is one; bad ones become problems."""
    found: list[tuple[str, Expr]] = []
    if isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            found.extend(read_exprs(source, item, f"{what}[{index}]", problems))
    elif isinstance(node, Mapping):
        for name, (_, value) in node.entries.items():
            if name in _EXPR_KEYS and isinstance(value, Scalar) and not value.is_null:
                expr = read_expr(source, value, f"{what}.{name}", templated=True)
                problems.append(expr) if isinstance(expr, Problem) else found.append((f"{what}.{name}", expr))
            elif name not in _FREE_KEYS:
                found.extend(read_exprs(source, value, f"{what}.{name}", problems))
    return found


def placeholder_problems(source: SourceText, node: Node | None) -> list[Problem]:
    """Every text below a node whose `{{` and `}}` do not form placeholders."""
    found = []
    for scalar in scalars(node):
        bad = bad_placeholder(scalar.text) if "{{" in scalar.text or "}}" in scalar.text else None
        if bad is not None:
            offset, message = bad
            found.append(source.problem(at_offset(source, scalar, offset), message, suggestion=_HINT))
    return found


def scalars(node: Node | None) -> Iterator[Scalar]:
    """Every scalar value at or below a node, in order."""
    match node:
        case Scalar():
            yield node
        case Sequence():
            for item in node.items:
                yield from scalars(item)
        case Mapping():
            for _, value in node.entries.values():
                yield from scalars(value)
        case None:
            return


def _empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null
