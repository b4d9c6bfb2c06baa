"""Content hashes are right, remembered, and forgotten when a file changes."""

import hashlib
import json
from pathlib import Path

import platformdirs
import pytest

from bench.cache import cache_folder, file_sha256


def test_hash_is_computed_once_per_state(tmp_path: Path) -> None:
    file, cache = tmp_path / "weights.gguf", tmp_path / "cache"
    file.write_bytes(b"one")
    assert file_sha256(file, cache) == hashlib.sha256(b"one").hexdigest()
    known = json.loads((cache / "hashes.json").read_text())
    known[str(file)][2] = "remembered"
    (cache / "hashes.json").write_text(json.dumps(known))
    assert file_sha256(file, cache) == "remembered"
    file.write_bytes(b"two!")
    assert file_sha256(file, cache) == hashlib.sha256(b"two!").hexdigest()


def test_damaged_or_unwritable_memory_only_costs_time(tmp_path: Path) -> None:
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"one")
    (tmp_path / "hashes.json").write_text("{half")
    assert file_sha256(file, tmp_path) == hashlib.sha256(b"one").hexdigest()
    assert file_sha256(file, file / "no folder") == hashlib.sha256(b"one").hexdigest()


def test_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("BENCH_CACHE")
    assert cache_folder() == Path(platformdirs.user_cache_dir("gemmeter"))
