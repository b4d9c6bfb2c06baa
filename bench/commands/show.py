"""`bench show`: the runs, or one run's facts, cases, failures and requests. Layout is left to `bench.tables`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from results.records import Failure, Measurement, Report, Request, Run
    from results.store import Store


@click.command()
@click.argument("run", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many runs to list.")
@click.option("--failures", is_flag=True, help="Show what failed, with the last lines that it wrote.")
@click.option("--requests", is_flag=True, help="List every request with its times.")
@click.option("--outputs", is_flag=True, help="Show every request's prompt and output, where they were kept.")
@click.option("--pareto", is_flag=True, help="Show which configurations nothing else beats in speed, memory and quality.")
@click.option("--within", metavar="SIZE", help="With --pareto: name the best that fits, e.g. 2GiB.")
@store_option
@json_option
def show(
    run: str | None, limit: int, failures: bool, requests: bool, outputs: bool, pareto: bool, within: str | None, store_url: str,
    as_json: bool,
) -> int:  # fmt: skip
    """List the runs, or show one RUN (an id, its beginning, a tag, or `latest`)."""
    from results.store import Store

    if run is None and (failures or requests or outputs or pareto):
        raise click.UsageError("Name a RUN to see its failures, requests, outputs or frontier.")
    if within and not pareto:
        raise click.UsageError("--within SIZE goes with --pareto.")
    with Store.reading(store_url) as store:
        if run is None:
            _list_runs(store, limit, as_json)
            return 0
        report = store.report(store.resolve_run(run))
    if pareto:
        _show_pareto(report, within, as_json)
        return 0
    from bench.serving_sweep import conclusions

    if as_json:
        shown = _run_to_dict(report, requests=requests, outputs=outputs) | {"conclusions": conclusions(report)}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return 0
    from bench.tables import cases_table, console
    from results.summary import summarize

    screen = console()
    screen.print(_header(report))
    screen.print(cases_table(summarize(report)))
    for sentence in conclusions(report):
        screen.print(sentence)
    if failures:
        _print_failures(screen, report)
    if requests or outputs:
        _print_requests(screen, report, with_outputs=outputs)
    return 0


def _show_pareto(report: Report, within: str | None, as_json: bool) -> None:
    from bench import pareto_view
    from bench.tables import console
    from results.errors import UsageError
    from results.pareto import frontiers
    from results.summary import summarize
    from results.validation import parse_size

    limit = None if within is None else parse_size(within, "--within")
    found = frontiers(summarize(report))
    if as_json:
        click.echo(json.dumps(pareto_view.pareto_to_dict(found, limit), indent=2, ensure_ascii=False))
    elif found:
        console().print(pareto_view.pareto(found, limit))
    else:
        raise UsageError(
            f"Run {report.run.run_id} has no two configurations that did the same task: there is nothing to choose from."
        )


def _list_runs(store: Store, limit: int, as_json: bool) -> None:
    from dataclasses import asdict

    runs = store.runs(limit)
    if as_json:
        click.echo(json.dumps([asdict(run) | {"started_at": run.started_at.isoformat()} for run in runs], indent=2))
    elif not runs:
        click.echo("The store holds no runs yet: measure something with `bench run SUITE`.")
    else:
        from bench.tables import console, runs_table

        console().print(runs_table(runs))


def _run_to_dict(report: Report, *, requests: bool, outputs: bool) -> dict[str, Any]:
    from results.summary import run_to_dict

    found = run_to_dict(report)
    if requests or outputs:
        hidden = {"event_times_s", "event_tokens"} | (set() if outputs else {"prompt", "output"})
        found["requests"] = [
            {"case_id": attempt.case_id, "process": attempt.process}
            | _times(request)
            | request.model_dump(mode="json", exclude=hidden)
            for attempt in _attempts(report)
            for request in attempt.requests
        ]
    return found


def _header(report: Report) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from results.format import moment, plain

    run = report.run
    facts = {
        "Run": f"{run.run_id} ({report.status})",
        "Suite": run.suite,
        "Started": moment(run.started_at),
        "Tags": ", ".join(report.tags),
        "Commit": f"{run.git_commit}{' with uncommitted changes' if run.git_dirty else ''}" if run.git_commit else "",
        "Command": " ".join(run.command),
        "Machine": _machine(run),
    }
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            grid.add_row(Text(name), Text(plain(value)))
    grid.add_row()
    return grid


def _machine(run: Run) -> str:
    """The known facts of the environment, in one line."""
    from results.format import quantity

    facts = {key: value for key, value in sorted(run.environment.facts.items()) if value not in (None, "")}
    sized = {
        key.removesuffix("_bytes"): quantity(value, "B") if key.endswith("_bytes") and isinstance(value, int | float) else value
        for key, value in facts.items()
    }
    return ", ".join(f"{key} {value}" for key, value in sized.items())


def _print_failures(screen: Console, report: Report) -> None:
    from rich.text import Text

    from results.format import moment, plain
    from results.summary import unresolved

    for failure in unresolved(report.measurements, report.failures):
        label = report.run.plan_of(failure.case_id).label
        code = "" if failure.exit_code is None else f", exit code {failure.exit_code}"
        screen.print()
        screen.print(Text(plain(f"{label}, process {failure.process}, {moment(failure.started_at)}"), style="bold"))
        screen.print(Text(plain(f"{failure.kind} in phase {failure.phase}{code}: {failure.message}")))
        if failure.stderr_tail.strip():
            _print_indented(screen, failure.stderr_tail.rstrip(), 2)


def _print_requests(screen: Console, report: Report, *, with_outputs: bool) -> None:
    from rich.text import Text

    attempts: dict[str, list[Measurement | Failure]] = {}
    for attempt in _attempts(report):
        if attempt.requests:
            attempts.setdefault(attempt.case_id, []).append(attempt)
    for planned in report.run.planned:
        mine = attempts.get(planned.case.case_id, [])
        if mine:
            screen.print()
            screen.print(Text(planned.label, style="bold"))
            _print_case_requests(screen, [(one.process, request) for one in mine for request in one.requests], with_outputs)


def _print_case_requests(screen: Console, requests: list[tuple[int, Request]], with_outputs: bool) -> None:
    from bench.tables import Column, table
    from results.format import quantity

    columns = {"TTFT": "ttft_s", "TPOT": "tpot_s", "End to end": "e2e_s"}
    times = [_times(request) for _, request in requests]
    screen.print(
        table(
            [
                Column("Request", [request.request_id for _, request in requests]),
                Column("Process", [str(process) for process, _ in requests], justify="right"),
                *(Column(label, [quantity(one[name], "s") for one in times], justify="right") for label, name in columns.items()),
                Column(
                    "Tokens", [f"{_known(r.prompt_tokens)} → {_known(r.output_tokens)}" for _, r in requests], justify="right"
                ),
                Column("Error", [request.error or "" for _, request in requests], wraps=12),
            ]
        )
    )
    if with_outputs:
        for _, request in requests:
            screen.print()
            screen.print(request.request_id)
            for name, text in (("prompt", request.prompt), ("output", request.output)):
                screen.print(f"  {name}:" if text is not None else f"  {name}: not kept (policy {request.content_policy})")
                if text is not None:
                    _print_indented(screen, text, 4)


def _attempts(report: Report) -> list[Measurement | Failure]:
    return [*report.measurements, *report.failures]


def _times(request: Request) -> dict[str, float | None]:
    from results.metrics import METRICS

    found: dict[str, float | None] = {}
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        derive = METRICS[name].derive
        found[name] = next(iter(derive(request) if derive else ()), None)
    return found


def _known(count: int | None) -> str:
    return "–" if count is None else str(count)


def _print_indented(screen: Console, text: str, width: int) -> None:
    """Text of a model or a child process: plain, with its own lines and no others."""
    from textwrap import indent

    from rich.text import Text

    from results.format import plain

    screen.print(Text(indent(plain(text), " " * width)), soft_wrap=True)
