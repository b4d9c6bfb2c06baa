"""The levels' names, and where transformers refuses which of them, without loading anything."""

import pytest
from fakes import make_case

from bench.engines.quantized import DTYPES, WHERE, refusal
from bench.quantizations import FLOATS, LEVELS, NAMES, OPTIMIZATIONS, dtype_of


def test_one_vocabulary() -> None:
    assert set(WHERE) == set(LEVELS)
    assert tuple(DTYPES) == FLOATS
    assert len(NAMES) == len(set(NAMES))
    assert {*FLOATS, *LEVELS, "q4_k_m", "q8_0"} <= set(NAMES)


def test_a_level_computes_in_its_own_type_unless_told_otherwise() -> None:
    assert [dtype_of(name) for name in FLOATS] == list(FLOATS)
    assert (dtype_of("nf4"), dtype_of("dynamic-int8"), dtype_of("q4_k_m")) == ("bf16", "fp32", "fp32")
    for level, devices in WHERE.items():
        for device, dtypes in devices.items():
            assert dtype_of(level) in dtypes, (level, device)


def test_optimization_levels_of_the_tutorial() -> None:
    assert {name: level["quantization"] for name, level in OPTIMIZATIONS.items()} == {
        "maximum_efficiency": "nf4",
        "balanced": "int8",
        "performance": "bf16",
    }
    for level in OPTIMIZATIONS.values():
        assert refusal(make_case(**level)) is None


@pytest.mark.parametrize("level", [*FLOATS, *LEVELS])
def test_every_level_runs_on_a_cpu_even_from_weights_that_a_gguf_file_had_coarser(level: str) -> None:
    for source in (None, "q4_k_m", "gguf"):
        assert refusal(make_case(quantization=level, dtype=dtype_of(level), source_precision=source)) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quantization": "bf16", "dtype": "fp32"}, "give no other dtype"),
        ({"quantization": "dynamic-int8", "dtype": "bf16"}, "dynamic-int8 computes in fp32 on cpu"),
        ({"quantization": "quanto-int4", "dtype": "fp32"}, "quanto-int4 computes in bf16 on cpu"),
        ({"quantization": "torchao-int4", "dtype": "fp32", "device": "cuda"}, "torchao-int4 computes in bf16 on cuda"),
        ({"quantization": "dynamic-int8", "dtype": "fp32", "device": "cuda"}, "choose cpu, or one of int8, nf4"),
        (
            {"quantization": "torchao-int4", "dtype": "bf16", "device": "mps"},
            "choose cpu or cuda, or one of int8, nf4, torchao-int8",
        ),
        ({"quantization": "nf4", "dtype": "bf16", "source_precision": "bitsandbytes"}, "come quantized, by bitsandbytes"),
    ],
)
def test_refusals_name_the_remedy(changes: dict[str, str], says: str) -> None:
    assert says in (refusal(make_case(**changes)) or "")
