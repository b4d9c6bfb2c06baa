"""The store gives back what was put in, in every database, and refuses what it cannot hold."""

import random
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from fakes import (
    START,
    make_case,
    make_failure,
    make_measurement,
    make_planned,
    make_report,
    make_request,
    make_run,
    store_report,
)
from hypothesis import given
from hypothesis import strategies as st

from results import database, schema
from results.cases import Load
from results.decided import Baseline
from results.errors import StoreError, StoreWriteError, UsageError
from results.records import Report, RunEvent, Score, Series
from results.store import Store

pytest_plugins = ["postgres"]

FIRST, SECOND = "20260301-120000-aaaa", "20260302-120000-bbbb"


@pytest.fixture
def url(any_url: str) -> str:
    return any_url


def pinned(*run_ids: str, name: str = "main") -> Baseline:
    return Baseline(name=name, reference=None, run_ids=run_ids, author="me", reason="because", at=START)


def in_order(report: Report) -> Report:
    """The report as a store tells it."""
    return report.model_copy(
        update={
            "tags": tuple(sorted(report.tags)),
            "measurements": tuple(sorted(report.measurements, key=lambda one: (one.started_at, one.attempt_id))),
            "scores": tuple(sorted(report.scores, key=lambda one: (one.request_id, one.scorer, one.version, one.item))),
        }
    )


def test_a_run_stored_part_by_part_comes_back(url: str) -> None:
    report = make_report()
    with Store.writing(url) as store:
        store_report(store, report)
        assert store.report(FIRST) == in_order(report)
    with Store.reading(url) as store:
        assert store.report(FIRST) == in_order(report)


def test_a_report_is_added_whole_and_once(url: str) -> None:
    report = make_report()
    with Store.writing(url) as store:
        store.add_report(report)
        assert store.report(FIRST) == in_order(report)
        for again in (lambda: store.add_report(report), lambda: store.add_run(report.run)):
            with pytest.raises(UsageError, match=f"^Run {FIRST} is in this store already"):
                again()
        assert store.report(FIRST) == in_order(report)


def test_a_report_that_cannot_be_added_whole_is_not_added(url: str) -> None:
    report, second = make_report(), make_report(run_id=SECOND)
    twice = second.model_copy(update={"measurements": (*second.measurements, second.measurements[0])})
    with Store.writing(url) as store:
        store.add_report(report)
        with pytest.raises(UsageError, match=r"cannot be stored \(.*(unique|UNIQUE).*\): export it again\.$"):
            store.add_report(twice)
        for wrong in ({"seed": 2**70}, {"started_at": datetime.fromisoformat("0001-01-01T00:00:00+14:00")}):
            with pytest.raises(UsageError, match="cannot be stored"):
                store.add_report(second.model_copy(update={"run": second.run.model_copy(update=wrong)}))
        assert [run.run_id for run in store.runs()] == [FIRST]
        store.add_report(second)
        assert store.report(SECOND) == in_order(second)


@pytest.mark.parametrize(
    "part",
    [
        {"events": (RunEvent(run_id=SECOND, at=START, kind="finished"),)},
        {"measurements": (make_measurement("m", run_id=SECOND),)},
        {"failures": (make_failure("f", make_case(output_tokens=999)),)},
        {"scores": (Score(request_id="other", scorer="s", version="v1", item="i", value=1.0),)},
    ],
)
def test_a_report_with_parts_of_another_run_is_refused(tmp_path: Path, part: dict[str, object]) -> None:
    with Store.writing(str(tmp_path / "r.db")) as store, pytest.raises(UsageError, match="parts that are not of this run"):
        store.add_report(Report(run=make_run()).model_copy(update=part))


def test_runs_are_listed_and_resolved(url: str) -> None:
    with Store.writing(url) as store:
        store_report(store, make_report())
        store_report(store, make_report(run_id=SECOND).model_copy(update={"tags": ("release",)}))
        summaries = {one.run_id: one for one in store.runs()}
        assert list(summaries) == [SECOND, FIRST]
        assert [one.run_id for one in store.runs(1)] == [SECOND]
        first = summaries[FIRST]
        assert (first.measured, first.failed, first.planned, first.status, first.tags) == (7, 1, 10, "finished", ("main",))
        assert store.resolve_run("release") == SECOND
        assert store.resolve_run("20260301") == FIRST
        with pytest.raises(UsageError, match="several runs"):
            store.resolve_run("2026")
        for wrong in ("nosuch", "2026%", "2026030_"):
            with pytest.raises(UsageError, match="bench show"):
                store.resolve_run(wrong)


def test_a_case_with_a_character_that_a_database_dislikes_hides_no_runs(url: str) -> None:
    odd = make_planned(make_case(workload="nul \0", load=Load(arrivals="closed", concurrency=2)))
    with Store.writing(url) as store:
        store.add_run(make_run(make_planned(), odd))
        (found,) = store.runs()
        assert (found.planned, found.loads) == (6, 1)
        assert store.report(FIRST).run.planned[1] == odd


def test_the_runs_that_have_an_attempt(url: str) -> None:
    with Store.writing(url) as store:
        store.add_report(make_report())
        assert store.runs_of([f"{FIRST}-m00", f"{FIRST}-f", "nosuch"]) == {FIRST}
        assert store.runs_of(["nosuch"]) == set()


def test_order_is_that_of_bytes(url: str) -> None:
    names = ["b", "B", "a", "Z", "_", "ä", "ab", "a-b", "a_b", "é", "z"]
    with Store.writing(url) as store:
        for name in names:
            store.add_run(make_run(run_id=name))
        store.tag("a", names)
        assert [one.run_id for one in store.runs()] == sorted(names, reverse=True)
        assert list(store.report("a").tags) == sorted(names)


def test_removing_one_run_leaves_the_other_whole(url: str) -> None:
    second = make_report(run_id=SECOND)
    with Store.writing(url) as store:
        store_report(store, make_report())
        store_report(store, second)
        store.remove_run(FIRST)
        assert [one.run_id for one in store.runs()] == [SECOND]
        assert store.report(SECOND) == in_order(second)
        assert database.check(store.engine) == []
        store.remove_run(SECOND)
        with store.engine.connect() as connection:
            for table in schema.metadata.sorted_tables:
                assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0, table.name


def test_a_run_that_a_baseline_stands_on_is_kept(url: str) -> None:
    with Store.writing(url) as store:
        store.add_report(make_report())
        store.add_report(make_report(run_id=SECOND))
        store.add_baseline(pinned(FIRST))
        store.add_baseline(pinned(FIRST, SECOND, name="release"))
        store.add_baseline(pinned(SECOND))
        assert store.baselines("main") == [pinned(FIRST), pinned(SECOND)]
        for run_id, name in ((FIRST, "release"), (SECOND, "release|main")):
            with pytest.raises(UsageError, match=rf"Run {run_id} is what the baseline '({name})' is pinned to"):
                store.remove_run(run_id)
        store.add_baseline(pinned(name="release"))  # taken away
        store.remove_run(FIRST)
        assert [one.run_id for one in store.runs()] == [SECOND]
        assert len(store.baselines()) == 4


def test_rating_twice_replaces(url: str) -> None:
    report = make_report()
    request_id = report.measurements[0].requests[0].request_id
    with Store.writing(url) as store:
        store_report(store, report)
        for value in (0.2, 0.8):
            score = Score(request_id=request_id, scorer="person", version="v1", item="user_satisfaction", value=value)
            store.add_scores([score])
        assert [s.value for s in store.report(FIRST).scores if s.scorer == "person"] == [0.8]


def test_reader_cannot_write(url: str) -> None:
    with Store.writing(url) as store:
        store_report(store, make_report())
    with Store.reading(url) as store:
        with pytest.raises(StoreError, match=r"read-?only"):
            store.remove_run(FIRST)
        assert len(store.runs()) == 1


def test_a_reader_sees_one_state(url: str) -> None:
    """What is added while a report is read is in none of its parts."""
    with Store.writing(url) as store, Store.reading(url) as other:
        store.add_report(make_report())
        with other._reading() as connection:
            query = sa.select(sa.func.count()).select_from(schema.attempts)
            before = connection.execute(query).scalar_one()
            if store.engine.dialect.name == "postgresql":  # in SQLite the rollback journal makes the writer wait
                store.add_measurement(make_measurement("later"))
            assert connection.execute(query).scalar_one() == before


def test_writes_that_fail_are_failed_benchmarks(url: str) -> None:
    report = make_report()
    with Store.writing(url) as store:
        store_report(store, report)
        with pytest.raises(StoreWriteError, match=r"(?i)unique constraint") as twice:
            store.add_measurement(report.measurements[0])
        with pytest.raises(StoreWriteError, match=r"(?i)foreign key constraint") as orphan:
            store.add_measurement(make_measurement("x", run_id="nosuch"))
        assert (twice.value.exit_code, orphan.value.exit_code) == (5, 5)
        assert database.check(store.engine) == []
        assert store.report(FIRST) == in_order(report)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(url: str, number: float) -> None:
    good = make_measurement("m0")
    request = make_request("r0").model_copy(update={"event_times_s": (number,)})
    wrong = [
        good.model_copy(update={"values": {"load_s": number}}),
        good.model_copy(update={"facts": {"x": number}}),
        good.model_copy(update={"requests": (request,)}),
    ]
    with Store.writing(url) as store:
        store.add_run(make_run())
        for measurement in wrong:
            with pytest.raises(StoreWriteError, match="could not be written"):
                store.add_measurement(measurement)
        assert store.report(FIRST).measurements == ()


@given(st.text(st.one_of(st.sampled_from("\0\ud800\udfff\uffff0fA"), st.characters(exclude_categories=()))))
def test_every_text_has_a_form_that_every_database_takes(text: str) -> None:
    column, dialect = schema.Text(), sa.make_url("sqlite://").get_dialect()()
    stored = column.process_bind_param(text, dialect)
    assert stored is not None
    assert "\0" not in stored
    assert stored.encode().decode() == stored
    assert column.process_result_value(stored, dialect) == text


def test_texts_and_numbers_come_back_bit_by_bit(url: str) -> None:
    texts = ["", "\0", "a\0b\0", "\ud83d", "\uffff0000", "\uffff", "%_/\\'\"", "\r\n\x1b[31m", "🙂ä\u202e", " ", "None", "\x7f"]
    draw = random.Random(1)
    numbers = [
        5e-324,
        1.7976931348623157e308,
        0.1,
        1 / 3,
        2.0**53 + 2,
        *(draw.uniform(-1, 1) * 10 ** draw.uniform(-300, 300) for _ in texts),
    ]
    requests = tuple(
        make_request(
            f"r{k}", index=k, prompt=text, output=text * 2, error=text, values={"rss_bytes": numbers[k]}, scheduled_s=numbers[k]
        )
        for k, text in enumerate(texts)
    )
    series = tuple(Series(name=text, unit="B", times_s=(0.1,), values=(numbers[k],)) for k, text in enumerate(texts))
    facts = dict(zip(texts, texts, strict=True)) | {str(k): number for k, number in enumerate(numbers)}
    values = {f"m{k}": number for k, number in enumerate(numbers)}
    measurement = make_measurement("m0", requests=requests, series=series, facts=facts, values=values, started_at=START)
    failures = tuple(make_failure(f"f{k:02}", message=text, stderr_tail=text) for k, text in enumerate(texts))
    report = Report(run=make_run(), tags=tuple(sorted(texts[:2])), measurements=(measurement,), failures=failures)
    with Store.writing(url) as store:
        store.add_report(report)
        assert store.report(FIRST) == report
        assert store.resolve_run("\0") == FIRST


def test_times_of_any_zone_come_back_as_the_same_moment(url: str) -> None:
    eastern = START.replace(microsecond=123456).astimezone(tz=None) + timedelta(hours=1)
    with Store.writing(url) as store:
        store.add_run(make_run(started_at=eastern))
        found = store.report(FIRST).run.started_at
    assert found == eastern
    assert found.utcoffset() == timedelta(0)


@pytest.mark.slow
def test_long_texts_and_many_rows_have_no_limit(url: str) -> None:
    requests = tuple(make_request(f"r{k}", index=k) for k in range(3_000))
    long = make_request("long", index=3_000, output="ä" * 5_000_000)
    planned = tuple(make_planned(make_case(output_tokens=16 + k)) for k in range(500))
    measurement = make_measurement("m0", planned[0].case, requests=(*requests, long))
    with Store.writing(url) as store:
        store.add_report(Report(run=make_run(*planned), measurements=(measurement,)))
        assert store.report(FIRST).measurements == (measurement,)
        row = make_run().model_dump(exclude={"planned", "environment"}) | {
            "environment_id": make_run().environment.environment_id
        }
        with store.engine.begin() as connection:
            connection.execute(schema.runs.insert(), [row | {"run_id": f"x{number}"} for number in range(70_000)])
        assert len(store.runs()) == 70_001  # more than values that a query can have
