"""`bench compare`: two runs side by side, with a verdict for each row. The judging is `results.gate`'s."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
    from results.records import Report


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--allow-env-diff", "allow", multiple=True, metavar="KEY", help="Compare although this fact of the machines differs."
)
@store_option
@json_option
def compare(a: str, b: str, allow: tuple[str, ...], store_url: str, as_json: bool) -> int:
    """Compare run B with run A.

    A and B are runs (an id, its beginning, a tag, or `latest`) or exported reports (a path that ends in .json). Exits 0 when
    nothing got worse, 1 on a regression, 3 when it cannot be said, 4 when the two must not be compared.
    """
    from results.compare import compare as compare_reports
    from results.gate import EXIT_CODES, judge, verdict_of

    report_a, report_b = _reports((a, b), store_url)
    comparison = compare_reports(report_a, report_b, allow)
    verdict = verdict_of(comparison)
    if as_json:
        found = comparison.to_dict()
        found["verdict"] = verdict
        for row, judged in zip(found["rows"], map(judge, comparison.rows), strict=True):
            row["verdict"] = judged
        click.echo(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        from bench.comparison_table import comparison_table
        from bench.tables import console

        console().print(comparison_table(comparison))
    return EXIT_CODES[verdict]


def _reports(references: tuple[str, ...], store_url: str) -> list[Report]:
    """The reports that the references name; the store is opened only when one of them is no file."""
    from results.store import Store

    found = {reference: _read(Path(reference)) for reference in references if reference.endswith(".json")}
    if len(found) < len(set(references)):
        with Store.reading(store_url) as store:
            for reference in set(references) - found.keys():
                found[reference] = store.report(store.resolve_run(reference))
    return [found[reference] for reference in references]


def _read(path: Path) -> Report:
    from results.errors import UsageError
    from results.records import Report

    try:
        return Report.from_json(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}. Name a run, or a report of `bench export --format json`."
        ) from error
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{path} is no report of this version ({reason}): make one with `bench export --format json`."
        ) from error
