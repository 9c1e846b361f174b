"""Envoy for the demo: where its binary is, and its bootstrap, rendered by the `envoy` connector's own code."""

from __future__ import annotations
