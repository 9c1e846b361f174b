"""Prometheus' query API as Grafana sees it: a real server over a real detector."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from pipeline.detect import DetectOptions, Detector
from pipeline.gateway import Gateway
from pipeline.gateway.prometheus_json import exponent_text, instant_ms, number_text, step_ms
from pipeline.model.labels import Labels
from pipeline.model.signals import SignalBatch
from pipeline.rulebook.config_spec import Gateway as Config
from pipeline.rulebook.load import load_rulebook
from pipeline.telemetry import Telemetry
from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock

PROMTOOL = shutil.which("promtool")
START_MS = 1_767_225_600_000
NOW_MS = START_MS + 60_000
RULES = """
groups:
  - name: shop
    interval: 5s
    labels: {team: a}
    rules:
      - {record: total, expr: sum(up), labels: {from: rule}}
      - {alert: Down, expr: 'up == 0', for: 10s, labels: {severity: page}, annotations: {text: "{{ $labels.service }} is {{ $value }}"}}
      - {alert: Fine, expr: 'up > 5'}
  - name: broken
    interval: 5s
    rules: [{record: never, expr: 'up * on () up'}]
"""


def detector() -> Detector:
    book = load_rulebook({"rules.yml": RULES}, known_metrics=["*"]).book
    assert book is not None
    made = Detector(book, DetectOptions(grid_delay_ms=0))
    for at_ms in range(START_MS, NOW_MS + 1, 5000):
        rows = [(Labels.of(__name__="up", service=name), value) for name, value in (("api", 1.0), ("web", 0.0))]
        made.feed(SignalBatch([labels for labels, _ in rows], [at_ms] * 2, [value for _, value in rows]), at_ms)
        made.advance(at_ms)
    return made


@asynccontextmanager
async def serving(look: Any = None, **config: object) -> AsyncIterator[aiohttp.ClientSession]:
    seen = detector() if look is None else look
    clock = FakeClock(NOW_MS)
    gateway = Gateway(FakeBus(clock), Config(listen="127.0.0.1:0", **config), clock=clock, telemetry=Telemetry(), look=lambda: seen)
    await gateway.start()
    try:
        async with aiohttp.ClientSession(gateway.url) as session:
            yield session
    finally:
        await gateway.close()


async def get(session: aiohttp.ClientSession, path: str, **params: Any) -> tuple[int, Any]:
    async with session.get(f"/api/v1/{path}", params=params) as answer:
        return answer.status, await answer.json()


async def test_an_instant_query_is_answered_in_prometheus_shape() -> None:
    async with serving() as session:
        assert await get(session, "query", query="up", time=str(NOW_MS / 1000)) == (
            200,
            {
                "status": "success",
                "data": {
                    "resultType": "vector",
                    "result": [
                        {"metric": {"__name__": "up", "service": "api"}, "value": [1767225660, "1"]},
                        {"metric": {"__name__": "up", "service": "web"}, "value": [1767225660, "0"]},
                    ],
                },
            },
        )


@pytest.mark.parametrize(
    ("query", "data"),
    [
        pytest.param("1 / 3", {"resultType": "scalar", "result": [1767225660, "0.3333333333333333"]}, id="scalar"),
        pytest.param("'text'", {"resultType": "string", "result": [1767225660, "text"]}, id="string"),
        pytest.param(
            'up{service="api"}[10s]',
            {
                "resultType": "matrix",
                "result": [{"metric": {"__name__": "up", "service": "api"}, "values": [[1767225655, "1"], [1767225660, "1"]]}],
            },
            id="matrix",
        ),
    ],
)
async def test_every_type_of_result_has_its_shape_and_now_is_the_default(query: str, data: Any) -> None:
    async with serving() as session:
        assert (await get(session, "query", query=query))[1]["data"] == data


async def test_a_form_posted_is_a_query_too() -> None:
    async with serving() as session, session.post("/api/v1/query", data={"query": "sum(up)", "time": "2026-01-01T00:01:00Z"}) as answer:
        assert (await answer.json())["data"]["result"] == [{"metric": {}, "value": [1767225660, "1"]}]


async def test_a_range_query_longer_than_one_piece_is_one_answer() -> None:
    async with serving() as session:
        start, end = START_MS / 1000, NOW_MS / 1000
        _, answer = await get(session, "query_range", query="sum(up) + 0 * time()", start=str(start), end=str(end), step="500ms")
        (series,) = answer["data"]["result"]
        assert [at for at, _ in series["values"]] == [start + number / 2 for number in range(121)]
        _, whole = await get(session, "query_range", query="sum(up @ end())", start=str(start), end=str(end), step="0.5")
        assert [value for _, value in whole["data"]["result"][0]["values"]] == ["1"] * 121


@pytest.mark.parametrize(
    ("path", "params", "status", "kind", "part"),
    [
        pytest.param("query", {}, 400, "bad_data", 'invalid parameter "query"', id="no query"),
        pytest.param("query", {"query": "sum("}, 400, "bad_data", 'invalid parameter "query"', id="no expression"),
        pytest.param("query", {"query": "up", "time": "soon"}, 400, "bad_data", 'cannot parse "soon" to a valid timestamp', id="no time"),
        pytest.param("query", {"query": "up * on () up"}, 422, "execution", "many-to-many", id="an evaluation that fails"),
        pytest.param("query_range", {"query": "up", "start": "2", "end": "1", "step": "1"}, 400, "bad_data", "must not be before", id="backwards"),
        pytest.param("query_range", {"query": "up", "start": "1", "end": "2", "step": "0"}, 400, "bad_data", "zero or negative", id="no step"),
        pytest.param("query_range", {"query": "up", "start": "0", "end": "99999", "step": "1"}, 400, "bad_data", "exceeded maximum", id="too fine"),
        pytest.param("series", {}, 400, "bad_data", "no match[] parameter provided", id="series of nothing"),
        pytest.param("series", {"match[]": "sum(up)"}, 400, "bad_data", "is not a series selector", id="series of an expression"),
    ],
)
async def test_a_mistake_is_told_as_prometheus_tells_it(path: str, params: dict[str, str], status: int, kind: str, part: str) -> None:
    async with serving() as session:
        got, answer = await get(session, path, **params)
        assert (got, answer["status"], answer["errorType"]) == (status, "error", kind)
        assert part in answer["error"]


async def test_series_labels_and_values_can_be_browsed() -> None:
    async with serving() as session:
        series = (await get(session, "series", **{"match[]": 'up{service="api"}'}))[1]["data"]
        assert series == [{"__name__": "up", "service": "api"}]
        assert {"__name__", "service", "from"} <= set((await get(session, "labels"))[1]["data"])
        assert (await get(session, "labels", **{"match[]": "up"}))[1]["data"] == ["__name__", "service"]
        assert (await get(session, "label/service/values", **{"match[]": "up"}))[1]["data"] == ["api", "web"]
        assert {"up", "total", "ALERTS"} <= set((await get(session, "label/__name__/values"))[1]["data"])
        assert (await get(session, "series", **{"match[]": "up", "end": str(START_MS / 1000 - 1)}))[1]["data"] == []


async def test_rules_show_state_health_and_alerts() -> None:
    async with serving() as session:
        groups = (await get(session, "rules"))[1]["data"]["groups"]
        assert [(group["name"], group["file"], group["interval"]) for group in groups] == [("shop", "rules.yml", 5), ("broken", "rules.yml", 5)]
        record, down, fine = groups[0]["rules"]
        assert (record["type"], record["name"], record["query"], record["labels"], record["health"]) == (
            "recording",
            "total",
            "sum(up)",
            {"team": "a", "from": "rule"},
            "ok",
        )
        assert (down["type"], down["state"], down["duration"], down["health"]) == ("alerting", "firing", 10, "ok")
        assert down["lastEvaluation"] == "2026-01-01T00:01:00.000Z"
        assert fine["state"] == "inactive"
        assert down["alerts"] == (await get(session, "alerts"))[1]["data"]["alerts"]
        (alert,) = down["alerts"]
        assert alert["labels"] == {"alertname": "Down", "service": "web", "severity": "page", "team": "a"}
        assert (alert["state"], alert["value"], alert["annotations"]) == ("firing", "0e+00", {"text": "web is 0"})
        assert groups[1]["rules"][0]["health"] == "err"
        assert "many-to-many" in groups[1]["rules"][0]["lastError"]


async def test_rules_can_be_narrowed() -> None:
    async with serving() as session:
        only = (await get(session, "rules", type="alert", exclude_alerts="true"))[1]["data"]["groups"]
        assert [rule["name"] for group in only for rule in group["rules"]] == ["Down", "Fine"]
        assert "alerts" not in only[0]["rules"][0]
        named = (await get(session, "rules", **{"rule_name[]": "total"}))[1]["data"]["groups"]
        assert [rule["name"] for group in named for rule in group["rules"]] == ["total"]


async def test_a_query_that_would_hold_detection_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.gateway.prometheus_api.MAX_CELLS", 100)
    async with serving() as session:
        assert (await get(session, "query", query="up"))[0] == 200
        status, answer = await get(session, "query_range", query="up", start="1767225600", end="1767225660", step="1")
        assert (status, answer["errorType"]) == (422, "execution")
        assert "122 series-steps, the limit is 100" in answer["error"]
        status, answer = await get(session, "query", query="max_over_time(up[1d:1s])")
        assert (status, answer["errorType"]) == (422, "execution")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on the PATH: its queries were NOT tried against the gateway")
async def test_promtool_can_query_it() -> None:
    async with serving() as session:
        url = str(session._base_url)
        for args, expected in (
            (("instant", url, "up", "--time=1767225660"), 'up{service="api"} => 1 @[1767225660]\nup{service="web"} => 0 @[1767225660]\n'),
            (
                ("range", "--start=1767225650", "--end=1767225660", "--step=5s", url, "sum(up)"),
                "{} =>\n1 @[1767225650]\n1 @[1767225655]\n1 @[1767225660]\n",
            ),
            (
                ("series", "--match=up", "--start=1767225600", "--end=1767225660", url),
                '{__name__="up", service="api"}\n{__name__="up", service="web"}\n',
            ),
            (("labels", "--start=1767225600", "--end=1767225660", url, "team"), "a\n"),
        ):
            process = await asyncio.create_subprocess_exec(
                str(PROMTOOL), "query", *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            out, err = await process.communicate()
            assert (process.returncode, out.decode(), err.decode()) == (0, expected, "")


async def test_where_no_detector_runs_the_answer_is_503_and_says_why() -> None:
    async with serving("detection does not run in this process") as session:
        status, answer = await get(session, "query", query="up")
        assert (status, answer["errorType"], answer["error"]) == (503, "unavailable", "detection does not run in this process")


async def test_clients_learn_which_api_is_spoken() -> None:
    async with serving() as session:
        data = (await get(session, "status/buildinfo"))[1]["data"]
        assert data["version"] == "3.0.0"
        assert data["application"].startswith("reflexarc")


async def test_a_viewer_may_post_queries_and_nothing_else() -> None:
    async with serving(tokens={"viewer": "look", "operator": "do"}) as session:
        headers = {"Authorization": "Bearer look"}
        async with session.post("/api/v1/query", data={"query": "up"}, headers=headers) as answer:
            assert answer.status == 200
        async with session.post("/api/v1/signals", data=b"{}", headers=headers) as answer:
            assert answer.status == 403
        async with session.get("/api/v1/rules") as answer:
            assert answer.status == 401


async def test_a_long_range_query_lets_others_come_in_between() -> None:
    async with serving() as session:
        long = asyncio.create_task(get(session, "query_range", query="sum(up)", start="1767225600", end="1767236000", step="1"))
        short = await get(session, "query", query="1")
        assert short[0] == 200
        assert (await long)[0] == 200


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (-0.0, "-0"), (1e21, "1e+21"), (123456789012345680000.0, "123456789012345680000"), (1e-7, "1e-07"), (0.000001, "0.000001"),
     (1.5e-300, "1.5e-300"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (float("nan"), "NaN"), (0.1, "0.1"), (1.2345e22, "1.2345e+22")],
)  # fmt: skip
def test_numbers_are_spelled_as_prometheus_spells_them(value: float, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(("value", "text"), [(1.0, "1e+00"), (0.0, "0e+00"), (-1234.5, "-1.2345e+03"), (float("nan"), "NaN"), (1e-7, "1e-07")])
def test_values_of_alerts_have_an_exponent(value: float, text: str) -> None:
    assert exponent_text(value) == text


def test_instants_and_steps_are_read_in_both_spellings() -> None:
    assert instant_ms("1767225600.5") == instant_ms("2026-01-01T00:00:00.5Z") == instant_ms("2026-01-01T01:00:00.5+01:00") == START_MS + 500
    assert (step_ms("15"), step_ms("0.5"), step_ms("1m30s")) == (15_000, 500, 90_000)
    for bad in ("", "x", "1e300", "nan"):
        with pytest.raises(ValueError, match="cannot parse"):
            instant_ms(bad)
    for bad in ("0", "-1", "x", "0s"):
        with pytest.raises(ValueError, match=r"cannot parse|zero or negative"):
            step_ms(bad)
