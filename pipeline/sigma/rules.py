"""Rule files to compiled rules, through pySigma's parser. Nothing here runs on records.

Guarantee: either every source compiles, or `SigmaError` says which one does not and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from pyparsing import ParseBaseException
from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError as PySigmaError

from pipeline.model.records import stable_id
from pipeline.sigma.anchors import Need, necessary
from pipeline.sigma.conditions import Test, compile_condition
from pipeline.sigma.errors import SigmaError

_SINGLE_TYPES: Final = ("event_count", "value_count", "temporal")
_WRONG_SHAPE: Final = (TypeError, AttributeError, ValueError, KeyError, RecursionError)  # what pySigma raises on YAML of an unexpected shape
_RISING: Final = {"GTE": 0, "GT": 1, "EQ": 0}


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """What is said about a rule wherever it is shown. `emits`: its own matches are reported (not only counted by a correlation)."""

    rule_id: str
    title: str
    level: str
    author: str
    where: str
    fields: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    emits: bool = True


@dataclass(frozen=True, slots=True)
class Detection:
    """A rule on single records: `tests` are its conditions, of which one must hold; `need` is necessary for that.

    `source` is (category, product, service).
    """

    info: RuleInfo
    source: tuple[str | None, str | None, str | None]
    tests: tuple[Test, ...]
    need: Need = None


@dataclass(frozen=True, slots=True)
class Correlation:
    """A rule on matches of other rules: `threshold` of them (or of distinct values of `value_fields`, or all `rule_ids` once) within `timespan_ms`.

    `aliases[name][rule id]` is the field that stands for `name` in that rule's records.
    """

    info: RuleInfo
    kind: str
    rule_ids: tuple[str, ...]
    timespan_ms: int
    threshold: int
    group_by: tuple[str, ...] = ()
    value_fields: tuple[str, ...] = ()
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compiled:
    """All rules; a correlation stands after those it refers to."""

    detections: tuple[Detection, ...]
    correlations: tuple[Correlation, ...]


def compile_rules(sources: Sequence[tuple[str, str]]) -> Compiled:
    """Compile (text, where) pairs; a text may hold several documents, and a correlation may refer to rules of other texts.

    Raises:
        SigmaError: with the place of the first source that is wrong.
    """
    parsed: list[tuple[Any, str]] = []
    for text, where in sources:
        parsed += [(rule, where) for rule in _parse(text, where)]
    places = {id(rule): where for rule, where in parsed}
    _refuse_duplicates(parsed)
    collection = SigmaCollection([], resolve_references=False)
    for rule, _ in parsed:
        _add(collection, rule)
    return _resolve(collection, places)


def _parse(text: str, where: str) -> list[Any]:
    try:
        documents = list(yaml.load_all(text, Loader=_LOADER))
        wrong = [document for document in documents if document is not None and not isinstance(document, dict)]
        if wrong:
            raise SigmaError("a Sigma rule is a YAML mapping", where)
        collection = SigmaCollection.from_dicts(documents, resolve_references=False, collect_filters=True)
    except yaml.YAMLError as error:
        raise SigmaError(f"not YAML: {' '.join(str(error).split())}", where) from error
    except PySigmaError as error:
        raise SigmaError(str(error), where) from error
    except _WRONG_SHAPE as error:
        raise SigmaError(f"not a Sigma rule: {error}", where) from error
    if collection.filters:
        raise SigmaError("Sigma filters are not supported: write the exception into the rule's condition", where)
    return list(collection.rules)


_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _refuse_duplicates(parsed: Sequence[tuple[Any, str]]) -> None:
    seen: dict[str, str] = {}
    for rule, where in parsed:
        for key in {str(value) for value in (rule.id, rule.name) if value is not None}:
            if key in seen:
                raise SigmaError(f"the id or name {key} is used twice (first in {seen[key]})", where)
            seen[key] = where


def _add(collection: Any, rule: Any) -> None:
    collection.rules.append(rule)
    if rule.id is not None:
        collection.ids_to_rules[rule.id] = rule
    if rule.name is not None:
        collection.names_to_rules[rule.name] = rule


def _resolve(collection: Any, places: Mapping[int, str]) -> Compiled:
    for rule in collection.rules:
        if isinstance(rule, SigmaCorrelationRule):
            try:
                rule.resolve_rule_references(collection)
                rule.aliases.resolve_rule_references(collection)
            except PySigmaError as error:
                raise SigmaError(str(error), places[id(rule)]) from error
    detections: list[Detection] = []
    correlations: list[Correlation] = []
    for rule in collection._referenced_first(collection.rules):  # noqa: SLF001 - the order that resolve_rule_references itself makes
        where = places[id(rule)]
        try:
            if isinstance(rule, SigmaCorrelationRule):
                correlations.append(_correlation(rule, where))
            else:
                detections.append(_detection(rule, where))
        except SigmaError as error:
            raise SigmaError(error.message, where) from error
        except (PySigmaError, ParseBaseException) as error:
            raise SigmaError(str(error), where) from error
        except _WRONG_SHAPE as error:
            raise SigmaError(f"not a Sigma rule: {error}", where) from error
    return Compiled(tuple(detections), tuple(correlations))


def _info(rule: Any, where: str) -> RuleInfo:
    return RuleInfo(
        rule_id=rule_id(rule),
        title=str(rule.title or rule.name or ""),
        level=rule.level.name.lower() if rule.level is not None else "",
        author=str(rule.author or ""),
        where=where,
        fields=tuple(map(str, rule.fields or ())),
        tags=tuple(map(str, rule.tags or ())),
        emits=bool(rule._output),  # noqa: SLF001 - pySigma has no public question for `generate`
    )


def rule_id(rule: Any) -> str:
    """The rule's own id; a hash of its name or title where it has none."""
    return str(rule.id) if rule.id is not None else stable_id("sigma", rule.name or rule.title)


def _detection(rule: Any, where: str) -> Detection:
    source = rule.logsource
    trees = [condition.parsed for condition in rule.detection.parsed_condition]
    needs = [necessary(tree) for tree in trees]
    need = None if None in needs else frozenset().union(*(one for one in needs if one is not None))
    return Detection(_info(rule, where), (source.category, source.product, source.service), tuple(map(compile_condition, trees)), need)


def _correlation(rule: Any, where: str) -> Correlation:
    kind = rule.type.name.lower()
    if kind not in _SINGLE_TYPES:
        raise SigmaError(f"correlations of type {kind} are not supported (supported: {', '.join(_SINGLE_TYPES)})")
    if rule.rules is None:
        raise SigmaError("an extended condition over rules is not supported: list the rules under 'rules'")
    rule_ids = tuple(rule_id(reference.rule) for reference in rule.rules)
    return Correlation(
        info=_info(rule, where),
        kind=kind,
        rule_ids=rule_ids,
        timespan_ms=rule.timespan.seconds * 1000,
        threshold=len(rule_ids) if kind == "temporal" else _threshold(rule.condition),
        group_by=tuple(rule.group_by or ()),
        value_fields=_value_fields(rule.condition) if kind == "value_count" else (),
        aliases={alias.alias: {rule_id(reference.rule): name for reference, name in alias.mapping.items()} for alias in rule.aliases},
    )


def _threshold(condition: Any) -> int:
    """How many it takes. Only conditions that a growing count can make true: the others would need the end of a window."""
    extra = _RISING.get(condition.op.name)
    if extra is None or condition.count != int(condition.count):
        raise SigmaError(f"the condition {condition.op.name.lower()}: {condition.count} is not supported (gte, gt and eq with a whole number are)")
    threshold = int(condition.count) + extra
    if not 1 <= threshold <= 100_000:
        raise SigmaError(f"a threshold of {threshold} is not between 1 and 100000")
    return threshold


def _value_fields(condition: Any) -> tuple[str, ...]:
    reference = condition.fieldref
    return (reference,) if isinstance(reference, str) else tuple(reference)
