"""The doctor's findings about energy, heat, power and a project's defaults, from recorded folders and a stand-in for the driver."""

from pathlib import Path

from nvml_standin import NvmlStandin

from bench.doctor import battery, cpu_energy, gpu_energy, heat, project_defaults
from monitor.nvml import Driver


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_energy_counters_of_the_cpu(tmp_path: Path) -> None:
    assert (cpu_energy(tmp_path).state, "virtual machines" in cpu_energy(tmp_path).remedy) == ("note", True)
    zone = tmp_path / "intel-rapl:0"
    write(zone / "name", "package-0")
    (zone / "energy_uj").mkdir()  # there, and reading it fails, as without the permission
    denied = cpu_energy(tmp_path)
    assert (denied.state, f"sudo chmod a+r {zone}/energy_uj" in denied.remedy) == ("note", True)
    (zone / "energy_uj").rmdir()
    write(zone / "energy_uj", 5)
    assert (cpu_energy(tmp_path).state, cpu_energy(tmp_path).remedy) == ("ok", "")


def test_energy_of_gpus() -> None:
    found = gpu_energy(Driver(NvmlStandin({"TotalEnergyConsumption": 1}, {"PowerUsage": 70_000}, {})))
    assert [one.state for one in found] == ["ok", "ok", "note"]
    assert ["counter" in found[0].text, "power" in found[1].text, bool(found[2].remedy)] == [True] * 3
    assert gpu_energy(None) == []


def test_heat_and_batteries(tmp_path: Path) -> None:
    assert heat(tmp_path).state == "note"
    write(tmp_path / "cpu0/thermal_throttle/core_throttle_count", 12)
    assert (heat(tmp_path).state, "12 times" in heat(tmp_path).text) == ("ok", True)
    assert battery(tmp_path) == []
    write(tmp_path / "BAT0/type", "Battery")
    write(tmp_path / "AC/type", "Mains")
    write(tmp_path / "AC/online", 1)
    assert [one.state for one in battery(tmp_path)] == ["ok"]
    write(tmp_path / "AC/online", 0)
    assert [one.state for one in battery(tmp_path)] == ["note"]


def test_what_the_project_says_and_where(tmp_path: Path) -> None:
    (none,) = project_defaults(tmp_path)
    assert (none.state, "price_per_hour" in none.remedy) == ("ok", True)
    write(tmp_path / "pyproject.toml", "[tool.gemmeter]\nprice_per_hour = 1.5")
    (shared,) = project_defaults(tmp_path)
    assert (shared.state, shared.text) == ("ok", "pyproject.toml says price_per_hour = 1.5")
    write(tmp_path / "gemmeter.toml", 'tags = ["nightly"]\nmemory_limit = "1KiB"')
    own, shadowed = project_defaults(tmp_path)
    assert own.text == "gemmeter.toml says tags = nightly, memory_limit = 1 KiB"
    assert (shadowed.state, "pyproject.toml" in shadowed.text) == ("note", True)
    write(tmp_path / "gemmeter.toml", "pryce = 1")
    (wrong,) = project_defaults(tmp_path)
    assert (wrong.state, "pryce: unknown key" in wrong.text) == ("missing", True)
