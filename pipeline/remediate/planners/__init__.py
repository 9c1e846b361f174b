"""Planners: from a step's verb and parameters to absolute wishes on targets of the catalogue. One small module per family, one table of all.

A planner is pure: `(Case) -> tuple[Plan, ...] | Refusal`. To add a verb, add its function to `PLANNERS` and its rank to `arbiter.RANKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pipeline.remediate.planners.base import Case, Plan, Refusal
from pipeline.remediate.planners.capacity import restart, scale
from pipeline.remediate.planners.outward import call
from pipeline.remediate.planners.security import block
from pipeline.remediate.planners.traffic import fail_over, shift_traffic
from pipeline.remediate.planners.versions import deploy, roll_back

Planner = Callable[[Case], tuple[Plan, ...] | Refusal]

PLANNERS: Final[Mapping[str, Planner]] = {
    "shift_traffic": shift_traffic,
    "roll_back": roll_back,
    "scale": scale,
    "fail_over": fail_over,
    "restart": restart,
    "deploy": deploy,
    "block": block,
    "call": call,
}

__all__ = ["PLANNERS", "Case", "Plan", "Planner", "Refusal"]
