"""The worker's own parts; `test_launch` and `test_run` run it as a process."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.engines.protocol import UnsupportedError
from bench.worker import cached_share, classify
from results.errors import UsageError


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
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), "oom", "smaller model"),
        (RuntimeError("mat1 and mat2\n shapes"), "engine_error", "RuntimeError: mat1 and mat2 shapes"),
    ],
)
def test_exceptions_are_classified(error: Exception, kind: str, words: str) -> None:
    found, message = classify(error)
    assert found == kind
    assert words in message


def test_the_page_cache_is_asked(tmp_path: Path) -> None:
    assert cached_share(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"x" * 2**20)
    assert cached_share(tmp_path) in (None, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("code", ["", "import time; time.sleep(60)"])
def test_the_worker_ends_with_its_parent(code: str, tmp_path: Path) -> None:
    """A stand-in parent starts the worker and dies by SIGKILL; the worker waits for its job, or is busy."""
    program = f"""
import os, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-P", "-c", '''
import sys, threading
from bench.worker import Channel
channel = Channel(sys.stdout, sys.stdin)
channel.listen()
{code or "channel.ask('waiting')"}
'''], stdin=subprocess.PIPE)
print(worker.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    time.sleep(1)
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.05)
    parent.stdout.close()
