"""ARCHITECTURE's state diagram is printed from the table: `python -m tests.unit.remediate.test_diagram` prints it."""

from pathlib import Path

from pipeline.remediate.transitions import TRANSITIONS

PAGE = Path(__file__).resolve().parents[3] / "pipeline" / "ARCHITECTURE.md"


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    arrows = [f"    {state} --> {after}: {happening}" for (state, happening), after in TRANSITIONS.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> open", *arrows, "```"])


def test_the_page_shows_the_table():
    assert diagram() in PAGE.read_text(encoding="utf-8")


if __name__ == "__main__":
    print(diagram())
