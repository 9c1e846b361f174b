"""What a record must have for a rule to have any chance: a necessary condition, drawn from the condition's tree.

`necessary(node)` is a set of anchors of which at least one holds whenever the node is true; None where nothing can be said (negations, absence).
It may hold for records that do not match, never the other way round: the index that is built on it loses no match.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sigma import conditions, types

EQUALS, CONTAINS, PRESENT, ANYWHERE = "equals", "contains", "present", "anywhere"
GRAM: Final = 3  # shortest literal worth an entry of its own


class Anchor(NamedTuple):
    """`equals`: a field's text or number is `text`; `contains`: `text` is in it; `present`: it is there; `anywhere`: `text` is in any field."""

    kind: str
    field: str
    text: str = ""

    @property
    def weight(self) -> int:
        """How few records it lets through, roughly: longer literals are rarer."""
        return {EQUALS: len(self.text) + 2, CONTAINS: len(self.text), ANYWHERE: len(self.text), PRESENT: 1}[self.kind]


Need = frozenset[Anchor] | None


def necessary(node: Any) -> Need:
    """The anchors of a node of pySigma's condition tree."""
    if isinstance(node, conditions.ConditionFieldEqualsValueExpression):
        return _of_field(node.field, node.value)
    if isinstance(node, conditions.ConditionValueExpression):
        return _of_keyword(node.value)
    if isinstance(node, conditions.ConditionAND):
        known = [need for need in map(necessary, node.args) if need is not None]
        return max(known, key=_selectivity, default=None)
    if isinstance(node, conditions.ConditionOR):
        return _union(list(map(necessary, node.args)))
    return None


def _selectivity(need: frozenset[Anchor]) -> tuple[int, int]:
    return min(anchor.weight for anchor in need), -len(need)


def _union(needs: list[Need]) -> Need:
    known = [need for need in needs if need is not None]
    return frozenset().union(*known) if len(known) == len(needs) else None


def _of_field(field: str, value: Any) -> Need:
    present = frozenset({Anchor(PRESENT, field)})
    if isinstance(value, types.SigmaExpansion):
        return _union([_of_field(field, part) for part in value.values])
    if isinstance(value, types.SigmaNull) or (isinstance(value, types.SigmaExists) and not value.exists):
        return None
    if isinstance(value, types.SigmaString):
        if all(isinstance(part, str) for part in value.s):
            return frozenset({Anchor(EQUALS, field, "".join(value.s).lower())})
        literal = _literal(value)
        return frozenset({Anchor(CONTAINS, field, literal)}) if literal else present
    if isinstance(value, types.SigmaNumber) and not isinstance(value, types.SigmaTimestampPart):
        return frozenset({Anchor(EQUALS, field, canonical(value.number) or str(value.number))})
    return present


def _of_keyword(value: Any) -> Need:
    if isinstance(value, types.SigmaExpansion):
        return _union([_of_keyword(part) for part in value.values])
    literal = _literal(value) if isinstance(value, types.SigmaString) else ""
    return frozenset({Anchor(ANYWHERE, "", literal)}) if literal else None


def _literal(value: Any) -> str:
    """The longest literal of a string with wildcards, in lower case; empty where lower case would not be exact, or it is too short."""
    parts = [part for part in value.s if isinstance(part, str)]
    longest = max(parts, key=len, default="")
    exact = types.SpecialChars.WILDCARD_SINGLE not in value.s and (longest.isascii() or not isinstance(value, types.SigmaCasedString))
    return str(longest.lower()) if exact and len(longest) >= GRAM else ""


def canonical(value: Any) -> str:
    """One text for all spellings of a number, empty for what is none."""
    try:
        number = float(value)
        return f"#{int(number)}" if number.is_integer() else f"#{number!r}"
    except (ValueError, OverflowError, TypeError):
        return ""
