"""Memory from outside: a child that holds a known amount, and recorded folders of the kernel's files."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from monitor import devices, processes
from monitor.energy import Energy
from monitor.sampler import Sampler, thin
from monitor.thermal import Clocks, Conditions, Track, Watch

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

    def usage(*gpus: dict[int, int | None]) -> tuple[int | None, int]:
        sampler = Sampler(os.getpid(), lambda _: None, floor_bytes=0, on_device=lambda: gpus)
        sampler.begin()
        used = sampler.end()
        return used.peak_device_bytes, used.foreign_device_processes

    own, other, third = os.getpid(), 999_999_999, 999_999_998
    assert usage() == (None, 0)
    assert usage({other: 5}) == (None, 0)
    assert usage({own: 7, other: 5}) == (7, 1)
    assert usage({own: 7, other: 5}, {own: 8, other: None}, {third: 1}) == (15, 1)
    assert usage({own: None, other: 5}) == (None, 1)
    assert usage({own: 7}, {own: None}) == (None, 0)


class FakeMeter:
    """One joule a second."""

    def __init__(self, began: float) -> None:
        self.began, self.samples = began, 0

    def sample(self, now: float) -> None:
        self.samples += 1

    def energy(self, now: float) -> Energy | None:
        return Energy(now - self.began, "fake")


class FakeWatch(Watch):
    def __init__(self) -> None:
        self.samples = 0

    def sample(self, now: float) -> None:
        self.samples += 1

    def conditions(self) -> Conditions:
        return Conditions(cpu_clock=Clocks(1, 2, 3), tracks=(Track("cpu_clock_hz", "Hz", (12.0, 13.0), (2e9, 3e9)),))


def test_energy_and_conditions_are_those_from_the_mark_to_the_end() -> None:
    import os

    asked: list[tuple[str | None, int]] = []
    now = [10.0]

    def meter(device: str | None, pids: object, at: float) -> FakeMeter:
        asked.append((device, len(pids)))  # type: ignore[arg-type]
        return FakeMeter(at)

    sampler = Sampler(os.getpid(), lambda _: None, floor_bytes=0, clock=lambda: now[0], meter=meter, watch=lambda *_: FakeWatch())
    sampler.begin()
    unmarked = sampler.end()
    assert (unmarked.energy_j, unmarked.energy_method, unmarked.conditions) == (None, None, Conditions())
    sampler.begin()
    now[0] = 11.0  # of warm-up
    sampler.mark("cuda")
    now[0] = 14.0
    usage = sampler.end()
    assert asked == [("cuda", len(sampler.seen))]
    assert (usage.energy_j, usage.energy_method, usage.conditions.cpu_clock) == (3.0, "fake", Clocks(1, 2, 3))
    memory, clock = usage.series(origin=10.0)
    assert (memory.name, memory.unit, memory.times_s) == ("rss_bytes", "B", (0.0, 4.0))
    assert memory.values == usage.rss_bytes
    assert (clock.name, clock.unit, clock.times_s, clock.values) == ("cpu_clock_hz", "Hz", (2.0, 3.0), (2e9, 3e9))
    sampler.begin()
    assert sampler.end().energy_j is None
    sampler.mark("cuda")  # of a case that failed, and so never ended
    sampler.begin()
    assert sampler.end().energy_j is None


@pytest.mark.slow
def test_energy_is_looked_at_more_often_than_clocks_and_neither_after_the_end() -> None:
    import os

    meters, watch = [], FakeWatch()

    def meter(_: object, __: object, now: float) -> FakeMeter:
        meters.append(FakeMeter(now))
        return meters[-1]

    with Sampler(os.getpid(), lambda _: None, floor_bytes=0, meter=meter, watch=lambda *_: watch) as sampler:
        sampler.begin()
        sampler.mark("cpu")
        while watch.samples < 1:
            time.sleep(0.05)
        sampler.end()
        seen = meters[0].samples, watch.samples
        time.sleep(0.5)
    assert seen[0] // seen[1] == 2
    assert (meters[0].samples, watch.samples) == seen


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
    none = tmp_path / "none"
    assert devices.oom_kills(tmp_path, none) == 3
    assert devices.oom_kills(none, none) is None


def test_the_containers_own_count_of_kills_goes_before_that_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("oom_kill 90\n")
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 4\n")
    assert devices.oom_kills(tmp_path, tmp_path) == 1


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
