"""`{{ name }}` in a policy's parameters: plain substitution of known names, nothing else can be written there.

Names: the alert's labels; `service`, `group`, `service.name`; `alertname`. Guarantee: a name without a value is an error, never an empty string,
because an empty version or address would mean another target.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_HOLE: Final = re.compile(r"\{\{\s*\.?(?:labels\.)?([A-Za-z_][A-Za-z0-9_.]*)\s*\}\}")


class TemplateError(ValueError):
    """A placeholder that names nothing known, or is no placeholder at all."""


def render(text: str, names: Mapping[str, str]) -> str:
    """The text with its placeholders filled in.

    Raises:
        TemplateError: an unknown or empty name, or braces that hold something else than a name.
    """

    def fill(found: re.Match[str]) -> str:
        value = names.get(found.group(1), "")
        if not value:
            raise TemplateError(f"{{{{ {found.group(1)} }}}} has no value here (known: {', '.join(sorted(names)) or 'nothing'})")
        return value

    filled = _HOLE.sub(fill, text)
    if "{{" in _HOLE.sub("", text):
        raise TemplateError(f"only {{{{ name }}}} can stand in braces, not what is in {text!r}")
    return filled


def render_expr(text: str, names: Mapping[str, str]) -> str:
    """Like `render` for PromQL: values are escaped, so that a label's value cannot leave its quotes.

    Raises:
        TemplateError: as `render`.
    """
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for name, value in names.items()}
    return render(text, escaped)


def render_tree(value: Any, names: Mapping[str, str]) -> Any:
    """`render` on every string of a JSON-like value.

    Raises:
        TemplateError: as `render`.
    """
    if isinstance(value, str):
        return render(value, names)
    if isinstance(value, Mapping):
        return {str(key): render_tree(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [render_tree(item, names) for item in value]
    return value
