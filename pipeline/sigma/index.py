"""`RuleIndex`: which rules a record can match at all, so that the cost of a record does not grow with the rules that have nothing to do with it.

Rules are entered under their anchors (see `anchors`): equal values by look-up; contained literals by one of their three-letter pieces, the one that
is rarest among all literals of the field, then checked; presence; and the rules about which nothing can be said, which are always tried. A text
that holds no literal at all, which is the usual case, is seen to do so in one pass of an automaton of all literals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pipeline.model.signals import LogRecord
from pipeline.sigma.anchors import ANYWHERE, EQUALS, GRAM, PRESENT, Anchor, Need, canonical
from pipeline.sigma.fields import names_of
from pipeline.sigma.values import any_literal, as_text

SHORT: Final = 12  # below, looking at the pieces is cheaper than the automaton


class _Literals:
    """Literals, found in a text by one of their pieces."""

    __slots__ = ("_any_in", "_by_gram")

    def __init__(self, rules_of: dict[str, list[int]]) -> None:
        self._any_in = any_literal(rules_of)
        grams = {literal: [literal[at : at + GRAM] for at in range(len(literal) - GRAM + 1)] for literal in rules_of}
        common = Counter(gram for pieces in grams.values() for gram in set(pieces))
        self._by_gram: dict[str, list[tuple[str, list[int]]]] = {}
        for literal, rules in rules_of.items():
            rarest = min(grams[literal], key=lambda gram: (common[gram], gram))
            self._by_gram.setdefault(rarest, []).append((literal, rules))

    def collect(self, text: str, found: set[int]) -> None:
        """Add the rules whose literal is in `text` (lower case)."""
        if len(text) > SHORT and not self._any_in(text):
            return
        by_gram = self._by_gram
        for at in range(len(text) - GRAM + 1):
            entries = by_gram.get(text[at : at + GRAM])
            if entries is not None:
                for literal, rules in entries:
                    if literal in text:
                        found.update(rules)

    def __bool__(self) -> bool:
        return bool(self._by_gram)


class _Field:
    """What is known of one field of the rules."""

    __slots__ = ("equal", "literals", "present")

    def __init__(self, anchors: Iterable[tuple[Anchor, int]]) -> None:
        self.present: list[int] = []
        self.equal: dict[str, list[int]] = {}
        literals: dict[str, list[int]] = {}
        for anchor, rule in anchors:
            if anchor.kind == PRESENT:
                self.present.append(rule)
            else:
                (self.equal if anchor.kind == EQUALS else literals).setdefault(anchor.text, []).append(rule)
        self.literals = _Literals(literals)

    def collect(self, value: Any, found: set[int]) -> None:
        found.update(self.present)
        for element in value if isinstance(value, list) else (value,):
            text = as_text(element).lower()
            found.update(self.equal.get(text, ()))
            if self.equal and text[:1] in "0123456789.+- \t":
                found.update(self.equal.get(canonical(element), ()))
            if self.literals:
                self.literals.collect(text, found)


class RuleIndex:
    """Built once from the needs of all rules, in their order."""

    def __init__(self, needs: Sequence[Need]) -> None:
        self._always = [rule for rule, need in enumerate(needs) if need is None]
        by_field: dict[str, list[tuple[Anchor, int]]] = {}
        anywhere: dict[str, list[int]] = {}
        for rule, need in enumerate(needs):
            for anchor in sorted(need or ()):
                if anchor.kind == ANYWHERE:
                    anywhere.setdefault(anchor.text, []).append(rule)
                else:
                    by_field.setdefault(anchor.field, []).append((anchor, rule))
        self._anywhere = _Literals(anywhere)
        self._by_name: dict[str, list[_Field]] = {}
        for name, anchors in by_field.items():
            field = _Field(anchors)
            for candidate in names_of(name):
                self._by_name.setdefault(candidate, []).append(field)

    def candidates(self, record: LogRecord) -> list[int]:
        """The rules to try on this record, in their order. Every rule that matches is among them."""
        found = set(self._always)
        for name, value in record.fields.items():
            if value is not None:
                for field in self._by_name.get(name, ()):
                    field.collect(value, found)
        if self._anywhere:
            texts = [record.message]
            for value in record.fields.values():
                texts += map(as_text, value) if isinstance(value, list) else (as_text(value),)
            self._anywhere.collect("\n".join(texts).lower(), found)
        return sorted(found)
