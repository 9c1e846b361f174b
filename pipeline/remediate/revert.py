"""The way back: inverses, whether they are valid now, and the overrides that stand until they are taken back.

A revert goes out only while the value in force is still ours and the inverse is valid now: a backend that would get traffic again is not dead, and
replicas do not fall below what demand needs. Undoing a scale-up releases the floor and cuts nothing. Weights that were moved away from a bad
version go home by themselves once a later step of the same run has verifiably replaced that version *and* its backend is seen alive on another
version (`strict`) and is not itself named after the bad one (then it selects instances by version, and nobody serves behind it); otherwise they
stay until an operator releases them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from pipeline.model.reasons import Reason, Verdict
from pipeline.model.records import Action, Outcome, OutcomeStatus, Override
from pipeline.model.target import Target
from pipeline.remediate import dispatch
from pipeline.remediate.arbiter import RETRY_MS
from pipeline.remediate.catalogue import places
from pipeline.remediate.dispatch import Draft
from pipeline.remediate.planners.base import is_dead
from pipeline.remediate.state import Done, Release
from pipeline.remediate.turn import Hold, Launched, Refused, Settled, Turn

HELD_VALUES: Final[Mapping[str, str]] = {
    "shift_traffic": "weights",
    "fail_over": "sites",
    "fail_back": "sites",
    "scale": "replicas",
    "block": "blocked_until_ms",
}
UNDO_VERBS: Final[Mapping[str, str]] = {
    "shift_traffic": "shift_traffic",
    "fail_over": "fail_back",
    "fail_back": "fail_over",
    "scale": "scale",
    "block": "block",
    "roll_back": "deploy",
    "deploy": "deploy",
}
REVERT_TTL_MS: Final = 60_000
UNPROVEN_MS: Final = 60_000
NEVER_MS: Final = 2**60


def inverse(action: Action, outcome: Outcome) -> dict[str, Any] | None:
    """What would undo the action, in the vocabulary of `UNDO_VERBS`; None where nothing can."""
    before = outcome.before or {}
    if action.verb == "block":
        address = action.desired.get("address")
        known = before.get("blocked")
        until_ms = known.get(address, 0) if isinstance(known, Mapping) else before.get("blocked_until_ms", 0)
        return {"address": address, "blocked_until_ms": int(until_ms or 0)}
    if action.verb in {"roll_back", "deploy"}:
        return {"version": before["version"]} if before.get("version") else None
    name = HELD_VALUES.get(action.verb, "")
    return {name: before[name]} if before.get(name) is not None else None


def written(action: Action, outcome: Outcome) -> dict[str, Any]:
    """The value in force because of the action: as read back, else as wished."""
    after = outcome.after or {}
    return {name: after.get(name, value) for name, value in action.desired.items() if name not in {"from", "payload"}}


def came_into_force(turn: Turn, done: Done) -> None:
    """Record the override of an applied action that holds a value."""
    action, outcome = done.action, done.outcome
    if action.verb not in HELD_VALUES or outcome.status is not OutcomeStatus.APPLIED or action.reverts:
        return
    turn.override(
        Override(
            id=action.id,
            group=turn.group,
            target=action.target,
            verb=action.verb,
            value=action.desired,
            owner=action.policy or action.identity,
            at_ms=outcome.applied_at_ms or turn.now_ms,
            inverse=inverse(action, outcome),
            expires_at_ms=action.override_until_ms,
            incident_id=action.incident_id,
            revision=1,
        )
    )


def release_record(turn: Turn, override_id: str) -> None:
    """The override is no longer in force."""
    override = turn.state.overrides.get(override_id)
    if override is not None:
        turn.override(replace(override, released_at_ms=turn.now_ms, revision=override.revision + 1))
    turn.state.releases.pop(override_id, None)
    turn.forget(f"release:{override_id}")


def observed(turn: Turn, target: Target, at_ms: int, value: Mapping[str, Any]) -> None:
    """Somebody else's hand on a target of ours: the override is over, and that is said. Our own later actions on it do not count."""
    moving = any(order.action.target == target and order.phase == "flight" for order in turn.state.orders.values())
    for override in list(turn.state.overrides.values()):
        name = HELD_VALUES[override.verb]
        if moving or override.target != target or at_ms <= override.at_ms or name not in value or override.verb == "block":
            continue
        newer = [done for done in turn.state.done.values() if done.action.target == target and done.action.at_ms > override.at_ms]
        kept = value[name] >= override.value[name] if override.verb == "scale" else _same(value[name], override.value[name])
        if not kept and not newer:
            text = f"Somebody else changed {target}; what {override.owner} had set there is no longer in force."
            turn.decide(Verdict.NOTE, Reason.CONFLICT, text, {"ours": override.value[name], "now": value[name]}, action_id=override.id, target=target)
            release_record(turn, override.id)


def undo(
    turn: Turn, done: Done, *, owner: str, serial: int, identity: str = "reflexarc", wish: Mapping[str, Any] | None = None
) -> Draft | Hold | None:
    """The wish that takes the action back; None when releasing its floor is all there is to do; a Hold when it may not be done."""
    action, outcome = done.action, done.outcome
    back = dict(wish) if wish is not None else inverse(action, outcome)
    if action.verb not in UNDO_VERBS or back is None:
        return Hold(Reason.REVERT_NOT_VALID, f"{action.verb} of {action.target} cannot be undone.", {"before": outcome.before})
    if action.verb == "scale" and back["replicas"] <= written(action, outcome).get("replicas", 0):
        return None
    invalid = _changed_since(turn, done) or _dead_backend(turn, action, back) or _dead_site(turn, action, back)
    if invalid is not None:
        return invalid
    place = turn.scope.places.get(action.target)
    return Draft(
        owner=owner,
        service=place.service if place else "",
        verb=UNDO_VERBS[action.verb],
        target=action.target,
        desired=back,
        ttl_ms=REVERT_TTL_MS,
        direction="up" if action.verb == "scale" else "",
        policy=action.policy,
        incident_id=action.incident_id,
        alert_id=action.alert_id,
        step=action.step,
        serial=serial,
        reason=Reason.REVERT,
        deadline_ms=action.deadline_ms,
        exempt=True,
        reverts=action.id,
        expected=written(action, outcome),
        caused_at_ms=action.caused_at_ms,
        identity=identity,
    )


def _changed_since(turn: Turn, done: Done) -> Hold | None:
    """Whether a later observation shows another value than ours: then it is somebody else's."""
    name = HELD_VALUES.get(done.action.verb, "")
    seen = turn.state.observed.get(str(done.action.target))
    ours = written(done.action, done.outcome).get(name)
    if seen is None or seen.value is None or name not in seen.value or seen.at_ms <= done.outcome.applied_at_ms:
        return None
    if _same(seen.value[name], ours):
        return None
    text = f"{done.action.target} no longer has the value that {done.action.verb} wrote; somebody else changed it, so it is handed over."
    return Hold(Reason.CONFLICT, text, {"ours": ours, "now": seen.value[name]})


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(one.get(key, 0) == other.get(key, 0) for key in {*one, *other})
    return bool(one == other)


def _dead_backend(turn: Turn, action: Action, back: Mapping[str, Any]) -> Hold | None:
    weights = back.get("weights")
    if action.verb != "shift_traffic" or not isinstance(weights, Mapping):
        return None
    for name, weight in weights.items():
        if weight > action.desired["weights"].get(name, 0) and any(is_dead(value) for value in backend_values(turn, action, name)):
            return Hold(
                Reason.REVERT_NOT_VALID, f"Backend {name} has no ready instance, so it gets no traffic back.", {"backend": name, "weight": weight}
            )
    return None


def _dead_site(turn: Turn, action: Action, back: Mapping[str, Any]) -> Hold | None:
    sites = back.get("sites")
    place = turn.scope.places.get(action.target)
    service = turn.scope.services.get(place.service) if place else None
    if not isinstance(sites, Mapping) or service is None:
        return None
    for found in places(service):
        seen = turn.state.observed.get(str(found.target))
        if found.kind == "workload" and sites.get(found.site, 0) > action.desired["sites"].get(found.site, 0) and seen and is_dead(seen.value or {}):
            return Hold(Reason.REVERT_NOT_VALID, f"Site {found.site} has no ready instance, so it gets no traffic back.", {"site": found.site})
    return None


def backend_values(turn: Turn, action: Action, backend: str) -> list[Mapping[str, Any]]:
    """What was read of the workloads that belong to a backend of the action's route."""
    place = turn.scope.places.get(action.target)
    service = turn.scope.services.get(place.service) if place else None
    own = [found for found in places(service) if found.kind == "workload" and found.backend == backend] if service else []
    seen = [turn.state.observed.get(str(found.target)) for found in own]
    return [entry.value for entry in seen if entry is not None and entry.value is not None]


# --- releases: overrides that should go, tried until they can -------------------------------------------------------------------------


def ask_release(turn: Turn, override_id: str, cause: str, *, strict: bool, bad_version: str = "", identity: str = "reflexarc") -> None:
    """Have the override taken back as soon as that is valid."""
    if override_id not in turn.state.releases:
        turn.state.releases[override_id] = Release(override_id, cause, strict, turn.now_ms, bad_version=bad_version, identity=identity)


def advance(turn: Turn) -> None:
    """Let time pass: overrides expire by themselves, releases are tried again."""
    for override in list(turn.state.overrides.values()):
        if override.expires_at_ms and override.expires_at_ms <= turn.now_ms:
            turn.decide(
                Verdict.NOTE, Reason.EXPIRED, f"{override.verb} on {override.target} has expired.", {"value": override.value}, action_id=override.id
            )
            release_record(turn, override.id)
    for release in list(turn.state.releases.values()):
        if release.due_at_ms <= turn.now_ms:
            _try_release(turn, release)


def _try_release(turn: Turn, release: Release) -> None:
    done = turn.state.done.get(release.override_id)
    if release.override_id not in turn.state.overrides or done is None:
        turn.state.releases.pop(release.override_id, None)
        return
    release.serial += 1
    owner = f"release:{release.override_id}"
    hold = _not_proven(turn, release, done)
    if hold is None:
        way = undo(turn, done, owner=owner, serial=release.serial, identity=release.identity)
        if way is None:
            text = f"The floor that {done.action.verb} put under {done.action.target} is released; nothing is cut."
            turn.decide(Verdict.NOTE, Reason.RELEASED, text, {"cause": release.cause}, **dispatch.about(done.action))
            release_record(turn, release.override_id)
            return
        hold = way if isinstance(way, Hold) else dispatch.submit(turn, way)
    if hold is None:
        release.due_at_ms = NEVER_MS
        return
    turn.decide_once(owner, hold, **dispatch.about(done.action))
    release.due_at_ms = turn.now_ms + (UNPROVEN_MS if release.strict else RETRY_MS)
    if hold.reason is Reason.CONFLICT:
        release_record(turn, release.override_id)


def _not_proven(turn: Turn, release: Release, done: Done) -> Hold | None:
    """A release nobody asked for goes only to backends that are seen alive, on another version than the bad one."""
    if not release.strict or done.action.verb != "shift_traffic":
        return None
    back = (inverse(done.action, done.outcome) or {}).get("weights", {})
    for name, weight in back.items():
        if weight <= done.action.desired["weights"].get(name, 0):
            continue
        values = backend_values(turn, done.action, name)
        # A backend that is named after the bad version selects instances by version: once that is rolled back, nobody serves behind it.
        selects_bad = name == release.bad_version
        alive = values and all(value.get("ready", 0) > 0 and value.get("version", release.bad_version) != release.bad_version for value in values)
        if selects_bad or not alive:
            text = (
                f"Backend {name} is not seen alive on another version than {release.bad_version or 'the bad one'}, so its traffic stays where it is."
            )
            return Hold(
                Reason.REVERT_NOT_VALID, text, {"backend": name, "observed": [dict(value) for value in values], "bad_version": release.bad_version}
            )
    return None


def launched(turn: Turn, event: Launched) -> None:
    """Nothing more to do: the action is on its way."""


def refused(turn: Turn, event: Refused) -> None:
    """Try again later."""
    release = turn.state.releases.get(event.order.action.reverts)
    if release is not None:
        release.due_at_ms = turn.now_ms + RETRY_MS
        turn.decide_once(event.order.owner, event.hold, **dispatch.about(event.order.action))


def settled(turn: Turn, event: Settled) -> None:
    """The inverse is in force: the override is gone. A conflict hands it over; anything else is tried again."""
    action, status = event.order.action, event.outcome.status
    release = turn.state.releases.get(action.reverts)
    if status in dispatch.IN_FORCE:
        text = f"{action.verb} on {action.target} is released: {release.cause if release else 'asked for'}."
        turn.decide(Verdict.NOTE, Reason.RELEASED, text, {"value": action.desired}, **dispatch.about(action))
        release_record(turn, action.reverts)
    elif status is OutcomeStatus.CONFLICT:
        turn.notice(f"{action.target} was changed by somebody else", f"{dispatch.describe(action)} was handed over.", incident_id=action.incident_id)
        release_record(turn, action.reverts)
    elif release is not None:
        release.due_at_ms = turn.now_ms + UNPROVEN_MS
