"""How a model's name becomes weights on disk: `resolve` says which weights are meant, cheaply; `prepare` makes them ready.

The kinds of names are told apart here; what each needs stands in `bench.packaged_weights`, `bench.local_weights`,
`bench.hub` and, for GGUF files, the child processes `bench.convert` and `bench.requantize`.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench import hub, local_weights, packaged_weights
from bench.cache import cache_folder
from bench.catalog import CatalogEntry, by_hub_id, catalog, unknown_model
from bench.convert import is_whole, read_manifest
from bench.gguf_file import map_gguf
from bench.gguf_header import read_header
from bench.gguf_types import refusal, size_at
from bench.preparing import (
    MissingDependencyError,
    MissingWeightsError,
    Progress,
    TooLittleMemoryError,
    UnsupportedWeightsError,
    WeightsError,
    unwritable,
)
from monitor import devices
from results.errors import GemmeterError

__all__ = [
    "Form", "MissingDependencyError", "MissingWeightsError", "Progress", "ResolvedModel", "UnsupportedWeightsError", "WeightsError",
    "cached_weights", "prepare", "resolve", "served", "terms_notice",
]  # fmt: skip

CONVERTER_BYTES = 2**30
"""What a conversion takes beside the weights: Python, torch and transformers, the vocabulary, one tensor twice."""

Form = Literal["folder", "gguf", "served"]
"""What an engine loads, as `bench.engines.protocol.Support.weights` says."""

_KEPT_BACK = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "BENCH_STORE", "PGPASSWORD")
"""Variables that the converter, which opens a file from anywhere, does not get."""


@dataclass(frozen=True)
class ResolvedModel:
    name: str
    """What people call it: a catalog name, a hub id, a folder's or a file's name."""
    reference: str
    """What leads back to it: a catalog name, `organisation/name[@revision]`, or an absolute path, which no store should hold."""
    weights: str
    """The identity: `sha256:<64 hex>` of the content, or `hub:<id>@<commit>`."""
    source_precision: str | None
    """The format that the weights come from, such as `q4_k_m`; `None` for 32 and 16 bit floats."""
    base: bool | None
    """Not instruction-tuned; `None`: unknown."""
    revision: str | None
    """The commit of a hub model."""
    stored: str | None = None
    """The format of the weights in their GGUF file, such as `q4_k_m` or `bf16`; `None`: they come in no such file."""
    architecture: Mapping[str, Any] | None = None
    """The configuration, as in `config.json`, of a model whose weights are drawn at random; `None`: it has weights."""


def resolve(reference: str, where: str, *, cache: Path | None = None) -> ResolvedModel:
    """The weights that a catalog name, a path, or a hub id `organisation/name[@revision]` stands for.

    Reads hashes and headers, asks the hub for a commit, and loads nothing.

    Args:
        where: what the message of an error begins with, such as `matrix.model[0]`.

    Raises:
        UsageError: there is no such model, folder or file, or not in a format that is loaded.
        WeightsError: the hub is out of reach, or refuses.
    """
    try:
        return _resolve(reference, cache or cache_folder())
    except GemmeterError as error:
        raise type(error)(f"{where}: {error}") from error


def _resolve(reference: str, cache: Path) -> ResolvedModel:
    entry = catalog().get(reference)
    if entry is not None and entry.package is not None:
        package = entry.package
        return ResolvedModel(
            entry.name,
            reference,
            f"sha256:{package.sha256}",
            package.source_precision,
            entry.base,
            None,
            package.source_precision,
        )
    if entry is not None:
        return _on_hub(entry.hub_id, entry, entry.name)
    path = Path(os.path.expanduser(reference or "no name"))  # noqa: PTH111 - an unknown ~user stays as it is
    if path.exists() or reference.startswith((".", "~", os.sep)) or path.suffix in (".gguf", ".safetensors"):
        local = local_weights.inspect(path, cache)
        absolute = Path(os.path.abspath(local.path))  # noqa: PTH100 - links keep their names
        return ResolvedModel(
            absolute.name, str(absolute), f"sha256:{local.sha256}", local.source_precision, local.base, None, local.stored
        )
    if found := hub.HUB_ID.fullmatch(reference):
        return _on_hub(reference, by_hub_id(found["id"]), found["id"])
    if os.sep in reference:
        local_weights.inspect(path, cache)
    raise unknown_model(reference)


def _on_hub(reference: str, entry: CatalogEntry | None, name: str) -> ResolvedModel:
    hub_id, _, revision = reference.partition("@")
    model = hub.find(hub_id, revision or None)
    base = entry.base if entry is not None else (False if model.chat else None)
    return ResolvedModel(name, reference, f"hub:{hub_id}@{model.commit}", model.quantization, base, model.commit)


def served(model: str) -> ResolvedModel:
    """A model that a server has: all that is known of its weights is the name that the server gives them."""
    name = re.sub(r"@[0-9a-f]{40}$", "", model)  # a suite that names a hub model for other engines too has its commit pinned
    return ResolvedModel(name, name, f"served:{name}", None, None, None)


def prepare(
    model: ResolvedModel, progress: Progress, form: Form = "folder", level: str | None = None, *, cache: Path | None = None
) -> Path | None:
    """These weights in a folder in Hugging Face format or in a GGUF file: assembled, downloaded or converted when they are
    not there yet. `None` for those that a server has, or that are drawn at random when they are loaded.

    Args:
        level: the format that the weights of a GGUF file are to have; `None`: as they are stored.

    Raises:
        UsageError: the user's files are gone.
        WeightsError: they cannot be made ready; its `kind` says what a failure of them is.
    """
    cache = cache or cache_folder()
    if form == "served" or (form == "folder" and model.architecture is not None):
        return None
    if form == "gguf" and model.stored is None:
        raise UnsupportedWeightsError(f"{model.name} comes in no GGUF file: name one, or choose the engine transformers")
    if model.revision is not None:
        return hub.download(model.reference, model.revision, progress)
    sha256 = model.weights.removeprefix("sha256:")
    target = cache / "converted" / sha256
    entry = catalog().get(model.reference)
    try:
        if entry is not None and entry.package is not None:
            if form == "folder" and is_whole(target):
                return target
            package = entry.package
            chunks = packaged_weights.chunk_paths(package)
            source = packaged_weights.assemble(package, chunks, cache / "gguf" / sha256, progress)
        else:
            local = local_weights.inspect(Path(model.reference), cache)
            if local.sha256 != sha256:
                raise MissingWeightsError(f"{model.reference} has changed since the start: run again")
            if form == "folder" and (local.path.is_dir() or is_whole(target)):
                return local.path if local.path.is_dir() else target
            source = local.path
        if form == "gguf":
            return source if level in (None, model.stored) else _requantized(source, sha256, level, cache, progress)
        return _converted(source, target, progress)
    except OSError as error:
        raise unwritable(cache, error) from error


def _converted(source: Path, target: Path, progress: Progress) -> Path:
    _need(("torch", "transformers", "gguf", "accelerate"), f"converting {source.name}", "transformers")
    target.parent.mkdir(parents=True, exist_ok=True)
    check_room(source.name, read_header(source).elements, target.parent, free_memory=devices.free_memory_bytes())
    _prepared(["bench.convert", str(source), str(target)], source.name, target, progress)
    return target


def _requantized(source: Path, sha256: str, level: str, cache: Path, progress: Progress) -> Path:
    """The file's weights at another level, made once.

    Raises:
        WeightsError: there is no such level, or no room.
    """
    target = cache / "requantized" / f"{sha256}-{level}"
    if not is_whole(target):
        file = map_gguf(source)
        if reason := refusal(file, level):
            raise UnsupportedWeightsError(f"{source.name}: {reason}")
        _need(("xllamacpp", "gguf"), f"quantizing {source.name}", "llamacpp")
        target.parent.mkdir(parents=True, exist_ok=True)
        check_disk(source.name, size_at(file, level), f"at {level}", target.parent)
        _prepared(["bench.requantize", str(source), str(target), level], source.name, target, progress)
    return next(target.glob("*.gguf"))


def _need(modules: Sequence[str], doing: str, extra: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(f'{doing} needs {module}: pip install "gemmeter[{extra}]"')


def _prepared(module: Sequence[str], name: str, target: Path, progress: Progress) -> None:
    """Run a child process that fills `target`, and say what it says."""
    command = [sys.executable, "-P", "-m", *module]
    environment = {name: value for name, value in os.environ.items() if name not in _KEPT_BACK} | {"HF_HUB_OFFLINE": "1"}
    killed, lowest = devices.oom_kills() or 0, devices.free_memory_bytes()
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment) as child,
    ):
        try:
            for line in child.stdout or ():
                told = json.loads(line)
                progress(told["step"], told["done"])
                lowest = min(lowest, devices.free_memory_bytes())
        except BaseException:
            child.kill()
            raise
        code = child.wait()
        stderr.seek(0)
        last = stderr.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
    if code != 0:
        memory_gone = lowest < devices.memory_floor_bytes() or (devices.oom_kills() or 0) > killed
        raise not_converted(name, target.parent, code, last, memory_gone=memory_gone)


def check_room(name: str, elements: int, folder: Path, *, free_memory: int) -> None:
    """Refuse a conversion that would fill the disk or the memory.

    Args:
        elements: numbers in all tensors, of four bytes each.
        free_memory: in bytes.

    Raises:
        WeightsError: the disk of `folder` or the memory is too small.
    """
    needed = 4 * elements
    check_disk(name, needed, "as 32-bit floats", folder)
    if needed + CONVERTER_BYTES > free_memory:
        raise TooLittleMemoryError(
            f"converting {name} takes {(needed + CONVERTER_BYTES) / 2**30:.1f} GiB of memory and {free_memory / 2**30:.1f} GiB are "
            "free: end other programs, or take a smaller model"
        )


def check_disk(name: str, needed: int, form: str, folder: Path) -> None:
    """
    Args:
        needed: bytes.
        form: what they are in, for people.

    Raises:
        WeightsError: the disk of `folder` has fewer.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise WeightsError(
            f"{name} takes {needed / 2**30:.1f} GiB {form} and {folder} has {free / 2**30:.1f} GiB free: "
            "free some space, or set BENCH_CACHE to another folder"
        )


def not_converted(name: str, folder: Path, code: int, last: str, *, memory_gone: bool) -> WeightsError:
    """What a conversion's exit code (negative: the signal) and its last words mean."""
    if code == -9 and memory_gone:
        return TooLittleMemoryError(f"memory ran out while {name} was converted: end other programs, or take a smaller model")
    if code < 0:
        return WeightsError(f"converting {name} was ended by signal {-code}: look who sent it, and try again")
    return WeightsError(
        f"{name} could not be converted into {folder} ({last}): "
        "give that folder space and write access, or take safetensors weights of the model"
    )


def terms_notice(model: ResolvedModel) -> str | None:
    """What a user of the weights has to know and where the full terms lie; `None` for weights that are not in the catalog."""
    entry = catalog().get(model.reference) or by_hub_id(model.reference.partition("@")[0])
    if entry is None or model.architecture is not None:
        return None
    terms = packaged_weights.terms_file(entry.package) if entry.package is not None else None
    return entry.terms + (f" (full text: {terms})" if terms is not None else "")


def cached_weights(cache: Path | None = None) -> list[tuple[str, Path, int]]:
    """What assembling, quantizing and converting left in the cache: the file's or its source's name, the path, its size in bytes."""
    cache = cache or cache_folder()
    files = (*sorted(cache.glob("gguf/*/*.gguf")), *sorted(cache.glob("requantized/*/*.gguf")))
    found = [(file.name, file, file.stat().st_size) for file in files]
    found += [
        (manifest["source"]["name"], folder, sum(manifest["files"].values()))
        for folder in sorted(cache.glob("converted/*/"))
        if (manifest := read_manifest(folder))
    ]
    return found
