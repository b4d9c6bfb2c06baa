"""Which circumstances become warnings, and with which facts."""

import pytest
from fakes import make_case, make_planned

from bench.surroundings import surroundings
from monitor.sampler import Usage
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
    }
    return Usage(**(fields | changes))  # type: ignore[arg-type]


def kinds(planned: object, one: Usage, loaded: int | None = 1000) -> set[str]:
    found = surroundings(planned, one, loaded)  # type: ignore[arg-type]
    assert all(sentence(warning) for warning in found)
    return {warning.kind for warning in found} - {"governor"}


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
