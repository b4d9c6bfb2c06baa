"""Bytes of a model's matrices at each level of quantization, scales and tables included.

What the packages make is what `bench.engines.weights_bytes` counts; a test compares. GGUF files are counted in `bench.gguf_types`.
"""

from bench.dimensions import Linear, Part

NUMBER_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of one number."""
GROUP = 128
"""Numbers that share a scale in the levels of 4 bits that are not bitsandbytes'."""


def part_bytes(part: Part, level: str, number_bytes: int) -> float:
    """Of weights at a level that is made in memory; what it leaves alone takes `number_bytes` a number."""
    return sum(linear_bytes(one, level, number_bytes) for one in part.linears) + part.others * number_bytes


def linear_bytes(one: Linear, level: str, number_bytes: int) -> float:
    """
    Raises:
        KeyError: no such level.
    """
    numbers, rows = one.numbers, one.outputs * one.copies
    match level:
        case "int8":
            return numbers + 4 * rows
        case "nf4":  # a scale of 8 bits for 64 numbers, a scale of 32 bits for 256 of those, and three tables
            return numbers / 2 + numbers / 64 + 4 * numbers / 64 / 256 + (64 + 1024 + 4) * one.copies
        case "torchao-int8" | "torchao-int8-dynamic" | "quanto-int8":
            return numbers + number_bytes * rows
        case "torchao-int4" | "quanto-int4":
            if one.inputs % GROUP:
                return numbers * number_bytes
            return numbers / 2 + 2 * number_bytes * numbers / GROUP
        case "dynamic-int8":
            return numbers + 8 * one.copies
    if level in NUMBER_BYTES:
        return numbers * NUMBER_BYTES[level]
    raise KeyError(level)
