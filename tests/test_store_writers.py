"""Many processes write to one store at once, and some are killed: nothing is lost, and nothing is there by half."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier

import pytest
import sqlalchemy as sa
from fakes import make_case, make_environment, make_planned, make_report, make_run, store_report
from test_store import in_order

from results import database, schema, writing
from results.records import Report, Run, RunEvent, Score
from results.store import Store

pytest_plugins = ["postgres"]
pytestmark = pytest.mark.slow

WRITERS, RUNS = 8, 5
SPAWN = multiprocessing.get_context("spawn")


def run_of(writer: int, number: int) -> Report:
    """A run whose cases are those of every other, planned in an order of the writer's own."""
    report = make_report(run_id=f"run-{writer}-{number}", seed=10 * writer + number, with_failure=number % 2 == 0)
    planned = report.run.planned
    turned = (*planned[writer % len(planned) :], *planned[: writer % len(planned)])
    return report.model_copy(update={"run": report.run.model_copy(update={"planned": turned})})


def passing_run(writer: int) -> Run:
    """A run whose environment and cases are those of the other writers' passing runs alone, planned from both ends."""
    planned = [make_planned(make_case(output_tokens=1000 + number)) for number in range(40)]
    ordered = planned if writer % 2 else planned[::-1]
    return make_run(*ordered, run_id=f"passing-{writer}", environment=make_environment(cpu_count=99))


def write(url: str, start: Barrier, writer: int) -> None:
    """Make the store with the others, write runs in both ways, and add and remove one again and again."""
    start.wait(120)
    with Store.writing(url) as store:
        for number in range(RUNS):
            if number % 2:
                store.add_report(run_of(writer, number))
            else:
                store_report(store, run_of(writer, number))
            store.tag(f"run-{writer}-0", [f"tag-{number}"])
        for _ in range(2 * RUNS):
            store.add_run(passing_run(writer))
            store.remove_run(f"passing-{writer}")


def test_eight_processes_at_once_lose_nothing(any_url: str) -> None:
    start = SPAWN.Barrier(WRITERS)
    writers = [SPAWN.Process(target=write, args=(any_url, start, writer)) for writer in range(WRITERS)]
    for one in writers:
        one.start()
    for one in writers:
        one.join(300)
    assert [one.exitcode for one in writers] == [0] * WRITERS
    with Store.reading(any_url) as store:
        assert {one.run_id for one in store.runs()} == {f"run-{w}-{n}" for w in range(WRITERS) for n in range(RUNS)}
        for writer in range(WRITERS):
            for number in range(RUNS):
                expected = run_of(writer, number)
                if number == 0:
                    expected = expected.model_copy(update={"tags": ("main", *(f"tag-{k}" for k in range(RUNS)))})
                assert store.report(f"run-{writer}-{number}") == in_order(expected)
        assert database.check(store.engine) == []


def die_while_writing(url: str) -> None:
    """Store half of a run, and be killed in the transaction of a measurement, when its requests are in."""
    report = run_of(0, 0)

    def scores() -> Iterator[Score]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield report.scores[0]

    store = Store.writing(url)
    store.add_run(report.run)
    store.add_measurement(report.measurements[0])
    big = report.measurements[1].requests[0].model_copy(update={"output": "x" * 20_000_000})  # which does not stay in memory
    store.add_measurement(report.measurements[1].model_copy(update={"requests": (big,)}), scores())


def test_a_writer_that_is_killed_leaves_no_half_record(any_url: str) -> None:
    victim = SPAWN.Process(target=die_while_writing, args=(any_url,))
    victim.start()
    victim.join(120)
    assert victim.exitcode == -signal.SIGKILL
    report = run_of(0, 0)
    with Store.reading(any_url) as store:
        found = store.report(report.run.run_id)
        assert found == Report(run=report.run, measurements=report.measurements[:1])
        assert database.check(store.engine) == []
    with Store.writing(any_url) as store:
        store.add_measurement(report.measurements[1])
        assert len(store.report(report.run.run_id).measurements) == 2


def write_without_end(url: str) -> None:
    with Store.writing(url) as store:
        for number in range(10_000):
            store.add_report(run_of(1, number))


def test_a_writer_that_is_killed_anywhere_leaves_whole_runs(any_url: str) -> None:
    with Store.writing(any_url) as store:
        store.add_run(make_run(run_id="before"))
        victim = SPAWN.Process(target=write_without_end, args=(any_url,))
        victim.start()
        while len(store.runs()) < 3:
            victim.join(0.05)
            assert victim.is_alive()
        victim.kill()
        victim.join(60)
        for one in store.runs():
            if one.run_id != "before":
                assert store.report(one.run_id) == in_order(run_of(1, int(one.run_id.split("-")[-1])))
        store.add_event(RunEvent(run_id="before", at=make_run().started_at, kind="interrupted"))
        assert database.check(store.engine) == []


def test_writers_that_need_the_same_rows_never_wait_in_a_circle(postgresql_url: str) -> None:
    first, second = ({"case_id": name, "config_id": "c", "facts": {}} for name in "ab")
    with Store.writing(postgresql_url) as store, ThreadPoolExecutor() as pool:
        with store.engine.begin() as ours:
            writing.insert_missing(ours, schema.cases, [first])

            def other() -> None:
                with store.engine.begin() as theirs:
                    writing.insert_missing(theirs, schema.cases, [second, first])

            waiting = pool.submit(other)
            blocked = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not ours.execute(blocked).scalar_one():
                assert not waiting.done()
            writing.insert_missing(ours, schema.cases, [second])
        waiting.result(60)
