"""One suite for every connector: the imagined one, real processes, a real Envoy, and (where nothing can be read) a webhook."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from connectors import registry
from connectors.endpoints import Endpoint, write_endpoints
from pipeline.execute.changes import from_mapping, is_in_force, to_mapping
from pipeline.model.target import Target
from pipeline.ports.connector import Change, Conflict, Connector, Fence, Following, Observed, Permanent, Unknown
from pipeline.runtime.clock import SystemClock
from tests.fakes import workloads
from tests.fakes.connector import FakeConnector, World
from tests.fakes.edge import Edge
from tests.fakes.workloads import process_settings, stop, workload

FAR_MS = 4_102_444_800_000


@dataclass(frozen=True)
class Case:
    """A verb on a target that changes something, and what somebody else may do there meanwhile."""

    target: str
    verb: str
    desired: Mapping[str, Any]
    foreign: Mapping[str, Any]
    foreign_verb: str = ""

    @property
    def at(self) -> Target:
        return Target.parse(self.target)


@dataclass
class Rig:
    connector: Connector
    cases: list[Case]
    another: Callable[[], Connector]  # the same system, seen by somebody else
    unknown: Target
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def change(self, case: Case, *, by: Connector | None = None, foreign: bool = False, key: str = "k", fence: int = 1) -> Observed:
        """Read, plan, apply."""
        connector = by or self.connector
        verb = (foreign and case.foreign_verb) or case.verb
        change = await self.planned(case, by=connector, verb=verb, desired=case.foreign if foreign else case.desired)
        return await connector.apply(change, key=key, fence=fence, deadline_ms=10_000)

    async def planned(self, case: Case, *, by: Connector | None = None, verb: str = "", desired: Mapping[str, Any] | None = None) -> Change:
        connector = by or self.connector
        observed = await connector.read(case.at)
        change = connector.plan(case.at, verb or case.verb, observed, case.desired if desired is None else desired)
        assert change is not None
        return change


def _fake() -> Rig:
    world = World(
        {
            Target.parse("fake://workload/shop"): {"replicas": 2, "ready": 2, "version": "v2", "previous_version": "v1", "restart_key": ""},
            Target.parse("fake://route/shop"): {"weights": {"v1": 80, "v2": 20}},
            Target.parse("fake://sites/shop"): {"sites": {"a": 100, "b": 0}},
            Target.parse("fake://blocklist/shop"): {"blocked": {}},
        }
    )
    cases = [
        Case("fake://workload/shop", "scale", {"replicas": 3}, {"replicas": 1}),
        Case("fake://workload/shop", "roll_back", {"version": "previous", "from": "v2"}, {"version": "v3"}, "deploy"),
        Case("fake://route/shop", "shift_traffic", {"weights": {"v1": 100, "v2": 0}}, {"weights": {"v1": 50, "v2": 50}}),
        Case("fake://sites/shop", "fail_over", {"sites": {"a": 0, "b": 100}}, {"sites": {"a": 50, "b": 50}}),
        Case(
            "fake://blocklist/shop",
            "block",
            {"address": "127.0.0.2", "blocked_until_ms": FAR_MS},
            {"address": "127.0.0.3", "blocked_until_ms": FAR_MS},
        ),
    ]
    return Rig(FakeConnector("fake", world=world), cases, lambda: FakeConnector("fake", world=world), Target.parse("fake://workload/gone"))


def _file(folder: Path) -> Rig:
    documents = {
        "shop": {"replicas": 2, "version": "v2", "previous_version": "v1", "restart_key": "", "blocked": {}},
        "route": {"weights": {"v1": 80, "v2": 20}, "sites": {"a": 100, "b": 0}},
    }

    def made() -> Connector:
        return registry.build("files", "file", {"dir": str(folder / "documents"), "documents": documents}, clock=SystemClock())

    cases = [
        Case("files://document/shop", "scale", {"replicas": 3}, {"replicas": 1}),
        Case("files://document/shop", "restart", {"restart_key": "again"}, {"restart_key": "other"}),
        Case("files://document/shop", "roll_back", {"version": "previous", "from": "v2"}, {"version": "v3"}, "deploy"),
        Case(
            "files://document/shop",
            "block",
            {"address": "127.0.0.2", "blocked_until_ms": FAR_MS},
            {"address": "127.0.0.3", "blocked_until_ms": FAR_MS},
        ),
        Case("files://document/route", "shift_traffic", {"weights": {"v1": 100, "v2": 0}}, {"weights": {"v1": 50, "v2": 50}}),
        Case("files://document/route", "fail_over", {"sites": {"a": 0, "b": 100}}, {"sites": {"a": 50, "b": 50}}),
    ]
    return Rig(made(), cases, made, Target.parse("files://document/gone"))


async def _process(folder: Path) -> Rig:
    settings = process_settings(folder, shop=workload(replicas=1), cart=workload(replicas=1))
    connector, target, cart = workloads.process(settings), "local://workload/shop", "local://workload/cart"
    rig = Rig(
        connector,
        [
            Case(target, "scale", {"replicas": 2}, {"replicas": 0}),
            Case(target, "deploy", {"version": "v3"}, {"version": "v4"}),
            Case(cart, "roll_back", {"version": "previous", "from": "v2"}, {"version": "v4"}, "deploy"),
            Case(target, "restart", {"restart_key": "again"}, {"restart_key": "other"}),
        ],
        lambda: workloads.process(settings),
        Target.parse("local://workload/gone"),
    )
    await rig.change(Case(cart, "deploy", {"version": "v2"}, {}))  # so that there is something to roll back
    return rig


async def _envoy(folder: Path, binary: Path) -> Rig:
    edge = Edge(binary, folder)
    write_endpoints(folder / "endpoints.json", [Endpoint("shop", "shop", site, "v1", "127.0.0.1", 9, True) for site in ("a", "b")])
    connector = edge.connector()
    edge.start()

    async def close() -> None:
        edge.close()

    cases = [
        Case("edge://route/shop", "shift_traffic", {"weights": {"v1": 100}}, {"weights": {"v1": 50, "v2": 50}}),
        Case("edge://sites/shop", "fail_over", {"sites": {"b": 100}}, {"sites": {"a": 50, "b": 50}}),
        Case(
            "edge://blocklist/shop",
            "block",
            {"address": "127.0.0.2", "blocked_until_ms": FAR_MS},
            {"address": "127.0.0.3", "blocked_until_ms": FAR_MS},
        ),
    ]
    return Rig(connector, cases, edge.connector, Target.parse("edge://route/gone"), [close])


@pytest.fixture(params=["fake", "file", "process", "envoy"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    if request.param == "fake":
        made = _fake()
    elif request.param == "file":
        made = _file(tmp_path)
    elif request.param == "process":
        made = await _process(tmp_path)
    else:
        made = await _envoy(tmp_path, request.getfixturevalue("envoy_binary"))
    yield made
    await made.connector.close()
    for close in made.closing:
        await close()
    stop(tmp_path)


async def test_every_verb_leads_from_what_is_read_to_what_is_desired(rig: Rig) -> None:
    for case in rig.cases:
        change = await rig.planned(case)
        assert change.target == case.at
        assert change.summary
        after = await rig.connector.apply(change, key="k", fence=1, deadline_ms=10_000)
        assert after == await rig.connector.read(case.at)
        assert is_in_force(rig.connector, case.at, case.verb, after, change.after)
        assert not is_in_force(rig.connector, case.at, case.verb, after, change.before)


async def test_what_is_there_already_needs_no_change(rig: Rig) -> None:
    for case in rig.cases:
        observed = await rig.change(case)
        assert rig.connector.plan(case.at, case.verb, observed, case.desired) is None


async def test_planning_changes_nothing_and_gives_the_same_again(rig: Rig) -> None:
    for case in rig.cases:
        before = await rig.connector.read(case.at)
        first = await rig.planned(case)
        assert await rig.planned(case) == first
        assert await rig.connector.read(case.at) == before


async def test_a_change_applied_twice_is_applied_once(rig: Rig) -> None:
    for case in rig.cases:
        change = await rig.planned(case)
        first = await rig.connector.apply(change, key="k", fence=1, deadline_ms=10_000)
        assert await rig.connector.apply(change, key="k", fence=1, deadline_ms=10_000) == first


async def test_a_change_and_its_inverse_leave_what_was_before(rig: Rig) -> None:
    for case in rig.cases:
        before, change = await rig.connector.read(case.at), await rig.planned(case)
        await rig.connector.apply(change, key="k", fence=1, deadline_ms=10_000)
        assert (change.inverse is not None) == (case.verb in rig.connector.info.invertible)
        if change.inverse is None:
            continue
        back = await rig.planned(case, desired=change.inverse)
        after = await rig.connector.apply(back, key="k2", fence=1, deadline_ms=10_000)
        for key in set(before.value) - {"previous_version", "ready"}:
            assert after.value[key] == before.value[key]


async def test_somebody_elses_change_is_a_conflict_and_stays(rig: Rig) -> None:
    somebody = rig.another()
    for case in rig.cases:
        change = await rig.planned(case)
        theirs = await rig.change(case, by=somebody, foreign=True)
        with pytest.raises(Conflict):
            await rig.connector.apply(change, key="k", fence=1, deadline_ms=10_000)
        assert (await rig.connector.read(case.at)).value == theirs.value
    await somebody.close()


async def test_a_stale_owner_is_kept_out_where_the_fence_is_enforced(rig: Rig) -> None:
    assert rig.connector.info.fence is Fence.ENFORCED
    for case in rig.cases:
        await rig.change(case, fence=7)
        change = await rig.planned(case, verb=case.foreign_verb or case.verb, desired=case.foreign)
        with pytest.raises(Conflict, match="newer owner"):
            await rig.connector.apply(change, key="k2", fence=6, deadline_ms=10_000)


async def test_an_unknown_target_is_permanent(rig: Rig) -> None:
    with pytest.raises(Permanent, match="unknown target"):
        await rig.connector.read(rig.unknown)


async def test_an_unknown_verb_is_permanent(rig: Rig) -> None:
    observed = await rig.connector.read(rig.cases[0].at)
    with pytest.raises(Permanent):
        rig.connector.plan(rig.cases[0].at, "configure", observed, {})


async def test_a_wish_without_its_value_is_permanent(rig: Rig) -> None:
    for case in rig.cases:
        observed = await rig.connector.read(case.at)
        with pytest.raises((Permanent, KeyError)):
            rig.connector.plan(case.at, case.verb, observed, {})


async def test_changes_and_observations_are_plain_data(rig: Rig) -> None:
    for case in rig.cases:
        change = await rig.planned(case)
        assert from_mapping(json.loads(json.dumps(to_mapping(change)))) == change
        json.dumps(dict((await rig.connector.read(case.at)).value))


async def test_a_deadline_that_passes_is_unknown_and_reading_back_tells(rig: Rig) -> None:
    case = rig.cases[0]
    if isinstance(rig.connector, FakeConnector):
        rig.connector.hang = True
    at_once = rig.connector.info.name == "file"  # a local move takes no time
    change = await rig.planned(case)
    with contextlib.nullcontext() if at_once else pytest.raises(Unknown):
        await rig.connector.apply(change, key="k", fence=1, deadline_ms=0)
    observed = await rig.connector.read(case.at)
    forms = [is_in_force(rig.connector, case.at, case.verb, observed, side) for side in (change.before, change.after)]
    assert forms in ([True, False], [False, True])


async def test_somebody_who_starts_anew_sees_the_same(rig: Rig) -> None:
    for case in rig.cases:
        observed = await rig.change(case)
        again = rig.another()
        assert await again.read(case.at) == observed
        await again.close()


async def test_what_is_discovered_can_be_read(rig: Rig) -> None:
    found = await rig.connector.discover()
    assert {case.at for case in rig.cases} <= {one.target for one in found}
    for one in found:
        assert (await rig.connector.read(one.target)).value.keys() == one.observed.keys()


async def test_closing_twice_is_harmless(rig: Rig) -> None:
    await rig.connector.close()
    await rig.connector.close()


# --- every kind in the registry, and what cannot be read ---


@pytest.mark.parametrize("kind", registry.kinds())
def test_a_kind_says_statically_what_it_is(kind: str) -> None:
    info = registry.info(kind)
    assert info.name == kind
    assert info.summary
    assert info.verbs
    assert info.invertible <= info.verbs.keys()
    assert info.config_model.model_json_schema()["additionalProperties"] is False


@pytest.mark.parametrize("kind", registry.kinds())
def test_an_unknown_setting_is_an_error(kind: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        registry.build("x", kind, {"no_such_setting": 1}, clock=SystemClock())


@pytest.mark.parametrize(("kind", "follows"), [("process", True), ("envoy", True), ("webhook", False)])
def test_a_kind_that_keeps_something_up_to_date_says_so(kind: str, follows: bool, tmp_path: Path) -> None:
    settings = {
        "process": process_settings(tmp_path, shop=workload()),
        "envoy": {"dir": str(tmp_path), "routes": {"shop": {"clusters": {"v1": "shop_v1"}, "weights": {"v1": 100}}}},
        "webhook": {"hooks": {"shop": "http://127.0.0.1:9/"}},
    }[kind]
    assert isinstance(registry.build("x", kind, settings, clock=SystemClock()), Following) == follows


async def test_a_webhook_is_called_once_per_key_and_never_counts_as_there() -> None:
    arrived: dict[str, Any] = {}

    async def receive(request: web.Request) -> web.Response:
        arrived.setdefault(request.headers["Idempotency-Key"], await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    connector = registry.build("ops", "webhook", {"hooks": {"page": f"http://127.0.0.1:{port}/hook"}}, clock=SystemClock())
    target = Target.parse("ops://hook/page")
    observed = await connector.read(target)
    change = connector.plan(target, "call", observed, {"payload": {"why": "test"}})
    assert change is not None
    assert from_mapping(json.loads(json.dumps(to_mapping(change)))) == change
    for _ in range(2):
        await connector.apply(change, key="a1", fence=1, deadline_ms=5000)
    assert arrived == {"a1": {"id": "a1", "verb": "call", "fence": 1, "payload": {"why": "test"}}}
    assert connector.plan(target, "call", await connector.read(target), {"payload": {"why": "test"}}) is not None
    with pytest.raises(Permanent, match="unknown target"):
        await connector.read(Target.parse("ops://hook/gone"))
    await connector.close()
    await connector.close()
    await runner.cleanup()
