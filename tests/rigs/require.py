"""The one place that decides what a missing part means: tests are skipped loudly, or fail where `REQUIRE` names the part (or says `all`).

`REQUIRE=all` or `REQUIRE=kafka,envoy` in the environment. What was missing is listed again at the end of the run (see `tests/conftest.py`).
"""

import os
from typing import NoReturn

import pytest

MISSING: dict[str, str] = {}  # part -> reason, in the order of discovery; one test session is one process


class Unavailable(Exception):
    """A real part cannot be had on this machine; the message says why and what would help."""


def is_required(part: str) -> bool:
    """Whether a missing `part` must fail the run."""
    wanted = {word.strip() for word in os.environ.get("REQUIRE", "").split(",")}
    return "all" in wanted or part in wanted


def require(part: str, reason: str) -> NoReturn:
    """End the running test or fixture because `part` is not there: failed if required, skipped otherwise."""
    MISSING[part] = reason
    message = f"{part} is not available: {reason}"
    if is_required(part):
        pytest.fail(f"{message} (REQUIRE={os.environ['REQUIRE']} forbids skipping)", pytrace=False)
    pytest.skip(message)
