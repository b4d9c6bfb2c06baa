"""Where prepared weights lie, and content hashes that are computed once per state of a file.

The layout: `hashes.json`, `gguf/<sha256>/<file>`, `converted/<sha256>/` (a folder in Hugging Face format).
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path


def cache_folder() -> Path:
    """`BENCH_CACHE`, or the user's cache folder of this system; it need not exist."""
    import platformdirs

    return Path(os.environ.get("BENCH_CACHE") or platformdirs.user_cache_dir("gemmeter")).expanduser().absolute()


def file_sha256(path: Path, cache: Path) -> str:
    """Hex digest of a file's content, remembered in `cache` until its size or time of change differ.

    Raises:
        OSError: the file cannot be read. A cache that cannot be written only costs time.
    """
    path = path.resolve()
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns]
    known = _read(cache / "hashes.json")
    found = known.get(str(path))
    if found is not None and found[:2] == state:
        return str(found[2])
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(cache / "hashes.json", json.dumps(_read(cache / "hashes.json") | {str(path): [*state, digest]}))
    return digest


def _read(path: Path) -> dict[str, list[int | str]]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    partial.write_text(text, "utf-8")
    partial.replace(path)
