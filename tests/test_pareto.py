"""Frontiers of configurations, from rows with exact figures."""

from fakes import make_case, make_planned
from hypothesis import given
from hypothesis import strategies as st

from results.pareto import Point, frontiers
from results.stats import Estimate
from results.summary import CaseRow

GIB = 2.0**30


def row(
    name: str, speed: float, memory_gib: float, quality: float | None = 0.8, *, doubt: float = 0.01, tokens: int = 16
) -> CaseRow:
    def of(value: float, share: float) -> Estimate:
        return Estimate(value, value * (1 - share), value * (1 + share), 3, "processes")

    estimates = {"decode_tps": of(speed, doubt), "peak_rss_bytes": of(memory_gib * GIB, doubt)}
    if quality is not None:
        estimates["quality"] = Estimate(quality, None, None, 1, "requests")
    case = make_case(weights=f"sha256:{name}", output_tokens=tokens)
    return CaseRow(make_planned(case, model=name), estimates, processes=3)


def standings(*rows: CaseRow) -> dict[str, str]:
    (frontier,) = frontiers(rows)
    return {point.row.planned.model: point.standing for point in frontier.points}


def test_what_nothing_beats_is_the_frontier() -> None:
    assert standings(
        row("fast", 20, 2.0, 0.7), row("good", 10, 2.0, 0.9), row("small", 5, 0.5, 0.6), row("bad", 4, 2.5, 0.5)
    ) == {
        "fast": "frontier",
        "good": "frontier",
        "small": "frontier",
        "bad": "beaten",
    }


def test_who_beats_is_named_the_fastest_of_them() -> None:
    (frontier,) = frontiers([row("one", 10, 1.0), row("two", 12, 0.9), row("bad", 5, 2.0)])
    found = {point.row.planned.model: point.beaten_by for point in frontier.points}
    assert found["bad"] is not None
    assert found["bad"].planned.model == "two"
    assert found["two"] is None


def test_a_difference_inside_the_doubt_is_close() -> None:
    assert standings(row("a", 10.0, 1.0, doubt=0.05), row("b", 9.8, 1.0, doubt=0.05)) == {"a": "frontier", "b": "close"}
    assert standings(row("a", 10.0, 1.0, doubt=0.005), row("b", 9.8, 1.0, doubt=0.005)) == {"a": "frontier", "b": "beaten"}


def test_less_memory_by_more_than_the_doubt_beats() -> None:
    assert standings(row("a", 10.0, 1.0), row("b", 10.0, 1.5)) == {"a": "frontier", "b": "beaten"}


def test_equals_are_both_on_the_frontier() -> None:
    assert standings(row("a", 10, 1.0), row("b", 10, 1.0)) == {"a": "frontier", "b": "frontier"}


def test_without_a_quality_it_is_unknown_unless_nobody_has_one() -> None:
    assert standings(row("a", 10, 1.0), row("random", 20, 0.5, None)) == {"a": "frontier", "random": "unknown"}
    assert standings(row("a", 10, 1.0, None), row("b", 20, 0.5, None)) == {"a": "beaten", "b": "frontier"}


def test_only_the_same_task_is_compared() -> None:
    assert frontiers([row("a", 10, 1.0), row("b", 1, 2.0, tokens=64)]) == []
    assert [
        one.task for one in frontiers([row("a", 10, 1), row("b", 1, 2), row("c", 1, 1, tokens=64), row("d", 1, 1, tokens=64)])
    ] == [
        "pp32 tg16",
        "pp32 tg64",
    ]


def test_failed_rows_are_left_out() -> None:
    failed = CaseRow(make_planned(make_case(weights="sha256:x"), model="x"), {}, processes=0)
    assert standings(row("a", 10, 1.0), row("b", 9, 2.0), failed) == {"a": "frontier", "b": "beaten"}


def test_best_that_fits() -> None:
    (frontier,) = frontiers(
        [row("large", 5, 4.0, 0.9), row("fast", 20, 1.5, 0.7), row("good", 10, 1.0, 0.8), row("tiny", 8, 0.4, 0.8)]
    )

    def best(gib: float) -> dict[str, str]:
        return {name: point.row.planned.model for name, point in frontier.best_within(gib * GIB).items()}

    assert best(8) == {"quality": "large", "speed": "fast"}
    assert best(2) == {"quality": "good", "speed": "fast"}
    assert best(0.5) == {"quality": "tiny", "speed": "tiny"}
    assert best(0.1) == {}


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)).map(lambda one: tuple(map(float, one))),
        min_size=2,
        max_size=12,
    )
)
def test_every_point_off_the_frontier_is_beaten_by_one_on_it(figures: list[tuple[float, float, float]]) -> None:
    rows = [row(f"m{n}", speed, memory, quality / 10, doubt=0.0) for n, (speed, memory, quality) in enumerate(figures)]
    (frontier,) = frontiers(rows)

    def beats(one: Point, other: Point) -> bool:
        a, b = ({name: value.value for name, value in point.values.items()} for point in (one, other))
        gains = (a["speed"] - b["speed"], b["memory"] - a["memory"], a["quality"] - b["quality"])
        return min(gains) >= 0 and max(gains) > 0

    best = [point for point in frontier.points if point.standing == "frontier"]
    assert best
    for point in frontier.points:
        assert any(beats(one, point) for one in best) == (point.standing != "frontier")
