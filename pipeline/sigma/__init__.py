"""Sigma security rules on log records: parsed by pySigma, compiled to closures, correlated in event time. No I/O, no clock."""

from __future__ import annotations

from pipeline.sigma.engine import SigmaEngine, SigmaMatch
from pipeline.sigma.errors import SigmaError

__all__ = ["SigmaEngine", "SigmaError", "SigmaMatch"]
