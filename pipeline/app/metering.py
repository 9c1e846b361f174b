"""Metrics of what the stages do: every record that passes is told to telemetry once, where it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pipeline.model import wire
from pipeline.ports import bus
from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.ports.clock import Clock
from pipeline.ports.stage import StepResult
from pipeline.telemetry import RecordTelemetry, Telemetry

_TOLD: Final = frozenset({bus.FACTS, bus.ACTIONS, bus.DEAD_LETTERS})
_TOLD_OF_RECORDS: Final = (b'"Decision"', b'"Outcome"', b'"Finding"')
_HEAD: Final = 64


class StageMeter:
    """The runtime's meter."""

    def __init__(self, telemetry: Telemetry, clock: Clock) -> None:
        self._records = RecordTelemetry(telemetry, clock=clock)

    def stepped(self, _stage: str, _records: Sequence[BusRecord], result: StepResult, *, seconds: float) -> None:  # noqa: ARG002 - the port's shape
        """One step was committed."""
        for output in result.outputs:
            if _is_told(output):
                self._records.observe(wire.decode(output.value))


def _is_told(output: OutRecord) -> bool:
    if output.topic == bus.RECORDS:
        return any(name in output.value[:_HEAD] for name in _TOLD_OF_RECORDS)
    return output.topic in _TOLD
