"""Reflexarc: event-driven observability and auto-remediation. The map is ARCHITECTURE.md beside this file."""

__version__ = "0.1.0"
