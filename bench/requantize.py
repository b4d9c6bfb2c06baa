"""The child process that quantizes a GGUF file to another level, once: `python -m bench.requantize SOURCE TARGET LEVEL`.

Each tensor is expanded to 32-bit floats some rows at a time and quantized by the library inside the xllamacpp wheel; metadata is copied
as it is. Which type a tensor gets is left to `bench.gguf_types`, explaining how the process ended to `bench.weights`.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from bench import preparing_child
from bench.convert import publish
from bench.gguf_file import Tensor, map_gguf, number, write_data, write_header
from bench.gguf_types import BLOCKS, LEVELS, Type, types
from bench.preparing import Progress

WHEEL = "xllamacpp"
QUANTIZATION_VERSION = 2
"""Of the layout of blocks, as llama.cpp counts."""
CHUNK_NUMBERS = 2**20
"""What each thread expands to floats at a time."""


def requantize(source: Path, target: Path, level: str, progress: Progress) -> None:
    """Write the weights of one GGUF file at another level, which is one of `LEVELS`.

    Raises:
        ValueError: the source is damaged.
        ImportError: there is no library that quantizes.
        OSError: the disk is full.
    """
    progress("reading the weights", None)
    found, quantizer = map_gguf(source), Quantizer()
    made = types(found, level)
    sizes = [data_bytes(tensor, made[tensor.name]) for tensor in found.tensors]
    pairs = dict(found.pairs) | {
        "general.file_type": number(LEVELS[level].file_type),
        "general.quantization_version": number(QUANTIZATION_VERSION),
    }
    ends = [found.data_start + one.offset + data_bytes(one, one.type_id) for one in found.tensors]
    if source.stat().st_size < max(ends, default=0):
        raise ValueError(f"{source.name} is cut off: download it again")
    total, done = sum(tensor.elements for tensor in found.tensors), 0
    with source.open("rb") as read, target.open("wb") as written, ThreadPoolExecutor(os.cpu_count()) as threads:
        rows = [(one.name, one.shape, made[one.name], size) for one, size in zip(found.tensors, sizes, strict=True)]
        write_header(written, pairs, rows)
        for tensor, size in zip(found.tensors, sizes, strict=True):
            read.seek(found.data_start + tensor.offset)
            if made[tensor.name] == tensor.type_id:
                pieces = _pieces(read, size)
            else:
                pieces = _quantized(read, tensor, Type(made[tensor.name]), quantizer, threads)
            write_data(written, pieces, size, found.alignment)
            done += tensor.elements
            progress(f"quantizing the weights to {level}", done / total)


def data_bytes(tensor: Tensor, type_id: int) -> int:
    """Bytes of its data in any type that GGUF knows."""
    import gguf

    numbers, each = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(type_id)]
    return int(tensor.elements // numbers * each)


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(size, 4 * CHUNK_NUMBERS))):
        yield piece
        size -= len(piece)


def _quantized(file: BinaryIO, tensor: Tensor, wanted: Type, quantizer: "Quantizer", threads: Executor) -> Iterator[bytes]:
    """The data that follows in the file, as another type: rows are independent, so some of them are made at a time."""
    row, rows = tensor.shape[0], tensor.elements // tensor.shape[0]
    row_bytes = data_bytes(tensor, tensor.type_id) // rows
    at_a_time = max(1, CHUNK_NUMBERS // row)
    lot = at_a_time * (os.cpu_count() or 1)
    for first in range(0, rows, lot):
        chunks = [
            file.read(min(at_a_time, rows - start) * row_bytes) for start in range(first, min(first + lot, rows), at_a_time)
        ]
        yield from threads.map(lambda chunk: quantizer.quantize(floats(chunk, tensor.type_id, row), wanted), chunks)


def floats(data: bytes, type_id: int, row: int) -> Any:
    """Whole rows of this many numbers as an array of 32-bit floats."""
    import gguf
    import numpy as np

    kind = gguf.GGMLQuantizationType(type_id)
    raw = {"F32": np.float32, "F16": np.float16}.get(kind.name, np.uint8)
    numbers, each = gguf.GGML_QUANT_SIZES[kind]
    width = row if raw is not np.uint8 else row // numbers * each
    return np.ascontiguousarray(gguf.dequantize(np.frombuffer(data, raw).reshape(-1, width), kind), np.float32)


class Quantizer:
    """llama.cpp's own quantizing of rows, which the wheel's shared library has.

    Raises:
        ImportError: the wheel is missing, or its library keeps that to itself.
    """

    def __init__(self) -> None:
        spec = find_spec(WHEEL)
        folders = (spec.submodule_search_locations if spec else None) or []
        for path in (path for folder in folders for path in sorted(Path(folder).glob(f"{WHEEL}*.*"))):
            if path.suffix in (".so", ".pyd", ".dylib"):
                chunk = getattr(ctypes.CDLL(str(path)), "ggml_quantize_chunk", None)
                if chunk:
                    break
        else:
            raise ImportError(f"no library of {WHEEL} has ggml_quantize_chunk")
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        chunk.argtypes, chunk.restype = [ctypes.c_int, pointer, pointer, integer, integer, integer, pointer], ctypes.c_size_t
        self._chunk = chunk

    def quantize(self, rows: Any, wanted: Type) -> bytes:
        """Rows of 32-bit floats, a two-dimensional array, as blocks."""
        numbers, each = BLOCKS[wanted]
        made = ctypes.create_string_buffer(rows.size // numbers * each)
        size = self._chunk(wanted, rows.ctypes.data, made, 0, *rows.shape, None)
        if size != len(made):
            raise ValueError(f"the library made {size} bytes of {wanted.name} where {len(made)} were expected")
        return made.raw


def main() -> None:
    source, target, level = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    tools = {tool: version(tool) for tool in ("gemmeter", WHEEL, "gguf")}
    facts = {"source": {"name": source.name, "sha256": target.name.removesuffix(f"-{level}")}, "level": level, "tools": tools}
    made = f"{source.stem}-{level}.gguf"
    preparing_child.run(
        lambda progress: publish(target, lambda folder: requantize(source, folder / made, level, progress), facts, progress)
    )


if __name__ == "__main__":
    main()
