"""The worker's own parts; `test_launch` and `test_run` run it as a process."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fakes import make_case, make_planned
from hypothesis import given
from hypothesis import strategies as st

from bench.engines import support
from bench.worker import Job, cached_share, lots, refusal, source_of
from bench.workloads import Prompts
from results.cases import Load

PROMPTS = Prompts(name="p", prompts=("hello",))


def test_an_engine_is_asked_only_for_what_it_can_do() -> None:
    loaded = make_case(engine="transformers", load=Load(arrivals="closed", concurrency=2))
    assert "llamacpp-server" in str(refusal(loaded, support("transformers")))
    assert refusal(loaded.model_copy(update={"engine": "llamacpp-server"}), support("llamacpp-server")) is None
    assert "choose cpu or cuda" in str(refusal(make_case(device="remote"), support("transformers")))
    assert "takes no q4_k_m weights" in str(refusal(make_case(quantization="q4_k_m"), support("transformers")))
    assert refusal(make_case(engine="llamacpp", quantization="q4_k_m"), support("llamacpp")) is None
    asked = make_case(engine="transformers", log_probabilities=True)
    assert "leave log_probabilities out" in str(refusal(asked, support("transformers")))
    assert refusal(asked, support("llamacpp")) is None


@pytest.mark.parametrize(("prompt", "output", "turns", "context"), [(32, 16, 1, 4096), (4000, 64, 1, 8192), (1000, 500, 3, 8192), (None, 64, 1, 4096)])  # fmt: skip
def test_the_context_has_room_for_the_case(prompt: int | None, output: int, turns: int, context: int) -> None:
    planned = make_planned(make_case(prompt_tokens=prompt, output_tokens=output, turns=turns))
    job = Job(process=0, cases=(planned,), prompts={}, warmup=PROMPTS)
    assert source_of(job).context_tokens == context
    roomy = planned.model_copy(update={"context_tokens": 65536})
    assert source_of(job.model_copy(update={"cases": (roomy,)})).context_tokens == 65536


@given(st.lists(st.text(max_size=300)), st.integers(20, 2000))
def test_requests_are_told_in_lots_of_a_few_bytes(prompts: list[str], most: int) -> None:
    requests = [{"prompt": prompt} for prompt in prompts]
    found = list(lots(requests, most))
    assert [one for lot in found for one in lot] == requests
    assert all(lot for lot in found)
    assert all(len(lot) == 1 or sum(len(json.dumps(one)) for one in lot) <= most for lot in found)


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
