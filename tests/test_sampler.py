"""Memory from outside: a child that holds a known amount, and recorded folders of the kernel's files."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from monitor import devices, processes
from monitor.sampler import Sampler, thin

HOLD = """
import sys, time
block = b"x" * (100 * 2**20)
print("ready", flush=True)
sys.stdin.readline()
more = b"y" * (150 * 2**20)
del more
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not processes.LINUX, reason="reads /proc")
def test_peak_is_found_even_between_samples_and_is_reset_between_cases() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child,
        Sampler(child.pid, lambda _: None, floor_bytes=0) as sampler,
    ):
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        sampler.begin()
        child.stdin.write("go\n")
        child.stdin.flush()
        child.stdout.readline()
        first = sampler.end()
        sampler.begin()
        time.sleep(0.2)
        second = sampler.end()
        child.stdin.write("end\n")
        child.stdin.flush()
    assert 100 * 2**20 < first.start_rss_bytes < 140 * 2**20
    assert 250 * 2**20 < first.peak_rss_bytes < 290 * 2**20
    assert second.peak_rss_bytes < 140 * 2**20
    assert second.peak_pss_bytes
    assert 95 * 2**20 < second.peak_pss_bytes < 140 * 2**20
    assert len(second.times) >= 3
    assert list(second.times) == sorted(second.times)
    assert 0 <= second.others_cpu_share <= 1


def test_a_whole_tree_is_summed_and_ended() -> None:
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {HOLD!r}], stdin=subprocess.PIPE).wait()"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        child.stdout.readline()
        pids = processes.tree(child.pid)
        assert len(pids) == 2
        assert sum(processes.rss_bytes(pid) for pid in pids) > 100 * 2**20
        processes.end_tree(child.pid, "", pids[:1])
        processes.end_tree(pids[1], "")
        assert child.wait(5) == -9
    assert all(processes.rss_bytes(pid) == 0 for pid in pids)


def test_device_memory_is_unknown_where_the_driver_numbers_processes_otherwise() -> None:
    import os

    def usage(found: dict[int, int] | None) -> tuple[int | None, int]:
        sampler = Sampler(os.getpid(), lambda _: None, floor_bytes=0, on_device=lambda: found)
        sampler.begin()
        used = sampler.end()
        return used.peak_device_bytes, used.foreign_device_processes

    assert usage(None) == (None, 0)
    assert usage({999_999_999: 5}) == (None, 0)
    assert usage({os.getpid(): 7, 999_999_999: 5}) == (7, 1)


def test_thinning_keeps_the_peak() -> None:
    points = [(float(n), 1000.0 if n == 7777 else float(n % 10)) for n in range(10_000)]
    kept = thin(points, 100)
    assert len(kept) == 100
    assert max(kept, key=lambda point: point[1]) == (7777.0, 1000.0)
    assert kept == sorted(kept)
    assert thin(points[:50], 100) == points[:50]


def test_container_limits_are_read(tmp_path: Path) -> None:
    assert devices.cpu_limit(tmp_path) is None
    assert devices.memory_limit_bytes(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 1\nnr_periods 9\nnr_throttled 4\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("600000\n")
    (tmp_path / "memory.stat").write_text("anon 400000\ninactive_file 150000\nactive_file 50000\n")
    assert devices.cpu_limit(tmp_path) == 1.5
    assert devices.cpu_throttled_periods(tmp_path) == 4
    assert devices.memory_limit_bytes(tmp_path) == 1_000_000
    assert devices.free_memory_bytes(tmp_path) == 600_000
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.cpu_limit(tmp_path) is None
    assert devices.memory_limit_bytes(tmp_path) is None


def test_recorded_machine_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 3\n")
    assert devices.cpu_model(tmp_path) == "Fast CPU @ 3 GHz"
    assert devices.oom_kills(tmp_path) == 3
    assert devices.oom_kills(tmp_path / "none") is None


@pytest.mark.skipif(not processes.LINUX, reason="reads /proc")
def test_a_part_watched_apart_is_counted_alone_and_the_rest_beside_it() -> None:
    program = f"""
import subprocess, sys
block = b"x" * (60 * 2**20)
child = subprocess.Popen([sys.executable, '-c', {HOLD!r}], stdin=sys.stdin, stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
    with (
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child,
        Sampler(child.pid, lambda _: None, floor_bytes=0) as sampler,
    ):
        assert child.stdin
        assert child.stdout
        sampler.begin()
        assert sampler.end().beside_peak_rss_bytes is None
        sampler.watch_apart(int(child.stdout.readline()))
        sampler.begin()
        time.sleep(0.2)
        usage = sampler.end()
        child.stdin.write("go\nend\n")
        child.stdin.flush()
    assert 100 * 2**20 < usage.peak_rss_bytes < 140 * 2**20
    assert usage.beside_peak_rss_bytes is not None
    assert 60 * 2**20 < usage.beside_peak_rss_bytes < 100 * 2**20
    assert usage.peak_pss_bytes
    assert usage.peak_pss_bytes < 140 * 2**20
