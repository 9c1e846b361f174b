"""Tokens to the tree, by recursive descent; the grammar of text/template/parse.

Guarantee: unknown functions and undefined variables are errors here, before anything is evaluated.
"""

from __future__ import annotations

import re

from pipeline.detect.gotmpl.errors import TemplateError
from pipeline.detect.gotmpl.functions import NAMES
from pipeline.detect.gotmpl.lexer import Token, tokens
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

_MAX_DEPTH = 60
_KEYWORDS = frozenset({"if", "else", "end", "range", "with", "template", "define", "block", "break", "continue"})
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "nil": None}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"'}


def parse(source: str) -> tuple[Block, dict[str, Block]]:
    """The main template and those that it defines.

    Raises:
        TemplateError: not a template.
    """
    parser = _Parser(list(tokens(source)))
    body, stop = parser.block(0)
    if stop:
        raise TemplateError(f"unexpected {{{{{stop}}}}}", line=parser.line)
    return body, parser.templates


class _Parser:
    def __init__(self, stream: list[Token]) -> None:
        self._stream = [*stream, Token("eof", "", stream[-1].line)]
        self._at = 0
        self._variables = ["$"]
        self._loops = 0
        self.templates: dict[str, Block] = {}

    @property
    def line(self) -> int:
        return self._stream[self._at].line

    def block(self, depth: int) -> tuple[Block, str]:
        """Nodes up to `end`, `else` or the end of the text; also which of them it was."""
        if depth > _MAX_DEPTH:
            raise TemplateError("nested too deeply", line=self.line)
        nodes: list[Node] = []
        while (token := self._next()).kind != "eof":
            if token.kind == "text":
                nodes += [Plain(token.text)] if token.text else []
                continue
            word = self._keyword()
            if word in {"end", "else"}:
                return tuple(nodes), word
            nodes += self._statement(word, depth)
        return tuple(nodes), ""

    def _statement(self, word: str, depth: int) -> list[Node]:
        match word:
            case "if" | "with" | "range":
                return [self._branch(word, depth)]
            case "break" | "continue":
                self._end_action()
                if not self._loops:
                    raise TemplateError(f"{{{{{word}}}}} outside {{{{range}}}}", line=self.line)
                return [Jump(word)]
            case "template":
                return [self._include(self._name_text())]
            case "define" | "block":
                return self._define(word, depth)
            case _:
                pipeline = self._pipeline("end")
                return [Action(pipeline)]

    def _branch(self, kind: str, depth: int) -> Branch:
        mark = len(self._variables)
        pipeline = self._pipeline("end", pairs=kind == "range")
        self._loops += kind == "range"
        body, stop = self.block(depth + 1)
        self._loops -= kind == "range"
        otherwise: Block = ()
        if stop == "else" and kind != "range" and self._keyword(only=kind):
            otherwise = (self._branch(kind, depth + 1),)  # takes the one `end` of both
        else:
            if stop == "else":
                self._end_action()
                otherwise, stop = self.block(depth + 1)
            if stop != "end":
                raise TemplateError("expected end; found {{else}}" if stop else "unexpected EOF", line=self.line)
            self._end_action()
        del self._variables[mark:]
        return Branch(kind, pipeline, body, otherwise)

    def _include(self, name: str) -> Include:
        self._skip_space()
        if self._peek().kind == "end":
            self._next()
            return Include(name, None)
        return Include(name, self._pipeline("end"))

    def _define(self, word: str, depth: int) -> list[Node]:
        name = self._name_text()
        if word == "define":
            self._end_action()
        pipeline = self._pipeline("end") if word == "block" else None
        outer, self._variables = self._variables, ["$"]
        body, stop = self.block(depth + 1)
        if stop != "end":
            raise TemplateError("unexpected EOF", line=self.line)
        self._end_action()
        self._variables = outer
        self.templates[name] = body
        return [Include(name, pipeline)] if word == "block" else []

    def _pipeline(self, closing: str, *, pairs: bool = False) -> Pipeline:
        declares, assigns = self._declaration(pairs=pairs)
        commands: list[Command] = []
        while True:
            self._skip_space()
            command = self._command()
            if commands and isinstance(command.args[0], Literal | Dot):
                raise TemplateError(f"non executable command in pipeline stage {len(commands) + 1}", line=self.line)
            if command.args[0] == Literal(None):
                raise TemplateError("nil is not a command", line=self.line)
            commands.append(command)
            token = self._next()
            if token.kind == closing:
                break
            if token.kind != "pipe":
                raise TemplateError(f"unexpected {token.text!r} in command", line=token.line)
        if not assigns:
            self._variables += declares
        return Pipeline(tuple(commands), declares, assigns)

    def _declaration(self, *, pairs: bool) -> tuple[tuple[str, ...], bool]:
        """The `$x :=` in front of a pipeline."""
        mark = self._at
        names: list[str] = []
        while True:
            self._skip_space()
            if self._peek().kind != "variable":
                break
            names.append(self._next().text)
            self._skip_space()
            token = self._next()
            if token.kind in {"declare", "assign"} and len(names) <= (2 if pairs else 1):
                if token.kind == "assign":
                    self._known(names)
                return tuple(names), token.kind == "assign"
            if token.kind != "comma" or not pairs:
                break
        self._at = mark
        return (), False

    def _command(self) -> Command:
        args: list[Operand] = []
        while self._peek().kind not in {"end", "pipe", "close", "eof"}:
            args.append(self._operand())
            if not self._skip_space() and self._peek().kind not in {"end", "pipe", "close"}:
                raise TemplateError(f"unexpected {self._peek().text!r} in operand", line=self.line)
        if not args:
            raise TemplateError("missing value for command", line=self.line)
        return Command(tuple(args))

    def _operand(self) -> Operand:
        base = self._term(self._next())
        names: list[str] = []
        while self._peek().kind == "field":
            names.append(self._next().text[1:])
        if names and isinstance(base, Literal | Function):
            raise TemplateError(f"unexpected . after term {base}", line=self.line)
        if isinstance(base, Field):
            return Field(base.base, (*base.names, *names))
        return Field(base, tuple(names)) if names else base

    def _term(self, token: Token) -> Operand:
        match token.kind:
            case "dot":
                return Dot()
            case "field":
                return Field(Dot(), (token.text[1:],))
            case "variable":
                self._known([token.text])
                return Variable(token.text)
            case "open":
                return self._pipeline("close")
            case "name":
                return self._named(token)
            case "number" | "char" | "string" | "raw":
                return Literal(_constant(token))
            case _:
                raise TemplateError(f"unexpected {token.text!r} in operand" if token.text else "unexpected EOF", line=token.line)

    def _named(self, token: Token) -> Operand:
        if token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text])
        if token.text not in NAMES:
            raise TemplateError(f'function "{token.text}" not defined', line=token.line)
        return Function(token.text)

    def _known(self, names: list[str]) -> None:
        for name in names:
            if name not in self._variables:
                raise TemplateError(f'undefined variable "{name}"', line=self.line)

    def _keyword(self, only: str = "") -> str:
        """Take the keyword that comes next, if one does (and is the one asked for)."""
        mark = self._at
        self._skip_space()
        token = self._peek()
        if token.kind == "name" and token.text in _KEYWORDS and only in {"", token.text}:
            self._next()
            return token.text
        self._at = mark
        return ""

    def _name_text(self) -> str:
        self._skip_space()
        token = self._next()
        if token.kind not in {"string", "raw"}:
            raise TemplateError(f"unexpected {token.text!r}, a quoted name is needed", line=token.line)
        return str(_constant(token))

    def _end_action(self) -> None:
        self._skip_space()
        token = self._next()
        if token.kind != "end":
            raise TemplateError(f"unexpected {token.text!r} in action", line=token.line)

    def _skip_space(self) -> bool:
        found = self._peek().kind == "space"
        self._at += found
        return found

    def _peek(self) -> Token:
        return self._stream[self._at]

    def _next(self) -> Token:
        token = self._stream[self._at]
        self._at = min(self._at + 1, len(self._stream) - 1)
        return token


def _constant(token: Token) -> str | int | float:
    if token.kind == "raw":
        return token.text[1:-1].replace("\r", "")
    if token.kind in {"string", "char"}:
        text = _unquoted(token)
        return text if token.kind == "string" else ord(text[0])
    digits = token.text.replace("_", "")
    bare = digits.lstrip("+-").lower()
    if not bare.startswith(("0x", "0b", "0o")) and any(letter in bare for letter in ".e"):
        return float(digits)
    try:
        return int(digits, 8) if len(bare) > 1 and bare[0] == "0" and bare.isdigit() else int(digits, 0)
    except ValueError:
        raise TemplateError(f"bad number syntax: {token.text!r}", line=token.line) from None


def _unquoted(token: Token) -> str:
    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code in _SIMPLE:
            return _SIMPLE[code]
        if code[0] in "xuU" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code.isdigit():
            return chr(int(code, 8))
        raise TemplateError(f"invalid syntax in string {token.text}", line=token.line)

    return _ESCAPE.sub(one, token.text[1:-1])
