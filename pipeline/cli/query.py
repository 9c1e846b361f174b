"""`reflexarc query`: PromQL over a file of samples, or over a running pipeline through its gateway. Prints a table, or Prometheus' API JSON."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from pipeline.cli.output import DEFAULT_CONFIG, config_path, fail, print_json, print_table
from pipeline.cli.samples import SamplesError, read_samples
from pipeline.gateway.prometheus_json import instant_ms, iso, rendered, seconds, step_ms, success
from pipeline.promql import Options, PromQLError, Result, compile_expr

TIMEOUT_S: Final = 60
TOKEN_VARIABLE: Final = "REFLEXARC_TOKEN"  # noqa: S105 - the name of a variable, not a token


class QueryError(Exception):
    """No answer; the message says why."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("query", help="ask a PromQL question, of a running pipeline or of a file of samples", description=__doc__)
    parser.add_argument("expr", metavar="EXPR", help="a PromQL expression")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--at", metavar="T", help="instant: RFC 3339 or seconds since 1970 (default: now; of a file: its newest sample)")
    when.add_argument("--range", nargs=3, metavar=("START", "END", "STEP"), help="a range query; STEP is a duration or seconds")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--file", metavar="FILE", help="samples: JSON lines (format json or json-batch) or text exposition; - is standard input")
    where.add_argument("--url", metavar="URL", help="a gateway or a Prometheus (default: gateway.listen of the configuration)")
    parser.add_argument("--config", metavar="FILE", help=f"configuration file (default: {DEFAULT_CONFIG})")
    parser.add_argument("--promql-compat", choices=("v2", "v3"), default="v3", help="of --file: windows as in Prometheus 3 (default) or 2")
    parser.add_argument("--json", action="store_true", help="print the answer as Prometheus' API gives it")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Ask and print; 1 when there is no answer."""
    try:
        answer = _of_file(args) if args.file else _of_gateway(args)
    except (QueryError, SamplesError, PromQLError, ValueError) as error:
        return fail(str(error))
    if args.json:
        print_json(answer)
        return 0
    for note in (*answer.get("warnings", ()), *answer.get("infos", ())):
        fail(str(note))
    _print(answer["data"])
    return 0


def _of_file(args: argparse.Namespace) -> dict[str, Any]:
    from pipeline.runtime.clock import SystemClock

    at_ms = instant_ms(args.at) if args.at else None
    store = read_samples(args.file, now_ms=SystemClock().now_ms() if at_ms is None else at_ms)
    compiled = compile_expr(args.expr, compat=args.promql_compat, options=Options())
    if args.range:
        start_ms, end_ms, width_ms = instant_ms(args.range[0]), instant_ms(args.range[1]), step_ms(args.range[2])
        if end_ms < start_ms:
            raise QueryError("the end of the range is before its start")
        result: Result = compiled.eval_range(store, start_ms, end_ms, width_ms)
        return success(rendered(result, end_ms), result)
    newest_ms = store.newest_at_ms
    at_ms = at_ms if at_ms is not None else newest_ms if newest_ms is not None else SystemClock().now_ms()
    result = compiled.eval(store, at_ms)
    return success(rendered(result, at_ms), result)


def _of_gateway(args: argparse.Namespace) -> dict[str, Any]:
    url, token = (args.url.rstrip("/"), None) if args.url else _gateway(args.config)
    params = {"query": args.expr}
    if args.range:
        start, end, step = args.range
        params |= {"start": str(seconds(instant_ms(start))), "end": str(seconds(instant_ms(end))), "step": str(step_ms(step) / 1000)}
    elif args.at:
        params["time"] = str(seconds(instant_ms(args.at)))
    return _ask(f"{url}/api/v1/{'query_range' if args.range else 'query'}", params, os.environ.get(TOKEN_VARIABLE) or token)


def _ask(url: str, params: Mapping[str, str], token: str | None) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise QueryError(f"{url}: a URL starts with http:// or https://")
    request = Request(url, data=urlencode(params).encode(), headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310 - checked above
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked above
            found = json.load(answer)
    except HTTPError as error:
        raise QueryError(_refusal(url, error)) from error
    except (URLError, OSError) as error:
        raise QueryError(f"{url}: {getattr(error, 'reason', error)}; is the pipeline running with a gateway?") from error
    except ValueError as error:
        raise QueryError(f"{url}: the answer is not JSON") from error
    if not isinstance(found, dict) or "data" not in found:
        raise QueryError(f"{url}: this is not the answer of a query")
    return found


def _refusal(url: str, error: HTTPError) -> str:
    try:
        said = json.load(error)
    except ValueError:
        said = {}
    reason = said.get("error", "") if isinstance(said, dict) else ""
    text = reason.get("reason", "") if isinstance(reason, dict) else reason
    return text or f"{url}: {error.code} {error.reason}"


def _gateway(config: str | None) -> tuple[str, str | None]:
    """Address and token of the configured gateway."""
    from pipeline.app import SettingsError, load_config

    path = config_path(config)
    try:
        gateway = load_config(path).config.gateway
    except SettingsError as error:
        raise QueryError(str(error)) from error
    if gateway is None:
        raise QueryError(f"{path} configures no gateway: add `gateway: {{listen: 127.0.0.1:8480}}`, or give --url or --file")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(gateway.host, gateway.host)  # noqa: S104 - where to connect, not where to listen
    token = gateway.tokens.viewer or gateway.token or gateway.tokens.operator
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if gateway.tls else 'http'}://{shown}:{gateway.port}", token.get_secret_value() if token else None


def _print(data: Mapping[str, Any]) -> None:
    result = data["result"]
    match data["resultType"]:
        case "vector":
            print_table(("SERIES", "VALUE"), [(_labels(one["metric"]), one["value"][1]) for one in result])
        case "matrix":
            rows = [(_labels(one["metric"]), iso(round(at * 1000)), value) for one in result for at, value in one["values"]]
            print_table(("SERIES", "TIME", "VALUE"), rows)
        case _:
            print(result[1])


def _labels(metric: Mapping[str, str]) -> str:
    from pipeline.ruletest.report import shown_labels

    return shown_labels(metric)
