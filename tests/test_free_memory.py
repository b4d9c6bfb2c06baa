"""Free memory is that of the machine, or of the GPUs that may be used."""

from types import SimpleNamespace

import pytest
from nvml_standin import NvmlStandin

from bench.free_memory import free_bytes
from monitor.nvml import Driver

TWO = [{"MemoryInfo": SimpleNamespace(total=80, free=free), "UUID": f"GPU-{number}"} for number, free in enumerate((30, 50))]


def test_gpus_that_share_the_layers_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = Driver(NvmlStandin(*TWO))
    assert free_bytes("cuda", 1, driver) == 30
    assert free_bytes("cuda", 2, driver) == 80


def test_only_visible_gpus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert free_bytes("cuda", 1, Driver(NvmlStandin(*TWO))) == 50


def test_a_gpu_that_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert free_bytes("cuda", 2, Driver(NvmlStandin(TWO[0], {}))) is None
    assert free_bytes("cuda", 1, Driver(NvmlStandin())) is None


def test_apple_gpus_have_the_machines_memory() -> None:
    assert free_bytes("mps") == pytest.approx(free_bytes("cpu"), rel=0.2)
