"""The parts of a template: frozen nodes, as in Go's text/template/parse."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: string, bool, int, float or nil (None)."""

    value: str | bool | int | float | None


@dataclass(frozen=True, slots=True)
class Dot:
    """The cursor."""


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x`; the root data is `$`."""

    name: str


@dataclass(frozen=True, slots=True)
class Function:
    """A function's name."""

    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """`.a.b` of a base (the cursor, a variable, a parenthesis)."""

    base: Operand
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """One stage of a pipeline: an operand, perhaps with arguments."""

    args: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`$x, $y := a | b`. `declares`: variables set; `assigns`: they exist already."""

    commands: tuple[Command, ...]
    declares: tuple[str, ...] = ()
    assigns: bool = False


Operand = Literal | Dot | Variable | Function | Field | Pipeline


@dataclass(frozen=True, slots=True)
class Plain:
    """Text outside of actions."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """`{{ pipeline }}`: prints, unless it declares."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range` with its two bodies."""

    kind: str
    pipeline: Pipeline
    body: Block
    otherwise: Block


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Include:
    """`template "name" pipeline`."""

    name: str
    pipeline: Pipeline | None


Node = Plain | Action | Branch | Jump | Include
Block = tuple[Node, ...]
