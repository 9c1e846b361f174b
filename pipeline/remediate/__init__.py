"""The deciding half of the pure core: incidents, policies, controllers, guards, arbitration, verification.

Start at `machine.Remediator` (one per group) and `governor.Governor` (one over all). `catalogue.groups_of` says which groups need one.
"""

from pipeline.remediate.catalogue import groups_of
from pipeline.remediate.governor import Governor
from pipeline.remediate.machine import Remediator

__all__ = ["Governor", "Remediator", "groups_of"]
