"""GGUF headers made here are read back; damaged ones are refused, wherever they are cut."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_gemma import gguf_header

from bench.gguf_header import GgufHeader, read_header
from results.errors import UsageError


@pytest.mark.parametrize(
    ("file_type", "precision"),
    [(0, None), (1, None), (32, None), (15, "q4_k_m"), (15 | 1024, "q4_k_m"), (7, "q8_0"), (None, "gguf"), (999, "gguf")],
)
def test_precision(tmp_path: Path, file_type: int | None, precision: str | None) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_header(file_type))
    assert read_header(tmp_path / "m.gguf").precision == precision


def test_floats_are_named_too(tmp_path: Path) -> None:
    for file_type, stored in ((0, "fp32"), (1, "fp16"), (32, "bf16")):
        (tmp_path / "m.gguf").write_bytes(gguf_header(file_type))
        assert read_header(tmp_path / "m.gguf").stored == stored


@given(chat=st.booleans(), shapes=st.lists(st.lists(st.integers(1, 300_000), min_size=1, max_size=4).map(tuple), max_size=5))
def test_header_round_trip(tmp_path_factory: pytest.TempPathFactory, chat: bool, shapes: list[tuple[int, ...]]) -> None:
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    header = gguf_header(chat=chat, shapes=tuple(shapes))
    path.write_bytes(header + bytes(-len(header) % 32) + bytes(96))
    elements = 0
    for shape in shapes:
        size = 1
        for side in shape:
            size *= side
        elements += size
    assert read_header(path) == GgufHeader("q4_k_m", chat, elements, weights_bytes=96)


def test_files_cut_anywhere_are_refused(tmp_path: Path) -> None:
    whole, path = gguf_header(chat=True), tmp_path / "m.gguf"
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(UsageError, match=r"m\.gguf is no"):
            read_header(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    for content in (
        b"",
        b"PK\x03\x04" + bytes(100),
        b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
        b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    ):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="GGUF"):
            read_header(path)
