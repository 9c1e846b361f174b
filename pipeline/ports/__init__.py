"""Protocols between the core and the world. No code that runs: only shapes, their guarantees and their errors."""
