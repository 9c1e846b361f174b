"""The only wiring: configuration in, running parts out. Nothing else builds objects that know each other.

Parts are loaded when they are asked for: a command that only reads the configuration should not wait for the whole pipeline.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pipeline.app.life import run
    from pipeline.app.opening import open_bus, open_connectors, open_store
    from pipeline.app.settings import Settings, SettingsError, load_config, load_rules

__all__ = ["Settings", "SettingsError", "load_config", "load_rules", "open_bus", "open_connectors", "open_store", "run"]
_OPENING: Final = ("open_bus", "open_connectors", "open_store")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "life" if name == "run" else "opening" if name in _OPENING else "settings"
    return getattr(import_module(f"{__name__}.{home}"), name)
