"""Who may call, and what an error looks like: `{"error": {"code": .., "reason": ..}}`, always JSON."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from pipeline.gateway.prometheus_api import READ_PATHS
from pipeline.rulebook.config_spec import Gateway as Config

OPEN: Final = frozenset({"/healthz", "/readyz"})  # probes carry no token, and these say nothing but up or not
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def error_response(status: int, code: str, reason: str, *, headers: dict[str, str] | None = None, **more: Any) -> web.Response:
    """An error as every route answers it."""
    return web.json_response({"error": {"code": code, "reason": reason}, **more}, status=status, headers=headers)


class Gate:
    """Bearer tokens of the configuration. Without any everybody may, which the configuration allows on loopback only."""

    def __init__(self, config: Config) -> None:
        tokens = config.tokens
        self._writers = [token.get_secret_value().encode() for token in (config.token, tokens.operator, tokens.admin) if token]
        self._readers = [*self._writers, *([tokens.viewer.get_secret_value().encode()] if tokens.viewer else [])]

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer for who may not; None for who may."""
        if not self._readers or request.path in OPEN:
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token.strip().encode() if scheme.lower() == "bearer" else b""
        if _one_of(given, self._readers if request.method in {"GET", "HEAD"} or request.path in READ_PATHS else self._writers):
            return None
        if _one_of(given, self._readers):
            return error_response(403, "forbidden", "this token may read, not write")
        return error_response(401, "unauthorized", "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})


def _one_of(given: bytes, known: list[bytes]) -> bool:
    """Whether the token is known; every comparison is made, and takes the same time whatever differs."""
    return sum([hmac.compare_digest(given, token) for token in known]) > 0


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Aiohttp's own refusals (no such path, too large, a body that cannot be unpacked) in our shape."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = (error.reason or "error").lower().replace(" ", "_")
        return error_response(error.status, code, error.text or error.reason)
    except web.RequestPayloadError:
        encoding = request.headers.get("Content-Encoding", "chunked")
        response = error_response(400, "bad_data", f"the body is not what its encoding ({encoding}) says")
        response.force_close()  # where the next request begins is not known any more
        return response
