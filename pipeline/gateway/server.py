"""`Gateway`: the server. Validates, publishes, answers; holds nothing.

    POST /api/v1/write      Prometheus remote write 1.0 (snappy)        204
    POST /api/v2/alerts     Alertmanager's API: what Prometheus posts   200
    GET  /api/v2/status     what Alertmanager's clients ask first       200
    POST /api/v1/signals    JSON lines, ?format=json|ecs|envoy-access   200 {"accepted": n, "refused": []}
    GET  /api/v1/query ...  Prometheus' query API, see `prometheus_api`
    GET  /metrics  /healthz  /readyz

A request of which some parts are wrong is answered 400 with the count of what was accepted (that is in, do not send it again) and the place and
reason of each refused part. Refused bytes go to the dead letters, cut to 16 KiB.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from pipeline.gateway import inputs
from pipeline.gateway.access import Gate, Handler, error_response, json_errors
from pipeline.gateway.inputs import Refusal, Taken
from pipeline.gateway.prometheus_api import Look, PrometheusApi
from pipeline.model import wire
from pipeline.model.records import DeadLetter
from pipeline.ports.bus import DEAD_LETTERS, Bus, OutRecord
from pipeline.ports.clock import Clock
from pipeline.rulebook.config_spec import Gateway as Config
from pipeline.signals import Limits, Options
from pipeline.telemetry import Log, Telemetry
from pipeline.telemetry.metrics import CONTENT_TYPE

MAX_IN_FLIGHT: Final = 32
PUBLISH_TIMEOUT_S: Final = 10.0
RETRY_AFTER_S: Final = 1
DEAD_BYTES: Final = 16 << 10
SHOWN_REFUSALS: Final = 100


class Gateway:
    """One listening server in front of a bus.

    Args:
        health: what is not ready yet and why, empty when all is; asked by `/readyz`.
        base: the folder against which the certificate's paths are read.
        look: the detector that queries are answered from, or why there is none.
    """

    def __init__(
        self,
        bus: Bus,
        config: Config,
        *,
        clock: Clock,
        telemetry: Telemetry,
        health: Callable[[], str] = str,
        log: Log | None = None,
        base: Path | None = None,
        look: Look = lambda: "no detector runs in this process",
    ) -> None:
        self._bus, self._config, self._clock, self._telemetry, self._health = bus, config, clock, telemetry, health
        self._base = base or Path()
        self._log = log or Log(clock)
        self._gate = Gate(config)
        self._prometheus = PrometheusApi(look, clock)
        self._options = Options(Limits(max_batch_bytes=config.max_body_bytes))
        self._in_flight = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens; with the port that was chosen where 0 was configured."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the gateway is not started")
        host, port = self._runner.addresses[0][:2]
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self._config.tls else 'http'}://{shown}:{port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken, or the certificate cannot be read.
        """
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._config.host, self._config.port, ssl_context=self._tls(), backlog=512).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._log("gateway_listening", url=self.url)

    async def close(self) -> None:
        """Stop listening; requests that run get two seconds. Idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=self._config.max_body_bytes, middlewares=[self._measured, json_errors, self._guarded])
        app.router.add_post("/api/v1/write", self._write)
        app.router.add_post("/api/v1/signals", self._signals)
        app.router.add_post("/api/v2/alerts", self._alerts)
        app.router.add_get("/api/v2/status", self._status)
        self._prometheus.add_to(app.router)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._alive)
        app.router.add_get("/readyz", self._ready)
        return app

    def _tls(self) -> ssl.SSLContext | None:
        if self._config.tls is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._base / self._config.tls.cert, self._base / self._config.tls.key)
        if self._config.tls.client_ca is not None:
            context.load_verify_locations(self._base / self._config.tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    # --- around every request --------------------------------------------------------------------------------------------------------

    @web.middleware
    async def _measured(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started_ms = self._clock.now_ms()
        response = await handler(request)
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else "other"
        self._telemetry.gateway_request(path, response.status, (self._clock.now_ms() - started_ms) / 1000)
        return response

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = self._gate.refusal(request)
        if refusal is not None:
            return refusal
        if request.method == "GET":
            return await handler(request)
        if self._in_flight >= MAX_IN_FLIGHT:
            return _unavailable(f"{MAX_IN_FLIGHT} requests are in flight")
        self._in_flight += 1
        try:
            return await handler(request)
        finally:
            self._in_flight -= 1

    # --- routes ----------------------------------------------------------------------------------------------------------------------

    async def _write(self, request: web.Request) -> web.Response:
        encoding, kind = request.headers.get("Content-Encoding", "snappy"), request.headers.get("Content-Type", "")
        if encoding != "snappy" or "io.prometheus.write.v2" in kind:
            return error_response(415, "unsupported_media_type", "this is remote write 1.0: protobuf prometheus.WriteRequest, snappy block encoding")
        taken = inputs.remote_write(await request.read(), self._options)
        return await self._publish(inputs.REMOTE_WRITE, taken) or web.Response(status=204)

    async def _alerts(self, request: web.Request) -> web.Response:
        taken = inputs.alerts(await request.read(), self._options, self._clock.now_ms())
        return await self._publish(inputs.ALERTS, taken) or web.json_response({})

    async def _signals(self, request: web.Request) -> web.Response:
        format_ = request.query.get("format", "json")
        taken = inputs.signals(await request.read(), format_, self._options)
        topic = inputs.LINE_FORMATS.get(format_, inputs.JSON)
        return await self._publish(topic, taken) or web.json_response({"accepted": taken.accepted, "refused": []})

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {"cluster": {"status": "disabled", "peers": []}, "config": {"original": ""}, "uptime": "", "versionInfo": {"version": "reflexarc"}}
        )

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._telemetry.exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def _alive(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _request: web.Request) -> web.Response:
        waiting = self._health()
        return web.json_response({"status": "waiting", "reason": waiting} if waiting else {"status": "ok"}, status=503 if waiting else 200)

    # --- onto the bus ----------------------------------------------------------------------------------------------------------------

    async def _publish(self, topic: str, taken: Taken) -> web.Response | None:
        """Publish what was taken and what was refused; the error to answer, None when all is well."""
        records = [*taken.records, *(self._dead_letter(topic, refusal) for refusal in taken.refused)]
        if records:
            try:
                async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                    await self._bus.publish(records)
            except Exception as error:  # noqa: BLE001 - whatever the bus has, the sender must try again, and nothing else can be said
                self._log.warning("gateway_publish_failed", topic=topic, error=f"{type(error).__name__}: {error}")
                return _unavailable("the bus did not take it")
        for refusal in taken.refused:
            self._telemetry.dead_letter(topic, "decode")
            self._log.debug("gateway_refused", topic=topic, position=refusal.position, reason=refusal.reason)
        return _refused(taken) if taken.refused else None

    def _dead_letter(self, topic: str, refusal: Refusal) -> OutRecord:
        payload = refusal.payload[:DEAD_BYTES]
        letter = DeadLetter(
            topic=topic,
            partition=-1,  # it never was in the topic
            offset=-1,
            at_ms=self._clock.now_ms(),
            reason=refusal.reason,
            payload=payload,
            truncated=len(payload) < len(refusal.payload),
        )
        return OutRecord(DEAD_LETTERS, topic, wire.encode(letter))


def _refused(taken: Taken) -> web.Response:
    shown: list[dict[str, Any]] = [{"line": one.position, "reason": one.reason} for one in taken.refused[:SHOWN_REFUSALS]]
    first = taken.refused[0]
    where = f"{first.position}: " if first.position else ""
    reason = f"{where}{first.reason}" + (f" (and {len(taken.refused) - 1} more)" if len(taken.refused) > 1 else "")
    return error_response(400, "bad_data", reason, accepted=taken.accepted, refused=shown, refused_count=len(taken.refused))


def _unavailable(reason: str) -> web.Response:
    return error_response(503, "unavailable", f"{reason}: try again", headers={"Retry-After": str(RETRY_AFTER_S)})
