"""Reason codes: why something was done, held, dropped or failed. A code is part of the public record; never rename one."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What a decision came to."""

    ACT = "act"  # an action was issued (or, in observe, would have been)
    HOLD = "hold"  # wanted, but something forbids it now
    DROP = "drop"  # will not be done any more
    FAIL = "fail"  # tried, and it did not work
    NOTE = "note"  # nothing was wanted: says why (no policy, healed by itself, verified)


class Reason(StrEnum):
    """The codes, grouped by what they speak of."""

    # it went ahead
    GRANTED = "granted"
    OPERATOR = "operator"
    SCALER_DEMAND = "scaler_demand"
    FAILOVER_UNHEALTHY = "failover_unhealthy"
    FAILOVER_CAPACITY = "failover_capacity"
    FAILBACK_HEALTHY = "failback_healthy"
    REVERT = "revert"
    # mode and grants
    MODE_OFF = "mode_off"
    MODE_OBSERVE = "mode_observe"
    MODE_PROPOSE = "mode_propose"
    NOT_GRANTED = "not_granted"
    SOURCE_NOT_ALLOWED = "source_not_allowed"
    PAUSED = "paused"
    # guards
    COOLDOWN = "cooldown"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    BUDGET = "budget"
    NO_GRANT_ANSWER = "no_grant_answer"
    BREAKER_OPEN = "breaker_open"
    STORM = "storm"
    SILENCED = "silenced"
    INHIBITED = "inhibited"
    MAINTENANCE = "maintenance"
    WARMING = "warming"
    NO_DATA = "no_data"
    LOOP = "loop"
    STALE = "dropped_stale"
    CONFIRMATIONS = "confirmations"
    PRECONDITION = "precondition"
    # arbitration
    IN_FLIGHT = "in_flight"
    OUTRANKED = "outranked"
    CONTRADICTS = "contradicts"
    DWELL = "dwell"
    NO_HEADROOM = "no_headroom"
    # plan
    ALREADY_THERE = "already_there"
    UNKNOWN_TARGET = "unknown_target"
    LIMIT = "limit"
    NEVER_BLOCK = "never_block"
    TEMPLATE = "template"
    STABILIZING = "stabilizing"
    WITHIN_TOLERANCE = "within_tolerance"
    # verification and revert
    VERIFIED = "verified"
    VERIFY_FAILED = "verify_failed"
    VERIFY_INCONCLUSIVE = "verify_inconclusive"
    IMPROVED = "improved"
    REVERT_NOT_VALID = "revert_not_valid"
    # outcome
    APPLIED = "applied"
    CONFLICT = "conflict"
    APPLY_FAILED = "apply_failed"
    APPLY_UNKNOWN = "apply_unknown"
    # alerts and incidents
    NO_POLICY = "no_policy"
    NO_SERVICE = "no_service"
    RESOLVED_BY_VALUE = "resolved_by_value"
    RESOLVED_BY_NODATA = "resolved_by_nodata"
    RESOLVED_BY_RULE_CHANGE = "resolved_by_rule_change"
    ESCALATED = "escalated"
    STEPS_EXHAUSTED = "steps_exhausted"
    EXPIRED = "expired"
    RELEASED = "released"
