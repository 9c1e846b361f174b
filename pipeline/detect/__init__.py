"""Detection: the pure machine that turns signals into facts.

Owns: alert states on two tracks (grid and early), standing expressions (watches), security and foreign alerts. Guarantees: no I/O and no
clock; the same feeds, advances and watches give the same facts with the same ids; whatever a signal contains, nothing is raised.
"""

from pipeline.detect.detector import Detector
from pipeline.detect.facts import Counts, Detected, DetectOptions, Rejection, ReloadReport

__all__ = ["Counts", "DetectOptions", "Detected", "Detector", "Rejection", "ReloadReport"]
