"""Where a model's dimensions are written down: in the catalog, in a config.json, or in a GGUF file's metadata. Nothing is loaded.

Reading a configuration is left to `bench.architecture`.
"""

import contextlib
import json
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench import packaged_weights
from bench.catalog import PackagedWeights, by_hub_id, catalog
from bench.estimate import Stored
from bench.gguf_file import GgufFile, map_gguf
from bench.gguf_types import BLOCKS, LEVELS, Type, size_at, types
from bench.preparing import MissingWeightsError
from bench.weights import ResolvedModel

FAMILIES = {
    "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text", "gemma3n": "gemma3n_text", "llama": "llama", "qwen2": "qwen2",
    "qwen3": "qwen3", "olmo2": "olmo2", "granite": "granite", "smollm3": "smollm3",
}  # fmt: skip
"""`model_type` by a GGUF file's `general.architecture`."""
KEYS = {
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "attention.sliding_window": "sliding_window",
    "attention.shared_kv_layers": "num_kv_shared_layers", "altup.num_inputs": "altup_num_inputs",
    "embedding_length_per_layer_input": "hidden_size_per_layer_input",
}  # fmt: skip
"""Names in `config.json` by those in a GGUF file, after its architecture's: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md."""
REPACKED = frozenset({Type.Q2_K, Type.Q4_0, Type.Q4_K})
"""Types of matrices that llama.cpp holds a second time, in another order, on an x86 CPU with AVX2."""


def configuration(model: ResolvedModel) -> Mapping[str, Any] | None:
    """As in `config.json`; `None`: nothing here says what dimensions the model has."""
    if model.architecture is not None:
        return model.architecture
    name = model.reference.partition("@")[0]
    if (entry := catalog().get(name) or by_hub_id(name)) and entry.architecture:
        return entry.architecture
    path = Path(model.reference)
    if model.revision is not None:
        return _downloaded(name, model.revision)
    if path.is_dir():
        return _read(path / "config.json")
    file = _file(path) if path.suffix == ".gguf" else None
    return gguf_configuration(file) if file else None


def stored(model: ResolvedModel, level: str) -> Stored | None:
    """What the weights of a model's GGUF file take at a level, which may be another than theirs; `None`: it has no such file here, or
    nobody makes that level of it."""
    entry = catalog().get(model.reference)
    package = entry.package if entry else None
    path = _first_part(package) if package else Path(model.reference)
    file = _file(path) if path and path.is_file() else None
    if path is None or file is None:
        return None
    if level != model.stored:
        return Stored(size_at(file, level), _repacked(file, types(file, level))) if level in LEVELS else None
    whole = sum(part.stat().st_size for part in packaged_weights.chunk_paths(package)) if package else path.stat().st_size
    return Stored(whole - file.data_start, _repacked(file, {tensor.name: tensor.type_id for tensor in file.tensors}))


def gguf_configuration(file: GgufFile) -> Mapping[str, Any] | None:
    """A GGUF file's metadata in the words of `config.json`; `None`: an architecture that is not known here."""
    name = file.value("general.architecture")
    if name not in FAMILIES:
        return None
    found = {ours: value for theirs, ours in KEYS.items() if (value := file.value(f"{name}.{theirs}")) is not None}
    _, tokens = file.pairs.get("tokenizer.ggml.tokens", (0, b""))
    if len(tokens) >= 12:
        found["vocab_size"] = struct.unpack_from("<Q", tokens, 4)[0]
    tied = all(tensor.name != "output.weight" for tensor in file.tensors)
    return found | {"model_type": FAMILIES[name], "tie_word_embeddings": tied}


def _repacked(file: GgufFile, kinds: Mapping[str, int]) -> int:
    """Bytes of the layers' matrices whose types are repacked."""
    found = 0
    for tensor in file.tensors:
        if tensor.name.startswith("blk.") and kinds[tensor.name] in REPACKED:
            numbers, size = BLOCKS[kinds[tensor.name]]
            found += tensor.elements * size // numbers
    return found


def _first_part(package: PackagedWeights) -> Path | None:
    """The beginning of a packaged file, which its metadata stand in; `None` if the package is not installed."""
    with contextlib.suppress(MissingWeightsError):
        return packaged_weights.chunk_paths(package)[0]
    return None


@cache
def _file(path: Path) -> GgufFile | None:
    with contextlib.suppress(OSError, ValueError):
        return map_gguf(path)
    return None


def _downloaded(hub_id: str, revision: str) -> Mapping[str, Any] | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    return _read(Path(path)) if isinstance(path, str) else None


def _read(path: Path) -> Mapping[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text("utf-8"))
        return found if isinstance(found, dict) else None
    return None
