"""The acts: what is broken, what must follow, and what it cost. Each returns an `Act`; none tells the engine anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from pipeline.demo.journal import Journal
from pipeline.demo.load import Load, burst
from pipeline.demo.world import World
from pipeline.model.reasons import Reason
from pipeline.model.records import Action, Decision, Outcome

BASE_RATE: Final = 120.0
SURGE_RATE: Final = 360.0
WARM_SECONDS: Final = 6.5  # longer than every window of the rules: a window that is not whole enforces nothing
SURGE_SECONDS: Final = 5.0  # how long load stays high after the first step up
WATCH_SECONDS: Final = 12.0  # how long after a bad release failures are counted, without and with
CALM_SECONDS: Final = 12.0
ATTACKER: Final = "127.0.0.2"
FORBIDDEN: Final = 403


@dataclass
class Act:
    """How one act went. Times in ms after the injection, None where an act has none; `missing` says what did not come."""

    name: str
    injected_at_ms: int
    alert_firing_after_ms: int | None = None
    action_applied_after_ms: int | None = None
    verified_after_ms: int | None = None
    requests: int = 0
    failed_requests: int = 0
    failed_requests_without: int | None = None
    incident_id: str | None = None
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """It ended as told."""
        return not self.missing

    def to_json(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return asdict(self) | {"ok": self.ok}


@dataclass
class Stage:
    """What an act plays on. `say` shows a line to the audience."""

    world: World
    load: Load
    journal: Journal
    say: Callable[[str], None]


async def bad_release_without(stage: Stage) -> int:
    """The control run: v2 breaks while the policy only observes. The number of failed requests."""
    await asyncio.sleep(WARM_SECONDS)
    stage.say("v2 starts to answer 500, and nobody acts (mode: observe)")
    since_ms = _now_ms()
    stage.world.break_things(v2={"error_ratio": 1.0})
    await asyncio.sleep(WATCH_SECONDS)
    failed = _failed(stage.load, since_ms)
    stage.world.break_things()
    # The policy may act as soon as it enforces: what it only watched must be over by then.
    await stage.journal.until(lambda: stage.journal.resolved("CheckoutErrors", since_ms), CALM_SECONDS)
    return failed


async def bad_release(stage: Stage, *, without: int) -> Act:
    """The same with `enforce`: shift away from v2, verify, roll v2 back, verify."""
    await asyncio.sleep(WARM_SECONDS)
    stage.say("the same release breaks again; this time the policy may act (mode: enforce)")
    act = _begin("bad release", failed_requests_without=without)
    stage.world.break_things(v2={"error_ratio": 1.0})
    shift = await _expect_action(stage, act, "shift_traffic", WATCH_SECONDS)
    if shift is not None:
        stage.say(f"traffic shifted: {shift[1].summary}")
    rollback = await _expect_action(stage, act, "roll_back", WATCH_SECONDS)
    if rollback is not None:
        stage.say(f"rolled back: {rollback[1].summary}")
        await _expect_verified(stage, act, rollback[0])
    await asyncio.sleep(max(0.0, WATCH_SECONDS - (_now_ms() - act.injected_at_ms) / 1000))
    _alert(stage, act, "CheckoutErrors")
    stage.world.break_things()
    return _end(stage, act)


async def surge(stage: Stage) -> Act:
    """Load triples; the scaler follows up, and later down."""
    act = _begin("surge")
    stage.say(f"load goes from {BASE_RATE:.0f} to {SURGE_RATE:.0f} requests/s")
    stage.load.rate = SURGE_RATE
    up = await _expect_action(stage, act, "scale", 10.0)
    if up is not None:
        stage.say(f"scaled up: {up[1].summary}")
        await asyncio.sleep(SURGE_SECONDS)
        act.verified_after_ms = await _until_fast(stage, act)
        stage.say(f"it has grown to {stage.journal.applied(act.injected_at_ms, 'scale')[-1][0].desired['replicas']} instances")
    stage.load.rate = BASE_RATE
    stage.say("load falls back; instances go once the stabilization window has passed")
    down_since_ms = _now_ms()
    down = await stage.journal.until(lambda: _first(pair for pair in stage.journal.applied(down_since_ms, "scale") if _shrinks(pair[1])), 20.0)
    if down is None:
        act.missing.append("no instance was removed within 20 s of the load's fall")
    else:
        stage.say(f"scaled down: {down[1].summary}")
    return _end(stage, act)


async def slow_site(stage: Stage) -> Act:
    """Site a becomes slow, then dies: fail over to b, capacity first; when a is well again, back in steps."""
    act = _begin("slow site")
    stage.say("site a becomes slow, and dies two seconds later")
    stage.world.break_things(**{"site:a": {"latency_ms": 400}})
    await asyncio.sleep(2.0)
    stage.world.break_things(**{"site:a": {"dead": True}})
    over = await _expect_action(stage, act, "fail_over", 12.0)
    if over is not None:
        first = next(outcome for action, outcome in stage.journal.applied(act.injected_at_ms) if action.policy == over[0].policy)
        act.action_applied_after_ms = first.applied_at_ms - act.injected_at_ms
        stage.say(f"failed over: {over[1].summary}")
        await asyncio.sleep(2.0)
        act.verified_after_ms = await _until_fast(stage, act)
    _alert(stage, act, "CheckoutSiteSlow")
    stage.say("site a is well again; traffic comes home in steps")
    stage.world.break_things()
    home = await stage.journal.until(
        lambda: _first(pair for pair in stage.journal.applied(act.injected_at_ms, "fail_back") if _at_home(pair[0])), 25.0
    )
    if home is None:
        act.missing.append("traffic did not come back to site a within 25 s")
    else:
        steps = [action.desired["sites"]["a"] for action, _ in stage.journal.applied(act.injected_at_ms, "fail_back")]
        act.notes.append(f"came home in steps of {', '.join(map(str, steps))} %")
        await _until_standby_released(stage, act)
    return _end(stage, act)


async def blind(stage: Stage) -> Act:
    """Metrics stop while load is high: nothing is scaled down, and the reason is on record."""
    stage.load.rate = SURGE_RATE
    stage.say("load is high again ...")
    high_since_ms = _now_ms()
    await stage.journal.until(lambda: _first(stage.journal.applied(high_since_ms, "scale")), 10.0)
    await asyncio.sleep(2.0)
    act = _begin("blind")
    stage.say("... and the services stop reporting")
    stage.world.break_things(report=False)
    held = await stage.journal.until(lambda: stage.journal.decision(act.injected_at_ms, Reason.NO_DATA), 10.0)
    await asyncio.sleep(6.0)  # longer than the stabilization window: a scaler that took silence for zero would have acted by now
    if held is None:
        act.missing.append("no decision says that data is missing")
    else:
        act.notes.append(f"held: {held.text}")
        act.incident_id = held.incident_id or None
    if any(_shrinks(outcome) for _, outcome in stage.journal.applied(act.injected_at_ms, "scale")):
        act.missing.append("instances were removed although nothing was known about the load")
    stage.world.break_things()
    stage.load.rate = BASE_RATE
    return _end(stage, act)


async def break_in(stage: Stage) -> Act:
    """Somebody guesses passwords from one address; it is blocked at the proxy, for a while."""
    act = _begin("break-in")
    stage.say(f"failed logins from {ATTACKER}")
    attack = asyncio.create_task(burst(stage.world.public_port, source=ATTACKER, path="/login", count=40, pause_seconds=0.05))
    block = await _expect_action(stage, act, "block", 8.0)
    if block is not None:
        stage.say(f"blocked: {block[1].summary}")
        answers = await burst(stage.world.public_port, source=ATTACKER, path="/checkout", count=1, pause_seconds=0)
        act.verified_after_ms = _now_ms() - act.injected_at_ms if answers[FORBIDDEN] else None
        if not answers[FORBIDDEN]:
            act.missing.append(f"{ATTACKER} still gets in")
        if not block[0].desired.get("blocked_until_ms"):
            act.missing.append("the block has no end")
        act.notes.append(f"{ATTACKER} is refused until {time.strftime('%H:%M:%S', time.localtime(block[0].desired['blocked_until_ms'] / 1000))}")
    await attack
    fired = next((at_ms for at_ms, fact in stage.journal.alerts_from("sigma", act.injected_at_ms)), None)
    act.alert_firing_after_ms = None if fired is None else fired - act.injected_at_ms
    return _end(stage, act)


# --- what acts share ---


def _begin(name: str, **more: Any) -> Act:
    return Act(name, _now_ms(), **more)


def _end(stage: Stage, act: Act) -> Act:
    hits = stage.load.between(act.injected_at_ms, _now_ms())
    act.requests, act.failed_requests = len(hits), sum(hit.failed for hit in hits)
    incident = stage.journal.incident(act.injected_at_ms)
    act.incident_id = act.incident_id or (incident.id if incident else None)
    return act


async def _expect_action(stage: Stage, act: Act, verb: str, timeout_seconds: float) -> tuple[Action, Outcome] | None:
    pair = await stage.journal.until(
        lambda: _first(pair for pair in stage.journal.applied(act.injected_at_ms, verb) if pair[0].at_ms >= act.injected_at_ms), timeout_seconds
    )
    if pair is None:
        act.missing.append(f"no {verb} was applied within {timeout_seconds:.0f} s")
    elif act.action_applied_after_ms is None:
        act.action_applied_after_ms = pair[1].applied_at_ms - act.injected_at_ms
    return pair


async def _expect_verified(stage: Stage, act: Act, action: Action) -> None:
    verified = await stage.journal.until(lambda: _verified(stage.journal.of(Decision, act.injected_at_ms), action.id), WATCH_SECONDS)
    if verified is None:
        act.missing.append(f"{action.verb} was not verified")
    else:
        act.verified_after_ms = verified.at_ms - act.injected_at_ms


def _alert(stage: Stage, act: Act, name: str) -> None:
    found = stage.journal.firing(name, act.injected_at_ms)
    if found is None:
        act.missing.append(f"alert {name} did not fire")
    else:
        act.alert_firing_after_ms = found[0] - act.injected_at_ms


async def _until_fast(stage: Stage, act: Act) -> int | None:
    """Ms after the injection at which a whole second was served without failure and fast enough; None (and said so) if never."""
    for _ in range(40):
        now_ms = _now_ms()
        hits = stage.load.between(now_ms - 1200, now_ms - 200)
        slow = sum(hit.failed or hit.duration_ms > 250 for hit in hits)
        if hits and slow <= len(hits) * 0.02:
            return now_ms - act.injected_at_ms
        await asyncio.sleep(0.25)
    act.missing.append("service was not fast again within 10 s")
    return None


async def _until_standby_released(stage: Stage, act: Act) -> None:
    """Wait until site b gave back the capacity that it was given for the fail-over."""
    given = [action.target for action, outcome in stage.journal.applied(act.injected_at_ms, "scale") if not _shrinks(outcome)]
    if not given:
        return
    back = await stage.journal.until(
        lambda: _first(pair for pair in stage.journal.applied(act.injected_at_ms, "scale") if _shrinks(pair[1]) and pair[0].target in given), 15.0
    )
    if back is None:
        act.missing.append("site b kept the capacity it was given, 15 s after traffic came home")


def _failed(load: Load, since_ms: int) -> int:
    return sum(hit.failed for hit in load.between(since_ms, _now_ms()))


def _verified(decisions: Iterable[tuple[int, Decision]], action_id: str) -> Decision | None:
    return next((decision for _, decision in decisions if decision.reason is Reason.VERIFIED and decision.action_id == action_id), None)


def _first(pairs: Iterable[tuple[Action, Outcome]]) -> tuple[Action, Outcome] | None:
    return next(iter(pairs), None)


def _shrinks(outcome: Outcome) -> bool:
    before, after = outcome.before or {}, outcome.after or {}
    return int(after.get("replicas", 0)) < int(before.get("replicas", 0))


def _at_home(action: Action) -> bool:
    return bool(action.desired.get("sites", {}).get("a") == 100)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
