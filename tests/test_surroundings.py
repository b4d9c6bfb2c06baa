"""Which circumstances become warnings, and with which facts."""

import pytest
from fakes import make_case, make_planned

from bench.surroundings import surroundings
from monitor.sampler import Usage
from monitor.thermal import Clocks, Conditions
from results.caveats import sentence

PLAIN = make_planned(make_case(source_precision=None))


def usage(**changes: object) -> Usage:
    fields: dict[str, object] = {
        "start_rss_bytes": 1000,
        "peak_rss_bytes": 1200,
        "peak_pss_bytes": None,
        "beside_peak_rss_bytes": None,
        "others_cpu_share": 0.0,
        "peak_device_bytes": None,
        "foreign_device_processes": 0,
        "throttled_periods": 0,
        "energy_j": None,
        "energy_method": None,
        "times": (),
        "rss_bytes": (),
        "conditions": Conditions(),
    }
    return Usage(**(fields | changes))  # type: ignore[arg-type]


def kinds(
    planned: object, one: Usage, loaded: int | None = 1000, governor: str | None = None, limit: float | None = None
) -> set[str]:
    found = surroundings(planned, one, loaded, lambda: governor, lambda: limit)  # type: ignore[arg-type]
    assert not any("{" in sentence(warning) for warning in found), "its facts do not fill its sentence"
    return {warning.kind for warning in found}


def test_a_quiet_machine_gives_none() -> None:
    assert kinds(PLAIN, usage()) == set()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"others_cpu_share": 0.06}, "cpu_contention"),
        ({"throttled_periods": 3}, "cpu_throttled"),
        ({"start_rss_bytes": 1031}, "dirty_start"),
    ],
)
def test_each_circumstance_has_its_warning(changes: dict[str, object], kind: str) -> None:
    assert kinds(PLAIN, usage(**changes)) == {kind}


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (Conditions(throttled_share=0.25, throttle_reasons=("power cap",)), "gpu_throttled"),
        (Conditions(gpu_clock=Clocks(1.7e9, 1.9e9, 1.9e9)), "gpu_clock"),
        (Conditions(cpu_clock=Clocks(1e9, 2.3e9, 3e9)), "cpu_clock"),
        (Conditions(cpu_heat_events=1), "cpu_heat"),
        (Conditions(on_battery=True), "on_battery"),
    ],
)
def test_what_held_the_machine_back_has_its_warning(seen: Conditions, kind: str) -> None:
    assert kinds(PLAIN, usage(conditions=seen)) == {kind}


def test_a_machine_that_ran_freely_gives_none() -> None:
    free = Conditions(
        throttled_share=0.0, gpu_clock=Clocks(1.8e9, 1.9e9, 1.9e9), cpu_clock=Clocks(1e9, 2.5e9, 3e9), cpu_heat_events=0,
        on_battery=False,
    )  # fmt: skip
    assert kinds(PLAIN, usage(conditions=free), governor="performance", limit=2.0) == set()


def test_the_cpus_clock_matters_to_cpu_cases_only() -> None:
    slow = usage(conditions=Conditions(cpu_clock=Clocks(1e9, 1e9, 3e9)))
    assert kinds(make_planned(make_case(source_precision=None, device="cuda")), slow) == set()


def test_words_for_a_machine_that_was_held_back() -> None:
    seen = Conditions(
        throttled_share=0.256, throttle_reasons=("power cap", "heat, by hardware"), gpu_clock=Clocks(1.2e9, 1.9e9, 2e9)
    )
    throttled, clock = surroundings(PLAIN, usage(conditions=seen), 1000, lambda: None, lambda: None)
    assert sentence(throttled) == "the GPU was slowed down in 26% of the time (power cap, heat, by hardware)"
    assert sentence(clock) == "the GPU's clock fell while it worked to 40% below its highest in the case"


def test_a_quota_matters_where_it_allows_less_than_the_threads() -> None:
    assert kinds(PLAIN, usage(), limit=1.5) == {"cpu_quota"}
    assert kinds(PLAIN, usage(), limit=2.0) == set()
    assert kinds(make_planned(make_case(source_precision=None, threads=None)), usage(), limit=0.5) == set()
    assert kinds(PLAIN, usage(), governor="powersave") == {"governor"}


@pytest.mark.parametrize(
    ("source", "quantization", "kind"),
    [
        (None, "q4_k_m", set()),
        ("q4_k_m", "q4_k_m", set()),
        ("q4_k_m", "fp32", {"expanded_weights"}),
        ("q4_k_m", "bf16", {"expanded_weights"}),
        ("q4_k_m", "q8_0", {"requantized_weights"}),
        ("q4_k_m", "nf4", {"requantized_weights"}),
        (None, "nf4", set()),
    ],
)
def test_weights_that_came_from_coarser_ones(source: str | None, quantization: str, kind: set[str]) -> None:
    assert kinds(make_planned(make_case(source_precision=source, quantization=quantization)), usage()) == kind


def test_random_weights_are_marked() -> None:
    assert kinds(make_planned(make_case(source_precision=None, weights="random:0a1b")), usage()) == {"random_weights"}


def test_small_changes_are_not_worth_one() -> None:
    assert kinds(PLAIN, usage(others_cpu_share=0.001, start_rss_bytes=1030)) == set()


def test_others_on_the_gpu_matter_to_gpu_cases_only() -> None:
    busy = usage(foreign_device_processes=2)
    assert kinds(PLAIN, busy) == set()
    assert kinds(make_planned(make_case(source_precision=None, device="cuda")), busy) == {"foreign_device_processes"}


def test_expanded_weights_and_base_models_are_marked() -> None:
    assert kinds(make_planned(), usage()) == {"expanded_weights"}
    assert kinds(make_planned(make_case(purpose="quality", stop="eos")), usage()) == {"expanded_weights", "base_model"}


def test_a_server_elsewhere_is_a_session_and_its_memory_is_not_ours() -> None:
    remote = make_planned(make_case(source_precision=None, device="remote", target="staging"))
    assert kinds(remote, usage(start_rss_bytes=5000)) == {"remote_session"}
