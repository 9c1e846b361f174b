"""The only wiring: configuration in, running parts out. Nothing else builds objects that know each other."""

from pipeline.app.life import run
from pipeline.app.opening import open_bus, open_connectors, open_store
from pipeline.app.settings import Settings, SettingsError, load_config, load_rules

__all__ = ["Settings", "SettingsError", "load_config", "load_rules", "open_bus", "open_connectors", "open_store", "run"]
