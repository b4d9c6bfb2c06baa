"""How much of the weights' files lies in the page cache: whether a load was cold or warm."""

import os
from pathlib import Path


def cached_share(source: Path | None, probes: int = 32) -> float | None:
    """Share of the weights' files that lies in the page cache, by probing so many places in each; `None` where it can't be told."""
    if source is None or not hasattr(os, "preadv") or not hasattr(os, "RWF_NOWAIT"):
        return None
    hits = tried = 0
    for file in [source] if source.is_file() else source.glob("*.safetensors"):
        size = file.stat().st_size
        descriptor = os.open(file, os.O_RDONLY)
        try:
            for probe in range(probes):
                tried += 1
                try:
                    os.preadv(descriptor, [bytearray(1)], size * probe // probes, os.RWF_NOWAIT)
                    hits += 1
                except BlockingIOError:
                    pass
                except OSError:
                    return None
        finally:
            os.close(descriptor)
    return hits / tried if tried else None
