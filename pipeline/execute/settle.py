"""`Settler`: brings one intent to its end. Read, plan, log the plan, write, and whatever an error asks for.

Theory of operation. Before the first write nothing outside has changed, so any crash simply starts over. The plan is durable before the first
write; from then on the truth is at the target, and what it shows decides: `after` in force = done, `before` in force = not done yet, anything else =
somebody else's. A target that cannot be read (empty `before`) gets one write only: after an unknown end it is reported, never repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.execute import outcomes
from pipeline.execute.changes import from_mapping, is_in_force, to_mapping
from pipeline.execute.outcomes import Ending
from pipeline.execute.permits import Grants, Refusal, refusal
from pipeline.model.reasons import Reason
from pipeline.model.records import Action, OutcomeStatus
from pipeline.ports.clock import Clock
from pipeline.ports.connector import Change, Conflict, Connector, ConnectorError, Observed, Permanent, Temporary, Unknown
from pipeline.ports.execution import FaultPoint, Intent, IntentLog, KillSwitch

_FIRST_PAUSE_MS: Final = 100
_LONGEST_PAUSE_MS: Final = 5000
_GRACE_MS: Final = 1000  # a connector that does not keep its deadline is left alone after this


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the executor is given. `fence` and `grants` answer per group."""

    connectors: Mapping[str, Connector]
    intents: IntentLog
    switch: KillSwitch
    clock: Clock
    grants: Callable[[str], Grants]
    fence: Callable[[str], int]
    fault: FaultPoint


@dataclass(slots=True)
class _Job:
    """One action under way."""

    action: Action
    connector: Connector
    until_ms: int  # for everything together
    tries: int = 0


class Settler:
    """Stateless between actions."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def settle(self, intent: Intent) -> Ending:
        """How the action ends. Raises nothing but what the intent log or a fault point raises."""
        action = intent.action
        connector = self._around.connectors.get(action.target.connector)
        if connector is None:
            return Ending(
                status=OutcomeStatus.FAILED, reason=Reason.UNKNOWN_TARGET, error=f"{action.target}: no connector of that name is configured"
            )
        if action.target.kind not in connector.info.verbs.get(action.verb, ()):
            text = f"{action.target}: {connector.info.name} cannot {action.verb} a {action.target.kind}"
            return Ending(status=OutcomeStatus.REFUSED, reason=Reason.UNKNOWN_TARGET, error=text)
        job = _Job(action, connector, self._around.clock.now_ms() + action.deadline_ms)
        try:
            return await (self._fresh(job) if intent.change is None else self._again(job, from_mapping(intent.change)))
        except Conflict as error:
            return outcomes.conflicted(error, error.observed, tries=max(1, job.tries))
        except Permanent as error:
            return outcomes.failed(error, tries=max(1, job.tries))
        except ConnectorError as error:
            # Out of time while reading. Only where a write may have gone out is the end unknown.
            sent = job.tries > 0 or intent.change is not None
            return Ending(status=OutcomeStatus.UNKNOWN if sent else OutcomeStatus.FAILED, error=str(error), tries=max(1, job.tries))

    async def _fresh(self, job: _Job) -> Ending:
        action = job.action
        if (no := self._refusal(job)) is not None:
            return outcomes.refused(no)
        observed = await self._read(job)
        if action.expected is not None and not is_in_force(job.connector, action.target, action.verb, observed, action.expected):
            return outcomes.conflicted(f"{action.target}: what we wrote is not in force any more", observed.value)
        change = self._plan(job, observed, action.desired)
        if change is None:
            return outcomes.already_there(observed)
        if action.mode == "observe":
            return outcomes.planned(change)
        return await self._carry_out(job, change)

    async def _again(self, job: _Job, change: Change) -> Ending:
        """After a restart: the plan was logged, whether it was written is not known."""
        if not change.before:
            text = f"{change.target}: a crash came around the sending, and the target cannot be read back"
            return Ending(status=OutcomeStatus.UNKNOWN, after=change.after, summary=change.summary, error=text)
        observed = await self._read(job)
        if self._holds(job, observed, change.after):
            return outcomes.applied(change, tries=1)
        if (no := self._refusal(job)) is not None:
            return outcomes.refused(no)
        if not self._holds(job, observed, change.before):
            return outcomes.conflicted(f"{change.target}: neither what was there before nor what we wrote", observed.value)
        fresh = self._plan(job, observed, change.after)
        return outcomes.applied(change, tries=1) if fresh is None else await self._carry_out(job, fresh)

    async def _carry_out(self, job: _Job, change: Change) -> Ending:
        await self._around.intents.planned(job.action.id, to_mapping(change))
        self._around.fault("after_intent")
        while True:
            # Right before each write: a pause that came a moment ago still counts.
            if (no := self._refusal(job)) is not None:
                return outcomes.refused(no)
            job.tries += 1
            try:
                await self._write(job, change)
            except Temporary as error:
                if not await self._pause(job, error):
                    return outcomes.failed(error, tries=job.tries)
            except Unknown as error:
                ending = await self._look(job, change, error)
                if ending is not None:
                    return ending
            else:
                self._around.fault("after_apply")
                return outcomes.applied(change, tries=job.tries)

    async def _look(self, job: _Job, change: Change, error: Unknown) -> Ending | None:
        """What an unanswered write came to; None: nothing, try again."""
        unknown = Ending(
            status=OutcomeStatus.UNKNOWN, before=change.before, after=change.after, summary=change.summary, error=str(error), tries=job.tries
        )
        if not change.before:
            return unknown
        observed = await self._read(job)
        if self._holds(job, observed, change.after):
            self._around.fault("after_apply")
            return Ending(
                status=OutcomeStatus.APPLIED, before=change.before, after=change.after, summary=change.summary, error=str(error), tries=job.tries
            )
        if not self._holds(job, observed, change.before):
            return outcomes.conflicted(f"{error}; then found what is neither before nor after", observed.value, tries=job.tries)
        return None if await self._pause(job, error) else unknown

    # --- one call to a connector each; what it raises becomes an error of the contract ---

    async def _read(self, job: _Job) -> Observed:
        target = job.action.target
        while True:
            try:
                return await self._within(job, job.connector.read(target))
            except (TimeoutError, Temporary, Unknown) as error:
                known = error if isinstance(error, ConnectorError) else Temporary(f"{target}: no answer to read in time")
                if not await self._pause(job, known):
                    raise known from error
            except ConnectorError:
                raise
            except Exception as error:
                raise Permanent(f"{target}: read failed: {type(error).__name__}: {error}") from error

    def _plan(self, job: _Job, observed: Observed, desired: Mapping[str, object]) -> Change | None:
        target = job.action.target
        try:
            return job.connector.plan(target, job.action.verb, observed, desired)
        except ConnectorError:
            raise
        except Exception as error:
            raise Permanent(f"{target}: plan failed: {type(error).__name__}: {error}") from error

    async def _write(self, job: _Job, change: Change) -> None:
        left_ms = max(1, job.until_ms - self._around.clock.now_ms())
        fence = self._around.fence(job.action.group)
        try:
            await self._within(job, job.connector.apply(change, key=job.action.id, fence=fence, deadline_ms=left_ms))
        except ConnectorError:
            raise
        except TimeoutError as error:
            raise Unknown(f"{change.target}: no answer after {left_ms} ms") from error
        except Exception as error:
            raise Unknown(f"{change.target}: apply failed: {type(error).__name__}: {error}") from error

    async def _within(self, job: _Job, call: Awaitable[Observed]) -> Observed:
        left_ms = max(1, job.until_ms - self._around.clock.now_ms()) + _GRACE_MS
        async with asyncio.timeout(left_ms / 1000):
            return await call

    async def _pause(self, job: _Job, error: ConnectorError) -> bool:
        """Wait before another try; False when there is no time for one."""
        asked_ms = error.retry_after_ms if isinstance(error, Temporary) else 0
        pause_ms = max(asked_ms, min(_LONGEST_PAUSE_MS, _FIRST_PAUSE_MS * 2 ** max(0, job.tries - 1)))
        if self._around.clock.now_ms() + pause_ms >= job.until_ms:
            return False
        await self._around.clock.sleep_ms(pause_ms)
        return True

    def _holds(self, job: _Job, observed: Observed, wanted: Mapping[str, object]) -> bool:
        return is_in_force(job.connector, job.action.target, job.action.verb, observed, wanted)

    def _refusal(self, job: _Job) -> Refusal | None:
        action = job.action
        now_ms, paused = self._around.clock.now_ms(), self._around.switch.paused()
        return refusal(action, now_ms=now_ms, paused=paused, grants=self._around.grants(action.group))
