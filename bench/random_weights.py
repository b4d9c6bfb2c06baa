"""Models whose weights are drawn at random for the true architecture: real speed and memory, nothing to download.

The weights themselves are made by the engine, see `bench.engines.random_model`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.catalog import CatalogEntry, by_hub_id, catalog, nearest
from bench.weights import ResolvedModel
from results.cases import RANDOM
from results.errors import UsageError
from results.record import digest

_NOT_ARCHITECTURE = frozenset(
    {
        "_name_or_path",
        "architectures",
        "auto_map",
        "dtype",
        "quantization_config",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""Keys of a config.json that say how weights were stored, by what and in which code, and nothing of their shapes."""

TEXT_PART = {"gemma3n": "gemma3n_text"}
"""Kinds of models of which only the text part is built: the vision tower of these comes from another package, timm."""


def random_model(reference: str, where: str) -> ResolvedModel:
    """The architecture of a catalog model, or of a local folder's config.json, as a model without weights of its own.

    Models of equal architecture, such as a base model and its instruct one, share an identity.

    Args:
        where: what the message of an error begins with.

    Raises:
        UsageError: no such model, or its dimensions are not known.
    """
    try:
        entry = catalog().get(reference) or by_hub_id(reference.partition("@")[0])
        return _of_catalog(entry) if entry else _of_folder(reference)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _of_catalog(entry: CatalogEntry) -> ResolvedModel:
    if entry.architecture is None:
        raise UsageError(
            f"the catalog does not hold the dimensions of {entry.name}, which random weights need: "
            "name the folder of its config.json instead, or leave `weights: random` out"
        )
    return _resolved(entry.name, entry.name, entry.architecture, entry.base)


def _of_folder(reference: str) -> ResolvedModel:
    folder = Path(os.path.abspath(os.path.expanduser(reference or "no name")))  # noqa: PTH100, PTH111 links and unknown ~user stay
    file = folder / "config.json"
    if not file.is_file():
        raise _without_dimensions(reference, folder)
    try:
        config = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): check its permissions") from error
    except ValueError as error:
        raise UsageError(f"{file} is no JSON ({error}): save it again") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UsageError(f"{file} names no model_type: give the configuration of a Hugging Face model")
    return _resolved(folder.name, str(folder), config, None)


def _resolved(name: str, reference: str, config: Mapping[str, Any], base: bool | None) -> ResolvedModel:
    if text := TEXT_PART.get(config["model_type"]):
        config = {**config.get("text_config", {}), "model_type": text}
    architecture = _architecture(config)
    return ResolvedModel(name, reference, RANDOM + digest(architecture), None, base, None, architecture=architecture)


def _architecture(config: Any) -> Any:
    """The configuration without what says how weights were stored, in its parts as well, such as `text_config`."""
    if isinstance(config, list):
        return [_architecture(part) for part in config]
    if not isinstance(config, Mapping):
        return config
    return {key: _architecture(value) for key, value in config.items() if key not in _NOT_ARCHITECTURE}


def _without_dimensions(reference: str, folder: Path) -> UsageError:
    """The error for a name that is no catalog name and no folder with a configuration; it names the nearest catalog names."""
    remedy = "random weights need a catalog name, or a folder with the config.json of a model"
    if folder.exists():
        return UsageError(f"{reference} holds no config.json: {remedy}")
    close = nearest(reference)
    there = f"the nearest there are {', '.join(close)}" if close else f"it has names such as {next(iter(catalog()))}"
    return UsageError(f"{reference!r} is not in the catalog ({there}): {remedy}")
