"""The topics of a deployment: which exist, who reads them, and the guard against feeding our own output back in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pipeline.ports import bus

NOTICES: Final = "notices"  # what the notifier delivers; the same notices also go to the records

# Proposals are the governor's inbox: proposals, and copies of the outcomes and commands it has to know of. One partition, one order.
OWN: Final = (
    bus.FACTS,
    bus.PROPOSALS,
    bus.GRANTS,
    bus.ACTIONS,
    bus.OUTCOMES,
    bus.COMMANDS,
    bus.WATCHES,
    bus.RECORDS,
    bus.DEAD_LETTERS,
    NOTICES,
)


class LoopError(ValueError):
    """An input that is one of our own topics: the pipeline would react to itself."""


def check_inputs(names: Iterable[str], prefix: str) -> None:
    """Refuse inputs that we write ourselves.

    Raises:
        LoopError: names the input.
    """
    for name in names:
        if name.removeprefix(prefix) in OWN:
            raise LoopError(f"input {name!r} is a topic that reflexarc itself writes; choose another name (own topics: {', '.join(OWN)})")
