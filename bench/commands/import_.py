"""`bench import`: reports of other machines and of other tools become runs. What a file says is left to `results.imports`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.commands.options import json_option, store_option
from bench.commands.tag import check_names, check_tags

if TYPE_CHECKING:
    from results.imports.source import Source
    from results.records import Failure, Measurement, Report
    from results.store import Store

LARGEST = 2**30
"""Bytes of a file that is read at all: it lies in memory several times."""
NO_TEXT = "it is not UTF-8 text; unpack it, or save it as such"


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "format_name", metavar="NAME", help="The files' format, where it is not recognised by what is in them.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag for the runs; may be given several times.")
@click.option("--suite", metavar="NAME", help="The runs' suite, instead of the tool's name.")
@click.option("--join", is_flag=True, help="The files are repetitions of one measurement: one run, each file a process.")
@store_option
@json_option
def import_(
    files: tuple[str, ...],
    format_name: str | None,
    tags: tuple[str, ...],
    suite: str | None,
    join: bool,
    store_url: str,
    as_json: bool,
) -> None:
    """Take reports into the store.

    FILE is a report of `bench export --format json`, of llama-bench, vLLM bench, GuideLLM or AIPerf. A report that is there
    already is left as it is. Every file is read before one is taken.
    """
    from results.imports.joining import joined
    from results.store import Store

    check_tags(tags)
    check_names("suite", [] if suite is None else [suite])
    reports = [_read(Path(name), format_name) for name in files]
    check_tags(tag for report in reports for tag in report.tags)
    if join:
        reports = [joined(reports)]
    reports = _once([_named(one, suite) for one in reports])
    with Store.writing(store_url) as store:
        stored = {one.run_id for one in store.runs()}
        there = [_is_there(report, store, stored, suite) for report in reports]
        for report, known in zip(reports, there, strict=True):
            if not known:
                store.add_report(report)
            store.tag(report.run.run_id, tags)
    lines = [_line(report, known) for report, known in zip(reports, there, strict=True)]
    click.echo(json.dumps([one for one, _ in lines], indent=2) if as_json else "\n".join(text for _, text in lines))


def _read(path: Path, format_name: str | None) -> Report:
    from results.errors import UsageError
    from results.imports import READERS, read_report
    from results.imports.source import read_source
    from results.validation import nearest

    if format_name is not None and format_name not in READERS:
        raise UsageError(f"No format {format_name!r}{nearest(format_name, READERS)}")

    def beside(name: str) -> str | None:
        other = path.with_name(name)
        return _text(other) if other.is_file() else None

    source: Source = read_source(path.name, _text(path), beside)
    return read_report(source, format_name)


def _text(path: Path) -> str:
    from results.errors import UsageError

    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} has more than 1 GiB: import a report that keeps fewer requests.")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or NO_TEXT}.") from error


def _named(report: Report, suite: str | None) -> Report:
    from results.errors import UsageError

    if suite is None:
        return report
    if report.run.kind != "import":
        raise UsageError(f"{report.run.run_id} is a run of the suite {report.run.suite}: leave --suite out.")
    return report.model_copy(update={"run": report.run.model_copy(update={"suite": suite})})


def _once(reports: list[Report]) -> list[Report]:
    """Each run once.

    Raises:
        UsageError: two files have one run with different content.
    """
    from results.errors import UsageError

    found: dict[str, Report] = {}
    for report in reports:
        known = found.setdefault(report.run.run_id, report)
        if _attempts(known) != _attempts(report):
            raise UsageError(f"Two of the files hold run {report.run.run_id} with different content: name the one that you mean.")
    return list(found.values())


def _is_there(report: Report, store: Store, stored: set[str], suite: str | None) -> bool:
    """Whether the store has all of a report.

    Args:
        stored: the ids of the runs in the store.
        suite: what was asked for.

    Raises:
        UsageError: it has the run with other content or in another suite, or a part of it in another run.
    """
    from results.errors import UsageError

    run_id, attempts = report.run.run_id, _attempts(report)
    if run_id in stored:
        known = store.report(run_id)
        if suite not in (None, known.run.suite):
            raise UsageError(
                f"Run {run_id} is in the store in the suite {known.run.suite}: leave --suite out, or `bench rm {run_id}` first."
            )
        if attempts.items() <= _attempts(known).items():
            return True
        raise UsageError(f"Run {run_id} is in the store with other content: `bench rm {run_id}` makes room for this one.")
    if others := store.runs_of(attempts):
        raise UsageError(f"A part of {run_id} was imported already, in run {min(others)}: remove that one first, or leave it so.")
    return False


def _attempts(report: Report) -> dict[str, Measurement | Failure]:
    attempts: list[Measurement | Failure] = [*report.measurements, *report.failures]
    return {one.attempt_id: one for one in attempts}


def _line(report: Report, known: bool) -> tuple[dict[str, object], str]:
    """What happened to a report, for machines and for people."""
    from results.format import plain

    run, cases = report.run, len(report.run.planned)
    told = {"run_id": run.run_id, "suite": run.suite, "kind": run.kind, "cases": cases, "imported": not known}
    counted = f"{cases} case{'' if cases == 1 else 's'}"
    text = f"{run.run_id} is there already." if known else f"Imported {run.run_id}: {counted} of {plain(run.suite)}."
    return told, text
