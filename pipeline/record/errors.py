"""Errors of the record store.

StoreError                a lasting fault: a person has to change something (configuration, permissions, version)
└── StoreUnavailableError the server does not answer now; raised by reads only, because writes wait
"""

from __future__ import annotations


class StoreError(Exception):
    """The message says what was tried, where, and what to do."""


class StoreUnavailableError(StoreError):
    """A read found no server that answers."""
