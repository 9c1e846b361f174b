"""The deciding half of the pure core: incidents, policies, controllers, guards, arbitration, verification.

Start at `machine.Remediator` (one per group) and `governor.Governor` (one over all). `catalogue.groups_of` says which groups need one.

    machine     the fold: takes an input, lets everything due happen     state, turn   its memory; one step of it
    incidents, transitions       alerts that belong together             muting        silences, maintenance, inhibitions
    wants -> guards -> steps     from an alert to a run, step by step    plans, planners/  what a step wishes for
    results, verify, follow      what came back, did it help, what next  revert        undoing, overrides, releases
    dispatch, arbiter            approval, grant, flight; who goes first commands      operators
    scaler, hpa, hpa_behavior    replicas at demand                      failover*     leaving a site and coming home
"""

from pipeline.remediate.catalogue import groups_of
from pipeline.remediate.governor import Governor
from pipeline.remediate.machine import Remediator

__all__ = ["Governor", "Remediator", "groups_of"]
