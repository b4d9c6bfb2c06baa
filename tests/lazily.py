"""Packages that tests use and that take seconds to import: imported when first used, so that collecting stays quick."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest


class Lazily:
    """Stands for a package; the module is skipped where it is not installed."""

    def __init__(self, name: str) -> None:
        if find_spec(name) is None:
            pytest.skip(f"needs {name}", allow_module_level=True)
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # pytest asks, while it collects, whether this is a fixture or a mock
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)
