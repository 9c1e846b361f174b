"""`info(v, {matchers})`: rows enriched with the labels of the info metric of the same `instance` and `job` (experimental in Prometheus)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from pipeline.model.labels import METRIC_NAME, Labels
from pipeline.promql.errors import EvalError
from pipeline.promql.plan import SAME_LABELSET, Cells, Frame, Options, VectorOp
from pipeline.promql.selectors import InstantOp, moved
from pipeline.promql.tree import Instant, Node, Subquery, children
from pipeline.series import Matcher, MatchOp, Selector

_IDENTITY: Final = ("instance", "job")
_DEFAULT: Final = Matcher(METRIC_NAME, MatchOp.EQUAL, "target_info")

_Key = tuple[str, ...]


class InfoOp(VectorOp):
    """Adds to each row the labels that its info series have and it has not."""

    def __init__(self, inner: VectorOp, base: Node, matchers: Sequence[Matcher], options: Options) -> None:
        self._inner = inner
        named = [matcher for matcher in matchers if matcher.name == METRIC_NAME]
        self._is_info = Selector(named) if named or matchers else Selector([_DEFAULT])
        self._skips = bool(named) or not matchers
        self._wanted = [matcher for matcher in matchers if matcher.name != METRIC_NAME]
        self._infos = InstantOp(Instant(Selector([*(named or [_DEFAULT]), *self._wanted])), options)
        self._moves = _moves(base) or []

    def rows(self, frame: Frame, at_ms: int) -> list[Cells]:
        rows = self._inner.rows(frame, at_ms)
        infos = self._by_identity(frame, at_ms)
        out: list[Cells] = []
        for labels, value, drop in rows:
            if self._skips and self._is_info.accepts(Labels.of({METRIC_NAME: labels.metric_name})):
                out.append((labels, value, drop))
                continue
            found = infos.get(_identity(labels), {})
            if found or all(matcher.matches("") for matcher in self._wanted):
                out.append((self._enriched(labels, found.values()), value, drop))
        if len({labels for labels, _, _ in out}) != len(out):
            raise EvalError(SAME_LABELSET)
        return out

    def _by_identity(self, frame: Frame, at_ms: int) -> dict[_Key, dict[str, Labels]]:
        """The newest info series of each metric name, by instance and job."""
        for move in self._moves:  # info series are read at the instant that the base's first selector means
            at_ms = moved(frame, at_ms, at=move.at, offset_ms=move.offset_ms)
        newest: dict[_Key, dict[str, tuple[int, Labels]]] = defaultdict(dict)
        for labels, _, taken in self._infos.stamped(frame, at_ms):
            group = newest[_identity(labels)]
            other = group.get(labels.metric_name)
            if other is not None and other[0] == taken:
                raise EvalError(f"found duplicate series for info metric: existing {other[1]} @ {taken}, new {labels} @ {taken}")
            if other is None or other[0] < taken:
                group[labels.metric_name] = taken, labels
        return {key: {name: labels for name, (_, labels) in group.items()} for key, group in newest.items()}

    def _enriched(self, labels: Labels, infos: Iterable[Labels]) -> Labels:
        wanted = {matcher.name for matcher in self._wanted}
        added: dict[str, str] = {}
        for info in infos:
            for name, value in info.pairs:
                if name == METRIC_NAME or name in labels or (wanted and name not in wanted):
                    continue
                if added.setdefault(name, value) != value:
                    raise EvalError(f"conflicting label: {name}")
        return Labels.of({**added, **dict(labels.pairs)})


def _moves(node: Node) -> list[Instant | Subquery] | None:
    """The selector that is first below a node and the subqueries around it, outermost first; None without a selector."""
    if isinstance(node, Instant):
        return [node]
    for child in children(node):
        below = _moves(child)
        if below is not None:
            return [node, *below] if isinstance(node, Subquery) else below
    return None


def _identity(labels: Labels) -> _Key:
    return tuple(labels.get(name, "") for name in _IDENTITY)
