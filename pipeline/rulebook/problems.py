"""`Problem`: one thing wrong in a file that a user wrote, with its place and what would be right.

Guarantee: every problem names file, line and column (1-based); its excerpt is short whatever the file holds.
"""

from __future__ import annotations

import bisect
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple

Severity = Literal["error", "warning"]

_LINE_BREAK: Final = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # as YAML 1.1 counts lines
_EXCERPT: Final = 120
_MESSAGE: Final = 600
_CANDIDATES: Final = 300

MAX_PROBLEMS: Final = 100  # of one file, and again between the files


class Position(NamedTuple):
    """A place in a text, 1-based."""

    line: int
    column: int


START: Final = Position(1, 1)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, where, and what would be right. `excerpt`: the offending line and a line with a caret below it."""

    file: str
    line: int
    column: int
    severity: Severity
    message: str
    suggestion: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        """`file:line:column: error: what is wrong; did you mean ...`: one line, as compilers print it."""
        hint = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message}{hint}"

    def pretty(self) -> str:
        """The line for a terminal, with the offending line and a caret."""
        return f"{self}\n{self.excerpt}" if self.excerpt else str(self)

    @property
    def fatal(self) -> bool:
        """Whether the file must be refused for it."""
        return self.severity == "error"


class TooManyError(Exception):
    """Raised by `ProblemList` when it is full: nobody reads a thousand errors, and finding them costs."""


class ProblemList(list[Problem]):
    """Collects problems up to a limit. Errors beyond it end the search (`TooManyError`), warnings beyond it are left out."""

    def append(self, problem: Problem, /) -> None:
        """Note a problem."""
        if len(self) < MAX_PROBLEMS:
            super().append(problem)
        elif problem.fatal:
            raise TooManyError

    def extend(self, problems: Iterable[Problem], /) -> None:
        """Note several."""
        for problem in problems:
            self.append(problem)

    def close(self) -> None:
        """Say that the search was ended, at the last place."""
        last = self[-1]
        message = f"more than {MAX_PROBLEMS} problems here: mend these first"
        super().append(Problem(last.file, last.line, last.column, "error", message))


class SourceText:
    """A file's name and text, and the place where its problems are made."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text.removeprefix("\ufeff")

    @cached_property
    def line_starts(self) -> tuple[int, ...]:
        """Offset of each line's first character."""
        return (0, *(match.end() for match in _LINE_BREAK.finditer(self.text)))

    def offset(self, at: Position) -> int:
        """The offset of a position in the text, kept inside it."""
        starts = self.line_starts
        line = min(max(at.line, 1), len(starts))
        return min(starts[line - 1] + max(at.column, 1) - 1, len(self.text))

    def position(self, offset: int) -> Position:
        """The position of an offset."""
        line = bisect.bisect_right(self.line_starts, offset)
        return Position(line, offset - self.line_starts[line - 1] + 1)

    def line(self, number: int) -> str:
        """One line without its end; empty outside the text."""
        starts = self.line_starts
        if not 1 <= number <= len(starts):
            return ""
        end = starts[number] if number < len(starts) else len(self.text)
        return self.text[starts[number - 1] : end].rstrip("\r\n\x85\u2028\u2029")

    def problem(self, at: Position, message: str, *, suggestion: str = "", severity: Severity = "error", show: bool = True) -> Problem:
        """A problem at a place of this file."""
        excerpt = self._excerpt(at) if show else ""
        return Problem(self.file, at.line, at.column, severity, shorten(one_line(message), _MESSAGE), one_line(suggestion), excerpt)

    def _excerpt(self, at: Position) -> str:
        line = self.line(at.line)
        if not line.strip():
            return ""
        start = max(0, at.column - 1 - _EXCERPT // 2) if len(line) > _EXCERPT else 0
        shown = "".join(char if char.isprintable() else " " for char in line[start : start + _EXCERPT])
        return f"  {shown}\n  {' ' * (at.column - 1 - start)}^"


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return "".join(char if char.isprintable() else " " for char in text)


def shorten(text: str, length: int = 60) -> str:
    """The text, cut in the middle where it is too long."""
    if len(text) <= length:
        return text
    half = (length - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or an empty string."""
    candidates = sorted({name for name in known if name})
    if len(word) > 200:
        return ""
    if len(candidates) > _CANDIDATES:  # comparing is slow: with many names only those that start alike are looked at
        candidates = [name for name in candidates if name[:1] == word[:1]][:_CANDIDATES]
    folded = {name.lower(): name for name in candidates}
    found = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str], *, what: str = "known") -> str:
    """A suggestion: the closest known word, else the list of all where it is short."""
    names = sorted({name for name in known if name})
    close = closest(word, names)
    if close:
        return f"did you mean {close!r}?"
    if not names:
        return ""
    more = f", ... ({len(names)} in all)" if len(names) > 12 else ""
    return f"{what}: {', '.join(names[:12])}{more}"
