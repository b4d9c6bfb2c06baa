"""`torch.compile` under transformers: the decode steps run compiled over a static KV cache, and compiling has a time of its own.

The prefill is not compiled: transformers leaves it alone, as each prompt length would be compiled anew.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from bench.engines.protocol import UnsupportedError
from results.cases import Case

MOST_RUNS = 6
"""Until nothing is compiled any more; a growing cache takes about three, as its window fills and numbers turn out to vary."""


def refusal(case: Case) -> str | None:
    if case.compile_mode is None:
        return None
    if case.device == "mps":
        return "transformers compiles for the CPU and for CUDA, not for mps: leave compile out."
    if case.kv_cache not in (None, "static"):
        return f"what is compiled needs a static KV cache, not {case.kv_cache}: leave kv_cache out."
    if case.draft:
        return "transformers does not compile speculative decoding: leave compile or draft out."
    if case.device == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            return "torch.compile needs a C++ compiler on the CPU, and none was found: install g++, or leave compile out."
    elif find_spec("triton") is None:
        return "torch.compile needs a package that is not installed on CUDA: pip install triton, or leave compile out."
    return None


def config_of(case: Case) -> Any:
    from transformers import CompileConfig

    config = CompileConfig(mode=case.compile_mode)
    config._compile_all_devices = True  # else it leaves the CPU out
    return config


def compile_s(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Run until nothing is compiled any more: the seconds of those runs, less what they take when all is compiled.

    What earlier cases or processes had compiled is forgotten first, so that every case pays alike.

    Raises:
        UnsupportedError: nothing is compiled at all, or every run compiles anew.
    """
    import torch
    from torch._inductor import async_compile, config

    torch._dynamo.reset()
    config.force_disable_caches = True
    taken: list[float] = []
    for _ in range(MOST_RUNS):
        before, start = graphs(), clock()
        run()
        took = clock() - start
        if graphs() == before:
            if not taken:
                raise UnsupportedError("transformers does not compile this model in its quantization: leave compile out.")
            async_compile.shutdown_compile_workers()  # whose memory is not the model's
            return max(0.0, sum(taken) - len(taken) * took)
        taken.append(took)
    raise UnsupportedError("this model is compiled anew for every request: leave compile out.")


def graphs() -> int:
    """That were compiled in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
