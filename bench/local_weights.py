"""Weights that the user has on disk: which file or folder is meant, its identity by content, and what it says about itself."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cache import file_sha256
from bench.gguf_header import read_header
from results.errors import UsageError

_CONTENT = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer*",
    "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.jinja",
)  # fmt: skip
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class LocalWeights:
    path: Path
    """A .gguf file, or a folder in Hugging Face format."""
    sha256: str
    """Of the GGUF file, or of the names and hashes of the folder's weights, configuration and tokenizer."""
    source_precision: str | None
    stored: str | None
    """The format of a GGUF file's weights, such as `q4_k_m` or `bf16`."""
    base: bool
    """No chat template came with it."""


def inspect(path: Path, cache: Path) -> LocalWeights:
    """
    Raises:
        UsageError: nothing is there, or nothing that can be loaded safely.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder: check the spelling, relative paths start at the current folder")
    try:
        found = _loadable(path)
        if found.is_dir():
            return _folder(found, cache)
        header = read_header(found)
        return LocalWeights(found, file_sha256(found, cache), header.precision, header.stored, base=not header.has_chat_template)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): check its permissions") from error


def _loadable(path: Path) -> Path:
    if path.is_file():
        if path.suffix == ".gguf":
            if re.search(r"-\d{5}-of-\d{5}$", path.stem):
                raise UsageError(f"{path} is one part of several: join them with llama-gguf-split --merge")
            return path
        if path.suffix == ".safetensors":
            raise UsageError(f"{path}: name the folder that it lies in, which must also hold config.json and the tokenizer")
        raise UsageError(f"{path}: only safetensors and GGUF weights are loaded: convert it to one of them")
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return path
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return _loadable(files[0])
    if files:
        raise UsageError(f"{path} holds several GGUF files: name one of {', '.join(file.name for file in files)}")
    if any(any(path.glob(pattern)) for pattern in _PICKLED):
        raise UsageError(
            f"{path} holds pickled weights only, which can run code: only safetensors and GGUF are loaded, convert it"
        )
    missing = "config.json" if any(path.glob("*.safetensors")) else "safetensors or GGUF weights"
    raise UsageError(f"{path} holds no {missing}: name a folder that save_pretrained wrote, or a .gguf file")


def _folder(path: Path, cache: Path) -> LocalWeights:
    if not any((path / name).is_file() for name in _TOKENIZERS):
        raise UsageError(f"{path} holds no tokenizer: save it there with its save_pretrained")
    files = sorted({file for pattern in _CONTENT for file in path.glob(pattern) if file.is_file()})
    listing = "".join(f"{file.name} {file_sha256(file, cache)}\n" for file in files)
    quantized = _json(path / "config.json").get("quantization_config")
    precision = str(quantized.get("quant_method", "quantized")) if isinstance(quantized, dict) else None
    return LocalWeights(path, hashlib.sha256(listing.encode()).hexdigest(), precision, None, base=not has_chat_template(path))


def has_chat_template(folder: Path) -> bool:
    tokenizer = folder / "tokenizer_config.json"
    return any(folder.glob("*.jinja")) or (tokenizer.is_file() and bool(_json(tokenizer).get("chat_template")))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON ({error}): save it again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} is no JSON object: save it again")
    return found
