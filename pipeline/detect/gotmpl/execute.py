"""Carries out a parsed template.

Guarantee: bounded (steps and output), and whatever goes wrong is a TemplateError.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.detect.gotmpl.errors import TemplateError
from pipeline.detect.gotmpl.functions import PURE, SCOPED, SPECIAL, as_map
from pipeline.detect.gotmpl.scope import Scope
from pipeline.detect.gotmpl.tree import (
    Action,
    Block,
    Branch,
    Command,
    Dot,
    Field,
    Function,
    Include,
    Jump,
    Literal,
    Node,
    Operand,
    Pipeline,
    Plain,
    Variable,
)
from pipeline.detect.gotmpl.values import Data, Sample, is_true, shown, type_name

_MAX_STEPS = 100_000
_MAX_OUTPUT = 64 * 1024
_MAX_DEPTH = 50
_NOTHING = object()


def execute(root: Block, templates: dict[str, Block], scope: Scope) -> str:
    """The text that a template gives.

    Raises:
        TemplateError: it cannot be carried out on these data.
    """
    data = Data(as_map(scope.labels), as_map(scope.external_labels), scope.external_url, scope.value)
    run = _Run(templates, scope)
    run.block(root, data, {"$": data}, 0)
    return "".join(run.out)


class _Leave(Exception):
    """`break` or `continue`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Variables:
    """Variables of one block; those of the blocks around it can be seen and assigned."""

    __slots__ = ("_outer", "_own")

    def __init__(self, own: dict[str, Any], outer: Variables | None = None) -> None:
        self._own, self._outer = own, outer

    def get(self, name: str) -> Any:
        """The value of the innermost variable of that name."""
        if name in self._own:
            return self._own[name]
        if self._outer is None:
            raise TemplateError(f"undefined variable: {name}")
        return self._outer.get(name)

    def declare(self, name: str, value: Any) -> None:
        """A new variable here."""
        self._own[name] = value

    def assign(self, name: str, value: Any) -> None:
        """Change the innermost variable of that name."""
        if name in self._own or self._outer is None:
            self._own[name] = value
        else:
            self._outer.assign(name, value)

    def inner(self) -> Variables:
        """The variables of a block inside."""
        return Variables({}, self)


class _Run:
    def __init__(self, templates: dict[str, Block], scope: Scope) -> None:
        self._templates, self._scope = templates, scope
        self.out: list[str] = []
        self._steps = self._size = 0

    def block(self, nodes: Block, dot: Any, variables: dict[str, Any] | Variables, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise TemplateError("exceeded maximum template depth")
        names = Variables(variables) if isinstance(variables, dict) else variables
        for node in nodes:
            self._node(node, dot, names, depth)

    def _node(self, node: Node, dot: Any, names: Variables, depth: int) -> None:
        self._step()
        match node:
            case Plain(text=text):
                self._write(text)
            case Action(pipeline=pipeline):
                value = self._pipeline(pipeline, dot, names)
                if not pipeline.declares:
                    self._write(shown(value))
            case Branch(kind="range"):
                self._range(node, dot, names, depth)
            case Branch():
                self._choose(node, dot, names, depth)
            case Jump(kind=kind):
                raise _Leave(kind)
            case Include(name=name, pipeline=pipeline):
                inner = None if pipeline is None else self._pipeline(pipeline, dot, names)
                self.block(self._named(name), inner, {"$": inner}, depth + 1)

    def _choose(self, node: Branch, dot: Any, names: Variables, depth: int) -> None:
        inner = names.inner()
        value = self._pipeline(node.pipeline, dot, inner)
        if is_true(value):
            self.block(node.body, value if node.kind == "with" else dot, inner, depth + 1)
        else:
            self.block(node.otherwise, dot, inner, depth + 1)

    def _range(self, node: Branch, dot: Any, names: Variables, depth: int) -> None:
        declares = node.pipeline.declares
        value = self._pipeline(node.pipeline, dot, names, keep=False)
        items = list(_items(value))
        if not items:
            self.block(node.otherwise, dot, names.inner(), depth + 1)
            return
        for index, item in items:
            inner = names.inner()
            pair = (item,) if len(declares) == 1 else (index, item)
            for name, part in zip(declares, pair, strict=False):
                (inner.assign if node.pipeline.assigns else inner.declare)(name, part)
            try:
                self.block(node.body, item, inner, depth + 1)
            except _Leave as leave:
                if leave.kind == "break":
                    return

    def _pipeline(self, pipeline: Pipeline, dot: Any, names: Variables, *, keep: bool = True) -> Any:
        value: Any = _NOTHING
        for command in pipeline.commands:
            value = self._command(command, dot, names, value)
        if keep:
            for name in pipeline.declares:
                (names.assign if pipeline.assigns else names.declare)(name, value)
        return value

    def _command(self, command: Command, dot: Any, names: Variables, final: Any) -> Any:
        self._step()
        first, *rest = command.args
        if isinstance(first, Function):
            return self._call(first.name, rest, dot, names, final)
        if rest or final is not _NOTHING:
            raise TemplateError("can't give argument to non-function")
        return self._operand(first, dot, names)

    def _operand(self, operand: Operand, dot: Any, names: Variables) -> Any:
        match operand:
            case Literal(value=value):
                return value
            case Dot():
                return dot
            case Variable(name=name):
                return names.get(name)
            case Pipeline():
                return self._pipeline(operand, dot, names)
            case Field(base=base, names=fields):
                value = self._operand(base, dot, names)
                for field in fields:
                    value = _field(value, field)
                return value
            case Function(name=name):
                return self._call(name, [], dot, names, _NOTHING)

    def _call(self, name: str, args: list[Operand], dot: Any, names: Variables, final: Any) -> Any:
        if name in {"and", "or"}:
            return self._stop_early(name, args, dot, names, final)
        values = [self._operand(arg, dot, names) for arg in args]
        if final is not _NOTHING:
            values.append(final)
        try:
            if name in SPECIAL:
                return self._tmpl(*values)
            return SCOPED[name](self._scope, *values) if name in SCOPED else PURE[name](*values)
        except TypeError:
            raise TemplateError(f"wrong number of args for {name}: got {len(values)}") from None

    def _stop_early(self, name: str, args: list[Operand], dot: Any, names: Variables, final: Any) -> Any:
        value: Any = _NOTHING
        for arg in args:
            value = self._operand(arg, dot, names)
            if is_true(value) is (name == "or"):
                return value
        value = final if final is not _NOTHING else value
        if value is _NOTHING:
            raise TemplateError(f"wrong number of args for {name}: want at least 1 got 0")
        return value

    def _tmpl(self, name: Any, data: Any) -> str:
        inner = _Run(self._templates, self._scope)
        inner._steps = self._steps
        inner.block(self._named(str(name)), data, {"$": data}, 1)
        self._steps = inner._steps
        return "".join(inner.out)

    def _named(self, name: str) -> Block:
        if name not in self._templates:
            raise TemplateError(f'template "{name}" not defined')
        return self._templates[name]

    def _write(self, text: str) -> None:
        self._size += len(text)
        if self._size > _MAX_OUTPUT:
            raise TemplateError("the text is too long")
        self.out.append(text)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise TemplateError("too much work")


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, list):
        return enumerate(value)
    if isinstance(value, dict):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(min(value, _MAX_STEPS))]
    if value is None:
        return []
    raise TemplateError(f"range can't iterate over {shown(value)}")


def _field(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name, "")
    if isinstance(value, Sample | Data) and name in value.__slots__:
        return getattr(value, name)
    raise TemplateError(f"can't evaluate field {name} in type {type_name(value)}")
