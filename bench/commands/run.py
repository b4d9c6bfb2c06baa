"""`bench run`: expand a suite, measure it, store every result, print the table."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.expansion import Expansion
    from bench.plan import Plan
    from bench.progress import Quiet
    from bench.project import Project
    from bench.weights import Form, Progress, ResolvedModel
    from results.records import Report
    from results.store import Store

KINDS = (
    "oom", "timeout", "crash", "bad_output", "engine_error", "unsupported", "missing_dependency", "missing_weights", "pruned",
)  # fmt: skip


def _suites(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from bench.suite import suite_names

    return [name for name in suite_names() if name.startswith(incomplete)]


@click.command()
@click.argument("suite", required=False, shell_complete=_suites)
@click.option("--dry-run", is_flag=True, help="Show the cases and measure nothing.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Replace a default or an axis, e.g. processes=1.")
@click.option("--tag", "tags", multiple=True, help="Name the run; more than one may be given.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was stopped: the rest, and only the rest.")
@click.option("--retry-failed", is_flag=True, help="With --resume: try failed cases again.")
@click.option("--extend", metavar="RUN", help="Go on with a run in more --processes.")
@click.option("--processes", type=click.IntRange(min=1), metavar="N", help="With --extend: of each speed case, in all.")
@click.option(
    "--case", "cases", multiple=True, metavar="ID", help="With --extend: of this case alone; more than one may be given."
)
@click.option("--paired-with", metavar="RUN", hidden=True, help="The run that is measured in turn with this one.")
@click.option(
    "--allow-failures", "allowed", multiple=True, type=click.Choice(KINDS), help="Failures of this kind keep exit code 0."
)
@click.option("--server", "servers", multiple=True, metavar="NAME=URL", help="The URL of a server that the suite names.")
@click.option("--find-max", metavar="LIMITS", help='Find the highest rate that keeps limits, e.g. "ttft_s.p99<0.5".')
@click.option("--pull", is_flag=True, help="Let Ollama fetch the models that it lacks.")
@click.option("--skip-unfit", is_flag=True, help="Leave out cases that are estimated to take more memory than is free.")
@click.option("--memory-limit", metavar="SIZE", help="Resident memory at which a case ends as oom, e.g. 8GiB.")
@click.option("--price-per-hour", type=float, metavar="X", help="Of the machine, in any one currency: gives the cost of tokens.")
@click.option("--seed", type=int, help="Of the order of loads and cases; random unless given.")
@click.option("--quiet", is_flag=True, help="No progress on the terminal.")
@store_option
@json_option
def run(
    suite: str | None, dry_run: bool, settings: tuple[str, ...], tags: tuple[str, ...], resume: str | None,
    retry_failed: bool, extend: str | None, processes: int | None, cases: tuple[str, ...], paired_with: str | None,
    allowed: tuple[str, ...], servers: tuple[str, ...], find_max: str | None, pull: bool, skip_unfit: bool,
    memory_limit: str | None, price_per_hour: float | None, seed: int | None, quiet: bool, store_url: str, as_json: bool,
) -> int:  # fmt: skip
    """Measure SUITE: a built-in name (see `bench list`) or the path of a YAML file."""
    from pathlib import Path

    from bench.commands.tag import check_tags
    from bench.project import Project, find_project
    from bench.servers import parse_given
    from results.errors import UsageError

    if sum(one is not None for one in (suite, resume, extend)) != 1 or "" in (suite, resume, extend):
        raise UsageError("Name a suite to run, or a run with --resume or --extend: `bench list` shows the built-in suites.")
    if (extend is None) != (processes is None) or (cases and not extend):
        raise UsageError("--extend RUN and --processes N go together, and --case ID with both: add what is missing.")
    named = {"memory_limit": memory_limit, "price_per_hour": price_per_hour}
    settings += tuple(f"{name}={value}" for name, value in named.items() if value is not None)
    if (resume or extend) and (settings or dry_run or seed is not None or find_max or skip_unfit or paired_with):
        raise UsageError(
            f"{'--resume' if resume else '--extend'} goes on with the run as it was planned: leave --set, --memory-limit, "
            "--price-per-hour, --skip-unfit, --seed, --find-max and --dry-run out."
        )
    if retry_failed and not resume:
        raise UsageError("--retry-failed goes with --resume RUN.")
    project = Project() if resume or extend else find_project(Path()).project
    tags = tuple(dict.fromkeys((*project.tags, *tags)))
    check_tags(tags)
    ending = Ending(store_url, allowed, quiet or as_json or not sys.stderr.isatty(), as_json, pull)
    if pull and dry_run:
        raise UsageError("--pull fetches models and --dry-run does nothing: leave one of the two out.")
    given = parse_given(servers)
    if resume:
        return _go_on(resume, store_url, tags, ending, given, retry_failed=retry_failed)
    if extend:
        return _go_on(extend, store_url, tags, ending, given, processes=processes, cases=cases)
    asked = Asked(str(suite), settings, given, find_max, skip_unfit, project, paired_with)
    if dry_run:
        _show_plan(asked, seed, as_json=as_json)
        return 0
    return _start(asked, store_url, tags, seed, ending)


@dataclass(frozen=True)
class Ending:
    """How the end of a run is told."""

    store_url: str
    allowed: tuple[str, ...]
    silent: bool
    """No progress on the way."""
    as_json: bool
    pull: bool
    """Whether Ollama may fetch models first."""


@dataclass(frozen=True)
class Asked:
    """What the command line says beside the suite's name."""

    suite: str
    settings: tuple[str, ...]
    servers: dict[str, str]
    find_max: str | None
    skip_unfit: bool
    project: "Project"
    paired_with: str | None = None

    @property
    def command(self) -> tuple[str, ...]:
        found = ("bench", "run", self.suite, *(f"--set={setting}" for setting in self.settings))
        found += tuple(f"--server={name}={url}" for name, url in self.servers.items())
        found += (f"--find-max={self.find_max}",) if self.find_max else ()
        return (*found, "--skip-unfit") if self.skip_unfit else found


def _start(asked: Asked, store_url: str, tags: tuple[str, ...], seed: int | None, ending: Ending) -> int:
    from bench.holding import hold_run
    from bench.plan import new_plan, preview
    from bench.suite import parse_settings
    from results.store import Store

    settings = parse_settings(asked.settings)
    if ending.pull:  # before the plan, which asks servers about the models that they have
        _pull(preview(asked.suite, settings, asked.servers, asked.find_max, project=asked.project)[1], ending)
    plan = new_plan(
        asked.suite, settings, seed, asked.command, asked.servers, asked.find_max, skip_unfit=asked.skip_unfit,
        project=asked.project, paired_with=asked.paired_with,
    )  # fmt: skip
    with hold_run(plan.run.run_id), Store.writing(store_url) as store:
        store.add_run(plan.run)
        store.tag(plan.run.run_id, tags)
        return _measure(plan, store, ending)


def _go_on(
    reference: str, store_url: str, tags: tuple[str, ...], ending: Ending, servers: dict[str, str], *, retry_failed: bool = False,
    processes: int | None = None, cases: tuple[str, ...] = (),
) -> int:  # fmt: skip
    """Measure the rest of a stored run; with `processes`, more than it had planned."""
    from bench.holding import hold_run
    from bench.plan import extended, rest_of
    from results.store import Store

    with Store.reading(store_url) as store:
        run_id = store.resolve_run(reference)
    with hold_run(run_id), Store.writing(store_url) as store:
        report = store.report(run_id)
        if processes:
            report = report.model_copy(update={"run": extended(report.run, processes, cases)})
        plan = rest_of(report, retry_failed=retry_failed, given=servers)
        if processes:
            store.extend_run(plan.run, plan.run.planned)
        store.tag(run_id, tags)
        if ending.pull:
            _pull(plan.expansion, ending)
        return _measure(plan, store, ending)


def _measure(plan: "Plan", store: "Store", ending: Ending) -> int:
    """Measure, print the table; the exit code."""
    from functools import partial

    from bench.sweep import measure_plan

    total = sum(len(batch.cases) for batch in plan.batches)
    with _progress(ending, total) as listener:
        measure_plan(plan, store, partial(_prepare, listener.notice, set()), listener)
    report = store.report(plan.run.run_id)
    code = exit_code(report, ending.allowed)
    _print(report, code, ending)
    return code


def _progress(ending: Ending, total: int) -> "Quiet":
    from rich.console import Console

    from bench.progress import Bars, Quiet

    screen = Console(stderr=True)
    return Quiet(screen) if ending.silent else Bars(screen, total)


def _pull(expansion: "Expansion", ending: Ending) -> None:
    """Let Ollama servers fetch the models that they lack."""
    from functools import partial

    from bench.engines.ollama import model_facts, pull
    from bench.engines.server_calls import ServerCalls, ServerError

    listener = _progress(ending, 0)

    def tell(model: "ResolvedModel", step: str, done: float | None, total: float | None) -> None:
        listener.preparing(model, step, done / total if done and total else None)

    cases = [planned.case for planned in expansion.planned if planned.case.engine == "ollama"]
    with listener:
        for target, weights in dict.fromkeys((str(case.target), case.weights) for case in cases):
            server, model = expansion.servers[target], expansion.models[weights]
            try:
                model_facts(ServerCalls(server.url, server.name), model.name)
            except ServerError as error:
                if error.kind != "missing_weights":
                    raise
                pull(server.url, model.name, partial(tell, model), name=server.name)


def _prepare(
    notice: "Callable[[str], None]", told: set[str], model: "ResolvedModel", progress: "Progress", form: "Form", level: str | None
) -> "Path | None":
    """Prepare weights; the terms that they come under are shown before the first long step, and once.

    Args:
        told: names of the models whose terms were shown.
    """
    from bench.weights import prepare, terms_notice

    def tell(step: str, done: float | None) -> None:
        if model.name not in told and (terms := terms_notice(model)):
            notice(terms)
        told.add(model.name)
        progress(step, done)

    return prepare(model, tell, form, level)


def exit_code(report: "Report", allowed: tuple[str, ...] = ()) -> int:
    """130 when interrupted, 5 when a failure was not made good or nothing at all was measured, else 0."""
    from results.summary import unresolved

    if report.status == "interrupted":
        return 130
    excused = {"unsupported", "pruned", *allowed}
    kinds = {failure.kind for failure in unresolved(report.measurements, report.failures) if failure.kind != "interrupted"}
    nothing = not report.measurements and not (kinds and kinds <= set(allowed))
    return 5 if kinds - excused or nothing else 0


def _show_plan(asked: Asked, seed: int | None, *, as_json: bool) -> None:
    import json

    from bench.commands.plan_view import plan_facts, plan_view
    from bench.plan import preview
    from bench.suite import parse_settings
    from bench.tables import console

    settings = parse_settings(asked.settings)
    suite, expansion, _ = preview(
        asked.suite, settings, asked.servers, asked.find_max, skip_unfit=asked.skip_unfit, project=asked.project
    )
    if as_json:
        click.echo(json.dumps(plan_facts(suite, expansion.planned, seed)))
    else:
        console().print(plan_view(suite, expansion.planned, seed))


def _print(report: "Report", code: int, ending: Ending) -> None:
    import json

    from bench.serving_sweep import conclusions
    from bench.tables import cases_table, console
    from results.database import shown
    from results.summary import run_to_dict, summarize

    if ending.as_json:
        click.echo(json.dumps(run_to_dict(report) | {"conclusions": conclusions(report), "exit_code": code}))
        return
    run_id = report.run.run_id
    screen = console()
    screen.print(cases_table(summarize(report)))
    for sentence in conclusions(report):
        screen.print(sentence)
    screen.print(f"\nRun {run_id} {report.status}, stored in {shown(ending.store_url)}.", markup=False)
    if report.status != "finished":
        screen.print(f"Go on with: bench run --resume {run_id}")
    screen.print(f"Look closer: bench show {run_id}, bench export {run_id} --format html --output report.html, bench dashboard")
