"""Go's text/template as Prometheus offers it to labels and annotations: the same language, functions and texts.

Guarantees: `Text.expand` never raises; what cannot be expanded becomes `<error expanding template: ...>`, as in Prometheus. No user code runs, output
and work are bounded. Left out: `js`, `call`, methods of times, complex numbers.
"""

from __future__ import annotations

from pipeline.detect.gotmpl.errors import TemplateError
from pipeline.detect.gotmpl.execute import execute
from pipeline.detect.gotmpl.parser import parse
from pipeline.detect.gotmpl.scope import Scope
from pipeline.detect.gotmpl.tree import Block

__all__ = ["Scope", "TemplateError", "Text"]

_PREAMBLE = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"


class Text:
    """One label value or annotation, parsed once."""

    __slots__ = ("_broken", "_root", "_templates", "is_constant", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.is_constant = "{{" not in source
        self._broken = ""
        self._root: Block = ()
        self._templates: dict[str, Block] = {}
        if not self.is_constant:
            try:
                self._root, self._templates = parse(_PREAMBLE + source)
            except TemplateError as error:
                self._broken = f"error parsing template: {error}"

    @property
    def problem(self) -> str:
        """Why it cannot be parsed; empty where it can (a rule check shows this)."""
        return self._broken

    def expand(self, scope: Scope) -> str:
        """The text with its actions carried out."""
        if self.is_constant:
            return self.source
        if self._broken:
            return f"<error expanding template: {self._broken}>"
        try:
            return execute(self._root, self._templates, scope)
        except TemplateError as error:
            return f"<error expanding template: error executing template: {error}>"
