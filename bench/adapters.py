"""LoRA adapters that the user has on disk, in PEFT's format: which folder is meant, and its identity by content."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from bench.cache import cache_folder, file_sha256
from results.errors import UsageError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Adapter:
    name: str
    path: Path
    digest: str
    """`sha256:<64 hex>` of the names and hashes of its configuration and weights."""


def resolve_adapter(reference: str, cache: Path | None = None) -> Adapter:
    """
    Raises:
        UsageError: there is no adapter in PEFT's format, or only a pickled one.
    """
    path = Path(reference).expanduser()
    if not (path / CONFIG).is_file():
        raise UsageError(f"adapter: {reference} holds no {CONFIG}: name a folder that PEFT's save_pretrained wrote.")
    if not (path / WEIGHTS).is_file():
        raise UsageError(
            f"adapter: {reference} holds no {WEIGHTS}: save the adapter as safetensors, as pickled weights can run code."
        )
    try:
        kind = json.loads((path / CONFIG).read_text("utf-8")).get("peft_type")
        files = "".join(f"{name} {file_sha256(path / name, cache or cache_folder())}\n" for name in (CONFIG, WEIGHTS))
    except (ValueError, AttributeError) as error:
        raise UsageError(f"adapter: {path / CONFIG} is no JSON object ({error}): save the adapter again.") from error
    except OSError as error:
        raise UsageError(f"adapter: {reference} cannot be read ({error.strerror}): check its permissions.") from error
    if kind != "LORA":
        raise UsageError(f"adapter: {reference} is of type {kind}: only LoRA adapters are loaded.")
    return Adapter(path.resolve().name, path.resolve(), f"sha256:{hashlib.sha256(files.encode()).hexdigest()}")
