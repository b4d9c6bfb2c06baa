"""The models that have a short name, read from `suites/catalog.yaml`. How a name becomes weights is left to `bench.weights`."""

import difflib
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from results.errors import UsageError


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
    """All stored weights; Gemma 3n's are rounded."""
    context: int
    """Longest input and output together, in tokens."""
    licence: str
    terms: str
    """What a user of the weights has to know, as one sentence."""
    package: PackagedWeights | None = None


@cache
def catalog() -> dict[str, CatalogEntry]:
    """All entries by name, in the order of the file."""
    from importlib.resources import files

    import yaml

    found = yaml.safe_load(files("suites").joinpath("catalog.yaml").read_text("utf-8"))
    return {model["name"]: _entry(model, found["licences"]) for model in found["models"]}


def _entry(model: dict[str, Any], licences: dict[str, str]) -> CatalogEntry:
    package = model.get("package")
    rest = {"terms": licences[model["licence"]], "package": PackagedWeights(**package) if package else None}
    return CatalogEntry(**model | rest)


def by_hub_id(hub_id: str) -> CatalogEntry | None:
    return next((entry for entry in catalog().values() if entry.hub_id == hub_id), None)


def nearest(name: str) -> list[str]:
    """Up to four catalog names that look like this one, those of nearest size first; hub ids when a hub id was asked for."""
    asked = name.rpartition("/")[2].lower()
    close = difflib.get_close_matches(asked, catalog(), n=4, cutoff=0.6)
    if size := re.search(r"(\d+(?:\.\d+)?)(b|m)(?![a-z])", asked):
        wanted = float(size[1]) * (1e9 if size[2] == "b" else 1e6)
        close.sort(key=lambda one: abs(catalog()[one].parameters - wanted))
    return [catalog()[one].hub_id for one in close] if "/" in name else close


def unknown_model(name: str) -> UsageError:
    """The error for a name that is no catalog name, path or hub id; it names the nearest catalog names."""
    close = nearest(name)
    there = f"the nearest there are {', '.join(close)}" if close else f"it has names such as {next(iter(catalog()))}"
    return UsageError(
        f"{name!r} is not in the catalog ({there}): "
        "name any other model by its hub id, such as google/gemma-3-1b-it, or by the path of its folder or .gguf file"
    )
