"""Where dimensions come from: the catalog, a config.json, a GGUF file; and how much of a GGUF file is weights."""

import json
import struct
from pathlib import Path

import pytest
from tiny_gemma import make_tiny_gguf

from bench.architecture import Architecture
from bench.catalog import catalog
from bench.estimate import Stored
from bench.gguf_file import GgufFile, Tensor
from bench.gguf_header import read_header
from bench.model_config import configuration, gguf_configuration, stored
from bench.weights import ResolvedModel, served


def model(reference: str, **changes: object) -> ResolvedModel:
    fields: dict[str, object] = {
        "name": "m", "reference": reference, "weights": "sha256:" + "0" * 64, "source_precision": None, "base": True, "revision": None,
    }  # fmt: skip
    return ResolvedModel(**(fields | changes))  # type: ignore[arg-type]


def test_catalog_models_by_name_and_by_hub_id() -> None:
    entry = catalog()["gemma-3-1b-it"]
    assert configuration(model("gemma-3-1b-it", revision="c0ffee")) == entry.architecture
    assert configuration(model(entry.hub_id + "@c0ffee", revision="c0ffee")) == entry.architecture


def test_random_weights_bring_their_own() -> None:
    assert configuration(model("gemma-3-1b-it", architecture={"model_type": "llama"})) == {"model_type": "llama"}


def test_folders_have_a_config(tmp_path: Path) -> None:
    assert configuration(model(str(tmp_path))) is None
    (tmp_path / "config.json").write_text("[")
    assert configuration(model(str(tmp_path))) is None
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert configuration(model(str(tmp_path))) == {"model_type": "llama"}


def test_what_a_server_has_is_unknown() -> None:
    assert configuration(served("some-model")) is None
    assert configuration(model("somebody/something@c0ffee", revision="c0ffee")) is None
    assert stored(model("somebody/something@c0ffee", revision="c0ffee"), "q4_k_m") is None


def gguf(**values: object) -> GgufFile:
    pairs: dict[str, tuple[int, bytes]] = {"tokenizer.ggml.tokens": (9, struct.pack("<IQ", 8, 1000))}
    for key, value in values.items():
        name = key.replace("__", ".")
        pairs[name] = (
            (8, struct.pack("<Q", len(value)) + value.encode()) if isinstance(value, str) else (4, struct.pack("<I", value))
        )
    return GgufFile(pairs, (Tensor("token_embd.weight", (640, 1000), 8, 0),), 0, 32)


def test_metadata_of_a_gguf_file_in_the_words_of_a_config() -> None:
    file = gguf(
        general__architecture="gemma3", gemma3__block_count=18, gemma3__embedding_length=640, gemma3__feed_forward_length=2048,
        gemma3__attention__head_count=4, gemma3__attention__head_count_kv=1, gemma3__attention__key_length=256,
        gemma3__attention__sliding_window=512,
    )  # fmt: skip
    found = gguf_configuration(file)
    assert found == {
        "model_type": "gemma3_text", "num_hidden_layers": 18, "hidden_size": 640, "intermediate_size": 2048,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512, "vocab_size": 1000,
        "tie_word_embeddings": True,
    }  # fmt: skip
    architecture = Architecture.from_config(found)
    assert architecture and [layer.window for layer in architecture.layers].count(None) == 3
    assert gguf_configuration(gguf(general__architecture="falcon")) is None


@pytest.mark.slow
def test_a_gguf_file_has_its_own_dimensions_and_sizes(tmp_path: Path) -> None:
    path = make_tiny_gguf(tmp_path / "tiny.gguf")
    tiny = model(str(path), stored="q8_0")
    architecture = Architecture.from_config(configuration(tiny) or {})
    header = read_header(path)
    assert architecture and architecture.parameters == header.elements
    assert stored(tiny, "q8_0") == Stored(header.weights_bytes, 0)
    matrices = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)  # rows of 32: no multiple of 256, so no q4_k
    assert stored(tiny, "q4_0") == Stored(_size(header.elements, matrices, 320 * 32), matrices * 18 // 32)
    assert stored(tiny, "iq2_xxs") is None


def _size(elements: int, matrices: int, table: int) -> int:
    return matrices * 18 // 32 + (elements - matrices - table) * 4 + table * 34 // 32
