"""`label_replace` and `label_join`: rows with one label set anew. Results with equal label sets are refused."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.promql.errors import EvalError
from pipeline.promql.plan import SAME_LABELSET, Cells, Frame, VectorOp
from pipeline.series.matchers import anchored_regex


class _RelabelOp(VectorOp):
    """Sets one label of each row, remembered per label set."""

    def __init__(self, inner: VectorOp, target: str) -> None:
        self._inner = inner
        self._target = target

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        named = self._target == METRIC_NAME
        out = []
        for labels, value, drop in self._inner.rows(frame, at_ms):
            changed = self._changed(labels)
            out.append((labels, value, drop) if changed is None else (changed, value, drop and not named))
        if len({labels for labels, _, _ in out}) != len(out):
            raise EvalError(SAME_LABELSET)
        return out

    def relabelled(self, labels: Labels) -> Labels:
        """The labels as the function leaves them."""
        changed = self._changed(labels)
        return labels if changed is None else changed

    def _changed(self, labels: Labels) -> Labels | None:
        new = self._value(labels)
        return None if new is None else labels.set(self._target, new)

    @abstractmethod
    def _value(self, labels: Labels) -> str | None:
        """The new value, or None to leave the row as it is."""


class LabelReplaceOp(_RelabelOp):
    """`label_replace`."""

    def __init__(self, inner: VectorOp, target: str, template: str, source: str, pattern: str) -> None:
        super().__init__(inner, target)
        self._source = source
        self._regex = anchored_regex(pattern)
        self._template = _template(template, self._regex)

    def _value(self, labels: Labels) -> str | None:
        match = self._regex.fullmatch(labels.get(self._source, ""))
        if match is None:
            return None
        return "".join(part if isinstance(part, str) else match.group(part[0]) or "" for part in self._template)


class LabelJoinOp(_RelabelOp):
    """`label_join`."""

    def __init__(self, inner: VectorOp, target: str, separator: str, sources: Sequence[str]) -> None:
        super().__init__(inner, target)
        self._separator = separator
        self._sources = sources

    def _value(self, labels: Labels) -> str | None:
        return self._separator.join(labels.get(name, "") for name in self._sources)


def _template(text: str, regex: Any) -> list[str | tuple[int]]:
    """Go's expansion template: `$1`, `$name`, `${1}`, `$$`; a group that does not exist is empty."""
    parts: list[str | tuple[int]] = []
    end = 0
    for match in re.finditer(r"\$(?:(\$)|\{(\w+)\}|(\w+))", text):
        parts.append(text[end : match.start()])
        end = match.end()
        if match[1]:
            parts.append("$")
            continue
        name = match[2] or match[3]
        number = int(name) if name.isdecimal() else regex.groupindex.get(name, -1)
        if 0 <= number <= regex.groups:
            parts.append((number,))
    parts.append(text[end:])
    return parts
