"""What went wrong has a kind: allocators that are really driven to their end among it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_gemma import make_tiny_gguf

from bench.classify import EngineDiedError, EngineFailedError, StoppedError, classify, memory_ran_out
from bench.engines.protocol import UnsupportedError
from bench.engines.server_calls import ServerError
from bench.engines.server_process import ServerEndedError
from results.errors import UsageError

PROVOKED = """
import json, resource, sys
from bench.classify import classify
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30,) * 2)
try:
    exec(sys.argv[1])
except Exception as error:
    print(json.dumps(classify(error, "transformers")))
"""
LLAMA = """
from pathlib import Path
from bench.engines.llamacpp import LlamaCpp
from bench.engines.protocol import Source
from results.cases import Case
from bench.gguf_header import read_header
stored = read_header(Path({file!r})).stored
case = Case(weights="sha256:0", engine="llamacpp", device="cpu", dtype="fp32", quantization=stored, workload="w", output_tokens=8)
LlamaCpp().load(Source(Path({file!r}), context_tokens=2**26), case)
"""
SAFETENSORS = """
import json
from safetensors import safe_open
head = json.dumps({{"a": {{"dtype": "U8", "shape": [2**35], "data_offsets": [0, 2**35]}}}}).encode()
with open({file!r}, "wb") as file:
    file.write(len(head).to_bytes(8, "little") + head)
    file.truncate(8 + len(head) + 2**35)
with safe_open({file!r}, "pt") as tensors:
    tensors.get_tensor("a")
"""
RUST = "from tokenizers import Tokenizer, models; Tokenizer(models.BPE({'a': 0}, [])).encode('a' * 2**28)"
CPLUSPLUS = "import ctypes; ctypes.CDLL('libstdc++.so.6')._ZSt17__throw_bad_allocv()"


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (UnsupportedError("no such device: choose cpu."), "unsupported", "choose cpu"),
        (UsageError("no prompt of that length: choose a larger one."), "unsupported", "choose a larger"),
        (ModuleNotFoundError("No module named 'torch'"), "missing_dependency", "gemmeter[transformers]"),
        (MemoryError(), "oom", "smaller model"),
        (OutOfMemoryError("CUDA out of memory."), "oom", "smaller model"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."), "oom", "4 bytes): choose"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), "oom", "smaller model"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "oom", "CUBLAS"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5.40 GB)"), "oom", "MPS"),
        (RuntimeError("NVMLError_InsufficientMemory: Insufficient Memory"), "oom", "NVML"),
        (RuntimeError("bad allocation"), "oom", "bad allocation"),
        (OSError(12, "Cannot allocate memory"), "oom", "smaller model"),
        (EngineFailedError("Every request failed (http_5xx: model requires more system memory (5 GiB))."), "oom", "5 GiB"),
        (EngineDiedError("The server was killed by signal 9 (SIGKILL)."), "crash", "signal 9"),
        (StoppedError(), "interrupted", ""),
        (ServerError("The server x has no model.", kind="missing_weights"), "missing_weights", "no model"),
        (ServerEndedError("The server was killed by signal 9 (SIGKILL)."), "crash", "signal 9"),
        (EngineDiedError("The server ended with exit code 1."), "crash", "exit code 1"),
        (EngineFailedError("Every request failed (connect: refused)."), "engine_error", "connect: refused"),
        (RuntimeError("mat1 and mat2\n shapes"), "engine_error", "RuntimeError: mat1 and mat2 shapes. The stderr tail"),
    ],
)
def test_exceptions_are_classified(error: Exception, kind: str, words: str) -> None:
    found, message = classify(error, "transformers")
    assert found == kind
    assert words in message


def test_the_remedy_for_a_missing_package_is_that_of_the_engine() -> None:
    missing = ModuleNotFoundError("No module named 'xllamacpp'")
    assert "gemmeter[llamacpp]" in classify(missing, "llamacpp-server")[1]


def test_an_error_raised_from_an_allocators_is_one_too() -> None:
    try:
        raise RuntimeError("the weights cannot be loaded") from MemoryError()
    except RuntimeError as error:
        assert classify(error, "transformers")[0] == "oom"


def provoke(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-c", PROVOKED, code], capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize(
    "code",
    [
        "bytearray(2**35)",
        "import numpy; numpy.ones(2**34)",
        "import torch; torch.empty(2**36, dtype=torch.uint8)",
        "import mmap; mmap.mmap(-1, 2**40)",
        SAFETENSORS,
    ],
)
def test_allocators_at_their_end_are_out_of_memory(code: str, tmp_path: Path) -> None:
    done = provoke(code.format(file=str(tmp_path / "large.safetensors")) if code is SAFETENSORS else code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0] == "oom"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize(("code", "words"), [(CPLUSPLUS, "std::bad_alloc"), (RUST, "memory allocation of")])
def test_aborts_of_allocators_are_known_by_their_last_words(code: str, words: str) -> None:
    done = provoke(code)
    assert done.returncode == -6
    assert words in str(memory_ran_out(done.stderr))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_llama_cpp_says_it_to_standard_error_alone(tmp_path: Path) -> None:
    done = provoke(LLAMA.format(file=str(make_tiny_gguf(tmp_path / "tiny.gguf"))))
    assert json.loads(done.stdout)[0] == "engine_error"
    assert "failed to initialize the context" in str(memory_ran_out(done.stderr))


def test_source_lines_of_a_traceback_are_no_words_of_an_allocator() -> None:
    assert memory_ran_out('  File "x.py", line 3, in <module>\n    raise Full("out of memory")\nFull: no\n') is None
    assert memory_ran_out("mat1 and mat2 shapes cannot be multiplied") is None
