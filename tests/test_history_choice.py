"""What people mean by words, runs and times."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes import START, make_case, make_planned
from history_fakes import make_series, noisy

from bench.history_choice import Found, choose_case, marks_at, parse_until
from results.errors import UsageError
from results.history import Change, History
from results.history_groups import findings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SAID: dict[str, Any] = {"kind": "acknowledged", "author": "Ada", "reason": "known", "at": START}


def history(metric: str, at: int, by: int, direction: str = "worse") -> History:
    series = make_series(noisy(20), metric)
    runs = [point.run for point in series.points]
    change = Change(series, "step", runs[at], runs[11], runs[by], 0.05, 0.06, 0.2, "worse")
    return History(series, (), (replace(change, direction=direction),))  # type: ignore[arg-type]


def test_a_run_means_the_changes_that_begin_there_and_the_rest_of_their_finding() -> None:
    histories = [
        history("tpot_s", 12, 13),
        history("e2e_s", 12, 13),
        history("ttft_s", 13, 14),
        history("step_s", 12, 12, "small"),
    ]
    found = Found(tuple(histories), tuple(findings(histories, (), NOW)), None)
    assert len(found.findings) == 1
    assert {(one.metric, one.run_id) for one in marks_at(found, "r012", SAID)} == {
        ("tpot_s", "r012"), ("e2e_s", "r012"), ("ttft_s", "r013"),
    }  # fmt: skip
    assert [(one.metric, one.run_id) for one in marks_at(found, "r013", SAID)] == [("ttft_s", "r013")]
    with pytest.raises(UsageError, match="they begin at r012"):
        marks_at(found, "r005", SAID)


def test_changes_that_do_not_matter_are_nothing_to_acknowledge() -> None:
    histories = (history("tpot_s", 12, 13, "small"),)
    found = Found(histories, tuple(findings(histories, (), NOW)), None)
    with pytest.raises(UsageError, match="at r012: there is none"):
        marks_at(found, "r012", SAID)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("12h", NOW + timedelta(hours=12)),
        ("30d", NOW + timedelta(days=30)),
        ("2w", NOW + timedelta(days=14)),
        ("2026-03-01", datetime(2026, 3, 2, tzinfo=UTC)),
        ("2026-03-02T08:00:00+02:00", datetime(2026, 3, 2, 6, tzinfo=UTC)),
    ],
)
def test_times_ahead(text: str, at: datetime) -> None:
    assert parse_until(text, NOW) == at


@pytest.mark.parametrize("text", ["", "soon", "3", "-3d", "0d", "99999d", "2026-02-28", "2026-03-01T11:59:00", "9999-12-31"])
def test_other_texts_are_no_times_ahead(text: str) -> None:
    with pytest.raises(UsageError):
        parse_until(text, NOW)


def test_a_label_that_is_part_of_another_means_itself() -> None:
    short, long = make_planned(), make_planned(make_case(depth=64))
    assert set(short.label.split()) < set(long.label.split())
    assert choose_case([short, long], [short.label]) == short
    assert choose_case([short, long], long.label.split()) == long


def test_one_label_of_two_cases_needs_an_id() -> None:
    twins = [make_planned(), make_planned(make_case(weights="sha256:" + "b6" * 32))]
    with pytest.raises(UsageError, match="several cases"):
        choose_case(twins, [twins[0].label])
    assert choose_case(twins, [twins[1].case.case_id]) == twins[1]


def test_labels_in_messages_are_safe_for_terminals() -> None:
    with pytest.raises(UsageError) as caught:
        choose_case([make_planned(model="\x1b[31mred")], ["blue"])
    assert "\x1b" not in str(caught.value)
