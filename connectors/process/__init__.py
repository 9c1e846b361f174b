"""Local processes as instances of versioned workloads: a small deployment controller for one host (Linux)."""

from connectors.process.connector import Process
from connectors.process.settings import ProcessSettings

__all__ = ["Process", "ProcessSettings"]
