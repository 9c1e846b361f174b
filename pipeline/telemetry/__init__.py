"""What the pipeline says about itself: metrics for Prometheus, structured log lines. Objects that `app` builds and passes in; no globals."""

from __future__ import annotations

from pipeline.telemetry.log import Log, LogHandler
from pipeline.telemetry.metrics import Telemetry
from pipeline.telemetry.records import RecordTelemetry

__all__ = ["Log", "LogHandler", "RecordTelemetry", "Telemetry"]
