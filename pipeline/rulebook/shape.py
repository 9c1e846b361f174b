"""A pydantic model laid over YAML nodes: the value, or problems that name file, line, column and what would be right.

Guarantees: no input value of a secret stands in a message (`hide`); a number or boolean where a text is wanted counts as its own text, as in
Prometheus' parser (`version: 010` is "010").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Sequence as PySequence
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from pipeline.rulebook.fields import duration_hint
from pipeline.rulebook.problems import MAX_PROBLEMS, Position, Problem, SourceText, did_you_mean, shorten
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, kind_of
from pipeline.rulebook.yaml_values import descend, plain

M = TypeVar("M", bound=BaseModel)
Path = tuple[str | int, ...]

_WANTED: Final = {
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}


def shaped(
    model: type[M], node: Node, source: SourceText, *, value: Any = None, hide: Callable[[str], str] = str, inside: Path = ()
) -> tuple[M | None, list[Problem]]:
    """Validate `node` of `source` as a `model`.

    Args:
        model: what to build.
        node: from what.
        source: in which file.
        value: the node's plain value where the caller changed it (secrets filled in); texts are mended in it.
        hide: what to do to every message before it is shown.
        inside: the path of `node` in the file, for messages.
    """
    content = plain(node) if value is None else value
    if not isinstance(content, dict):
        return None, [source.problem(node.at, f"should be a mapping, not {kind_of(node)}")]
    errors: list[Any] = []
    for _ in range(3):  # a text inside a union may only show up once the first round is mended
        try:
            return model.model_validate(content), []
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)[: 2 * MAX_PROBLEMS]
        if not _take_texts(content, node, errors):
            break
    found = [
        source.problem(at, hide(f"{dotted((*inside, *path))}{message}"), suggestion=hide(suggestion), show=not secret_key(path))
        for path, at, message, suggestion in _problems(model, node, errors)
    ]
    return None, found


def _take_texts(content: Any, node: Node, errors: PySequence[Any]) -> bool:
    """Put a scalar's own text where a text was wanted and a number or boolean stood; True when something changed."""
    changed = False
    for error in errors:
        found, _, path = descend(node, error["loc"])
        if error["type"] == "string_type" and isinstance(found, Scalar) and not found.is_null and path:
            holder = content
            for part in path[:-1]:
                holder = holder[part]
            if not isinstance(holder[path[-1]], str):
                holder[path[-1]] = found.text
                changed = True
    return changed


def _problems(model: type[BaseModel], node: Node, errors: PySequence[Any]) -> list[tuple[Path, Position, str, str]]:
    """One problem per place: of several that speak of the same value (members of a union) the wishes are joined; the deeper place wins."""
    best: dict[Path, tuple[Position, list[str], str]] = {}
    for error in errors:
        found, at, taken = descend(node, error["loc"])
        path = tuple(taken)
        message, suggestion = _explain(model, error, found, path)
        if path in best:
            best[path][1].append(message)
        else:
            best[path] = (at, [message], suggestion)
    shallow = {path[:length] for path in best for length in range(1, len(path))}
    leftovers = {path for path in best if path in shallow and all(message.startswith(("should be", "needs at least")) for message in best[path][1])}
    return [(path, at, _joined(messages), suggestion) for path, (at, messages, suggestion) in best.items() if path not in leftovers]


def dotted(path: PySequence[str | int]) -> str:
    """`policies[0].steps[1].verify: `; empty for no path."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{shorten(part)}" for part in path).lstrip(".")
    return f"{text}: " if text else ""


def secret_key(path: PySequence[str | int]) -> bool:
    """Whether what stands at a path is better not shown."""
    return any(isinstance(part, str) and re.search(r"token|password|secret|api_?key|credential", part, re.IGNORECASE) for part in path)


def _joined(messages: list[str]) -> str:
    unique = list(dict.fromkeys(messages))
    wishes = [message.split(", not ")[0].removeprefix("should be ") for message in unique]
    if len(unique) > 1 and all(message.startswith("should be ") for message in unique):
        tail = unique[0].partition(", not ")[2]
        return f"should be {' or '.join(dict.fromkeys(wishes))}" + (f", not {tail}" if tail else "")
    return "; ".join(unique)


def _explain(model: type[BaseModel], error: Any, found: Node, path: Path) -> tuple[str, str]:
    """Message and suggestion for one pydantic error."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        name = str(error["loc"][-1])
        return "unknown key", did_you_mean(name, fields_at(model, path[:-1]), what="keys here")
    if kind == "missing":
        return f"the key {str(error['loc'][-1])!r} is missing", ""
    if kind == "too_short":
        return f"needs at least {context.get('min_length', 1)} entry", ""
    if kind == "value_error":
        message = str(context.get("error", error["msg"]))
        return message, duration_hint(found.text) if isinstance(found, Scalar) and message.startswith("not a duration") else ""
    return _unfit(error, found, hidden=secret_key(path))


def _unfit(error: Any, found: Node, *, hidden: bool) -> tuple[str, str]:
    """Message and suggestion for a value of the wrong type, or outside its bounds."""
    kind, context = error["type"], error.get("ctx", {})
    shown = "what is there" if hidden else kind_of(found)
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        word = found.text if isinstance(found, Scalar) else ""
        return f"should be one of {', '.join(choices)}, not {shown}", did_you_mean(word, choices, what="possible")
    if kind in _WANTED:
        return f"should be {_WANTED[kind]}, not {shown}", ""
    message = str(error["msg"]).replace("Input should be", "should be")
    return (message if isinstance(found, Mapping) or hidden else f"{message}, not {shown}"), ""


def fields_at(model: type[BaseModel], path: PySequence[str | int]) -> list[str]:
    """The keys that a model allows at a path."""
    models: list[Any] = [model]
    for part in path:
        models = [inner for kind in models for inner in _under(kind, part)]
    return sorted({field.alias or name for kind in models if _is_model(kind) for name, field in kind.model_fields.items()})


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _under(kind: Any, part: str | int) -> list[Any]:
    """The types that may stand under one part of a path: models, or containers still to be gone through."""
    if _is_model(kind):
        fields = [field for name, field in kind.model_fields.items() if part in {field.alias, name}]
        return [inner for field in fields for inner in _members(field.annotation)]
    arguments = get_args(kind)
    return [inner for argument in arguments[-1:] if argument is not Ellipsis for inner in _members(argument)] or [
        inner for argument in arguments[:1] if arguments[-1] is Ellipsis for inner in _members(argument)
    ]


def _members(annotation: Any) -> list[Any]:
    """A union's members; anything else as it is."""
    arguments = get_args(annotation)
    origin = getattr(annotation, "__origin__", None)
    if arguments and origin not in {dict, list, tuple, set, frozenset}:
        return [inner for argument in arguments for inner in _members(argument)]
    return [annotation]
