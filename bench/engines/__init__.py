"""The engines, one file each: a name here, a class there. `protocol` says what a class must offer.

Other packages add engines by an entry point of the group `gemmeter.engines`, named as the engine, that points to a class.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from bench.engines.protocol import Engine, Support
from results.errors import UsageError
from results.validation import nearest

ENGINES = {
    "transformers": "bench.engines.transformers:Transformers",
    "llamacpp": "bench.engines.llamacpp:LlamaCpp",
    "llamacpp-server": "bench.engines.llamacpp:LlamaCppServer",
    "llama-server": "bench.engines.llamacpp:LlamaServer",
    "openai": "bench.engines.openai:OpenAI",
    "ollama": "bench.engines.ollama:Ollama",
}
GROUP = "gemmeter.engines"


@cache
def plugins() -> dict[str, EntryPoint]:
    """Engines of other packages by name; none of them can take a name of ours."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in ENGINES}


def engine_names() -> list[str]:
    return [*ENGINES, *sorted(plugins())]


@cache
def engine_class(name: str) -> type[Engine]:
    """The class of this engine; importing its module needs none of its packages.

    Raises:
        UsageError: there is no such engine, or the package that offers it cannot be imported, or offers something else.
    """
    if name in ENGINES:
        module, attribute = ENGINES[name].split(":")
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    if name not in plugins():
        raise UsageError(f"There is no engine {name!r}{nearest(name, engine_names())} `bench engines` shows them all.")
    point = plugins()[name]
    try:
        found = point.load()
    except Exception as error:
        raise UsageError(
            f"The engine {name!r} of {point.value} cannot be imported ({error}): mend or remove that package."
        ) from error
    if not isinstance(found, type) or not isinstance(getattr(found, "support", None), Support):
        raise UsageError(f"The engine {name!r} of {point.value} is no class with a `support`: mend or remove that package.")
    return found


def support(name: str) -> Support:
    """What the engine says of itself.

    Raises:
        UsageError: there is no such engine.
    """
    return engine_class(name).support


def make_engine(name: str) -> Engine:
    """The engine of this name; making it may need its packages.

    Raises:
        ImportError: a package that the engine needs is missing.
        UsageError: there is no such engine.
    """
    return engine_class(name)()
