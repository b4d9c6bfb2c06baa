"""GGUF files as they lie on disk: metadata as raw bytes, so that a copy has the same, and where each tensor's data begins.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian). What the data means is left
to `bench.gguf_types`, quantizing it to `bench.requantize`.
"""

import math
import mmap
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

UINT32, STRING, ARRAY = 4, 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
ALIGNMENT = 32


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    """Row length first."""
    type_id: int
    offset: int
    """Of its data, from the beginning of all data."""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class GgufFile:
    pairs: Mapping[str, tuple[int, bytes]]
    """Metadata: (type of the value, its bytes)."""
    tensors: tuple[Tensor, ...]
    data_start: int
    alignment: int

    def value(self, key: str) -> Any:
        """A number or a text, the first number of an array of them; `None` where there is none."""
        kind, raw = self.pairs.get(key, (ARRAY, b""))
        if kind == STRING:
            return raw[8:].decode()
        if kind == ARRAY and len(raw) > 12:
            kind, raw = struct.unpack_from("<I", raw)[0], raw[12:]
        return struct.unpack_from("<" + _NUMBERS[kind], raw)[0] if kind in _NUMBERS and raw else None


def map_gguf(path: Path) -> GgufFile:
    """
    Raises:
        ValueError: it is no GGUF file, or is cut off.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return read_gguf(data)


def read_gguf(data: Any) -> GgufFile:
    """
    Args:
        data: the whole file, as bytes or mapped into memory.

    Raises:
        ValueError: it is no GGUF file of a known version, or is cut off.
    """
    reader = _Reader(data)
    try:
        magic, version, count, pair_count = reader.take("4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError("it is no GGUF file of version 2 or 3")
        pairs = {}
        for _ in range(pair_count):
            key = reader.text()
            (kind,) = reader.take("I")
            start = reader.position
            reader.skip_value(kind)
            pairs[key] = (kind, bytes(data[start : reader.position]))
        tensors = []
        for _ in range(count):
            name = reader.text()
            (dimensions,) = reader.take("I")
            tensors.append(Tensor(name, reader.take(f"{dimensions}Q"), *reader.take("IQ")))
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"it is cut off or damaged ({error})") from error
    alignment = struct.unpack("<I", pairs["general.alignment"][1])[0] if "general.alignment" in pairs else ALIGNMENT
    return GgufFile(pairs, tuple(tensors), padded(reader.position, alignment), alignment)


def write_header(
    file: BinaryIO, pairs: Mapping[str, tuple[int, bytes]], tensors: Sequence[tuple[str, tuple[int, ...], int, int]]
) -> None:
    """Everything before the data, the padding that it begins after included.

    Args:
        tensors: (name, shape, type, bytes of the data) of each in the order of their data, every one of which is padded.
    """
    alignment = struct.unpack("<I", pairs["general.alignment"][1])[0] if "general.alignment" in pairs else ALIGNMENT
    parts = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs))]
    parts += [_text(key) + struct.pack("<I", kind) + raw for key, (kind, raw) in pairs.items()]
    offset = 0
    for name, shape, type_id, size in tensors:
        parts.append(_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type_id, offset))
        offset += padded(size, alignment)
    header = b"".join(parts)
    file.write(header.ljust(padded(len(header), alignment), b"\0"))


def write_data(file: BinaryIO, pieces: Iterable[bytes], size: int, alignment: int) -> None:
    """One tensor's data and its padding.

    Raises:
        ValueError: the pieces have another size than the header says.
    """
    written = sum(file.write(piece) for piece in pieces)
    if written != size:
        raise ValueError(f"{written} bytes came where the header says {size}")
    file.write(bytes(padded(size, alignment) - size))


def padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def number(value: int) -> tuple[int, bytes]:
    """A metadata value."""
    return UINT32, struct.pack("<I", value)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


class _Reader:
    def __init__(self, data: Any) -> None:
        self.data, self.position = data, 0

    def take(self, codes: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + codes, self.data, self.position)
        self.position += struct.calcsize("<" + codes)
        return values

    def text(self) -> str:
        (length,) = self.take("Q")
        found = bytes(self.data[self.position : self.position + length])
        if len(found) < length:
            raise ValueError("it is cut off")
        self.position += length
        return found.decode()

    def skip_value(self, kind: int) -> None:
        if kind == STRING:
            (length,) = self.take("Q")
            self.position += length
        elif kind == ARRAY:
            of, count = self.take("IQ")
            if of in _NUMBERS:
                self.position += count * struct.calcsize("<" + _NUMBERS[of])
            else:
                for _ in range(count):
                    self.skip_value(of)
        else:
            self.take(_NUMBERS[kind])
