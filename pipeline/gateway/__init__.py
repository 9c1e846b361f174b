"""The HTTP side: signals of senders that speak HTTP onto the bus, own metrics and health out.

Guarantee: an answer of 2xx means durable; what is refused is refused with the reason, and lies in the dead letters; a bus that is away is a 503 with
Retry-After, which Prometheus repeats.
"""

from __future__ import annotations

from pipeline.gateway.inputs import GATEWAY_INPUTS
from pipeline.gateway.server import Gateway

__all__ = ["GATEWAY_INPUTS", "Gateway"]
