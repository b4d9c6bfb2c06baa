"""What lies on disk is told apart by content, and what cannot be loaded safely is refused with a remedy."""

import json
from pathlib import Path

import pytest
from tiny_gemma import gguf_header

from bench.local_weights import inspect
from results.errors import UsageError


def folder(path: Path, **files: str | bytes) -> Path:
    path.mkdir(exist_ok=True)
    standard: dict[str, str | bytes] = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": b"weights"}
    for name, content in (standard | {name.replace("__", "."): content for name, content in files.items()}).items():
        if content:
            (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_identity_is_the_content(tmp_path: Path) -> None:
    one = inspect(folder(tmp_path / "one", README__md="# one"), tmp_path / "cache")
    same = inspect(folder(tmp_path / "two", README__md="# two"), tmp_path / "cache")
    assert one.sha256 == same.sha256
    others = {
        inspect(folder(tmp_path / name, **files), tmp_path / "cache").sha256
        for name, files in {
            "weights": {"model__safetensors": b"others"},
            "config": {"config__json": '{"a": 1}'},
            "tokenizer": {"tokenizer__json": '{"a": 1}'},
            "template": {"chat_template__jinja": "x"},
            "more": {"model-2__safetensors": b"weights"},
        }.items()
    }
    assert len(others | {one.sha256}) == 6


def test_precision_and_chat(tmp_path: Path) -> None:
    full = inspect(folder(tmp_path / "full", config__json='{"dtype": "bfloat16"}'), tmp_path / "cache")
    assert (full.source_precision, full.base) == (None, True)
    quantized = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    found = inspect(
        folder(tmp_path / "q", config__json=json.dumps(quantized), tokenizer_config__json='{"chat_template": "x"}'),
        tmp_path / "cache",
    )
    assert (found.source_precision, found.base) == ("bitsandbytes", False)
    assert not inspect(folder(tmp_path / "jinja", chat_template__jinja="x"), tmp_path / "cache").base


def test_gguf_is_found_by_file_and_by_folder(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf_header(chat=True))
    by_file, by_folder = inspect(file, tmp_path / "cache"), inspect(tmp_path, tmp_path / "cache")
    assert by_file == by_folder
    assert (by_file.path, by_file.source_precision, by_file.base) == (file, "q4_k_m", False)


@pytest.mark.slow
def test_a_real_model_is_accepted(tiny_gemma: Path, tiny_gemma_chat: Path, tmp_path: Path) -> None:
    tiny = inspect(tiny_gemma, tmp_path)
    assert (tiny.path, tiny.source_precision, tiny.base) == (tiny_gemma, None, True)
    assert not inspect(tiny_gemma_chat, tmp_path).base


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "holds no safetensors or GGUF weights: name a folder that save_pretrained wrote"),
        ({"config.json": "{}", "pytorch_model.bin": "x"}, "pickled weights only, which can run code: only safetensors and GGUF"),
        ({"config.json": "{}", "model.ckpt": "x"}, "pickled weights only"),
        ({"model.safetensors": "x"}, "holds no config.json"),
        ({"config.json": "{}", "model.safetensors": "x"}, "holds no tokenizer"),
        ({"m-00001-of-00002.gguf": "x"}, "is one part of several: join them with llama-gguf-split"),
        ({"a.gguf": "x", "b.gguf": "x"}, "several GGUF files: name one of a.gguf, b.gguf"),
        ({"config.json": "{half", "model.safetensors": "x", "tokenizer.json": "{}"}, "config.json is no JSON"),
        ({"config.json": "[]", "model.safetensors": "x", "tokenizer.json": "{}"}, "config.json is no JSON object"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=sentence):
        inspect(tmp_path, tmp_path / "cache")


def test_files_of_other_kinds(tmp_path: Path) -> None:
    for name, sentence in {"a.safetensors": "name the folder", "a.pt": "only safetensors and GGUF"}.items():
        (tmp_path / name).write_text("x")
        with pytest.raises(UsageError, match=sentence):
            inspect(tmp_path / name, tmp_path / "cache")
    with pytest.raises(UsageError, match=r"none\.gguf: no such file or folder"):
        inspect(tmp_path / "none.gguf", tmp_path / "cache")
