"""The machines in their stages, from configuration and rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pipeline.app.settings import Settings
from pipeline.detect import DetectOptions, Detector
from pipeline.gateway.inputs import GATEWAY_INPUTS
from pipeline.model.labels import Labels
from pipeline.model.signals import SignalBatch
from pipeline.model.target import Target
from pipeline.ports.bus import BusRecord
from pipeline.ports.execution import FaultPoint
from pipeline.promql import Options as PromqlOptions
from pipeline.remediate import Governor, Remediator
from pipeline.rulebook.book import RuleBook
from pipeline.runtime.detect_stage import DetectStage, Input
from pipeline.runtime.sources import SourceGuard
from pipeline.runtime.stages import GovernStage, RemediateStage
from pipeline.signals import AccessAggregator, DecodeError, Options, decode
from pipeline.telemetry import Telemetry

AGGREGATED = "envoy-access"
STORED = "ecs"


def input_formats(settings: Settings) -> dict[str, tuple[str, str]]:
    """Every input topic with its format and the name of its source."""
    formats = {one.topic_name: (str(one.format), one.source_name) for one in settings.config.inputs}
    if settings.config.gateway is not None:
        formats |= {topic: (format_, "gateway") for topic, format_ in GATEWAY_INPUTS.items()}
    return formats


def detect_stage(settings: Settings, rules: Callable[[], RuleBook], fault: FaultPoint, telemetry: Telemetry) -> DetectStage:
    """Detection over every input. `rules` gives the book in force."""
    detect = settings.config.detect
    options = DetectOptions(
        allowed_lateness_ms=detect.allowed_lateness_ms,
        max_future_ms=detect.max_future_ms,
        grid_delay_ms=detect.grid_delay_ms,
        external_labels=Labels.of(detect.external_labels),
        external_url=detect.external_url,
        promql=PromqlOptions(compat=detect.promql_compat),
    )
    decoding = Options()
    inputs = {
        topic: _input(format_, source, decoding, _guard(settings, source, rules)) for topic, (format_, source) in input_formats(settings).items()
    }
    count = partial(_count, telemetry)
    return DetectStage(Detector(rules(), options), inputs, decode_error=DecodeError, fault=fault, on_batch=count, on_late=telemetry.late)


def remediate_stage(rules: RuleBook, owns: Callable[[str], bool]) -> RemediateStage:
    """A remediator per group."""
    return RemediateStage(Remediator, rules, owns=owns)


def govern_stage() -> GovernStage:
    """The governor."""
    return GovernStage(Governor())


def targets_of(rules: RuleBook) -> dict[Target, str]:
    """Every target of the catalogue with its group."""
    found: dict[Target, str] = {}
    for service in rules.services:
        texts = [service.route, service.sites_target, service.blocklist]
        texts += [text for site in service.sites for text in (site.workload, site.route)]
        texts += [backend.workload for backend in service.backends]
        found |= {Target.parse(text): service.group_name for text in texts if text}
    return found


def _count(telemetry: Telemetry, batch: SignalBatch) -> None:
    telemetry.signals(batch.source, samples=len(batch.values), logs=len(batch.logs), events=len(batch.events))


def _guard(settings: Settings, source: str, rules: Callable[[], RuleBook]) -> SourceGuard | None:
    spec = settings.config.sources.get(source)
    return None if spec is None or spec.services is None else SourceGuard(spec.services, rules)


def _input(format_: str, source: str, options: Options, guard: SourceGuard | None) -> Input:
    aggregate = AccessAggregator() if format_ == AGGREGATED else None
    return Input(partial(_decode, format_, source, options), aggregate, store_logs=format_ == STORED, guard=guard)


def _decode(format_: str, source: str, options: Options, record: BusRecord) -> SignalBatch:
    return decode(format_, record.value, options=options, source=source, received_at_ms=record.appended_at_ms)
