"""Whatever is pruned asks for more than what was out of memory; nothing smaller ever is."""

from fakes import make_case, make_failure, make_measurement, make_planned, make_report, make_run
from hypothesis import given
from hypothesis import strategies as st

from bench.pruning import message, out_of_memory, pruned_by
from results.cases import Case, Load, PlannedCase
from results.records import Report

AXES = ("batch", "prompt_tokens", "output_tokens", "depth", "slots", "concurrency")
sizes = st.tuples(*(st.integers(1, 3) for _ in AXES))


def case_of(size: tuple[int, ...]) -> Case:
    values = dict(zip(AXES, size, strict=True))
    load = Load(arrivals="closed", concurrency=values.pop("concurrency"))
    return make_case(engine="llamacpp-server", load=load, **values | {"slots": None if values["slots"] == 1 else values["slots"]})


def plan(**changes: object) -> PlannedCase:
    limit = changes.pop("memory_limit_bytes", None)
    return make_planned(make_case(**changes), memory_limit_bytes=limit)


@given(sizes, sizes)
def test_what_asks_for_more_is_pruned_and_nothing_else_is(size: tuple[int, ...], than: tuple[int, ...]) -> None:
    one, failed = make_planned(case_of(size)), make_planned(case_of(than))
    more = size != than and all(a >= b for a, b in zip(size, than, strict=True))
    assert pruned_by(one, [failed]) == (failed if more else None)


@given(st.lists(sizes, max_size=6), sizes)
def test_one_of_several_is_enough(failed: list[tuple[int, ...]], size: tuple[int, ...]) -> None:
    found = pruned_by(make_planned(case_of(size)), [make_planned(case_of(one)) for one in failed])
    smaller = [one for one in failed if one != size and all(a >= b for a, b in zip(size, one, strict=True))]
    assert (found is not None) == bool(smaller)


@given(st.sampled_from(["dtype", "quantization", "weights", "engine", "device", "kv_dtype", "draft", "workload"]))
def test_a_case_that_differs_in_anything_else_is_tried(field: str) -> None:
    assert pruned_by(plan(batch=8, **{field: "other"}), [plan(batch=4)]) is None
    assert pruned_by(plan(batch=8), [plan(batch=4)]) is not None


def test_lengths_that_nobody_knows_are_not_compared() -> None:
    assert pruned_by(plan(prompt_tokens=None), [plan(prompt_tokens=32)]) is None
    assert pruned_by(plan(prompt_tokens=32), [plan(prompt_tokens=None)]) is None
    assert pruned_by(plan(prompt_tokens=None, batch=2), [plan(prompt_tokens=None)]) is not None
    closed = Load(arrivals="closed", concurrency=8)
    assert pruned_by(plan(load=closed), [plan()]) is None


def test_more_memory_is_worth_a_try() -> None:
    failed = plan(memory_limit_bytes=2**30)
    assert pruned_by(plan(batch=2, memory_limit_bytes=2**31), [failed]) is None
    assert pruned_by(plan(batch=2), [failed]) is None
    assert pruned_by(plan(batch=2, memory_limit_bytes=2**30), [failed]) == failed
    assert pruned_by(plan(batch=2, memory_limit_bytes=2**29), [plan()]) is not None


def test_the_message_names_what_was_out_of_memory() -> None:
    by = plan(prompt_tokens=512, batch=4, depth=7)
    assert message(plan(prompt_tokens=1024, batch=8, depth=7), by) == (
        "Not tried: the same with batch 4, prompt 512 was out of memory: choose less, or a smaller model or dtype."
    )


def test_earlier_failures_count_unless_measured_or_tried_again() -> None:
    cases = [make_case(output_tokens=tokens) for tokens in (1, 2, 3, 4)]
    kinds = ("oom", "oom", "crash", "oom")
    failures = tuple(make_failure(f"f{case.output_tokens}", case, kind=kind) for case, kind in zip(cases, kinds, strict=True))
    planned = [make_planned(case) for case in cases]
    report = Report(run=make_run(*planned), failures=failures, measurements=(make_measurement("m", cases[1], process=1),))
    assert out_of_memory(report, ()) == [planned[0], planned[3]]
    assert out_of_memory(report, {cases[0].case_id}) == [planned[3]]
    assert out_of_memory(make_report(), ()) == []
