"""Rounds visit everything once per process, and what is pending is the rest and only the rest."""

from collections import Counter

from fakes import make_case, make_failure, make_measurement, make_planned
from hypothesis import given
from hypothesis import strategies as st

from bench.schedule import pending, rounds
from results.cases import MemoryEstimate, PlannedCase


def plan() -> list[PlannedCase]:
    speed = [make_planned(make_case(output_tokens=n, dtype=d, quantization=d)) for n in (1, 2, 3) for d in ("fp32", "bf16")]
    return [*speed, make_planned(make_case(purpose="quality", stop="eos"), processes=1)]


@given(st.integers(0, 2**31))
def test_each_round_visits_each_load_once_and_each_case(seed: int) -> None:
    batches = rounds(plan(), seed)
    assert [batch.process for batch in batches] == [0, 0, 1, 1, 2, 2]
    visits = Counter(one.case.case_id for batch in batches for one in batch.cases)
    assert visits == {one.case.case_id: one.processes for one in plan()}
    for batch in batches:
        assert len({one.case.config_id for one in batch.cases}) == 1
    assert all(one.case.purpose == "speed" for batch in batches for one in batch.cases[:-1])
    assert batches == rounds(plan(), seed)


def test_the_order_changes_with_the_seed() -> None:
    orders = {tuple(one.case.case_id for batch in rounds(plan(), seed) for one in batch.cases) for seed in range(20)}
    assert len(orders) > 10


@given(st.sets(st.integers(0, 18)), st.integers(0, 99))
def test_pending_is_the_rest_and_only_the_rest(done: set[int], seed: int) -> None:
    batches = rounds(plan(), seed)
    units = [(one.case, batch.process) for batch in batches for one in batch.cases]
    measured = [make_measurement(str(n), units[n][0], process=units[n][1]) for n in sorted(done)]
    left = [(one.case, batch.process) for batch in pending(batches, measured, []) for one in batch.cases]
    assert left == [unit for n, unit in enumerate(units) if n not in done]


def test_what_failed_is_left_out_unless_retried_or_interrupted() -> None:
    batches = rounds([make_planned()], 1)
    case = make_case()

    def left(kind: str, *, retry: bool = False) -> list[int]:
        failures = [make_failure("f", case, process=0, kind=kind)]
        return [batch.process for batch in pending(batches, [], failures, retry_failed=retry)]

    assert left("crash") == [1, 2]
    assert left("oom") == []
    assert left("interrupted") == [0, 1, 2]
    assert left("oom", retry=True) == [0, 1, 2]


def test_isolated_cases_have_a_process_each() -> None:
    batches = rounds([one.model_copy(update={"isolated": True}) for one in plan()], 3)
    assert {len(batch.cases) for batch in batches} == {1}
    assert len(batches) == sum(one.processes for one in plan())


def test_cases_of_one_configuration_with_other_room_have_a_load_of_their_own() -> None:
    rooms = [make_planned(make_case(depth=depth), context_tokens=room) for depth, room in ((0, 4096), (64, 4096), (8192, 16384))]
    assert {tuple(sorted(one.case.depth for one in batch.cases)) for batch in rounds(rooms, 3)} == {(0, 64), (8192,)}


def memory(total: int, free: int = 100) -> MemoryEstimate:
    return MemoryEstimate(weights_bytes=total, kv_cache_bytes=0, activation_bytes=0, runtime_bytes=0, available_bytes=free)


def sized(total: int, **changes: object) -> PlannedCase:
    return make_planned(make_case(**changes), estimate=memory(total), processes=2)


def test_what_fits_changes_no_order() -> None:
    fitting = [one.model_copy(update={"estimate": memory(50)}) for one in plan()]
    for seed in range(10):
        ids = [[one.case.case_id for one in batch.cases] for batch in rounds(fitting, seed)]
        assert ids == [[one.case.case_id for one in batch.cases] for batch in rounds(plan(), seed)]


def test_loads_that_do_not_fit_come_last_the_smallest_first() -> None:
    loads = [sized(size, weights=f"hub:m{size}@c") for size in (300, 50, 500, 60, 200, 70)]
    firsts = set()
    for seed in range(20):
        batches = rounds(loads, seed)
        for start in (0, 6):  # in each of the two rounds
            sizes = [batch.cases[0].estimate.total_bytes for batch in batches[start : start + 6] if batch.cases[0].estimate]
            assert sizes[3:] == [200, 300, 500]
            assert set(sizes[:3]) == {50, 60, 70}
            firsts.add(sizes[0])
    assert firsts == {50, 60, 70}


def test_cases_of_a_load_that_do_not_fit_come_after_the_others_the_smallest_first() -> None:
    cases = [sized(size, batch=size) for size in (400, 10, 150, 20)]
    quality = make_planned(make_case(purpose="quality", stop="eos"), processes=2, estimate=memory(10))
    for seed in range(20):
        (first, _) = rounds([*cases, quality], seed)
        sizes = [one.case.batch for one in first.cases]
        assert sizes[2:] == [150, 400, 1]
        assert set(sizes[:2]) == {10, 20}


def test_a_load_with_one_case_that_fits_is_visited_with_the_others() -> None:
    mixed = [sized(400, batch=2), sized(10, batch=1)]
    others = [sized(20, weights="hub:m@c"), sized(300, weights="hub:n@c")]
    places = {[len(batch.cases) for batch in rounds([*mixed, *others], seed)[:3]].index(2) for seed in range(20)}
    assert places == {0, 1}
