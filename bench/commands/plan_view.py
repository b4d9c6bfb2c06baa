"""What `bench run --dry-run` shows: the cases in the order of a run, and what each is expected to take of the memory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bench.suite import Suite
    from results.cases import PlannedCase

PARTS = {
    "Weights": "weights_bytes", "KV cache": "kv_cache_bytes", "Activations": "activation_bytes", "Runtime": "runtime_bytes",
    "Total": "total_bytes", "Free": "available_bytes",
}  # fmt: skip
"""Fields of an estimate, by their headers."""


def plan_facts(suite: "Suite", planned: "Sequence[PlannedCase]", seed: int | None) -> dict[str, Any]:
    """For machines: every case with its place in the order, its identity and its estimate, in bytes."""
    places = {one.case.case_id: place for place, one in enumerate(in_order(planned, seed))}
    cases = []
    for one in planned:
        found: dict[str, Any] = {"case_id": one.case.case_id, "label": one.label, "order": places[one.case.case_id]}
        found |= one.model_dump(mode="json")
        if one.estimate:
            found["estimate"] |= {"total_bytes": one.estimate.total_bytes, "fits": one.estimate.fits}
        found["refused"] = refused(one)
        cases.append(found)
    return {"suite": suite.name, "skip_unfit": suite.skip_unfit, "cases": cases}


def plan_view(suite: "Suite", planned: "Sequence[PlannedCase]", seed: int | None) -> "RenderableType":
    """For people, in a layout that fits the terminal."""
    from rich.console import Group
    from rich.text import Text

    from bench.schedule import rounds
    from bench.tables import Column, Fitted, table

    rows = in_order(planned, seed)

    def what(width: int) -> Column:
        return Column("Case", [one.label for one in rows], wraps=width)

    counts = [
        Column("Processes", [str(one.processes) for one in rows], justify="right"),
        Column("Iterations", [str(one.iterations) for one in rows], justify="right"),
    ]
    more = [
        Column("Weights from", [one.case.source_precision or "" for one in rows]),
        Column("Tags", [", ".join(one.tags) for one in rows], wraps=6),
    ]
    ids = Column("Id", [one.case.case_id for one in rows])
    memory = {name: Column(name, [_part(one, field) for one in rows], justify="right") for name, field in PARTS.items()}
    fits = Column("Fits", [_fits(one) for one in rows])
    short = [memory["Total"], memory["Free"], fits]
    layouts = (
        table([what(30), *counts, *memory.values(), fits, *more, ids]),
        table([what(24), *memory.values(), fits]),
        table([what(20), *short]),
        Group(*(_stacked(one) for one in rows)),
    )
    loads = sum(batch.process == 0 for batch in rounds(planned, 0))
    numbers = {"case": len(planned), "load": loads, "measurement": sum(one.processes for one in planned)}
    cases, loaded, measured = (f"{number} {word}{'' if number == 1 else 's'}" for word, number in numbers.items())
    count = f"{cases} in {loaded}, {measured}."
    notes = [f"{suite.name}: {suite.question}", *_notes(suite, planned, seed)]
    return Group(Text(notes[0]), Fitted(layouts), *map(Text, (count, *notes[1:])))


def refused(planned: "PlannedCase") -> str | None:
    """Why its engine will not take the case, as far as that is known without loading anything."""
    from bench.engines import support
    from bench.worker import refusal

    return refusal(planned.case, support(planned.case.engine))


def in_order(planned: "Sequence[PlannedCase]", seed: int | None) -> "list[PlannedCase]":
    """The cases as the first round of a run with this seed visits them."""
    from bench.schedule import rounds

    return [one for batch in rounds(planned, seed or 0) if batch.process == 0 for one in batch.cases]


def _notes(suite: "Suite", planned: "Sequence[PlannedCase]", seed: int | None) -> list[str]:
    found = []
    if len(planned) > 1:
        found.append(
            f"In the order of each run's first round with --seed {seed}."
            if seed is not None
            else "In one order of many: each run draws its own, unless it is given --seed; what does not fit comes last."
        )
    if any(one.estimate for one in planned):
        found.append("Memory is estimated; Free is what the device has left now.")
    if unfitting := sum(one.estimate is not None and one.estimate.fits is False for one in planned):
        cases = "1 case does" if unfitting == 1 else f"{unfitting} cases do"
        found.append(
            f"{cases} not fit and will be left out."
            if suite.skip_unfit
            else f"{cases} not fit and will be tried all the same: --skip-unfit leaves such cases out."
        )
    return found + [f"✗ {one.label} will be unsupported: {why}" for one in planned if (why := refused(one))]


def _part(planned: "PlannedCase", field: str) -> str:
    from results.format import quantity

    value = getattr(planned.estimate, field, None)
    return "" if value is None else quantity(value, "B")


def _fits(planned: "PlannedCase") -> str:
    fits = planned.estimate.fits if planned.estimate else None
    return "" if fits is None else "yes" if fits else "no"


def _stacked(planned: "PlannedCase") -> "RenderableType":
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    cells = {name: _part(planned, field) for name, field in PARTS.items()} | {"Fits": _fits(planned)}
    for name, text in cells.items():
        if text:
            grid.add_row(Text(name), Text(text))
    title = Text(planned.label, style="bold")
    return Group(title, Padding(grid, (0, 0, 0, 2), expand=False)) if grid.row_count else title
