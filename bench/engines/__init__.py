"""The engines, one file each: a name here, a class there. `protocol` says what a class must offer."""

from importlib import import_module
from typing import cast

from bench.engines.protocol import Engine

ENGINES = {"transformers": "bench.engines.transformers:Transformers"}

PACKAGES = {"transformers": ("torch", "transformers", "accelerate")}
"""What each engine needs installed; their versions are facts of the environment."""


def make_engine(name: str) -> Engine:
    """The engine of this name; importing its module may need its packages.

    Raises:
        ImportError: a package that the engine needs is missing.
        KeyError: no such engine.
    """
    module, attribute = ENGINES[name].split(":")
    return cast(Engine, getattr(import_module(module), attribute)())
