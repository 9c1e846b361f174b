"""Templates of labels and annotations, in the shape that Prometheus' own have (interim: labels and value)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.model.labels import EMPTY, Labels
from pipeline.promql import Row

_LABEL = re.compile(r"\{\{\s*\$labels\.(\w+)\s*\}\}")
_VALUE = re.compile(r"\{\{\s*\$value\s*\}\}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a template sees."""

    external_labels: Labels
    external_url: str
    query: Callable[[str], Sequence[Row]]
    labels: Labels = EMPTY
    value: float = 0.0

    def about(self, labels: Labels, value: float) -> Scope:
        """The scope of one element."""
        return replace(self, labels=labels, value=value)


class Text:
    """One text, perhaps with actions in it."""

    __slots__ = ("is_constant", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.is_constant = "{{" not in source

    def expand(self, scope: Scope) -> str:
        """The text filled in."""
        if self.is_constant:
            return self.source
        text = _LABEL.sub(lambda found: scope.labels.get(found[1], ""), self.source)
        return _VALUE.sub(lambda _: f"{scope.value:g}", text)
