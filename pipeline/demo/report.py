"""The demo's last word: a table per act and the one line that counts; the same as JSON."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.demo.acts import Act


def table(acts: Sequence[Act]) -> RenderableType:
    """The result as people read it."""
    result = Table(title="reflexarc demo: what happened (ms after the injection)", title_justify="left")
    for column in ("act", "alert firing", "action applied", "effect verified", "requests", "failed", "without", "incident", "ended as told"):
        result.add_column(column, justify="left" if column in {"act", "incident", "ended as told"} else "right")
    for act in acts:
        told = Text("yes", style="green") if act.ok else Text("NO: " + "; ".join(act.missing), style="bold red")
        numbers = (
            act.alert_firing_after_ms,
            act.action_applied_after_ms,
            act.verified_after_ms,
            act.requests,
            act.failed_requests,
            act.failed_requests_without,
        )
        result.add_row(act.name, *("-" if number is None else f"{number:,}" for number in numbers), act.incident_id or "-", told)
    notes = Text("\n".join(f"{act.name}: {note}" for act in acts for note in act.notes), style="dim")
    return Group(result, notes, verdict(acts))


def verdict(acts: Sequence[Act]) -> Text:
    """`failed requests: N without, M with`."""
    released = next((act for act in acts if act.failed_requests_without is not None), None)
    if released is None:
        return Text("")
    share = f" ({released.failed_requests / released.failed_requests_without:.1%})" if released.failed_requests_without else ""
    return Text(f"\nfailed requests: {released.failed_requests_without} without, {released.failed_requests} with{share}", style="bold")


def to_json(acts: Sequence[Act]) -> dict[str, Any]:
    """The result as programs read it."""
    return {"ok": bool(acts) and all(act.ok for act in acts), "acts": [act.to_json() for act in acts]}


def save_picture(path: Path, content: RenderableType, *, width: int = 150) -> None:
    """A terminal capture as SVG, drawn by the program itself."""
    console = Console(record=True, width=width, file=_Nowhere(), force_terminal=True)
    console.print(content)
    picture = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="reflexarc demo"), flags=re.DOTALL)  # it fetches nothing from anywhere
    path.write_text(picture, encoding="utf-8")


class _Nowhere(io.StringIO):
    """A file that keeps nothing; the console records by itself."""

    def write(self, text: str) -> int:
        """Drop it."""
        return len(text)

    def flush(self) -> None:
        """Nothing is held."""
