"""Which runs a branch or a rolling window means beside another side; fork points are in `test_sides.py`, on real repositories."""

import pytest
from fakes import make_environment, make_report
from stored import make_move, make_stored_run

from bench.references import parse_reference
from bench.windows import newest_of_branch, window
from results.errors import NotComparableError
from results.sides import Side
from results.stored_runs import StoredRun

HERE = make_environment().machine_id
REPORT = make_report()


def side(*runs: StoredRun) -> Side:
    """Runs that are stored, or with none a report of 1 March from elsewhere."""
    return Side("other", REPORT, tuple(one.run_id for one in runs) or (REPORT.run.run_id,))


def here(number: int, **fields: object) -> StoredRun:
    return make_stored_run(number, **({"machine_id": HERE} | fields))


def numbers(runs: list[StoredRun]) -> list[int]:
    return [int(one.run_id[6:8]) for one in runs]


def test_a_window_is_of_finished_runs_of_the_suite_on_the_machine_before_the_oldest_of_the_side() -> None:
    runs = [
        here(20), other := here(19), here(18), oldest := here(17), here(16, git_branch="main"), here(15, status="interrupted"),
        here(14, status="open"), here(13, suite="else"), here(12, machine_id="m1-b"), here(11, kind="import"), here(10),
    ]  # fmt: skip
    rule = parse_reference("rolling:1")
    assert numbers(window(rule, runs, [], side(other, oldest))) == [16, 10]
    assert numbers(window(parse_reference("rolling:9:main"), runs, [], side(other, oldest))) == [16]
    with pytest.raises(NotComparableError, match="rolling:1 holds no run: none of suite 'quickstart' was finished"):
        window(rule, runs, [], side())
    with pytest.raises(NotComparableError, match="of branch 'nosuch'"):
        window(parse_reference("rolling:9:nosuch"), runs, [], side(other))


def test_a_window_begins_at_the_newest_run_that_a_baseline_was_moved_to() -> None:
    runs = [here(number) for number in range(20, 10, -1)]
    ids = {number: one.run_id for number, one in zip(range(20, 10, -1), runs, strict=True)}

    def begins(*moves: object) -> int:
        return numbers(window(parse_reference("rolling:1"), runs, list(moves), side(runs[0])))[-1]  # type: ignore[arg-type]

    assert begins() == begins(make_move("main", ids[15])) == 11  # made, not moved
    assert begins(make_move("main", ids[12]), make_move("main", ids[15])) == 15
    assert begins(make_move("main", ids[12]), make_move("main", ids[17]), make_move("main", ids[15])) == 17
    assert (
        begins(make_move("main", reference="rolling:5"), make_move("main", ids[14]), make_move("main", reference="rolling:5"))
        == 14
    )
    assert begins(make_move("main", ids[12]), make_move("main"), make_move("main", ids[15])) == 11  # taken away, and made again
    assert begins(make_move("main", ids[12]), make_move("other", ids[15])) == 11
    assert begins(make_move("main", ids[12]), make_move("main", ids[20])) == 11  # it is the other side itself
    assert begins(make_move("main", ids[12]), make_move("main", "20250101-000000-aaaa")) == 11


def test_a_branch_means_its_newest_finished_run_besides_the_other_side() -> None:
    runs = [
        here(20, git_branch="main", status="open"), newest := here(19, git_branch="main"), here(18, git_branch="main", suite="else"),
        here(17, git_branch="main", kind="import"), here(16, git_branch="main"), here(15, git_branch="change"),
    ]  # fmt: skip
    assert numbers(newest_of_branch("main", runs, None)) == [19]
    assert numbers(newest_of_branch("main", runs, side(newest))) == [16]
    with pytest.raises(NotComparableError, match="No finished run is of branch 'change' besides other of suite 'quickstart'"):
        newest_of_branch("change", runs, side(runs[-1]))
    with pytest.raises(NotComparableError, match="No finished run is of branch 'nosuch': measure it there first"):
        newest_of_branch("nosuch", runs, None)
