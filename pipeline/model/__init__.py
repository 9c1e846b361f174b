"""Frozen values shared by every package: what flows through the pipeline and what is stored.

Owns: types and their identity; nothing here reads a clock, does I/O or decides. Every value that crosses a topic or lands in
a store carries `schema_version` (see `wire`).
"""
