"""What a GGUF file says about itself, read without the `gguf` package: its precision, its size, whether it can chat.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.errors import UsageError

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_GUESSED = 1024  # a flag on general.file_type

_FULL = {0: "fp32", 1: "fp16", 32: "bf16"}
_FILE_TYPES = _FULL | {
    2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s", 12: "q3_k_m", 13: "q3_k_l",
    14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k", 19: "iq2_xxs", 20: "iq2_xs", 21: "q2_k_s",
    22: "iq3_xs", 23: "iq3_xxs", 24: "iq1_s", 25: "iq4_nl", 26: "iq3_s", 27: "iq3_m", 28: "iq2_s", 29: "iq2_m",
    30: "iq4_xs", 31: "iq1_m", 36: "tq1_0", 37: "tq2_0", 38: "mxfp4_moe", 39: "nvfp4", 40: "q1_0",
}  # fmt: skip
FORMATS = tuple(_FILE_TYPES.values())
"""Names of what weights can be stored as."""


@dataclass(frozen=True)
class GgufHeader:
    stored: str
    """The format of the weights, such as `q4_k_m` or `bf16`; `gguf` when the file does not say."""
    has_chat_template: bool
    elements: int
    """Numbers in all tensors."""
    weights_bytes: int
    """What all tensors take, their padding included."""

    @property
    def precision(self) -> str | None:
        """The format where it is coarser than floats of 16 bits."""
        return None if self.stored in _FULL.values() else self.stored


def read_header(path: Path) -> GgufHeader:
    """
    Raises:
        UsageError: it is no GGUF file of a known version, or is cut off.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(_Reader(data), path)
    except (struct.error, KeyError, UnicodeDecodeError, ValueError, OSError) as error:
        raise UsageError(f"{path} is no readable GGUF file ({error}): download it again") from error


def _header(reader: "_Reader", path: Path) -> GgufHeader:
    magic, version = reader.bytes(4), reader.number("I")
    if magic != b"GGUF" or version not in (2, 3):
        raise UsageError(f"{path} is no GGUF file of version 2 or 3: only safetensors and GGUF weights are loaded")
    tensors, pairs = reader.number("Q"), reader.number("Q")
    file_type, chat, alignment = None, False, 32
    for _ in range(pairs):
        key, kind = reader.bytes(reader.number("Q")), reader.number("I")
        value = reader.value(kind)
        if key == b"general.file_type" and isinstance(value, int):
            file_type = value & ~_GUESSED
        if key == b"general.alignment" and isinstance(value, int):
            alignment = value
        chat = chat or key == b"tokenizer.chat_template"
    elements = 0
    for _ in range(tensors):
        reader.bytes(reader.number("Q"))
        elements += math.prod(reader.number("Q") for _ in range(reader.number("I")))
        reader.bytes(12)  # type and offset
    stored = "gguf" if file_type is None else _FILE_TYPES.get(file_type, "gguf")
    start = -(-reader.position // alignment) * alignment
    return GgufHeader(stored, chat, elements, weights_bytes=len(reader.data) - start)


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.position = data, 0

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.position)
        self.position += struct.calcsize("<" + code)
        return value

    def bytes(self, length: int) -> bytes:
        found = self.data[self.position : self.position + length]
        if len(found) < length:
            raise ValueError("it is cut off")
        self.position += length
        return found

    def value(self, kind: int) -> Any:
        """A number; strings and arrays are walked over and give `None`."""
        if kind == _STRING:
            length = self.number("Q")
            self.position += length
        elif kind == _ARRAY:
            of, count = self.number("I"), self.number("Q")
            if of in _NUMBERS:
                self.position += count * struct.calcsize("<" + _NUMBERS[of])
            else:
                for _ in range(count):
                    self.value(of)
        else:
            return self.number(_NUMBERS[kind])
        return None
