"""Prometheus' query API over the detector that runs in this process, so that Grafana and `promtool query` can point at it.

    GET, POST /api/v1/query  /api/v1/query_range  /api/v1/series  /api/v1/labels
    GET       /api/v1/label/<name>/values  /api/v1/rules  /api/v1/alerts  /api/v1/metadata  /api/v1/status/buildinfo

Guarantees: nothing is changed; what is answered is one consistent state (an evaluation is not interrupted by signals, a long range query pauses
between steps so that detection goes on). Where no detector runs here the answer is 503 and says why. Only the windows that rules need are there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from aiohttp import web

from pipeline import __version__
from pipeline.detect import Detector
from pipeline.gateway import prometheus_rules
from pipeline.gateway.prometheus_json import instant_ms, plain, rendered, step_ms, success
from pipeline.model.duration import parse_duration_ms
from pipeline.model.labels import Labels
from pipeline.ports.clock import Clock
from pipeline.promql import Compiled, EvalError, ExprError, Matrix, Notes, Track, compile_expr, parse
from pipeline.promql.tree import Instant
from pipeline.series import Selector, Series

T = TypeVar("T")
Params = Mapping[str, Sequence[str]]
Answer = Callable[[Detector, Params], Awaitable[dict[str, Any]]]
Look = Callable[[], Detector | str]
"""The detector of this process, or why there is none."""

READ_PATHS: Final = frozenset({"/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/api/v1/labels"})
"""Paths on which a POST only reads: Grafana sends long expressions that way."""

SPOKEN: Final = "3.0.0"  # the version of the API; clients choose their requests by it
MAX_POINTS: Final = 11_000
MAX_SERIES: Final = 100_000
STEPS_AT_ONCE: Final = 50
MAX_CELLS: Final = 5_000_000
MAX_SUBQUERY_STEPS: Final = 2_000
_OF_THE_WHOLE_RANGE: Final = re.compile(r"\b(?:start|end|step|range)\s*\(")


class BadRequestError(Exception):
    """A parameter that is missing or wrong."""


class PrometheusApi:
    """The routes. `look` is asked anew for every request."""

    def __init__(self, look: Look, clock: Clock) -> None:
        self._look, self._clock = look, clock

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register all routes."""
        both: dict[str, Answer] = {"query": self._query, "query_range": self._query_range, "series": self._series, "labels": self._labels}
        reads: dict[str, Answer] = {"rules": self._rules, "alerts": self._alerts, "metadata": self._metadata, "status/buildinfo": self._build}
        for name, answer in both.items():
            router.add_post(f"/api/v1/{name}", self._route(answer))
        for name, answer in (both | reads).items():
            router.add_get(f"/api/v1/{name}", self._route(answer))
        router.add_get("/api/v1/label/{name}/values", self._route(self._values))

    def _route(self, answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            detector = self._look()
            if isinstance(detector, str):
                return _error(503, "unavailable", detector)
            try:
                return web.json_response(await answer(detector, await _params(request)))
            except (BadRequestError, ExprError, ValueError) as error:
                if isinstance(error, EvalError):
                    return _error(422, "execution", str(error))
                return _error(400, "bad_data", str(error))

        return handle

    async def _query(self, detector: Detector, params: Params) -> dict[str, Any]:
        at_ms = _instant(params, "time", self._clock.now_ms())
        compiled = _compiled(detector, params)
        _affordable(compiled, detector, 1)
        result = compiled.eval(detector.store, at_ms)
        return success(rendered(result, at_ms), result)

    async def _query_range(self, detector: Detector, params: Params) -> dict[str, Any]:
        start_ms, end_ms = _instant(params, "start"), _instant(params, "end")
        if end_ms < start_ms:
            raise BadRequestError('invalid parameter "end": end timestamp must not be before start time')
        width_ms = _named("step", step_ms, _one(params, "step"))
        if (end_ms - start_ms) // width_ms >= MAX_POINTS:
            raise BadRequestError("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
        compiled = _compiled(detector, params)
        _affordable(compiled, detector, (end_ms - start_ms) // width_ms + 1)
        matrix = await _range(compiled, detector, start_ms, end_ms, width_ms)
        return success(rendered(matrix, end_ms), matrix)

    async def _series(self, detector: Detector, params: Params) -> dict[str, Any]:
        if not params.get("match[]"):
            raise BadRequestError("no match[] parameter provided")
        return success([plain(series.labels) for series in self._matching(detector, params)])

    async def _labels(self, detector: Detector, params: Params) -> dict[str, Any]:
        return success(sorted({name for series in self._matching(detector, params) for name in series.labels}))

    async def _values(self, detector: Detector, params: Params) -> dict[str, Any]:
        name = _one(params, "name")
        if name == "__name__" and not params.get("match[]"):
            return success(sorted(detector.store.metric_names))
        return success(sorted({value for series in self._matching(detector, params) if (value := series.labels.get(name, ""))}))

    async def _rules(self, detector: Detector, params: Params) -> dict[str, Any]:
        return success(prometheus_rules.rules(detector, params))

    async def _alerts(self, detector: Detector, _params: Params) -> dict[str, Any]:
        return success(prometheus_rules.alerts(detector))

    async def _metadata(self, _detector: Detector, _params: Params) -> dict[str, Any]:
        return success({})  # types and help texts are not kept; Grafana asks before it completes names

    async def _build(self, _detector: Detector, _params: Params) -> dict[str, Any]:
        nothing = {"revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}
        return success({"version": SPOKEN, "application": f"reflexarc {__version__}", **nothing})

    @staticmethod
    def _matching(detector: Detector, params: Params) -> list[Series]:
        """Series that any of the selectors accepts and that have a sample in the range."""
        start_ms, end_ms = _instant(params, "start", -(1 << 62)), _instant(params, "end", 1 << 62)
        found: dict[Labels, Series] = {}
        chosen: Iterable[Series] = detector.store
        if params.get("match[]"):
            chosen = (series for text in params["match[]"] for series in detector.store.select(_selector(text)))
        for series in chosen:
            if series.times[-1] >= start_ms and series.times[0] <= end_ms:
                found[series.labels] = series
        limit = int(_one(params, "limit", "0")) or MAX_SERIES
        return [found[labels] for labels in sorted(found)[:limit]]


async def _range(compiled: Compiled, detector: Detector, start_ms: int, end_ms: int, width_ms: int) -> Matrix:
    """A range query in pieces, so that signals can come in between; in one piece where the expression speaks of the range itself."""
    piece_ms = width_ms * (MAX_POINTS if _OF_THE_WHOLE_RANGE.search(compiled.text) else STEPS_AT_ONCE)
    points: dict[Labels, list[tuple[int, float]]] = {}
    warnings: dict[str, None] = {}
    infos: dict[str, None] = {}
    for from_ms in range(start_ms, end_ms + 1, piece_ms):
        matrix = compiled.eval_range(detector.store, from_ms, min(end_ms, from_ms + piece_ms - width_ms), width_ms)
        for track in matrix:
            points.setdefault(track.labels, []).extend(track.points)
        warnings |= dict.fromkeys(matrix.notes.warnings)
        infos |= dict.fromkeys(matrix.notes.infos)
        await asyncio.sleep(0)
    return Matrix([Track(labels, tuple(points[labels])) for labels in sorted(points)], Notes(tuple(warnings), tuple(infos)))


def _affordable(compiled: Compiled, detector: Detector, steps: int) -> None:
    """Refuse what would hold detection up: series read, times steps.

    Raises:
        EvalError: too much.
    """
    cells = steps * sum(len(detector.store.select(read.selector)) for read in compiled.selectors)
    if cells > MAX_CELLS:
        raise EvalError(f"the query would read {cells} series-steps, the limit is {MAX_CELLS}: narrow its selectors or widen its step")


def _compiled(detector: Detector, params: Params) -> Compiled:
    options = replace(detector.promql, max_subquery_steps=MAX_SUBQUERY_STEPS)
    if (look_back := _one(params, "lookback_delta", "")) != "":
        options = replace(options, look_back_ms=_named("lookback_delta", parse_duration_ms, look_back))
    return _named("query", lambda text: compile_expr(text, compat=options.compat, options=options), _one(params, "query"))


def _selector(text: str) -> Selector:
    """The matchers of a `match[]`."""
    root = _named("match[]", parse, text).root
    if not isinstance(root, Instant):
        raise BadRequestError(f'invalid parameter "match[]": {text[:60]!r} is not a series selector')
    return root.selector


def _named(name: str, read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise BadRequestError(f'invalid parameter "{name}": {error}') from None


def _one(params: Params, name: str, default: str | None = None) -> str:
    values = params.get(name)
    if values:
        return values[0]
    if default is None:
        raise BadRequestError(f'invalid parameter "{name}": it is missing')
    return default


def _instant(params: Params, name: str, default: int | None = None) -> int:
    text = _one(params, name, None if default is None else "")
    return default if text == "" and default is not None else _named(name, instant_ms, text)


async def _params(request: web.Request) -> dict[str, list[str]]:
    """Query parameters, those of a form (a POST), and what the path names."""
    found: dict[str, list[str]] = {}
    for name, value in request.query.items():
        found.setdefault(name, []).append(value)
    if request.method == "POST":
        for name, given in (await request.post()).items():
            found.setdefault(name, []).append(given if isinstance(given, str) else "")
    for name, value in request.match_info.items():
        found[name] = [value]
    return found


def _error(status: int, kind: str, reason: str) -> web.Response:
    return web.json_response({"status": "error", "errorType": kind, "error": reason}, status=status)
