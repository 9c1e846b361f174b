"""What a template sees: the alert's labels and value, the outside, and a way to query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.model.labels import EMPTY, Labels
from pipeline.promql import Row


@dataclass(frozen=True, slots=True)
class Scope:
    """`query` evaluates a PromQL text at the instant of the evaluation; it may raise PromQLError."""

    external_labels: Labels
    external_url: str
    query: Callable[[str], Sequence[Row]]
    labels: Labels = EMPTY
    value: float = 0.0
    at_ms: int = 0

    def about(self, labels: Labels, value: float) -> Scope:
        """The scope of one element."""
        return replace(self, labels=labels, value=value)
