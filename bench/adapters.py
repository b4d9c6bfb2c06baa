"""LoRA adapters that the user has on disk, in PEFT's format: which folder is meant, and its identity by content."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Adapter:
    name: str
    path: Path
    digest: str
    """`sha256:<64 hex>` of the names and hashes of its configuration and weights."""


def resolve_adapter(reference: str, cache: Path | None = None) -> Adapter:
    raise NotImplementedError
