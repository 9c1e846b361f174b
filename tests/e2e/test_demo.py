"""`reflexarc demo` as a stranger runs it: real Envoy, real processes, real load; judged by its exit code and by its JSON."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

ACT_TYPES = {
    "name": str,
    "injected_at_ms": int,
    "alert_firing_after_ms": int | None,
    "action_applied_after_ms": int | None,
    "verified_after_ms": int | None,
    "requests": int,
    "failed_requests": int,
    "failed_requests_without": int | None,
    "incident_id": str | None,
}
TIMEOUT_S = 120


@pytest.mark.envoy
@pytest.mark.usefixtures("envoy_binary")
async def test_somebody_who_guesses_passwords_is_blocked(tmp_path: Path):
    result = tmp_path / "result.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline", "demo", "--act", "break-in", "--json", str(result),
        cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    text = said.decode()
    assert process.returncode == 0, text
    found = json.loads(result.read_text())
    assert found["ok"] is True
    (act,) = found["acts"]
    for name, kind in ACT_TYPES.items():
        assert isinstance(act[name], kind), (name, act[name])
    assert act["name"] == "break-in"
    assert 0 < act["alert_firing_after_ms"] <= act["action_applied_after_ms"] <= act["verified_after_ms"]
    assert act["requests"] > 0
    assert act["failed_requests_without"] is None
    assert act["incident_id"]
    assert "127.0.0.2 is refused until" in text
    assert "reflexarc rules check rules/demo" in text, "the next commands to try"


async def test_an_act_that_is_not_there_is_wrong_usage():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline", "demo", "--act", "breakin", cwd=Path(__file__).parents[2], stderr=asyncio.subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert process.returncode == 2
    assert b"there are: bad-release, surge, slow-site, blind, break-in" in err
