"""The models that have a short name, read from `suites/catalog.yaml`. How a name becomes weights is left to `bench.weights`."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from results.errors import UsageError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bm])(?![a-z])")
_TUNED = re.compile(r"(?<![a-z])(it|instruct|chat)$")
_SEES = re.compile(r"(?<![a-z])(vl|vision|vlm)(?![a-z])")


@dataclass(frozen=True)
class PackagedWeights:
    """A GGUF file that an installed Python package carries in parts."""

    module: str
    """What to import; its `chunk_paths()` names the parts in order."""
    file: str
    sha256: str
    source_precision: str


@dataclass(frozen=True)
class CatalogEntry:
    name: str
    hub_id: str
    base: bool
    """Not instruction-tuned: it continues text."""
    parameters: int
    """All that are loaded: towers for images and audio included, tied embeddings once."""
    effective_parameters: int
    """Those that compute a token of text: no towers, no per-layer embeddings, of a mixture only the experts that are chosen."""
    context: int
    """Longest input and output together, in tokens."""
    modalities: tuple[str, ...]
    """What it takes in: `text`, `image`, `audio`, `video`."""
    licence: str
    terms: str
    """What a user of the weights has to know, as one sentence."""
    package: PackagedWeights | None = None
    architecture: Mapping[str, Any] | None = None
    """The configuration as in `config.json`, defaults of transformers left out unless the memory depends on them."""


@cache
def catalog() -> dict[str, CatalogEntry]:
    """All entries by name, in the order of the file."""
    from importlib.resources import files

    import yaml

    found = yaml.safe_load(files("suites").joinpath("catalog.yaml").read_text("utf-8"))
    return {model["name"]: _entry(model, found) for model in found["models"]}


def _entry(model: dict[str, Any], found: dict[str, Any]) -> CatalogEntry:
    package = model.get("package")
    rest = {
        "modalities": tuple(model["modalities"]),
        "terms": found["licences"][model["licence"]],
        "package": PackagedWeights(**package) if package else None,
        "architecture": found["architectures"][model["architecture"]],
    }
    return CatalogEntry(**model | rest)


def by_hub_id(hub_id: str) -> CatalogEntry | None:
    return next((entry for entry in catalog().values() if entry.hub_id == hub_id), None)


def nearest(name: str) -> list[str]:
    """Up to four catalog names that may be meant, those of nearest size first; hub ids when a hub id was asked for.

    Size, generation, tuning and sight are read from the name; what is written like none of them is compared letter by letter.
    """
    asked = re.sub(r"gemma(?=\d)", "gemma-", re.sub(r"[^a-z0-9.]+", "-", name.rpartition("/")[2].lower()).strip("-"))
    first, dash, rest = asked.partition("-")
    asked = next(iter(difflib.get_close_matches(first, {one.partition("-")[0] for one in catalog()}, n=1)), first) + dash + rest
    size, sees = _size(asked), bool(_SEES.search(asked))
    tuned = sees or bool(_TUNED.search(asked))

    def distance(one: str) -> tuple[bool, float, float, float]:
        own = _size(one) or 0.0
        alike = difflib.SequenceMatcher(None, asked, one).ratio()
        return tuned and catalog()[one].base, abs(own - size) if size else 0.0, own if size or sees else 0.0, -alike

    found = sorted((one for one in _relatives(asked) if not sees or "image" in catalog()[one].modalities), key=distance)[:4]
    return [catalog()[one].hub_id for one in found] if "/" in name else found


def _relatives(asked: str) -> list[str]:
    """The names of the same generation, else of the same family, else those that are spelt alike."""
    if family := re.match(r"(.*gemma-)(?:(\d+(?:\.\d+)?n?)(?:-|$))?", asked):
        for beginning in (f"{family[1]}{family[2]}-", family[1]):
            if found := [one for one in catalog() if one.startswith(beginning)]:
                return found
    return difflib.get_close_matches(asked, catalog(), n=4, cutoff=0.6)


def _size(name: str) -> float | None:
    """The parameters that a name speaks of, such as 4e9 of `gemma-3-4b-it`."""
    found = _SIZE.search(name)
    return float(found[1]) * (1e9 if found[2] == "b" else 1e6) if found else None


def unknown_model(name: str) -> UsageError:
    """The error for a name that is no catalog name, path or hub id; it names the nearest catalog names."""
    close = nearest(name)
    there = f"the nearest there are {', '.join(close)}" if close else "it has names such as gemma-3-270m"
    return UsageError(
        f"{name!r} is not in the catalog ({there}; bench models shows all): "
        "name any other model by its hub id, such as google/gemma-3-1b-it, or by the path of its folder or .gguf file"
    )
