"""The few facts of a configuration that rule files are checked against, read leniently: secrets may be missing, other parts may be wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.rulebook.config_spec import brought_by
from pipeline.rulebook.problems import SourceText
from pipeline.rulebook.yaml_source import Mapping, Node, Scalar, Sequence, read_documents


@dataclass(frozen=True, slots=True)
class Outline:
    """`connectors`: name to kind, empty where it is not told."""

    metrics: tuple[str, ...] = ()
    connectors: dict[str, str] = field(default_factory=dict)
    receivers: tuple[str, ...] = ()


def outline(text: str) -> Outline:
    """What can be told of a configuration's text; nothing of a broken one."""
    documents, _ = read_documents(SourceText("", text))
    root = documents[0] if documents else None
    if not isinstance(root, Mapping):
        return Outline()
    connectors = {name: _text(node.get("kind")) for name, node in _entries(root, "connectors").items() if isinstance(node, Mapping)}
    metrics = root.get("metrics")
    names = tuple(filter(None, map(_text, metrics.items))) if isinstance(metrics, Sequence) else ()
    inputs = root.get("inputs")
    formats = [_text(one.get("format")) for one in inputs.items if isinstance(one, Mapping)] if isinstance(inputs, Sequence) else []
    return Outline((*names, *brought_by(formats)), connectors, tuple(_entries(root, "receivers")))


def _entries(root: Mapping, key: str) -> dict[str, Node]:
    node = root.get(key)
    return {name: value for name, (_, value) in node.entries.items()} if isinstance(node, Mapping) else {}


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) and "${" not in node.text else ""
