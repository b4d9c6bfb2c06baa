"""What an exception inside a worker, or the last words of a process, mean: the kind of failure, and one sentence with a remedy."""

import errno
import re

from results.records import FailureKind

OUT_OF_MEMORY = re.compile(
    "|".join(
        (
            r"can(no|')t allocate memory",  # the C library's ENOMEM, torch on a CPU
            r"not enough memory: you tried to allocate",  # torch on Windows
            r"out of memory",  # CUDA, HIP, MPS, XPU
            r"\w_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE
            r"(nvml|cuda)\w*error\w*:?.*insufficient.memory",
            r"std::bad_alloc|bad allocation",  # C++
            r"memory allocation of \d+ bytes failed",  # Rust: tokenizers, safetensors
            r"(failed|unable) to allocate",  # llama.cpp, NumPy
            r"insufficient memory",  # ggml
            r"requires more system memory",  # Ollama
        )
    ),
    re.IGNORECASE,
)
"""Words of allocators that had nothing left to give."""
REMEDY = "choose a smaller model, dtype, length or batch."


class EngineDiedError(Exception):
    """A server of ours ended while it was measured."""


class EngineFailedError(Exception):
    """A server answered nothing."""


class StoppedError(Exception):
    """The parent asked for an end."""


def classify(error: Exception, engine: str) -> tuple[FailureKind, str]:
    """The kind of failure that an exception means, and one sentence with a remedy."""
    from bench.engines import support
    from bench.engines.protocol import UnsupportedError
    from bench.engines.server_process import ServerEndedError
    from results.errors import GemmeterError

    text = " ".join(str(error).split())[:400] or type(error).__name__
    if isinstance(error, UnsupportedError | GemmeterError):
        return getattr(error, "kind", "unsupported"), text
    if isinstance(error, StoppedError):
        return "interrupted", text
    if _is_out_of_memory(error):
        return "oom", f"Memory ran out ({text.rstrip('.')}): {REMEDY}"
    if isinstance(error, EngineDiedError | ServerEndedError):
        return "crash", text
    if isinstance(error, EngineFailedError):
        return "engine_error", f"{text} Look at the server and its log, and run again."
    if isinstance(error, ImportError):
        able = support(engine)
        what = f'"gemmeter[{able.extra}]"' if able.extra else " ".join(able.packages)
        return "missing_dependency", f"{text}: install it with `pip install {what}`."
    return (
        "engine_error",
        f"The engine failed with {type(error).__name__}: {text.rstrip('.')}. The stderr tail has the traceback.",
    )


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether it, or an error that it was raised from, is an allocator's."""
    if error is None:
        return False
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "NVMLError_InsufficientMemory"):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return bool(OUT_OF_MEMORY.search(str(error))) or _is_out_of_memory(error.__cause__)


def memory_ran_out(last_words: str) -> str | None:
    """The line in which an allocator says so, of what a process wrote before it ended; `None` without one."""
    for line in reversed(last_words.splitlines()):
        if not line.startswith("    ") and OUT_OF_MEMORY.search(line):  # a traceback's lines of source are indented
            return line.strip()[:400]
    return None
