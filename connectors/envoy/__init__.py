"""Envoy: traffic shares, shares by site and an expiring block list, changed by files that Envoy watches and read back through its admin API."""

from connectors.envoy.connector import Envoy
from connectors.envoy.settings import EnvoySettings

__all__ = ["Envoy", "EnvoySettings"]
